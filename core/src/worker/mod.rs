//! The worker: registration, session, the one job and its delivery, back-off, timers, log book.
//!
//! [`Worker`] is a state machine. Whoever drives it says what happened and carries out what it says:
//!
//! ```
//! use studio_worker_core::{
//!     time::{Mono, Now},
//!     wire::{ApiBase, Capabilities},
//!     worker::{Action, Identity, Input, Options, Settings, Step, Worker},
//! };
//!
//! let settings = Settings {
//!     api_base: ApiBase::parse("http://127.0.0.1:8700").unwrap(),
//!     identity: Identity { worker_id: Some("w-1".into()), auth_token: Some("t".into()), ..Identity::default() },
//!     label: None,
//!     capabilities: Capabilities::default(),
//!     services: vec![],
//!     measured_engines: vec![],
//!     reconnect_attempts: None,
//! };
//! let mut now = Now::default();
//! let mut worker = Worker::new(Options::new(settings, "studio-worker/1.0.0"), [7; 32], now);
//! let mut connecting = None;
//! loop {
//!     match worker.next() {
//!         Step::Do(Action::Connect { conn, url, .. }) => {
//!             assert_eq!(url, "ws://127.0.0.1:8700/graphics/api/workers/w-1/connect");
//!             connecting = Some(conn);
//!         }
//!         Step::Do(_) => {} // a log line, something to observe
//!         Step::Wait { until, .. } => {
//!             assert!(until > now.mono); // within 15 s, or the attempt has failed
//!             break;
//!         }
//!     }
//! }
//! now.mono = Mono::from_micros(2_000);
//! worker.handle(now, Input::Connected { conn: connecting.unwrap() });
//! assert!(matches!(worker.next(), Step::Do(_)));
//! ```
//!
//! **Inputs**: [`Worker::handle`] takes what happened, [`Worker::command`] what the owner wants. **Outputs**:
//! [`Worker::next`], until it says [`Step::Wait`]. Several inputs before that are fine. **Getters**: the rest.

mod admission;
mod chance;
mod commands;
mod delivery;
mod ends;
mod fingerprint;
mod io;
mod jobs;
mod logbook;
mod memory;
mod observe;
mod offers;
mod options;
mod progress;
mod registration;
mod session;
pub mod states;
mod storing;
#[cfg(test)]
mod tests;
pub mod timers;
mod upload;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    format,
    string::String,
    sync::Arc,
};
use core::{fmt, time::Duration};

pub use crate::http::{HttpAnswer, HttpFailure, HttpRequest, Method};
pub use io::{
    Action, Change, Command, CommandError, ConnId, ConnectFailure, Exit, Input, Key, LogLine, MeasureId,
    Observation, RequestId, RunId, SessionEnd, Step, StoreId, Upload,
};
pub use logbook::{MAX_BATCH_BYTES, MAX_BATCH_ENTRIES};
pub use observe::{
    CurrentJob, HeartbeatOutcome, HeartbeatStatus, HeldResult, Hindrance, JobOutcome, JobProgress, Moves,
    PROMPT_PREVIEW_CHARS, RECENT_JOBS_CAP, RecentJob, SessionStatus, truncate_prompt,
};
pub use options::{Identity, Options, Settings};
pub use timers::HEARTBEAT_INTERVAL;

use crate::{
    text::plain,
    time::{Mono, Now},
    wire::{Capabilities, Finite, JobId, LogLevel},
};
use admission::Admission;
use chance::{Backoff, Chance};
use commands::{Presence, Reconfigured};
use jobs::Jobs;
use logbook::{LogBook, MAX_MESSAGE_BYTES};
use progress::Shown;
use registration::Registration;
use session::Session;
use states::{JobState, SessionEvent, SessionState};
use timers::{Timer, Timers};

/// The worker's machine. See the [module](self) for how to drive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    now: Now,
    options: Options,
    chance: Chance,
    timers: Timers,
    queue: VecDeque<Action>,
    state: SessionState,
    registration: Registration,
    session: Session,
    /// Failures to hold a session, in a row.
    failures: Backoff,
    /// How often in a row somebody else used this worker's id.
    contested: u32,
    jobs: Jobs,
    /// What observers see of the job in hand.
    shown: Shown,
    admission: Admission,
    log_book: LogBook,
    /// As last said to the studio.
    capabilities: Arc<Capabilities>,
    paused: bool,
    draining: bool,
    /// Another version of the program waits for this one to end.
    makes_way: bool,
    presence: Presence,
    /// Why no jobs are taken, as observers know it.
    hindrance_shown: Option<Hindrance>,
    /// The largest estimate that is accepted, in GB.
    threshold: Finite,
    /// A changed address or changed credentials that wait for the current job.
    reconfigured: Option<Box<Reconfigured>>,
    known_odd_frames: BTreeSet<String>,
    counters: Counters,
    ids: u64,
    exit: Option<Exit>,
    ended: bool,
}

