//! Liveness: the fair future of a state.

use alloc::{collections::BTreeSet, vec::Vec};
use std::sync::{Mutex, PoisonError};

use super::{Move, System};
use crate::{
    studio::JobState as AtStudio,
    worker::states::{JobState, SessionState},
};

/// A fair future longer than this is one that does not end.
const MAX_MOVES: usize = 10_000;

/// A fair future that does not come to where every job is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endless {
    /// The fair moves, up to where a promise is broken, nothing happens any more, or it all begins anew.
    pub moves: Vec<Move>,
    /// The last state, in words.
    pub last: alloc::string::String,
}

/// Remembers which states have a fair future that ends well.
#[derive(Debug, Default)]
pub struct Fairness {
    known: Mutex<BTreeSet<[u8; 32]>>,
}

impl Fairness {
    /// Whether every accepted job ends in the fair future of `system`.
    pub fn holds(&self, system: &System) -> Result<(), Endless> {
        let (mut moves, mut been) = (Vec::new(), BTreeSet::new());
        let mut last = system.clone();
        loop {
            if last.is_settled() || self.is_known(last.fingerprint()) {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(been);
                return Ok(());
            }
            let next =
                last.fair_move().filter(|_| moves.len() < MAX_MOVES && been.insert(last.fingerprint()));
            let Some(next) = next else {
                return Err(Endless { moves, last: alloc::format!("{last:?}") });
            };
            moves.push(next);
            last = last.after(next);
        }
    }

    fn is_known(&self, fingerprint: [u8; 32]) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint)
    }
}

impl System {
    /// Whether every job is over, as far as anybody waits for it.
    pub fn is_settled(&self) -> bool {
        if self.broken.is_some() || !self.link.is_quiet() || !self.link.runs.is_empty() {
            return false;
        }
        let held = |job: &crate::studio::JobRecord| job.state.is_held();
        let waits = |job: &crate::studio::JobRecord| job.state == AtStudio::Queued;
        let takes_jobs = !self.exited() && !self.paused;
        let at_worker = self.worker.jobs().all(|(_, state)| state == JobState::Held);
        let at_studio = |job| held(job) || takes_jobs && waits(job);
        !self.studio.jobs().any(at_studio)
            && at_worker
            && self.worker.held_results_expire()
            && (self.exited() || (!self.draining && self.worker.state() == SessionState::Serving))
    }
}
