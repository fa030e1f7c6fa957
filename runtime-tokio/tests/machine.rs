//! Files and programs as engines need them, on this runtime.
#![allow(clippy::unwrap_used, reason = "a test that can't start has failed")]

use libtest_mimic::{Arguments, run};
use studio_worker_core::conformance::on_this_machine;
use studio_worker_tokio::{Tokio, block_on};

fn main() {
    let start = |folder: &std::path::Path| Tokio::new().with_results_in(folder);
    let conclusion = run(&Arguments::from_args(), on_this_machine(start, |work| block_on(work).unwrap()));
    #[cfg(unix)]
    studio_worker_core::conformance::programs::nothing_is_left();
    conclusion.exit();
}