/// What happened and was not worth an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Outcomes of something that was given up meanwhile.
    pub stale_inputs: u64,
    /// Frames that were skipped, since they could not be read or were out of place.
    pub skipped_frames: u64,
    /// Log lines that the studio will never see.
    pub dropped_log_lines: u64,
    /// Sessions that reached their welcome.
    pub sessions: u64,
    /// Runs of the engine.
    pub runs: u64,
    /// Events that the state tables have no transition for. Always 0: a test's oracle.
    pub impossible: u64,
}

impl Worker {
    /// A worker at its start. `seed` is 32 bytes of the system's randomness; the same seed and inputs give
    /// the same run.
    pub fn new(options: Options, seed: [u8; 32], now: Now) -> Self {
        let threshold = options.settings.capabilities.vram_threshold_gb;
        let mut worker = Self {
            now,
            chance: Chance::new(seed),
            timers: Timers::default(),
            queue: VecDeque::new(),
            state: SessionState::Unregistered,
            registration: Registration::new(options.settings.identity.clone()),
            session: Session::default(),
            failures: Backoff::default(),
            contested: 0,
            jobs: Jobs::default(),
            shown: Shown::default(),
            admission: Admission::default(),
            log_book: LogBook::default(),
            capabilities: Arc::default(),
            paused: false,
            draining: false,
            makes_way: false,
            presence: Presence::default(),
            hindrance_shown: None,
            threshold,
            reconfigured: None,
            known_odd_frames: BTreeSet::new(),
            counters: Counters::default(),
            ids: 0,
            exit: None,
            ended: false,
            options,
        };
        worker.await_presence();
        worker.refresh_capabilities();
        worker.begin();
        worker
    }

