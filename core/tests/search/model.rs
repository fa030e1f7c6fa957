//! The transition system of `sim::search` as a model for `stateright`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model, Property};
use studio_worker_core::{
    sim::search::{Fairness, Move, Plan, System},
    studio::JobState as AtStudio,
    worker::states::JobState,
};

/// What must hold in every state.
pub(crate) const SAFETY: &str = "every promise is kept";
/// What must hold in the fair future of every state.
pub(crate) const LIVENESS: &str = "every accepted job ends";
/// What a search must come by, or it has shown nothing.
pub(crate) const SIGHTS: [&str; 4] = [HELD, ORPHANED, DELIVERED_LATE, CONTESTED];
const HELD: &str = "a result is held";
const ORPHANED: &str = "an orphan runs";
const DELIVERED_LATE: &str = "a job whose claim was lost is delivered";
const CONTESTED: &str = "the studio has a session that its worker has given up";

/// What is explored, and what is known of fair futures so far.
pub(crate) struct Search {
    plan: Plan,
    fairness: Fairness,
    /// When to stop making new states.
    until: Option<Instant>,
}

/// What a search has seen.
#[derive(Debug)]
pub(crate) struct Report {
    /// Different states.
    pub(crate) states: usize,
    /// Moves that were made, with those that led to known states.
    pub(crate) moves: usize,
    /// Moves from the start to the farthest state.
    pub(crate) depth: usize,
    /// How long it took.
    pub(crate) took: Duration,
    /// The sights that were seen.
    pub(crate) sights: Vec<&'static str>,
    /// Each broken property, with the path that breaks it in words.
    pub(crate) broken: Vec<(&'static str, String)>,
}

impl Search {
    fn new(plan: Plan, time: Option<Duration>) -> Self {
        Self { plan, fairness: Fairness::default(), until: time.map(|time| Instant::now() + time) }
    }
}

impl Model for Search {
    type State = System;
    type Action = Move;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(&self.plan)]
    }

    fn actions(&self, state: &System, actions: &mut Vec<Move>) {
        if self.until.is_none_or(|until| Instant::now() < until) {
            actions.extend(state.moves());
        }
    }

    fn next_state(&self, state: &System, action: Move) -> Option<System> {
        // A machine that panics must be found with its path.
        match catch_unwind(AssertUnwindSafe(|| state.after(action))) {
            Ok(next) => Some(next),
            Err(_) => panic!("a machine panics at {}:\n{state:?}", state.describe(action)),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFETY, |_, state: &System| state.broken().is_none()),
            Property::always(LIVENESS, |search: &Self, state: &System| {
                state.broken().is_some() || search.fairness.holds(state).is_ok()
            }),
            Property::sometimes(HELD, |_, state: &System| {
                state.worker().jobs().any(|(_, job)| job == JobState::Held)
            }),
            Property::sometimes(ORPHANED, |_, state: &System| {
                state.worker().jobs().any(|(_, job)| job == JobState::Orphaned)
            }),
            Property::sometimes(DELIVERED_LATE, |_, state: &System| {
                state.over().values().any(|over| over.state == AtStudio::Completed && over.attempts > 0)
            }),
            Property::sometimes(CONTESTED, |_, state: &System| state.is_half_open()),
        ]
    }
}

/// Explores `plan`, breadth first, until a promise is broken, `states` were seen, `time` is over, or nothing is left
/// within `depth` moves.
pub(crate) fn explore(plan: &Plan, depth: usize, states: usize, time: Option<Duration>) -> Report {
    let began = Instant::now();
    let checker = Search::new(plan.clone(), time)
        .checker()
        .target_max_depth(depth + 1)
        .target_state_count(states)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let discoveries = checker.discoveries();
    let broken = [SAFETY, LIVENESS].into_iter().filter_map(|name| Some((name, discoveries.get(name)?)));
    let broken = broken.map(|(name, path)| (name, tell(path.clone().into_actions(), plan))).collect();
    Report {
        states: checker.unique_state_count(),
        moves: checker.state_count(),
        depth: checker.max_depth() - 1,
        took: began.elapsed(),
        sights: SIGHTS.into_iter().filter(|name| discoveries.contains_key(name)).collect(),
        broken,
    }
}

/// A path in words, with the fair future that never ends.
fn tell(moves: Vec<Move>, plan: &Plan) -> String {
    let mut state = System::new(plan);
    let mut story = String::new();
    let mut go = |state: &mut System, next: Move, mark: &str| {
        story += &format!("{mark} {}\n", state.describe(next));
        *state = state.after(next);
    };
    for next in moves {
        go(&mut state, next, "-");
    }
    if let Err(endless) = Fairness::default().holds(&state) {
        for next in endless.moves {
            go(&mut state, next, "~");
        }
    }
    story + &format!("{state:?}")
}
