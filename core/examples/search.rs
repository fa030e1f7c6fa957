//! The exhaustive search, for as long as one likes.
//!
//! ```sh
//! cargo run --release -p studio-worker-core --features sim --example search -- 10     # minutes
//! cargo run --release -p studio-worker-core --features sim --example search -- whole
//! ```
//!
//! Some GB of memory are needed. With minutes, it explores two jobs with every kind of fault at once, breadth first, as far as it comes. `whole`
//! explores larger cases than the test run does, each to its end. Prints how many states were checked and how deep
//! they lie, or the path to a broken promise (then it exits 1).

#[path = "../tests/search/model.rs"]
mod model;
#[path = "../tests/search/plans.rs"]
mod plans;

use std::{process::ExitCode, time::Duration};

use studio_worker_core::sim::search::Budget;

/// Every kind of fault.
const ALL: Budget = Budget {
    drops: 2,
    half_open: 1,
    breaks: 1,
    refusals: 1,
    echoes: 1,
    failures: 1,
    slow: 1,
    worker_restarts: 1,
    studio_restarts: 1,
    commands: 2,
    cancels: 1,
    taken: 1,
};

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "1".into());
    let (cases, time) = match wanted.parse::<u64>() {
        _ if wanted == "whole" => (plans::SMALL.iter().chain(plans::LARGE).copied().collect(), None),
        Ok(minutes) => (vec![(plans::BOTH, ALL)], Some(Duration::from_secs(minutes.saturating_mul(60)))),
        Err(_) => {
            eprintln!("usage: search [MINUTES | whole]");
            return ExitCode::from(2);
        }
    };
    let mut kept = true;
    for case in cases {
        let report = model::explore(&plans::plan(case), time);
        println!("{}: {report}", plans::name(&case));
        let missed = plans::sights(case.1).into_iter().filter(|sight| !report.sights.contains(sight));
        missed.for_each(|sight| println!("  not seen: {sight}"));
        for (name, path) in &report.broken {
            println!("{name}: broken by\n{path}");
        }
        kept &= report.broken.is_empty();
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