    /// Takes what happened. Never fails; what comes late or out of place is counted and ignored.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.ended {
            self.counters.stale_inputs += 1;
            return;
        }
        self.pass_time(now);
        match input {
            Input::Tick => self.fire_due(),
            Input::Connected { conn } => self.on_connected(conn),
            Input::ConnectFailed { conn, failure } => self.on_connect_failed(conn, failure),
            Input::Text { conn, text } => self.on_text(conn, &text),
            Input::OtherFrame { conn, binary } => self.on_other_frame(conn, binary),
            Input::Flushed { conn, upto } => self.on_flushed(conn, upto),
            Input::Closed { conn, end } => self.on_closed(conn, end),
            Input::Answered { request, outcome } => self.on_answered(request, outcome),
            Input::UploadProgress { request, sent } => self.on_upload_progress(request, sent),
            Input::RunEnded { run, outcome } => self.on_run_ended(run, outcome),
            Input::RunProgress { run, transfer } => self.on_run_progress(run, transfer),
            Input::Measured { measure, memory, resident } => self.on_measured(measure, memory, resident),
            Input::Stored { store, outcome } => self.on_stored(store, outcome),
            Input::Log(line) => self.ship(line),
        }
        self.settle();
    }

    /// Takes what the owner wants.
    pub fn command(&mut self, now: Now, command: Command) -> Result<(), CommandError> {
        if self.ended {
            return Err(CommandError::Ended);
        }
        self.pass_time(now);
        match command {
            Command::Pause => self.set_paused(true),
            Command::Resume => self.set_paused(false),
            Command::SetThreshold(gb) => {
                let threshold =
                    Finite::new(gb).filter(|gb| *gb >= Finite::ZERO).ok_or(CommandError::Threshold(gb))?;
                self.set_threshold(threshold);
            }
            Command::Drain => self.drain(),
            Command::Stop => self.stop("told to stop"),
            Command::MakeWay => self.make_way(),
            Command::Reconfigure(settings) => self.reconfigure(*settings),
            Command::Presence(presence) => self.set_presence(presence),
        }
        self.settle();
        Ok(())
    }

    /// What to do next.
    // Not an iterator: it never ends by itself, and a wait is not an item.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Step {
        if let Some(action) = self.queue.pop_front() {
            return Step::Do(action);
        }
        // A worker at rest keeps no room for what it may do next.
        self.queue.shrink_to_fit();
        let (at, reason) = self.timers.next();
        // Every due timer has fired by now; this holds the promise also if one was set for this very moment.
        let until = at.max(self.now.mono + Duration::from_micros(1));
        Step::Wait { until, reason }
    }

    /// Where the worker stands with its studio.
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The states of the jobs that are not over.
    pub fn jobs(&self) -> impl Iterator<Item = (&JobId, JobState)> {
        self.jobs.all.iter().map(|job| (&job.subject.job_id, job.state))
    }

    /// The job whose offer waits for an upload, and the one whose offer waits for the memory to be measured.
    #[cfg(any(feature = "sim", test))]
    pub(crate) fn waiting_offers(&self) -> [Option<&JobId>; 2] {
        [self.session.parked.as_ref().map(|offer| offer.job_id()), self.admission.pending()]
    }

    /// What happened and was not worth an action.
    pub fn counters(&self) -> Counters {
        Counters { dropped_log_lines: self.log_book.dropped_ever(), ..self.counters }
    }

    /// What the worker says of itself now.
    pub fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// Time that goes back is clamped.
    fn pass_time(&mut self, now: Now) {
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
    }

    /// Fires every timer whose time has come. Only a tick does: what has happened meanwhile, on a machine that slept,
    /// say, is told before it, and may well be what a timer waits for.
    fn fire_due(&mut self) {
        // A timer may set another one for now; that no chain of them is endless is for the bound to say.
        for _ in 0..64 {
            let Some(timer) = self.timers.due(self.now.mono) else { break };
            self.on_timer(timer);
        }
    }

    /// After an input: does what it set for this very moment, then what has become possible.
    fn settle(&mut self) {
        for _ in 0..64 {
            let Some(timer) = self.timers.due_at(self.now.mono) else { break };
            self.on_timer(timer);
        }
        if self.ended {
            return;
        }
        // In this order: an operator's change must not wait for ever behind a studio that has always one more
        // job parked.
        self.apply_reconfiguration();
        self.unpark();
        self.finish_drain();
        self.finish_making_way();
        if !self.ended {
            self.show_jobs();
            self.ship_logs();
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Connect => self.on_connect_timeout(),
            Timer::Welcome => self.on_welcome_timeout(),
            Timer::Silence => self.on_silence(),
            Timer::Heartbeat => self.on_heartbeat_due(),
            Timer::Reconnect => self.connect(),
            Timer::Linger => self.on_linger_over(),
            Timer::Parting => self.on_parting_over(),
            Timer::Ack => self.on_ack_timeout(),
            Timer::Stable => {
                self.failures.reset();
                self.registration.revocations.reset();
            }
            Timer::Uncontested => self.contested = 0,
            Timer::Orphan => self.give_up_orphan("the studio did not offer it again within 60 s"),
            Timer::Recover => self.on_recovery_over(),
            Timer::Drain => self.stop("the drain time is over"),
            // `settle` ships what waits.
            Timer::LogBatch => {}
            Timer::Register => self.register(),
            Timer::Exchange => self.on_exchange_timeout(),
            Timer::StoreRetry => self.store_again(),
            Timer::RunLimit => self.on_run_limit(),
            Timer::Stuck => self.on_stuck(),
            Timer::Measure => self.on_measure_timeout(),
            Timer::Lowered => self.on_lowered_over(),
            Timer::Look => self.on_look_due(),
            Timer::Presence => self.set_presence(None),
            Timer::UploadStall(key) => self.on_upload_stall(key),
            Timer::UploadRetry(key) => self.upload(key),
            Timer::UploadGiveUp(key) => self.give_up_upload(key),
            Timer::Expire(key) => self.on_expired(key),
        }
    }

    fn act(&mut self, action: Action) {
        self.queue.push_back(action);
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn after(&self, span: Duration) -> Mono {
        self.now.mono + span
    }

    /// Moves the session along its table; an event without a transition is a bug, and is counted.
    fn session_event(&mut self, event: SessionEvent, detail: Option<String>) {
        match self.state.after(event) {
            Some(state) => self.state = state,
            None => self.counters.impossible += 1,
        }
        self.observe_session(detail);
    }

    fn observe_session(&mut self, detail: Option<String>) {
        self.hindrance_shown = self.hindered_by();
        let status = SessionStatus {
            state: self.state.name(),
            since: self.now.wall,
            worker_id: self.registration.identity.worker_id.clone(),
            detail: detail.map(|detail| self.registration.scrub(detail)),
            vram_threshold_gb: self.advertised_threshold(),
            accepting: self.capabilities.auto_enabled,
            hindrance: self.hindrance_shown,
        };
        self.act(Action::Observe(Observation::Session(status)));
    }

    /// Says a line: to the program's log, and to the studio.
    fn log(&mut self, level: LogLevel, category: &str, message: fmt::Arguments<'_>, job: Option<&JobId>) {
        let message = plain(self.registration.scrub(format!("{message}")));
        let message = logbook::cut(message, MAX_MESSAGE_BYTES);
        let line = LogLine { level, category: category.into(), message, job_id: job.cloned() };
        self.act(Action::Log(line.clone()));
        self.log_book.push(self.now.wall, line);
    }

    /// Takes a line of the program's own on its way to the studio.
    fn ship(&mut self, line: LogLine) {
        let line = LogLine { message: plain(self.registration.scrub(line.message)), ..line };
        self.log_book.push(self.now.wall, line);
    }
}
