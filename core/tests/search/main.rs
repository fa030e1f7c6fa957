//! The exhaustive search: both machines and a lossy link, explored by a model checker.

mod model;

use model::explore;
use studio_worker_core::sim::search::{Budget, Kind, Plan};

#[test]
fn trial() {
    let plan = Plan {
        jobs: vec![Kind::Json, Kind::Bytes],
        budget: Budget { drops: 1, half_open: 1, breaks: 1, ..Budget::default() },
        sabotage: None,
    };
    let depth = std::env::var("DEPTH").ok().and_then(|d| d.parse().ok()).unwrap_or(8);
    let report = explore(&plan, depth, 200_000, None);
    for (name, path) in &report.broken {
        println!("{name}:\n{path}");
    }
    println!(
        "{} states {} moves depth {} {:?} {:?}",
        report.states, report.moves, report.depth, report.took, report.sights
    );
    assert!(report.broken.is_empty());
}
