//! The other end of the session: registration, queue, sessions and deliveries, by the same rules (sections 1 to 6).
//!
//! [`Studio`] is a state machine, like the worker's. Whoever serves it says what happened and carries out what it
//! says, in order:
//!
//! ```
//! use studio_worker_core::{
//!     studio::{Action, Answer, CallId, Input, NewJob, Options, Step, Studio},
//!     time::Now,
//!     wire::Task,
//! };
//!
//! let now = Now::default();
//! let mut studio = Studio::new(Options::default(), [7; 32], now);
//! let job = NewJob::new("synthetic", Task::image("a lighthouse".into(), "webp".into()));
//! studio.handle(now, Input::QueueJob { call: CallId(1), job: Box::new(job) });
//!
//! // First the record, then the answer that depends on it.
//! assert!(matches!(studio.next(), Step::Do(Action::Save(_))));
//! let Step::Do(Action::Answer { call: CallId(1), answer }) = studio.next() else { panic!() };
//! assert_eq!((answer.status(), answer.body()["state"].as_str()), (201, Some("queued")));
//! assert!(matches!(studio.next(), Step::Wait { .. }));
//! ```
//!
//! **Inputs**: [`Studio::handle`]. **Outputs**: [`Studio::next`], until it says [`Step::Wait`]; several inputs
//! before that are fine. **Getters**: the rest. What is over (a job that ended, a registration that expired, a
//! revoked worker) lives in the server's storage only.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `registry` | who may connect: requests, decisions, workers, tokens |
//! | `sessions` | upgrade, hello, frames, violations, the end of a session |
//! | `queue` | jobs and their states, attempts, deliveries by upload |
//! | `offers` | which job goes to which worker, and when |
//! | [`states`], [`records`] | the table of job states; what is stored |

mod chance;
mod fingerprint;
mod io;
mod new_job;
mod offers;
mod options;
mod queue;
pub mod records;
mod registry;
mod sessions;
pub mod states;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

pub use io::{Action, Answer, CallId, ConnId, Input, LogLine, Refusal, Step, Upload};
pub use new_job::NewJob;
pub use options::Options;
pub use records::{JobOutput, JobRecord, Record, RegistrationRecord, Standing, WorkerRecord};
pub use sessions::{MAX_LOG_ENTRIES, SessionView};
pub use states::{JobEvent, JobState};

use crate::{
    time::{Mono, Now},
    wire::{JobId, LogLevel},
};
use chance::Chance;
use queue::{Jobs, UploadClaim};
use registry::Registry;
use sessions::Session;

/// How many violations are kept for [`Studio::violations`].
const VIOLATIONS_CAP: usize = 64;

/// The studio's machine. See the [module](self) for how to serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Studio {
    now: Now,
    options: Options,
    chance: Chance,
    queue: VecDeque<Action>,
    registry: Registry,
    jobs: Jobs,
    sessions: BTreeMap<ConnId, Session>,
    /// The welcomed session of each worker that has one.
    serving: BTreeMap<String, ConnId>,
    /// How many sessions were welcomed, to order them by.
    welcomed: u64,
    uploads: BTreeMap<CallId, UploadClaim>,
    /// Something changed that may let a job be offered.
    may_offer: bool,
    shut_down: bool,
    counters: Counters,
    violations: VecDeque<Violation>,
}

/// What happened and was not worth an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Inputs of a session or an upload that is not known any more.
    pub stale_inputs: u64,
    /// Frames of a newer worker, binary frames, and frames that came late: tolerated.
    pub skipped_frames: u64,
    /// Sessions that were closed for a violation.
    pub violations: u64,
    /// Offers that were sent.
    pub offers: u64,
    /// Events that the table of job states has no transition for. Always 0: a test's oracle.
    pub impossible: u64,
}

/// A frame that the protocol does not allow where it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Whose.
    pub worker_id: String,
    /// What was wrong, as the worker was told.
    pub what: String,
}

impl Studio {
    /// A studio that knows nobody and has nothing to do. `seed` is 32 bytes of the system's randomness; the same
    /// seed and inputs give the same run.
    pub fn new(options: Options, seed: [u8; 32], now: Now) -> Self {
        Self {
            now,
            options,
            chance: Chance::new(seed),
            queue: VecDeque::new(),
            registry: Registry::default(),
            jobs: Jobs::default(),
            sessions: BTreeMap::new(),
            serving: BTreeMap::new(),
            welcomed: 0,
            uploads: BTreeMap::new(),
            may_offer: false,
            shut_down: false,
            counters: Counters::default(),
            violations: VecDeque::new(),
        }
    }

