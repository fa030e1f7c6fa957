//! A search that merges states is only as good as what it merges them by.

use std::collections::{BTreeMap, VecDeque};

use studio_worker_core::sim::search::{Budget, Kind, Move, Plan, System};

use super::plans::{BOTH, NONE};

type Print = [u8; 32];

fn futures(state: &System) -> Vec<(Move, Print)> {
    state.moves().into_iter().map(|next| (next, state.after(next).fingerprint())).collect()
}

/// Explores some of a plan. States that were reached on different ways have seen other times and given out other
/// numbers; where their fingerprints are equal, the same can happen next, and what comes of it is equal again.
fn check(jobs: &[Kind], budget: Budget) {
    let start =
        System::new(&Plan { jobs: jobs.to_vec(), measured: budget.taken > 0, budget, sabotage: None });
    let mut known: BTreeMap<Print, Vec<(Move, Print)>> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    let mut met_again = 0;
    while let Some(state) = waiting.pop_front() {
        let now = futures(&state);
        if let Some(before) = known.get(&state.fingerprint()) {
            assert_eq!(*before, now, "{state:?}");
            met_again += 1;
        } else {
            waiting.extend(now.iter().map(|(next, _)| state.after(*next)));
            known.insert(state.fingerprint(), now);
        }
        if known.len() >= 600 {
            break;
        }
    }
    assert!(met_again > 80, "{met_again} of {}", known.len());
}

#[test]
fn equal_fingerprints_mean_equal_futures() {
    check(BOTH, Budget { drops: 2, breaks: 1, ..NONE });
    check(&[Kind::Json], Budget { drops: 1, half_open: 1, worker_restarts: 1, slow: 1, ..NONE });
    check(&[Kind::Json], Budget { taken: 2, drops: 1, slow: 1, commands: 1, ..NONE });
    check(BOTH, Budget { commands: 2, failures: 1, cancels: 1, echoes: 1, studio_restarts: 1, ..NONE });
}
