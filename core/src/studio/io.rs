//! What goes into a [`Studio`](super::Studio) and what comes out of it.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde_json::{Value, json};

use super::{
    new_job::NewJob,
    records::{JobRecord, Record, RegistrationRecord, WorkerRecord},
};
use crate::{
    time::Mono,
    wire::{
        CloseCode, JobId, LogEntry, LogLevel, Secret, StudioFrame, TaskForm,
        registration::{Decision, RegisterAnswer},
    },
};

/// One WebSocket, named by the server when it asks for the upgrade. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One request that waits for its [`Answer`], named by the server. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What happened. Each input with a `call` gets exactly one [`Action::Answer`] with that id; an
/// [`Input::UploadBegins`] that was answered with [`Answer::Proceed`] gets a second one at its
/// [`Input::UploadEnds`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing but time passed.
    Tick,

    /// `POST /workers/register-request` (section 2). Answered with [`Answer::Registered`], or refused with
    /// 400 (a body that can't be read), 429 (too many from this peer) or 503 (too many wait for a decision).
    Register {
        /// To answer to.
        call: CallId,
        /// The peer's address without its port: requests are counted by it.
        peer: String,
        /// The body as it came.
        body: Vec<u8>,
    },
    /// `GET /workers/register-requests/{requestId}` (section 2). Answered with [`Answer::Decision`], or
    /// refused with 401 (not the secret that was registered) or 404 (no such request).
    Poll {
        /// To answer to.
        call: CallId,
        /// What is asked for.
        request_id: String,
        /// The registration secret.
        bearer: Option<Secret>,
    },
    /// An operator lets a worker in. Answered with [`Answer::Registration`]; refused with 404, or with 409 when
    /// it was rejected before. Approving twice is one approval.
    Approve {
        /// To answer to.
        call: CallId,
        /// Which request.
        request_id: String,
    },
    /// An operator refuses a worker. Answered with [`Answer::Registration`]; refused with 404, or with 409 when
    /// it was approved before (revoke the worker instead).
    Reject {
        /// To answer to.
        call: CallId,
        /// Which request.
        request_id: String,
        /// Why, for the worker's owner to read.
        reason: Option<String>,
    },
    /// An operator takes a worker's registration back: its session ends with 4004. Answered with
    /// [`Answer::Worker`], refused with 404.
    Revoke {
        /// To answer to.
        call: CallId,
        /// Which worker.
        worker_id: String,
    },

    /// A job for the queue. Answered with [`Answer::Job`]; refused with 409 (its id is taken) or 503 (the queue
    /// is full). The studio knows the ids of jobs that are not over; whether one of the server's past jobs had
    /// the id is the server's to know, before it asks.
    QueueJob {
        /// To answer to.
        call: CallId,
        /// What to do.
        job: Box<NewJob>,
    },
    /// A job is not wanted any more. One that a worker has ends when the worker is done with it, since the
    /// protocol has no word to stop it; its result is dropped. Answered with [`Answer::Job`], refused with 404
    /// when no such job is queued or held.
    CancelJob {
        /// To answer to.
        call: CallId,
        /// Which.
        job_id: JobId,
    },

    /// `GET /workers/{workerId}/connect` (section 3). [`Answer::Proceed`]: answer 101 with the sub-protocol, then
    /// report [`Input::Text`] and in the end [`Input::Closed`] for `conn`, also when the upgrade fails on the
    /// way. Else refused with 401 or 404.
    Upgrade {
        /// To answer to.
        call: CallId,
        /// The id of the session that comes of it.
        conn: ConnId,
        /// Who wants to connect.
        worker_id: String,
        /// The worker's token.
        bearer: Option<Secret>,
    },
    /// A text frame came.
    Text {
        /// On which session.
        conn: ConnId,
        /// The frame.
        text: String,
    },
    /// A binary frame came, which nobody should send. Pings and pongs are the server's matter.
    Binary {
        /// On which session.
        conn: ConnId,
    },
    /// A session ended, whoever ended it. After [`Action::Close`] it is welcome but not needed.
    Closed {
        /// Which.
        conn: ConnId,
    },

    /// The head of `POST /workers/{workerId}/jobs/{jobId}/complete` came (section 5). [`Answer::Proceed`]: receive
    /// the body, then report [`Input::UploadEnds`] or [`Input::UploadBreaks`]. Else refused with 401, 404 or 409.
    UploadBegins {
        /// To answer to, now and at the end.
        call: CallId,
        /// Who delivers.
        worker_id: String,
        /// What for.
        job_id: JobId,
        /// The worker's token.
        bearer: Option<Secret>,
    },
    /// The body is there, its bytes durably stored. Answered with [`Answer::Delivered`], or refused with 409 when
    /// the job's claim was lost meanwhile.
    UploadEnds {
        /// Of which [`Input::UploadBegins`].
        call: CallId,
        /// What came.
        upload: Upload,
    },
    /// The body will never be there. Not answered: there is nobody left to answer to, or the server does it (400).
    UploadBreaks {
        /// Of which [`Input::UploadBegins`].
        call: CallId,
    },

    /// The studio is going away: every session is closed with 1001 and its claim released.
    ShutDown,
}