    /// A studio after a restart, from everything that was stored, in any order; what is over may be left out. A job
    /// that a worker had counts one more attempt, as when its socket closes. `seed` must be fresh: an old one would
    /// give out the same tokens again.
    pub fn restore(options: Options, seed: [u8; 32], now: Now, snapshot: Vec<Record>) -> Self {
        let mut studio = Self::new(options, seed, now);
        for record in snapshot {
            match record {
                Record::Job(job) => studio.jobs.restore(job),
                Record::Worker(worker) => studio.registry.restore_worker(worker),
                Record::Registration(registration) => {
                    studio.registry.restore_registration(registration, now.mono);
                }
            }
        }
        studio.release_restored();
        studio
    }

    /// Takes what happened. Never fails; what comes late or out of place is answered, counted, or ends its session.
    pub fn handle(&mut self, now: Now, input: Input) {
        // A clock that goes back is clamped: nothing becomes undone.
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
        match input {
            Input::Tick => {}
            Input::Register { call, peer, body } => self.on_register(call, &peer, &body),
            Input::Poll { call, request_id, bearer } => self.on_poll(call, &request_id, bearer.as_ref()),
            Input::Approve { call, request_id } => self.on_approve(call, &request_id),
            Input::Reject { call, request_id, reason } => {
                self.on_reject_registration(call, &request_id, reason);
            }
            Input::Revoke { call, worker_id } => self.on_revoke(call, &worker_id),
            Input::QueueJob { call, job } => self.on_queue_job(call, *job),
            Input::CancelJob { call, job_id } => self.on_cancel_job(call, &job_id),
            Input::Upgrade { call, conn, worker_id, bearer } => {
                self.on_upgrade(call, conn, &worker_id, bearer.as_ref());
            }
            Input::Text { conn, text } => self.on_text(conn, &text),
            Input::Binary { conn } => self.on_binary(conn),
            Input::Closed { conn } => self.on_closed(conn),
            Input::UploadBegins { call, worker_id, job_id, bearer } => {
                self.on_upload_begins(call, worker_id, job_id, bearer.as_ref());
            }
            Input::UploadEnds { call, upload } => self.on_upload_ends(call, upload),
            Input::UploadBreaks { call } => {
                if self.uploads.remove(&call).is_none() {
                    self.counters.stale_inputs += 1;
                }
            }
            Input::ShutDown => self.on_shut_down(),
        }
        // After the input: a heartbeat that comes as late as its deadline is seen still counts.
        self.expire_sessions();
        self.offer_jobs();
    }

    /// What to do next.
    #[allow(clippy::should_implement_trait)] // it never ends, and waiting is one of its answers
    pub fn next(&mut self) -> Step {
        if let Some(action) = self.queue.pop_front() {
            return Step::Do(action);
        }
        let (until, reason) =
            self.sessions.values().map(Session::next_deadline).min().unwrap_or((Mono::NEVER, "nothing"));
        Step::Wait { until: until.max(self.now.mono + Duration::from_micros(1)), reason }
    }

    /// The jobs that are queued or held, by id.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.iter()
    }

    /// A job that is queued or held.
    pub fn job(&self, id: &JobId) -> Option<&JobRecord> {
        self.jobs.get(id).map(Arc::as_ref)
    }

    /// The workers that are let in, by id.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.registry.workers()
    }

    /// A worker that is let in.
    pub fn worker(&self, id: &str) -> Option<&WorkerRecord> {
        self.registry.worker(id).map(Arc::as_ref)
    }

    /// The registrations that a worker can poll for, by request id.
    pub fn registrations(&self) -> impl Iterator<Item = &RegistrationRecord> {
        self.registry.registrations()
    }

    /// A registration that a worker can poll for.
    pub fn registration(&self, request_id: &str) -> Option<&RegistrationRecord> {
        self.registry.registration(request_id).map(Arc::as_ref)
    }

    /// The open session of a worker, once it is welcomed.
    pub fn session(&self, worker_id: &str) -> Option<SessionView<'_>> {
        let conn = *self.serving.get(worker_id)?;
        self.sessions.get(&conn).map(|session| session.view(conn))
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The newest violations, oldest first, at most 64.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.violations.iter()
    }

    fn save(&mut self, record: Record) {
        self.queue.push_back(Action::Save(record));
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        self.queue.push_back(Action::Answer { call, answer });
    }

    fn refuse(&mut self, call: CallId, refusal: Refusal) {
        self.answer(call, Answer::Refused(refusal));
    }

    fn log(&mut self, level: LogLevel, message: impl Into<String>) {
        self.queue.push_back(Action::Log(LogLine { level, message: message.into() }));
    }

    fn info(&mut self, message: impl Into<String>) {
        self.log(LogLevel::Info, message);
    }
}

/// `text`, cut to at most `most` bytes at a character.
fn cut(mut text: String, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}
