//! Files and programs as engines need them, on this runtime.

use libtest_mimic::{Arguments, run};
use studio_worker_async_std::{AsyncStd, block_on};
use studio_worker_core::conformance::on_this_machine;

fn main() {
    let start = |folder: &std::path::Path| AsyncStd::new().with_results_in(folder);
    let conclusion = run(&Arguments::from_args(), on_this_machine(start, block_on));
    #[cfg(unix)]
    studio_worker_core::conformance::programs::nothing_is_left();
    conclusion.exit();
}
