//! Frames: JSON texts with a `type` tag, both ways (section 3).

#[cfg(test)]
mod tests;

use alloc::{
    borrow::{Cow, ToOwned},
    string::String,
    sync::Arc,
    vec::Vec,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    capabilities::Capabilities,
    claim::{JobId, Offer, RawClaim},
    lenient::{null_is_default, object_or_null, opens_object},
    secret::Secret,
    task::TaskForm,
};

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WorkerFrame {
    /// The first frame of a session, and the only one before `welcome`.
    Hello {
        /// The worker's credential.
        auth_token: Secret,
        /// What it can do.
        capabilities: Arc<Capabilities>,
    },
    /// Says that the worker is alive, and what it can do now.
    Heartbeat {
        /// What it can do.
        capabilities: Arc<Capabilities>,
        /// A job accepted on this session and not yet ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current_job_id: Option<JobId>,
    },
    /// Takes the offered job.
    Accept {
        /// The job.
        job_id: JobId,
    },
    /// Declines the offered job.
    Reject {
        /// The job.
        job_id: JobId,
        /// For a person to read.
        reason: String,
        /// Why, when it is a passing state of this worker; absent when the job should go elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<RejectCode>,
    },
    /// Delivers a JSON result.
    CompleteJson {
        /// The job.
        job_id: JobId,
        /// Any JSON.
        result: Arc<Value>,
        /// The whole prompt.
        #[serde(default, deserialize_with = "null_is_default")]
        prompt: String,
    },
    /// Ends the attempt without a result.
    Fail {
        /// The job.
        job_id: JobId,
        /// For a person to read.
        #[serde(default, deserialize_with = "null_is_default")]
        error: String,
        /// Whether another attempt can help.
        #[serde(default, deserialize_with = "null_is_default")]
        retryable: bool,
    },
    /// Log lines, at most once a second; at most 200 entries and 256 KiB.
    LogBatch {
        /// The lines, oldest first.
        entries: Vec<LogEntry>,
    },
    /// Sent by 0.2 after an upload; ours never does.
    ReadyForMore,
}

/// Why an offer is declined for now (section 3). Unknown codes read as [`RejectCode::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// Another job has the engine.
    Busy,
    /// The worker is paused, disabled or draining.
    Paused,
    /// The job does not fit into the memory that is free.
    InsufficientMemory,
    /// A code of a newer worker.
    #[serde(other)]
    Other,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something that a person must look at.
    Error,
    /// Something that is dealt with, but should be known.
    Warn,
    /// Something that went as it should; also any level of a newer worker.
    #[serde(other)]
    Info,
}

/// A log line on its way to the studio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// When, as RFC 3339 with milliseconds and `Z`.
    pub ts: String,
    /// How grave.
    pub level: LogLevel,
    /// Which part of the worker says it.
    #[serde(default)]
    pub category: String,
    /// The line.
    pub message: String,
    /// The job that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// Why a studio ends a session (sections 3 and 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudioErrorCode {
    /// The token is wrong.
    AuthFailed,
    /// A frame was out of place.
    ProtocolViolation,
    /// Another connection uses this worker id.
    DuplicateWorker,
    /// The registration was revoked.
    WorkerDeleted,
    /// The studio has trouble of its own.
    InternalError,
    /// A code of a newer studio.
    Other(String),
}

impl StudioErrorCode {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::AuthFailed, "auth_failed"),
        (Self::ProtocolViolation, "protocol_violation"),
        (Self::DuplicateWorker, "duplicate_worker"),
        (Self::WorkerDeleted, "worker_deleted"),
        (Self::InternalError, "internal_error"),
    ];

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => Self::NAMES.iter().find(|(code, _)| code == known).map_or("", |(_, name)| name),
        }
    }

    /// The code with that name.
    pub fn parse(name: &str) -> Self {
        Self::NAMES
            .into_iter()
            .find(|(_, known)| *known == name)
            .map_or_else(|| Self::Other(name.to_owned()), |(code, _)| code)
    }
}

