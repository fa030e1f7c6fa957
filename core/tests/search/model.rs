//! The transition system of `sim::search` as a model for `stateright`.
#![allow(clippy::disallowed_methods, reason = "how long a search takes is measured on a real clock")]

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
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
/// What a search comes by, or it has shown nothing.
pub(crate) const HELD: &str = "a result is held";
/// The same of runs.
pub(crate) const ORPHANED: &str = "an orphan runs";
/// The same of deliveries.
pub(crate) const RESCUED: &str = "a job whose claim was lost is delivered";
/// The same of connections.
pub(crate) const HALF_OPEN: &str = "one side alone knows that a connection is gone";

/// What is explored, and what is known of fair futures so far.
struct Search {
    plan: Plan,
    fairness: Fairness,
    /// When to stop.
    until: Option<Instant>,
    /// Whether the exploration is over.
    ended: AtomicBool,
    /// States in which both properties were checked.
    checked: AtomicUsize,
}

/// What a search has seen.
#[derive(Debug)]
pub(crate) struct Report {
    /// Different states that were checked.
    pub(crate) states: usize,
    /// Moves that were made, with those that led to known states.
    pub(crate) moves: usize,
    /// Moves from the start to the farthest state.
    pub(crate) depth: usize,
    /// How long it took.
    pub(crate) took: Duration,
    /// Whether nothing was left to explore.
    pub(crate) whole: bool,
    /// What it came by.
    pub(crate) sights: Vec<&'static str>,
    /// Each property that is broken, with the path there in words.
    pub(crate) broken: Vec<(&'static str, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, moves, depth, took, whole, .. } = self;
        let end = if *whole { ", nothing left" } else { "" };
        write!(f, "{states} states, {moves} moves, depth {depth}, {took:.1?}{end}")
    }
}

impl Search {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Model for Search {
    type State = System;
    type Action = Move;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(&self.plan)]
    }

    fn actions(&self, state: &System, actions: &mut Vec<Move>) {
        // Behind the end of the time only paths are followed again.
        if self.ended.load(Ordering::Relaxed) || !self.is_over() {
            actions.extend(state.moves());
        }
    }

    fn next_state(&self, state: &System, action: Move) -> Option<System> {
        // A machine that panics is to be found with the way there.
        match catch_unwind(AssertUnwindSafe(|| state.after(action))) {
            Ok(next) => Some(next),
            Err(panic) => {
                eprintln!("a machine panics at {}:\n{state:?}", state.describe(action));
                resume_unwind(panic)
            }
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFETY, |_, state: &System| state.broken().is_none()),
            Property::always(LIVENESS, |search: &Self, state: &System| {
                if search.is_over() {
                    return true;
                }
                search.checked.fetch_add(1, Ordering::Relaxed);
                state.broken().is_some() || search.fairness.holds(state).is_ok()
            }),
            Property::sometimes(HELD, |_, state: &System| {
                state.worker().jobs().any(|(_, job)| job == JobState::Held)
            }),
            Property::sometimes(ORPHANED, |_, state: &System| {
                state.worker().jobs().any(|(_, job)| job == JobState::Orphaned)
            }),
            Property::sometimes(RESCUED, |_, state: &System| {
                state.over().values().any(|over| over.state == AtStudio::Completed && over.attempts > 0)
            }),
            Property::sometimes(HALF_OPEN, |_, state: &System| state.is_half_open()),
            // A checker that has met everything looks no further.
            Property::sometimes("never", |_, _| false),
        ]
    }
}

/// Explores `plan`, breadth first, until a property is broken, nothing is left, or `time` is over.
pub(crate) fn explore(plan: &Plan, time: Option<Duration>) -> Report {
    let began = Instant::now();
    let search = Search {
        plan: plan.clone(),
        fairness: Fairness::default(),
        until: time.map(|time| began + time),
        ended: AtomicBool::new(false),
        checked: AtomicUsize::new(0),
    };
    let checker = search.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (took, whole) = (began.elapsed(), !checker.model().is_over());
    checker.model().ended.store(true, Ordering::Relaxed);
    let discoveries = checker.discoveries();
    let broken = [SAFETY, LIVENESS].into_iter().filter_map(|name| Some((name, discoveries.get(name)?)));
    let broken: Vec<_> = broken.map(|(name, path)| (name, tell(plan, path.clone().into_actions()))).collect();
    let sights = [HELD, ORPHANED, RESCUED, HALF_OPEN];
    Report {
        states: checker.model().checked.load(Ordering::Relaxed),
        moves: checker.state_count(),
        depth: checker.max_depth().saturating_sub(1),
        took,
        whole: whole && broken.is_empty(),
        sights: sights.into_iter().filter(|name| discoveries.contains_key(name)).collect(),
        broken,
    }
}

/// A path in words, and the fair future that does not end well.
fn tell(plan: &Plan, moves: Vec<Move>) -> String {
    let mut story = Vec::new();
    let mut make = |state: System, next: Move, mark: char| {
        story.push(format!("{mark} {}", state.describe(next)));
        state.after(next)
    };
    let state = moves.into_iter().fold(System::new(plan), |state, next| make(state, next, '-'));
    let beyond = Fairness::default().holds(&state).err().map(|endless| endless.moves).unwrap_or_default();
    let state = beyond.into_iter().fold(state, |state, next| make(state, next, '~'));
    story.push(state.broken().map_or_else(|| format!("= {state:?}"), |broken| format!("= {broken}")));
    story.join("\n")
}
