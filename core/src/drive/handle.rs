//! The owner's end of a driven worker.

use std::sync::Arc;

use super::{
    Meter, WorkerObservers,
    mailbox::{Mailbox, Wish},
};
use crate::{
    engine::Engine,
    wire::{Finite, UserPresence},
    worker::{CommandError, LogLine, Settings},
};

/// Observes and steers a worker from any thread. Nothing here waits; the worker goes on when every handle is
/// dropped. Once it has ended, wishes are ignored.
#[derive(Clone)]
pub struct WorkerHandle {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) observers: WorkerObservers,
}

impl WorkerHandle {
    /// What can be seen of the worker.
    pub fn observers(&self) -> WorkerObservers {
        self.observers.clone()
    }

    /// Takes no more jobs; the running one is finished.
    pub fn pause(&self) {
        self.mailbox.wish(Wish::Pause);
    }

    /// Takes jobs again.
    pub fn resume(&self) {
        self.mailbox.wish(Wish::Resume);
    }

    /// Changes the largest estimate that is accepted, in GB.
    pub fn set_threshold(&self, gb: f64) -> Result<(), CommandError> {
        if Finite::new(gb).is_none_or(|gb| gb < Finite::ZERO) {
            return Err(CommandError::Threshold(gb));
        }
        if self.mailbox.wish(Wish::Threshold(gb)) { Ok(()) } else { Err(CommandError::Ended) }
    }

    /// Finishes and delivers what runs, then ends the worker (section 6). While it does, another drain changes nothing: a
    /// second signal is to [`stop`](WorkerHandle::stop) it.
    pub fn drain(&self) {
        self.mailbox.wish(Wish::Drain);
    }

    /// Ends the worker at once; a running job is failed as retryable.
    pub fn stop(&self) {
        self.mailbox.wish(Wish::Stop);
    }

    /// Takes no more jobs, and ends the worker once nothing is in hand, no held result either: for another version of the
    /// program. A worker that is paused makes no way, and a pause that comes before its end takes this back: it is to be
    /// asked again once it is resumed, which may be done at any time.
    pub fn make_way(&self) {
        self.mailbox.wish(Wish::MakeWay);
    }

    /// Says whether a person uses the machine; none when nobody can tell. With `onlyWhenIdle` in the capabilities no jobs
    /// are taken while one does, nor before the first word, which is waited for at most 15 s.
    pub fn set_presence(&self, presence: Option<UserPresence>) {
        self.mailbox.wish(Wish::Presence(presence));
    }

    /// Has `meter` told of everything from now on: before the worker's future is polled, of all. The first one that is
    /// given counts.
    pub fn metered_by(&self, meter: Arc<dyn Meter>) {
        // A second one would count half.
        let _ = self.mailbox.meter.set(meter);
    }

    /// Takes changed settings and, if there is one, another engine for the jobs to come. A changed address or
    /// changed credentials count after the current job (section 7). What the settings leave to the engine is taken from
    /// it, as at the start.
    pub fn reconfigure(&self, settings: Settings, engine: Option<Arc<dyn Engine>>) {
        self.mailbox.wish(Wish::Reconfigure(Box::new(settings), engine));
    }

    /// Sends a log line of the program to the studio, at most once and when there is time. When lines come
    /// faster than the worker takes them, they are dropped and counted. The worker's own lines are on their
    /// way already: a logger that calls this must leave [`LOG_TARGET`](super::LOG_TARGET) out.
    pub fn log(&self, line: LogLine) {
        self.mailbox.line(line);
    }

    /// Wakes the loop, which does no more than to look around when nothing has happened: then [`WorkerHandle::turns`]
    /// grows. A watchdog rings, waits, and knows whether the loop is alive.
    pub fn ring(&self) {
        self.mailbox.bell.ring();
    }

    /// How many turns the loop has made; counted anew after 2³² of them.
    pub fn turns(&self) -> u32 {
        self.mailbox.taken()
    }

    /// Whether the worker has ended.
    pub fn has_ended(&self) -> bool {
        self.mailbox.is_closed()
    }
}

impl std::fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerHandle").field("observers", &self.observers).finish_non_exhaustive()
    }
}