/// What a studio says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudioFrame {
    /// The session is open.
    Welcome {
        /// The worker's id.
        worker_id: String,
        /// The studio's clock, RFC 3339; informative.
        server_time: String,
    },
    /// A job.
    Offer(Offer),
    /// A heartbeat was seen.
    HeartbeatAck,
    /// A JSON result was stored.
    CompleteAck {
        /// The job.
        job_id: JobId,
    },
    /// A failure was noted.
    FailAck {
        /// The job.
        job_id: JobId,
    },
    /// The session ends.
    Error {
        /// Why.
        code: StudioErrorCode,
        /// For a person to read.
        message: String,
    },
}

/// Why a text is no frame that can be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a JSON object with a `type` that is a text: skipped.
    #[error("not a JSON object with a text `type`: {0}")]
    NotAFrame(String),
    /// A type of a newer peer: skipped, and logged once a type.
    #[error("unknown frame type `{0}`")]
    UnknownType(String),
    /// A known type without what it must have: skipped.
    #[error("a `{frame}` frame without a readable `{field}`")]
    Malformed {
        /// The frame's type.
        frame: &'static str,
        /// What can't be read.
        field: &'static str,
    },
    /// An offer that nobody could answer: the studio would hold the slot for ever, so the session is closed.
    #[error("an offer without a readable `jobId`")]
    OfferWithoutJob,
}

/// Every field of every studio frame, flat, so that a frame is read in one pass wherever its `type` stands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    worker_id: Option<String>,
    #[serde(default)]
    server_time: Option<String>,
    #[serde(default, deserialize_with = "object_or_null")]
    claim: Option<RawClaim>,
    #[serde(default)]
    job_id: Option<JobId>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl StudioFrame {
    /// Reads a text frame.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        if !opens_object(text) {
            return Err(FrameError::NotAFrame("no object".to_owned()));
        }
        match serde_json::from_str::<RawFrame<'_>>(text) {
            Ok(raw) => {
                let RawFrame { kind, worker_id, server_time, claim, job_id, code, message } = raw;
                Ok(match &*kind {
                    "offer" => match claim.and_then(RawClaim::check) {
                        Some(Ok(claim)) => Self::Offer(Offer::Readable(claim)),
                        _ => return Self::diagnose(text),
                    },
                    "heartbeatAck" => Self::HeartbeatAck,
                    "welcome" => Self::Welcome {
                        worker_id: worker_id.unwrap_or_default(),
                        server_time: server_time.unwrap_or_default(),
                    },
                    "completeAck" => Self::CompleteAck { job_id: field(job_id, "completeAck", "jobId")? },
                    "failAck" => Self::FailAck { job_id: field(job_id, "failAck", "jobId")? },
                    "error" => Self::Error {
                        code: StudioErrorCode::parse(&code.unwrap_or_default()),
                        message: message.unwrap_or_default(),
                    },
                    other => return Err(FrameError::UnknownType(other.to_owned())),
                })
            }
            Err(_) => Self::diagnose(text),
        }
    }

    /// The second look at a frame that could not be read in one pass: takes what is there and names what
    /// is to blame.
    fn diagnose(text: &str) -> Result<Self, FrameError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| FrameError::NotAFrame(alloc::format!("{error}")))?;
        let (Some(kind), Some(object)) = (value.get("type").and_then(Value::as_str), value.as_object())
        else {
            return Err(FrameError::NotAFrame("no text `type`".to_owned()));
        };
        let text_of = |name: &str| object.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let job_id = || text_of("jobId").map(JobId::from);
        Ok(match kind {
            "offer" => Self::Offer(
                object
                    .get("claim")
                    .and_then(Value::as_object)
                    .and_then(RawClaim::diagnose)
                    .ok_or(FrameError::OfferWithoutJob)?,
            ),
            "heartbeatAck" => Self::HeartbeatAck,
            "welcome" => Self::Welcome {
                worker_id: text_of("workerId").unwrap_or_default(),
                server_time: text_of("serverTime").unwrap_or_default(),
            },
            "completeAck" => Self::CompleteAck { job_id: field(job_id(), "completeAck", "jobId")? },
            "failAck" => Self::FailAck { job_id: field(job_id(), "failAck", "jobId")? },
            "error" => Self::Error {
                code: StudioErrorCode::parse(&text_of("code").unwrap_or_default()),
                message: text_of("message").unwrap_or_default(),
            },
            other => return Err(FrameError::UnknownType(other.to_owned())),
        })
    }

    /// The frame as text; `form` is how an offer's task is spelled.
    pub fn to_text(&self, form: TaskForm) -> String {
        let value = match self {
            Self::Welcome { worker_id, server_time } => {
                serde_json::json!({ "type": "welcome", "workerId": worker_id, "serverTime": server_time })
            }
            Self::Offer(offer) => {
                let claim = match offer {
                    Offer::Readable(claim) => claim.to_json(form),
                    Offer::Unreadable { job_id, model, .. } => {
                        serde_json::json!({ "jobId": job_id, "model": model })
                    }
                };
                serde_json::json!({ "type": "offer", "claim": claim })
            }
            Self::HeartbeatAck => serde_json::json!({ "type": "heartbeatAck" }),
            Self::CompleteAck { job_id } => serde_json::json!({ "type": "completeAck", "jobId": job_id }),
            Self::FailAck { job_id } => serde_json::json!({ "type": "failAck", "jobId": job_id }),
            Self::Error { code, message } => {
                serde_json::json!({ "type": "error", "code": code.name(), "message": message })
            }
        };
        alloc::format!("{value}")
    }
}

