//! What goes into a [`Worker`](super::Worker) and what comes out of it.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use super::{
    observe::{CurrentJob, HeartbeatStatus, HeldResult, RecentJob, SessionStatus},
    options::Settings,
};
use crate::{
    engine::{EngineError, Output, Payload, SpilledFile},
    http::{HttpAnswer, HttpFailure, HttpRequest},
    machine::{Memory, Transfer},
    time::Mono,
    wire::{
        Capabilities, Claim, CloseCode, Finite, JobId, LogLevel, Secret, UserPresence, WorkerFrame,
        multipart::Envelope,
    },
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

id!(
    /// One connection attempt and the session that may come of it. Never used twice.
    ConnId
);
id!(
    /// One HTTP exchange. Never used twice.
    RequestId
);
id!(
    /// One run of the engine. Never used twice.
    RunId
);
id!(
    /// One request to store something. Never used twice.
    StoreId
);
id!(
    /// One measurement of the memory. Never used twice.
    MeasureId
);

/// What happened. Outcomes name what they are of; one that comes late is ignored and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing but time passed. Timers fire at this input alone, so tell first what else has happened.
    Tick,
    /// The upgrade succeeded and the sub-protocol was echoed.
    Connected {
        /// Of which [`Action::Connect`].
        conn: ConnId,
    },
    /// No session came of a connection attempt.
    ConnectFailed {
        /// Of which [`Action::Connect`].
        conn: ConnId,
        /// Why.
        failure: ConnectFailure,
    },
    /// A text frame came.
    Text {
        /// On which session.
        conn: ConnId,
        /// The frame.
        text: String,
    },
    /// A frame came that isn't text: binary, ping or pong. It shows that the peer lives.
    OtherFrame {
        /// On which session.
        conn: ConnId,
        /// Whether it was a binary frame, which nobody should send.
        binary: bool,
    },
    /// Everything that was handed over for sending has left, up to and including the `upto`-th frame
    /// ([`Action::Send`] and [`Action::SendHeartbeat`]) of this session.
    Flushed {
        /// On which session.
        conn: ConnId,
        /// How many frames have left since the session began.
        upto: u64,
    },
    /// A session ended, whoever ended it.
    Closed {
        /// Which session.
        conn: ConnId,
        /// How.
        end: SessionEnd,
    },
    /// An HTTP exchange ended: of [`Action::Request`] or [`Action::Upload`].
    Answered {
        /// Which exchange.
        request: RequestId,
        /// The answer.
        outcome: Result<HttpAnswer, HttpFailure>,
    },
    /// Bytes of an upload moved. At most a few a second are wanted.
    UploadProgress {
        /// Which exchange.
        request: RequestId,
        /// Bytes of the body that have left.
        sent: u64,
    },
    /// The engine ended a run. Comes once for each [`Action::DispatchJob`], also after
    /// [`Action::CancelRun`], when the engine has really stopped.
    RunEnded {
        /// Which run.
        run: RunId,
        /// What it made, or why it made nothing.
        outcome: Result<Output, EngineError>,
    },
    /// Bytes of a download moved that a run waits for. At most a few a second are wanted.
    RunProgress {
        /// Which run.
        run: RunId,
        /// How far the download is; none when it is over, one way or the other.
        transfer: Option<Transfer>,
    },
    /// The memory was measured, for [`Action::Measure`].
    Measured {
        /// Which measurement.
        measure: MeasureId,
        /// What can be had now, with the room that was made.
        memory: Memory,
        /// Whether the model of the very job is loaded already, so that nothing more is needed.
        resident: bool,
    },
    /// What [`Action::Store`] asked for is on the disk, or isn't.
    Stored {
        /// Which request.
        store: StoreId,
        /// Why not.
        outcome: Result<(), String>,
    },
    /// A log line of the program, on its way to the studio.
    Log(LogLine),
}