/// A delivery of bytes, as the server received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The server's name for the stored file. Nothing but the server reads it.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// The `ext` field.
    pub ext: String,
    /// The `prompt` field.
    pub prompt: String,
}

/// What to do next, as [`Studio::next`](super::Studio::next) says it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an action that is not carried out leaves a worker or a person waiting"]
pub enum Step {
    /// Do this, then ask again.
    Do(Action),
    /// Nothing is left to do before `until`, unless something happens.
    Wait {
        /// When to come back with [`Input::Tick`]; always later than the last `now`. [`Mono::NEVER`] when
        /// nothing is waited for.
        until: Mono,
        /// What is waited for, for logs and tests.
        reason: &'static str,
    },
}

/// Something to do. Actions come out in the order in which they were decided, and what they tell somebody depends
/// on the [`Action::Save`]s before it: who carries them out in order never confirms what isn't stored. (Several
/// in a row may be one transaction.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store this durably, in place of the record with the same [`Record::key`].
    Save(Record),
    /// Answer a request.
    Answer {
        /// Which.
        call: CallId,
        /// The answer.
        answer: Answer,
    },
    /// Send [`StudioFrame::to_text`] of `frame` in this `form`.
    Send {
        /// On which session.
        conn: ConnId,
        /// The frame.
        frame: StudioFrame,
        /// How an offer's task is spelled for this worker.
        form: TaskForm,
    },
    /// Send what is queued, then a close frame. The session is forgotten already; bound the time that the peer
    /// has to answer.
    Close {
        /// Which session.
        conn: ConnId,
        /// The code.
        code: CloseCode,
        /// The text, at most 120 bytes.
        reason: String,
    },
    /// Keep a worker's log lines.
    StoreLogs {
        /// Whose.
        worker_id: String,
        /// The lines, oldest first.
        entries: Vec<LogEntry>,
    },
    /// Delete a file that was uploaded and is not wanted.
    Discard {
        /// The server's name for it, see [`Upload::file`].
        file: String,
    },
    /// Log a line of the studio's own.
    Log(LogLine),
}

/// A log line of the studio's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// The line, without any secret.
    pub message: String,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on: carry out the upgrade, or receive the upload's body.
    Proceed,
    /// 200: the registration is noted.
    Registered(RegisterAnswer),
    /// 200: what was decided. [`Decision::Approved`] carries the token: this answer is the only place for it.
    Decision(Decision),
    /// 200: a registration, after an operator decided on it.
    Registration(Box<RegistrationRecord>),
    /// 200: a worker, after it was revoked.
    Worker(Box<WorkerRecord>),
    /// 201 when it was queued just now, else 200: a job.
    Job(Box<JobRecord>),
    /// 200: the upload is recorded.
    Delivered,
    /// Anything else.
    Refused(Refusal),
}

/// A refusal, for a program and a person to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {error}")]
pub struct Refusal {
    /// The HTTP status: 400, 401, 404, 409, 429 or 503.
    pub status: u16,
    /// What is wrong, as a sentence without a full stop.
    pub error: String,
    /// The field of the request that is to blame.
    pub field: Option<String>,
    /// When to try again, in seconds: the `Retry-After` header.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal that blames no field.
    pub fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), field: None, retry_after: None }
    }

    /// A 400 over one field of the request.
    pub fn field(field: impl Into<String>, error: impl Into<String>) -> Self {
        Self { status: 400, error: error.into(), field: Some(field.into()), retry_after: None }
    }

    /// `{"error", "field"?}`.
    pub fn to_json(&self) -> Value {
        match &self.field {
            Some(field) => json!({ "error": self.error, "field": field }),
            None => json!({ "error": self.error }),
        }
    }
}

impl Answer {
    /// The HTTP status; 101 for [`Answer::Proceed`], which is no whole answer after [`Input::UploadBegins`].
    pub fn status(&self) -> u16 {
        match self {
            Self::Proceed => 101,
            Self::Job(job) if job.is_new() => 201,
            Self::Refused(refusal) => refusal.status,
            _ => 200,
        }
    }

    /// The `Retry-After` header, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The JSON body. The refusal of an upgrade is a text on the wire (section 3): its body is this JSON as text,
    /// which says `worker not found` where a worker looks for that.
    pub fn body(&self) -> Value {
        match self {
            Self::Proceed => json!({}),
            Self::Registered(answer) => json!(answer),
            Self::Decision(decision) => decision.to_json(),
            Self::Registration(record) => record.public(),
            Self::Worker(record) => record.public(),
            Self::Job(record) => record.public(),
            Self::Delivered => json!({ "status": "completed" }),
            Self::Refused(refusal) => refusal.to_json(),
        }
    }
}
