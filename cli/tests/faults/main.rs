//! The program itself against faults: a real process on real sockets, ended by real signals, and a studio that does on
//! demand what a bad day does.
//!
//! The scenarios that every worker must pass are passed by the program, too, with those that take a real half a minute;
//! here is what is about the process beside them. Most of it waits, so that everything runs at the same time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(unix)]
mod disk;
#[cfg(unix)]
#[path = "../studio/http.rs"]
#[allow(dead_code, reason = "shared with the tests of the studio")]
mod http;
#[cfg(unix)]
mod killed;
#[cfg(unix)]
mod network;
#[cfg(unix)]
mod private;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod proxies;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod stopped;
#[cfg(unix)]
mod studio;
#[cfg(unix)]
mod tls;

#[cfg(unix)]
fn main() {
    use libtest_mimic::Trial;
    use program::{Host, Trust};
    use studio_worker_core::conformance::{self, Network, run, scenarios, with_host};

    let own = [
        stopped::ALL,
        network::ALL,
        killed::ALL,
        disk::ALL,
        signals::ALL,
        tls::ALL,
        proxies::ALL,
        private::ALL,
    ]
    .concat();
    let over_tls = [&*tls::scenarios(), scenarios::SECURE].concat();
    let mut trials = Vec::new();
    // The slow ones first.
    for on in ["async-std", "tokio"] {
        trials.extend(with_host(on, scenarios::BOUNDS, move || Host::new(on)));
        trials.extend(own.iter().map(|(name, test)| {
            let test = *test;
            Trial::test(format!("{on}::{name}"), move || {
                test(on);
                Ok(())
            })
        }));
    }
    for on in ["async-std", "tokio"] {
        trials.extend(with_host(on, scenarios::ALL, move || Host::new(on)));
        let host = move || Host::over(Network::loopback_tls(), on);
        trials.extend(with_host(&format!("{on}::wss"), &over_tls, host));
        for (name, trust) in [("ca_file", Trust::Key), ("SSL_CERT_DIR", Trust::Folder)] {
            let host = move || Host::trusting_by(trust, on);
            trials.extend(with_host(&format!("{on}::{name}"), &tls::whole(), host));
        }
        let host = move || Host::over(Network::proxied_tls(), on);
        trials.extend(with_host(
            &format!("{on}::wss by proxy"),
            &conformance::proxies::scenarios()[..2],
            host,
        ));
    }
    run(trials);
}

#[cfg(not(unix))]
fn main() {}

/// A test of this program's own, on a runtime.
#[cfg(unix)]
type Test = fn(&'static str);

/// The tests of a module, by their names.
#[cfg(unix)]
macro_rules! tests {
    ($($test:ident)*) => { &[$((stringify!($test), $test as $crate::Test),)*] };
}
#[cfg(unix)]
use tests;
