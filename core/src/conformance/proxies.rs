//! What every runtime must do where a proxy is on the way, for sessions and for HTTP.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::{
    Asked, Host, Manner, Scene, Start, TestProxy, Vacancy,
    authority::{Authority, FAR},
    offer_of_bytes, registered,
    scenarios::{self, Scenario},
};
use crate::{
    http::{HttpAnswer, HttpFailure, HttpRequest, Reach, proxy::Proxies},
    worker::Identity,
};

/// Exchanges a request on the runtime under test through these proxies, trusting these authorities.
pub type Exchange =
    dyn Fn(Proxies, Vec<CertificateDer<'static>>, HttpRequest) -> Result<HttpAnswer, HttpFailure>;

/// A test of the exchange that it is given.
pub type ExchangeTest = fn(&Exchange);

/// Every test of an exchange through a proxy, by its name.
pub const ALL: &[(&str, ExchangeTest)] = &[
    (
        "a_proxy_is_asked_for_a_tunnel_and_told_nothing_else",
        a_proxy_is_asked_for_a_tunnel_and_told_nothing_else,
    ),
    ("a_proxy_is_told_an_address_that_was_checked", a_proxy_is_told_an_address_that_was_checked),
    (
        "what_is_listed_or_on_this_machine_is_not_asked_for",
        what_is_listed_or_on_this_machine_is_not_asked_for,
    ),
    ("a_proxy_that_does_not_serve_is_named", a_proxy_that_does_not_serve_is_named),
    ("a_proxy_that_says_nothing_is_not_waited_for", a_proxy_that_says_nothing_is_not_waited_for),
    ("a_proxy_may_speak_tls_itself", a_proxy_may_speak_tls_itself),
];

/// The scenarios for hosts on a network behind a proxy: all that a session and an upload say is said in them.
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    let wanted = [
        "a_refused_token_ends_the_worker",
        "a_dropped_connection_is_followed_by_another_session",
        "reading_goes_on_while_writing_waits",
        "a_result_is_uploaded",
        "an_answer_before_the_body_has_left_is_heard",
        "a_studio_that_cannot_be_reached_is_tried_again_until_it_can",
    ];
    let named = |wanted| scenarios::ALL.iter().find(|(name, _)| *name == wanted).copied().unwrap();
    let own: [(_, Scenario); 2] = [
        ("a_worker_registers_and_delivers_through_a_proxy", a_worker_registers_and_delivers_through_a_proxy),
        ("a_proxy_that_refuses_is_tried_again", a_proxy_that_refuses_is_tried_again),
    ];
    own.into_iter().chain(wanted.map(named)).collect()
}

/// Nothing of it goes another way: nobody but the proxy knows where the studio is.
fn a_worker_registers_and_delivers_through_a_proxy(host: &dyn Host) {
    let proxy = host.network().proxy().unwrap();
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let approved = json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-1" });
    studio.request().answer_json(200, &approved);
    let upgrading = studio.upgrade();
    assert_eq!(upgrading.0.header("proxy-authorization"), "", "it is the proxy's");
    let mut session = upgrading.accept().welcome();
    session.send(&offer_of_bytes("j-1", 200_000));
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    assert_eq!(upload.header("proxy-authorization"), "");
    upload.body();
    upload.answer(204, "", "");
    let ended = Scene { studio, worker }.drained(&mut session);
    ended.expect_jobs(&[("j-1", true)]);
    assert!(!ended.said.contains("pa:ss-of-the-proxy"), "{}", ended.said);

    let asked = proxy.asked();
    assert!(asked.len() >= 4, "{asked:?}");
    for Asked { authority, authorization } in asked {
        assert_eq!(authority.split(':').next(), Some(FAR));
        // worker:pa:ss-of-the-proxy
        assert_eq!(authorization.as_deref(), Some("Basic d29ya2VyOnBhOnNzLW9mLXRoZS1wcm94eQ=="));
    }
}

