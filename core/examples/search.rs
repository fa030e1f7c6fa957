//! The exhaustive search, for as long as one likes: two jobs, and every kind of fault at once.
//!
//! ```text
//! cargo run --release -p studio-worker-core --features sim --example search -- [MINUTES]
//! ```
//!
//! Prints how many states were checked and how deep they lie, or the path to a broken promise (then it exits 1).

#[path = "../tests/search/model.rs"]
mod model;

use std::{process::ExitCode, time::Duration};

use studio_worker_core::sim::search::{Budget, Kind, Plan};

fn main() -> ExitCode {
    let minutes = std::env::args().nth(1).map_or(Ok(1), |minutes| minutes.parse::<u64>());
    let Ok(minutes) = minutes else {
        eprintln!("usage: search [MINUTES]");
        return ExitCode::from(2);
    };
    let budget = Budget {
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
    };
    let plan = Plan { jobs: vec![Kind::Json, Kind::Bytes], budget, sabotage: None };
    let report = model::explore(&plan, Some(Duration::from_secs(minutes * 60)));
    println!(
        "{} states, {} moves, depth {}, {:.0?}{}",
        report.states,
        report.moves,
        report.depth,
        report.took,
        if report.whole { ", nothing left" } else { "" }
    );
    report.sights.iter().for_each(|sight| println!("seen: {sight}"));
    for (name, path) in &report.broken {
        println!("{name}: broken by\n{path}");
    }
    if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
