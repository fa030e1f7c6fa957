//! A proxy that is the only way to the studio, or to a file, and one that does not serve.

use std::fs;

use studio_worker_core::conformance::{self, Manner, Network, Scene, Start, registered};

use crate::{Test, private::downloads, program::Host, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    a_proxy_that_refuses_is_named_without_its_password
    a_download_goes_through_the_proxy
};

fn a_proxy_that_refuses_is_named_without_its_password(on: &'static str) {
    let host = Host::over(Network::proxied(), on);
    let network = conformance::Host::network(&host);
    let (studio, proxy) = (network.studio(), network.proxy().unwrap());
    let address = proxy.address();
    proxy.turns(Manner::Refuses(407));
    let program = host.program(&Start { base: &studio.base(), identity: registered(), held: false });
    let line = program.logs("the studio is reached through the proxy");
    assert!(line.ends_with(&format!("proxy http://{address} (HTTP_PROXY)")), "{line}");
    let line = program.logs("no session, trying again");
    let why = format!(
        "the proxy http://{address} does not connect to {}: 407, the user name or the password in HTTP_PROXY is wrong",
        studio.base().trim_start_matches("http://"),
    );
    assert!(line.contains(&why), "{line}");
    proxy.turns(Manner::Refuses(403));
    program.logs("403, that is not allowed there");
    proxy.turns(Manner::Leads);
    let mut session = studio.session();
    session.delivers("j-1");
    let ended = Scene { studio, worker: Box::new(program) }.drained(&mut session);
    for secret in ["pa%3Ass", "pa:ss-of-the-proxy", "d29ya2VyOnBhOnNz"] {
        assert!(!ended.said.contains(secret), "{}", ended.said);
    }
}

/// Nobody else knows where the file is.
fn a_download_goes_through_the_proxy(on: &'static str) {
    let network = Network::proxied_tls();
    let files = network.studio();
    let home = tempfile::tempdir().unwrap();
    let roots = home.path().join("roots.pem");
    fs::write(&roots, network.roots_pem().unwrap()).unwrap();
    let mut trying = downloads(on, home.path(), &files.base());
    let mut trying = trying.envs(network.proxy_variables()).env("SSL_CERT_FILE", roots).spawn().unwrap();
    let asks = files.request();
    assert_eq!((asks.path.as_str(), asks.header("proxy-authorization")), ("/m.gguf", ""));
    asks.answer(200, "", "GGUF and so on");
    assert_eq!(trying.wait().unwrap().code(), Some(1));
    let asked = network.proxy().unwrap().asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].authorization.is_some());
}
