//! The worker: registration, session, the one job and its delivery, back-off, timers, log book.

mod io;
mod observe;
mod options;

pub use io::{
    Action, Change, Command, CommandError, ConnId, ConnectFailure, Exit, HttpAnswer, HttpFailure,
    HttpRequest, Input, Key, LogLine, Method, Observation, RequestId, RunId, SessionEnd, Step, StoreId,
    Upload,
};
pub use observe::{
    CurrentJob, HeartbeatOutcome, HeartbeatStatus, JobOutcome, PROMPT_PREVIEW_CHARS, RECENT_JOBS_CAP,
    RecentJob, SessionStatus, truncate_prompt,
};
pub use options::{Identity, Options, Settings};

use crate::time::Now;

/// The worker's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {}

impl Worker {
    /// A worker that has done nothing yet.
    pub fn new(options: Options, seed: [u8; 32], now: Now) -> Self {
        let _ = (options, seed, now);
        Self {}
    }

    /// Takes what happened. Never fails, never panics.
    pub fn handle(&mut self, now: Now, input: Input) {
        let _ = (now, input);
    }

    /// Takes what the owner wants.
    pub fn command(&mut self, now: Now, command: Command) -> Result<(), CommandError> {
        let _ = (now, command);
        Ok(())
    }

    /// What to do next.
    pub fn next(&mut self) -> Step {
        Step::Wait { until: crate::time::Mono::NEVER, reason: "" }
    }
}