/// What the owner of a worker wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take no more jobs; the running one is finished.
    Pause,
    /// Take jobs again.
    Resume,
    /// The largest estimate that is accepted, in GB; at least 0 and finite.
    SetThreshold(f64),
    /// Finish what runs, deliver it, end. While it does, another one changes nothing: what ends it at once, as the second
    /// signal of section 6 does, is [`Command::Stop`].
    Drain,
    /// End at once: the running job is failed as retryable.
    Stop,
    /// Take no more jobs, and end once nothing is in hand: no job, and no result that is held. There is no bound in time
    /// but those of jobs and held results. For a program that is to be replaced by another version of itself. A worker that
    /// is paused makes no way, and a pause takes this back.
    MakeWay,
    /// The configuration changed.
    Reconfigure(Box<Settings>),
    /// Whether a person uses the machine; none when nobody can tell. With `onlyWhenIdle` in the capabilities no jobs are
    /// taken while one does, nor before the first word, which is waited for at most 15 s; the running one is finished.
    Presence(Option<UserPresence>),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// A threshold that is negative or not a number.
    #[error("the threshold must be a finite number of GB, at least 0; {0} is not")]
    Threshold(f64),
    /// The worker has ended.
    #[error("the worker has ended")]
    Ended,
}

/// Why a connection attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The studio answered the upgrade with something other than 101.
    Refused(HttpAnswer),
    /// There was no usable answer: no route, a time-out, TLS, a missing sub-protocol.
    Trouble(String),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The peer sent a close frame.
    Closed {
        /// Its code; 1005 when it had none.
        code: CloseCode,
        /// Its text.
        reason: String,
    },
    /// The connection broke.
    Dropped(String),
    /// A frame came that is larger than is read.
    TooLarge,
}

/// The delivery of a result as bytes (section 5): `envelope.head`, the payload, `envelope.tail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where to.
    pub url: String,
    /// Sent as `Authorization: Bearer`; never to another host.
    pub bearer: Secret,
    /// What surrounds the payload.
    pub envelope: Envelope,
    /// The result.
    pub payload: Payload,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// Which part of the program says it.
    pub category: String,
    /// The line.
    pub message: String,
    /// The job that it is about.
    pub job_id: Option<JobId>,
}

/// A value that outlives the process, named as in `config.toml` (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `install_id`.
    InstallId,
    /// `registration_secret`.
    RegistrationSecret,
    /// `registration_request_id`.
    RegistrationRequestId,
    /// `registration_rejected`: the operator's reason, or an empty text.
    RegistrationRejected,
    /// `worker_id`.
    WorkerId,
    /// `auth_token`.
    AuthToken,
}

impl Key {
    /// The key's name in `config.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstallId => "install_id",
            Self::RegistrationSecret => "registration_secret",
            Self::RegistrationRequestId => "registration_request_id",
            Self::RegistrationRejected => "registration_rejected",
            Self::WorkerId => "worker_id",
            Self::AuthToken => "auth_token",
        }
    }
}

/// One value to store; `None` removes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// What. A [`Secret`], whatever it is: some of them are.
    pub value: Option<Secret>,
}

/// What to do next, as [`Worker::next`](super::Worker::next) says it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an action that is not carried out leaves the worker waiting for its outcome"]
pub enum Step {
    /// Do this, then ask again.
    Do(Action),
    /// Nothing is left to do before `until`, unless something happens.
    Wait {
        /// When to come back with [`Input::Tick`]; always later than the last `now`.
        until: Mono,
        /// What is waited for, for logs and tests.
        reason: &'static str,
    },
}

