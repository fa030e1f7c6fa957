//! The exhaustive search: both machines and a lossy link, explored by a model checker over all interleavings. See
//! `sim::search` for what can happen and what must hold. The example `search` goes further.

mod congruence;
mod model;
mod plans;
mod teeth;

use model::explore;
use plans::{SMALL, name, plan, sights};

/// Explores every fourth of the small cases to its end: nothing may be broken.
fn explore_from(first: usize) {
    for case in SMALL.iter().skip(first).step_by(4) {
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

// The threads of the test run share the work.

#[test]
fn in_every_interleaving_promises_are_kept_and_jobs_end() {
    explore_from(0);
}

#[test]
fn in_every_interleaving_promises_are_kept_and_jobs_end_too() {
    explore_from(1);
}

#[test]
fn in_every_other_interleaving_promises_are_kept_and_jobs_end() {
    explore_from(2);
}

#[test]
fn in_every_other_interleaving_promises_are_kept_and_jobs_end_too() {
    explore_from(3);
}
