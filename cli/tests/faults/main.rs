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
mod program;
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
    use program::Host;
    use studio_worker_core::conformance::{Network, run, scenarios, with_host};

    let own = [stopped::ALL, network::ALL, killed::ALL, disk::ALL, signals::ALL, tls::ALL].concat();
    let own = own.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    // The slow ones first.
    let mut trials = with_host("ws", scenarios::BOUNDS, Host::new);
    trials.extend(own);
    trials.extend(with_host("ws", scenarios::ALL, Host::new));
    let over_tls = [&*tls::scenarios(), scenarios::SECURE].concat();
    trials.extend(with_host("wss", &over_tls, || Host::over(Network::loopback_tls())));
    run(trials);
}

#[cfg(not(unix))]
fn main() {}

/// A test of this program's own.
#[cfg(unix)]
type Test = fn();

/// The tests of a module, by their names.
#[cfg(unix)]
macro_rules! tests {
    ($($test:ident)*) => { &[$((stringify!($test), $test as $crate::Test),)*] };
}
#[cfg(unix)]
use tests;
