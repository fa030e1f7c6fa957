//! The exhaustive search: both machines and a lossy link, explored by a model checker over all interleavings. See
//! `sim::search` for what can happen and what must hold; `cargo run --release -p studio-worker-core --features sim
//! --example search -- 10` goes on for ten minutes with every kind of fault at once.

mod congruence;
mod model;
mod teeth;

use model::{HALF_OPEN, HELD, ORPHANED, RESCUED, explore};
use studio_worker_core::sim::search::{Budget, Kind, Plan};

/// Explores the whole of a plan: nothing may be broken, and the sights must be seen.
fn whole(jobs: &[Kind], budget: Budget, sights: &[&str]) {
    let plan = Plan { jobs: jobs.to_vec(), budget, sabotage: None };
    let report = explore(&plan, None);
    for (name, path) in &report.broken {
        println!("{name}: broken by\n{path}");
    }
    let broken: Vec<_> = report.broken.iter().map(|(name, _)| *name).collect();
    assert_eq!(broken, Vec::<&str>::new(), "{plan:?}");
    for sight in sights {
        assert!(report.sights.contains(sight), "{sight}: not seen with {plan:?}");
    }
    assert!(report.whole);
    println!("{} states, {} moves, depth {}, {:?}", report.states, report.moves, report.depth, report.took);
}

const NONE: Budget = Budget {
    drops: 0,
    half_open: 0,
    breaks: 0,
    refusals: 0,
    echoes: 0,
    failures: 0,
    slow: 0,
    worker_restarts: 0,
    studio_restarts: 0,
    commands: 0,
    cancels: 0,
};
const BOTH: [Kind; 2] = [Kind::Json, Kind::Bytes];

#[test]
fn connections_that_break_again_and_again() {
    for kind in BOTH {
        whole(&[kind], Budget { drops: 3, ..NONE }, &[HELD, ORPHANED, RESCUED]);
    }
}

#[test]
fn connections_that_are_half_open() {
    for kind in BOTH {
        whole(&[kind], Budget { drops: 1, half_open: 1, ..NONE }, &[HELD, ORPHANED, RESCUED, HALF_OPEN]);
    }
}

#[test]
fn uploads_that_break_with_the_connection() {
    whole(&[Kind::Bytes], Budget { half_open: 1, breaks: 1, ..NONE }, &[HELD, ORPHANED, RESCUED, HALF_OPEN]);
    whole(&BOTH, Budget { drops: 1, breaks: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
}

#[test]
fn uploads_that_a_gateway_refuses() {
    whole(&[Kind::Bytes], Budget { drops: 1, refusals: 2, breaks: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
}

#[test]
fn outcomes_that_are_reported_twice() {
    for kind in BOTH {
        whole(&[kind], Budget { drops: 1, echoes: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
    }
}

#[test]
fn engines_that_fail() {
    whole(&BOTH, Budget { drops: 1, failures: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
}

#[test]
fn a_network_that_is_slow() {
    whole(&[Kind::Json], Budget { drops: 1, slow: 2, ..NONE }, &[HELD, ORPHANED, RESCUED]);
    whole(&[Kind::Bytes], Budget { drops: 1, slow: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
}

#[test]
fn processes_that_are_killed() {
    for kind in BOTH {
        whole(&[kind], Budget { worker_restarts: 1, drops: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
        whole(&[kind], Budget { studio_restarts: 1, drops: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
    }
}

#[test]
fn owners_who_change_their_minds() {
    whole(&BOTH, Budget { commands: 2, ..NONE }, &[]);
    for kind in BOTH {
        whole(&[kind], Budget { commands: 2, drops: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
    }
}

#[test]
fn jobs_that_nobody_wants_any_more() {
    whole(&BOTH, Budget { cancels: 1, drops: 1, ..NONE }, &[HELD, ORPHANED, RESCUED]);
}
