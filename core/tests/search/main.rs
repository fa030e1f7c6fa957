//! The exhaustive search: both machines and a lossy link, explored by a model checker over all interleavings. See
//! `sim::search` for what can happen and what must hold. The example `search` goes further.

mod congruence;
mod model;
mod plans;
mod teeth;

use model::explore;
use plans::{SMALL, name, plan, sights};

/// Explores every `n`-th of the small cases to its end: nothing may be broken.
fn explore_every(n: usize, from: usize) {
    for case in SMALL.iter().skip(from).step_by(n) {
        let plan = plan(*case);
        let report = explore(&plan, None);
        for (name, path) in &report.broken {
            println!("{name}: broken by\n{path}");
        }
        assert!(report.whole, "{:?} is broken by {plan:?}, see above", report.broken[0].0);
        let missed: Vec<_> =
            sights(plan.budget).into_iter().filter(|sight| !report.sights.contains(sight)).collect();
        assert!(missed.is_empty(), "{missed:?} never, with {plan:?}");
        println!("{}: {report}", name(case));
    }
}

// Two threads of the test run share the work.

#[test]
fn in_every_interleaving_promises_are_kept_and_jobs_end() {
    explore_every(2, 0);
}

#[test]
fn in_every_interleaving_promises_are_kept_and_jobs_end_too() {
    explore_every(2, 1);
}