fn field<T>(value: Option<T>, frame: &'static str, field: &'static str) -> Result<T, FrameError> {
    value.ok_or(FrameError::Malformed { frame, field })
}

impl WorkerFrame {
    const TYPES: [&'static str; 8] =
        ["hello", "heartbeat", "accept", "reject", "completeJson", "fail", "logBatch", "readyForMore"];

    /// Reads a text frame, as a studio does.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        if !opens_object(text) {
            return Err(FrameError::NotAFrame("no object".to_owned()));
        }
        serde_json::from_str(text).or_else(|_| {
            let object: Map<String, Value> = serde_json::from_str(text)
                .map_err(|error| FrameError::NotAFrame(alloc::format!("{error}")))?;
            let Some(kind) = object.get("type").and_then(Value::as_str) else {
                return Err(FrameError::NotAFrame("no text `type`".to_owned()));
            };
            let Some(frame) = Self::TYPES.into_iter().find(|known| *known == kind) else {
                return Err(FrameError::UnknownType(kind.to_owned()));
            };
            // Of a field that is there twice the last one counts, as for most readers of JSON.
            serde_json::from_value(Value::Object(object)).map_err(|error| {
                // Texts of serde_json name the field, but not as a field that can be matched on.
                FrameError::Malformed { frame, field: blamed(&alloc::format!("{error}")) }
            })
        })
    }

    /// The frame as text.
    pub fn to_text(&self) -> String {
        // Every field is a text, a number, JSON, or a struct of those: this can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The frame's type on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Accept { .. } => "accept",
            Self::Reject { .. } => "reject",
            Self::CompleteJson { .. } => "completeJson",
            Self::Fail { .. } => "fail",
            Self::LogBatch { .. } => "logBatch",
            Self::ReadyForMore => "readyForMore",
        }
    }
}

fn blamed(error: &str) -> &'static str {
    ["jobId", "authToken", "capabilities", "result", "entries", "reason"]
        .into_iter()
        .find(|name| error.contains(name))
        .unwrap_or("field")
}