/// Something to do. Actions come out in the order in which they were decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a session. Answer with [`Input::Connected`] or [`Input::ConnectFailed`]. The core bounds the time.
    Connect {
        /// Its id.
        conn: ConnId,
        /// `ws://…` or `wss://…`.
        url: String,
        /// Sent as `Authorization: Bearer`.
        bearer: Secret,
    },
    /// Send a heartbeat.
    SendHeartbeat {
        /// On which session.
        conn: ConnId,
        /// What the worker can do; the same `Arc` as long as nothing changed.
        capabilities: Arc<Capabilities>,
        /// The job that is held.
        current_job_id: Option<JobId>,
    },
    /// Send any other frame.
    Send {
        /// On which session.
        conn: ConnId,
        /// The frame.
        frame: WorkerFrame,
    },
    /// Send what is queued, then a close frame, wait for the peer's (the core bounds the time and then says
    /// [`Action::Drop`]). Answer with [`Input::Closed`].
    Close {
        /// Which session.
        conn: ConnId,
        /// The code.
        code: CloseCode,
        /// The text, at most 120 bytes.
        reason: String,
    },
    /// Drop a connection or an attempt at once. There is no answer.
    Drop {
        /// Which.
        conn: ConnId,
    },
    /// Exchange a small HTTP request. Answer with [`Input::Answered`].
    Request {
        /// Its id.
        request: RequestId,
        /// What to send.
        http: HttpRequest,
    },
    /// Deliver bytes. Report [`Input::UploadProgress`], answer with [`Input::Answered`]. Only a stall bounds it, and
    /// the core sees to that.
    Upload {
        /// Its id.
        request: RequestId,
        /// What to send.
        upload: Upload,
    },
    /// Give up an exchange. There is no answer.
    CancelRequest {
        /// Which.
        request: RequestId,
    },
    /// Run a job. Answer with [`Input::RunEnded`].
    DispatchJob {
        /// Its id.
        run: RunId,
        /// The job.
        claim: Arc<Claim>,
    },
    /// Stop a run. [`Input::RunEnded`] still comes.
    CancelRun {
        /// Which.
        run: RunId,
    },
    /// Measure the memory that a model could have now (section 5). Answer with [`Input::Measured`]. The core bounds the
    /// time, and only the newest measurement counts: one that is under way may be given up for it.
    Measure {
        /// Its id.
        measure: MeasureId,
        /// The job that waits for it: what is kept for other jobs' models makes room first. None: only look.
        claim: Option<Arc<Claim>>,
    },
    /// Delete the file of a result that is no longer wanted.
    Discard(SpilledFile),
    /// A job ended: put it in front of the recent jobs.
    RecordRecentJob(RecentJob),
    /// Something that observers see changed.
    Observe(Observation),
    /// Store this, durably, and in the order in which it is asked for. Answer with [`Input::Stored`].
    Store {
        /// Its id.
        store: StoreId,
        /// What to write, all or nothing.
        changes: Vec<Change>,
    },
    /// Log a line of the worker's own. (It is on its way to the studio already.)
    Log(LogLine),
    /// The worker has ended. Comes once, and last.
    Exit(Exit),
}

/// What observers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The job in hand.
    CurrentJob(Option<CurrentJob>),
    /// All results that are held now, the newest last.
    HeldResults(Vec<HeldResult>),
    /// How the last heartbeat went.
    Heartbeat(HeartbeatStatus),
    /// Where the worker stands with its studio.
    Session(SessionStatus),
    /// The largest estimate that jobs are taken of now, in GB: the owner's bound, or less while the memory is taken.
    Threshold(Finite),
}

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exit {
    /// It was asked to drain, and did.
    #[error("drained")]
    Drained,
    /// It was asked to stop, or the drain time was over.
    #[error("stopped")]
    Stopped,
    /// It was asked to make way, and nothing is in its hands.
    #[error("made way")]
    MadeWay,
    /// The studio refused the token.
    #[error(
        "the studio refused the worker's token ({reason}): run `studio-worker register --reset`, then `studio-worker run`"
    )]
    Unauthorized {
        /// The studio's words.
        reason: String,
    },
    /// An operator refused the registration.
    #[error(
        "the studio's operator rejected the registration{}: run `studio-worker register --reset` to ask again",
        reason.as_ref().map(|reason| alloc::format!(" ({reason})")).unwrap_or_default()
    )]
    Rejected {
        /// Why, if they said so.
        reason: Option<String>,
    },
    /// Somebody else uses this worker's id.
    #[error(
        "another program uses this worker's id again and again: stop it, or run `studio-worker register --reset` here"
    )]
    DuplicateWorker,
    /// `ws_reconnect_attempts` failures in a row.
    #[error("the studio could not be reached in {attempts} attempts in a row ({last})")]
    AttemptsExhausted {
        /// How many.
        attempts: u32,
        /// The last failure.
        last: String,
    },
    /// The engine did not stop after its time limit.
    #[error("the engine did not stop after its time limit, and its thread can't be ended")]
    EngineStuck,
}

impl Exit {
    /// The exit code of the program (section 8).
    pub const fn code(&self) -> u8 {
        match self {
            Self::Drained | Self::Stopped | Self::MadeWay => 0,
            _ => 1,
        }
    }
}