/// With back-off, until it serves.
fn a_proxy_that_refuses_is_tried_again(host: &dyn Host) {
    let proxy = host.network().proxy().unwrap();
    proxy.turns(Manner::Refuses(407));
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: registered(), held: false });
    proxy.is_asked(1);
    proxy.turns(Manner::Says("SSH-2.0-OpenSSH_9.9\r\n"));
    proxy.is_asked(2);
    assert!(!studio.has_upgrade());
    proxy.turns(Manner::Leads);
    Scene { studio, worker }.serves_once();
}

/// What the variables say.
fn by(variables: &[(&str, &str)]) -> Proxies {
    Proxies::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
}

fn get(url: &str) -> HttpRequest {
    HttpRequest { timeout: Duration::from_secs(20), ..HttpRequest::get(url) }
}

/// Answers one request, and gives back its head.
fn serve() -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmade").unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    });
    (port, served)
}

fn a_proxy_is_asked_for_a_tunnel_and_told_nothing_else(exchange: &Exchange) {
    let proxy = TestProxy::new(Manner::Leads);
    let (port, served) = serve();
    let proxies = by(&[("http_proxy", &proxy.named("us%65r:p%20w@"))]);
    let request =
        HttpRequest { bearer: Some("sk-1".into()), ..get(&format!("http://{FAR}:{port}/v1/x?y=z")) };
    assert_eq!(exchange(proxies, Vec::new(), request).unwrap().body, b"made");
    let head = served.join().unwrap();
    assert!(head.starts_with("get /v1/x?y=z http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer sk-1\r\n") && !head.contains("proxy-"), "{head}");
    let authorization = Some("Basic dXNlcjpwIHc=".into());
    assert_eq!(proxy.asked(), [Asked { authority: format!("{FAR}:{port}"), authorization }]);
}

fn a_proxy_is_told_an_address_that_was_checked(exchange: &Exchange) {
    let proxy = TestProxy::new(Manner::Leads);
    let proxies = by(&[("all_proxy", &proxy.named(""))]);
    let (port, served) = serve();
    let public = |url: &str| HttpRequest { reach: Reach::Public, ..get(url) };
    let request = public(&format!("http://8.8.8.8:{port}/"));
    assert_eq!(exchange(proxies.clone(), Vec::new(), request).unwrap().body, b"made");
    assert!(served.join().unwrap().contains(&format!("\r\nhost: 8.8.8.8:{port}\r\n")));
    for inside in ["10.0.0.1", "192.168.1.1", "[fd00::1]", "169.254.169.254"] {
        let why =
            exchange(proxies.clone(), Vec::new(), public(&format!("http://{inside}:9/"))).unwrap_err().0;
        assert!(why.ends_with("is not on the internet, and no other address is allowed"), "{why}");
    }
    assert_eq!(proxy.asked(), [Asked { authority: format!("8.8.8.8:{port}"), authorization: None }]);
}

fn what_is_listed_or_on_this_machine_is_not_asked_for(exchange: &Exchange) {
    let proxy = TestProxy::new(Manner::Leads);
    let named = proxy.named("");
    for host in ["127.0.0.1", "localhost"] {
        for reach in [Reach::Any, Reach::Loopback] {
            let (port, served) = serve();
            let request = HttpRequest { reach, ..get(&format!("http://{host}:{port}/")) };
            let answer = exchange(by(&[("all_proxy", &named)]), Vec::new(), request);
            assert_eq!(answer.unwrap().body, b"made");
            served.join().unwrap();
        }
    }
    // Nobody is there, so that it comes to nothing: but straight.
    let listed = by(&[("all_proxy", &named), ("no_proxy", "192.0.2.0/24")]);
    let request = HttpRequest { timeout: Duration::from_millis(300), ..get("http://192.0.2.1:9/") };
    assert!(exchange(listed, Vec::new(), request).is_err());
    assert_eq!(proxy.asked(), []);
    assert!(exchange(by(&[("all_proxy", &named)]), Vec::new(), get("http://192.0.2.1:9/")).is_err());
    assert_eq!(proxy.asked()[0].authority, "192.0.2.1:9");
}

