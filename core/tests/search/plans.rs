//! What is explored to its end.

use studio_worker_core::sim::search::{Budget, Kind, Plan};

use super::model::{HALF_OPEN, HELD, ORPHANED, RESCUED};

/// Nothing goes wrong.
pub(crate) const NONE: Budget = Budget {
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
    taken: 0,
};
/// A connection breaks.
const DROP: Budget = Budget { drops: 1, ..NONE };
const JSON: &[Kind] = &[Kind::Json];
const BYTES: &[Kind] = &[Kind::Bytes];
/// A job of each kind.
pub(crate) const BOTH: &[Kind] = &[Kind::Json, Kind::Bytes];

/// What goes wrong, with which jobs in the queue. Where the memory may be found taken, it is measured.
pub(crate) type Case = (&'static [Kind], Budget);

/// Seconds each, also without optimisation: the ordinary test run explores them.
pub(crate) const SMALL: &[Case] = &[
    (JSON, Budget { drops: 2, ..NONE }),
    (BYTES, Budget { drops: 2, ..NONE }),
    (BOTH, NONE),
    (JSON, Budget { half_open: 1, ..DROP }),
    (BYTES, Budget { half_open: 1, breaks: 1, ..NONE }),
    (BYTES, Budget { refusals: 1, ..DROP }),
    (BYTES, Budget { echoes: 1, ..DROP }),
    (JSON, Budget { failures: 1, ..DROP }),
    (BYTES, Budget { failures: 1, ..DROP }),
    (JSON, Budget { slow: 1, ..DROP }),
    (BYTES, Budget { slow: 1, ..NONE }),
    (JSON, Budget { worker_restarts: 1, ..NONE }),
    (BYTES, Budget { worker_restarts: 1, ..NONE }),
    (JSON, Budget { studio_restarts: 1, ..NONE }),
    (BYTES, Budget { studio_restarts: 1, ..DROP }),
    (JSON, Budget { commands: 2, ..NONE }),
    (BYTES, Budget { commands: 1, ..NONE }),
    (BYTES, Budget { cancels: 1, ..DROP }),
    (JSON, Budget { taken: 2, ..DROP }),
    (BYTES, Budget { taken: 1, commands: 1, ..NONE }),
    (JSON, Budget { taken: 1, slow: 1, ..NONE }),
];

/// Minutes altogether with optimisation: `cargo run --example search -- whole` explores them.
#[allow(dead_code, reason = "the example explores them")]
pub(crate) const LARGE: &[Case] = &[
    (JSON, Budget { drops: 5, ..NONE }),
    (BYTES, Budget { drops: 5, ..NONE }),
    (BOTH, Budget { drops: 2, ..NONE }),
    (BOTH, Budget { half_open: 1, ..DROP }),
    (BYTES, Budget { half_open: 2, breaks: 1, ..DROP }),
    (BOTH, Budget { breaks: 1, ..DROP }),
    (BYTES, Budget { refusals: 2, breaks: 1, ..DROP }),
    (BOTH, Budget { echoes: 2, ..DROP }),
    (BOTH, Budget { failures: 2, ..DROP }),
    (BOTH, Budget { slow: 1, ..DROP }),
    (JSON, Budget { slow: 3, ..DROP }),
    (BOTH, Budget { worker_restarts: 1, ..DROP }),
    (BOTH, Budget { studio_restarts: 1, ..DROP }),
    (BOTH, Budget { commands: 2, ..DROP }),
    (BOTH, Budget { cancels: 1, ..DROP }),
    (BOTH, Budget { taken: 2, ..DROP }),
    (BOTH, Budget { taken: 1, commands: 1, ..DROP }),
    (JSON, Budget { taken: 1, slow: 2, ..DROP }),
    (BYTES, Budget { taken: 1, cancels: 1, ..DROP }),
];

/// A case in words.
pub(crate) fn name((jobs, budget): &Case) -> String {
    let Budget { drops, half_open, breaks, refusals, echoes, failures, slow, .. } = *budget;
    let Budget { worker_restarts, studio_restarts, commands, cancels, taken, .. } = *budget;
    let counts = [
        ("drops", drops),
        ("half-open", half_open),
        ("broken uploads", breaks),
        ("refused uploads", refusals),
        ("echoes", echoes),
        ("engine failures", failures),
        ("slow", slow),
        ("worker restarts", worker_restarts),
        ("studio restarts", studio_restarts),
        ("commands", commands),
        ("cancelled jobs", cancels),
        ("taken memory", taken),
    ];
    let counts =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!(", {name} {count}"));
    format!("{jobs:?}{}", counts.collect::<String>())
}

/// A plan without a planted bug.
pub(crate) fn plan((jobs, budget): Case) -> Plan {
    Plan { jobs: jobs.to_vec(), measured: budget.taken > 0, budget, sabotage: None }
}

/// What a whole exploration comes by, or it has shown nothing: what follows a broken connection.
pub(crate) fn sights(budget: Budget) -> Vec<&'static str> {
    let broken = if budget.drops + budget.half_open > 0 { &[HELD, ORPHANED, RESCUED][..] } else { &[] };
    let half_open = (budget.half_open > 0).then_some(HALF_OPEN);
    broken.iter().copied().chain(half_open).collect()
}
