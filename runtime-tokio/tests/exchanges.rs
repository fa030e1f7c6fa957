//! HTTP as engines need it, on this runtime.
#![allow(clippy::unwrap_used, reason = "a test that can't start has failed")]

use libtest_mimic::{Arguments, Trial};
use studio_worker_core::conformance::{exchanges, proxies};
use studio_worker_tokio::{Runtime as _, Tokio, block_on};

fn main() {
    let mut trials: Vec<_> = exchanges::ALL
        .iter()
        .map(|(name, test)| {
            Trial::test(*name, move || {
                test(&|request| block_on(Tokio::new().exchange(request, "studio-worker/1".into())).unwrap());
                Ok(())
            })
        })
        .collect();
    trials.extend(proxies::ALL.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            test(&|proxies, roots, request| {
                let runtime = Tokio::new().with_proxies(proxies).with_roots(roots);
                block_on(runtime.exchange(request, "studio-worker/1".into())).unwrap()
            });
            Ok(())
        })
    }));
    trials.push(Trial::test("what_is_on_this_machine_is_asked_without_a_proxy", || {
        exchanges::without_a_proxy();
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