fn a_proxy_that_does_not_serve_is_named(exchange: &Exchange) {
    let proxy = TestProxy::new(Manner::Silent);
    let address = format!("http://{}", proxy.address());
    let fails = |value: &str| {
        let why =
            exchange(by(&[("HTTPS_PROXY", value)]), Vec::new(), get("https://studio.test/")).unwrap_err().0;
        assert!(!why.contains("hush") && !why.contains("aHVzaA"), "{why}");
        assert_eq!(why.lines().count(), 1, "{why}");
        why
    };
    for (manner, credentials, wanted) in [
        (Manner::Refuses(407), "", "407, it wants a user name and a password: give them in HTTPS_PROXY"),
        (Manner::Refuses(407), "u:hush@", "407, the user name or the password in HTTPS_PROXY is wrong"),
        (Manner::Refuses(403), "u:hush@", "403, that is not allowed there"),
        (Manner::Refuses(502), "", "502"),
        (Manner::Says("SSH-2.0-OpenSSH_9.9\r\n"), "u:hush@", "what it says is not HTTP"),
        (Manner::Says("\0\0\0"), "", "what it says is not HTTP"),
        (Manner::Says(""), "u:hush@", "hung up without an answer"),
        (Manner::Says("HTTP/1.1 200 OK\r\n\r\nhello"), "", "it says more than that there is a tunnel"),
    ] {
        proxy.turns(manner);
        let why = fails(&proxy.named(credentials));
        assert!(why.contains(&address) && why.contains(wanted), "{manner:?}: {why}");
    }
    // A head without an end is read up to a bound.
    proxy.turns(Manner::Says(Box::leak(format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(100_000)).into())));
    assert!(fails(&proxy.named("")).contains("what it says is not HTTP"));

    let vacancy = Vacancy::new();
    let nobody = vacancy.address();
    let why = fails(&format!("http://u:hush@{nobody}"));
    assert!(why.contains(&format!("the proxy http://{nobody} can't be reached")), "{why}");
    let why = fails("socks5://u:hush@127.0.0.1:1080");
    assert!(why.contains("HTTPS_PROXY names a SOCKS proxy"), "{why}");
    let why = fails("ftp://u:hush@127.0.0.1");
    assert!(why.contains("HTTPS_PROXY is not the address of a proxy"), "{why}");
}

fn a_proxy_that_says_nothing_is_not_waited_for(exchange: &Exchange) {
    let proxy = TestProxy::new(Manner::Silent);
    let request = HttpRequest { timeout: Duration::from_secs(5), ..get("https://studio.test/") };
    let why = exchange(by(&[("https_proxy", &proxy.named(""))]), Vec::new(), request).unwrap_err().0;
    assert_eq!(why, "no answer within 5 s");
    // It may read what it was asked for after that.
    proxy.is_asked(1);
    assert_eq!(proxy.asked().len(), 1);
}

fn a_proxy_may_speak_tls_itself(exchange: &Exchange) {
    let authority = Authority::new();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmade";
    let proxy = TestProxy::secure(authority.server.clone(), answer);
    let named = format!("https://u:hush@{}", proxy.address());
    let roots = vec![authority.certificate.clone()];
    let request = || get(&format!("https://{FAR}/"));
    assert_eq!(exchange(by(&[("https_proxy", &named)]), roots, request()).unwrap().body, b"made");
    let authorization = Some("Basic dTpodXNo".into());
    assert_eq!(proxy.asked(), [Asked { authority: format!("{FAR}:443"), authorization }]);

    // One whose certificate is nobody's is told nothing.
    let stranger = vec![Authority::new().certificate];
    let why = exchange(by(&[("https_proxy", &named)]), stranger, request()).unwrap_err().0;
    assert!(why.contains("can't be reached") && why.contains("UnknownIssuer"), "{why}");
    assert_eq!(proxy.asked().len(), 1);
}
