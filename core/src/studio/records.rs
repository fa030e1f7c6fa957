//! What outlives the process. The server stores each [`Record`] under its [key](Record::key) and hands all of
//! them back to [`Studio::restore`](super::Studio::restore).
//!
//! Records are serde types: as JSON they can be stored and read back. `public` is the form for the server's own
//! API: times as texts, and without hashes.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::states::JobState;
use crate::{
    time::Wall,
    wire::{Capabilities, Finite, JobId, ModelSource, Task, TaskForm},
};

/// One thing to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    /// A job.
    Job(Arc<JobRecord>),
    /// A worker.
    Worker(Arc<WorkerRecord>),
    /// A registration.
    Registration(Arc<RegistrationRecord>),
}

impl Record {
    /// The kind of record and its id, unique together.
    pub fn key(&self) -> (&'static str, &str) {
        match self {
            Self::Job(job) => ("job", job.id.as_str()),
            Self::Worker(worker) => ("worker", &worker.id),
            Self::Registration(registration) => ("registration", &registration.request_id),
        }
    }
}

/// A job, from its queueing to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The job's id.
    pub id: JobId,
    /// Its place: jobs are offered in this order, also after they went back to the queue.
    pub place: u64,
    /// Whose job it is.
    pub game_id: String,
    /// What the result is for.
    pub asset_name: String,
    /// The model that must make it.
    pub model: String,
    /// Memory that it will want, in GB.
    pub vram_gb_estimate: Finite,
    /// What to do.
    #[serde(serialize_with = "write_task", deserialize_with = "read_task")]
    pub task: Task,
    /// Where the model comes from and which engine must run it (0.4).
    pub model_source: Option<ModelSource>,
    /// Where it stands.
    pub state: JobState,
    /// Attempts that have ended without a result.
    pub attempts: u32,
    /// Who accepted it last, or made its result.
    pub worker_id: Option<String>,
    /// Workers that said that they can't serve it: it is not offered to them again.
    pub refused_by: BTreeSet<String>,
    /// When it was queued.
    #[serde(with = "millis")]
    pub queued_at: Wall,
    /// When it was last accepted.
    #[serde(with = "optional_millis")]
    pub started_at: Option<Wall>,
    /// When it ended.
    #[serde(with = "optional_millis")]
    pub finished_at: Option<Wall>,
    /// What went wrong with the last attempt that ended without a result, for a person to read.
    pub error: Option<String>,
    /// What came of it, once it is completed.
    pub output: Option<JobOutput>,
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "camelCase")]
pub enum JobOutput {
    /// It came in a frame.
    Json {
        /// The result.
        result: Arc<Value>,
        /// The prompt that the worker reported.
        prompt: String,
    },
    /// It was uploaded.
    File {
        /// The server's name for the file.
        file: String,
        /// What kind of file the worker says it is.
        ext: String,
        /// Its size.
        bytes: u64,
        /// The prompt that the worker reported.
        prompt: String,
    },
}

impl JobRecord {
    /// Whether nothing has happened to it since it was queued.
    pub fn is_new(&self) -> bool {
        self.state == JobState::Queued && self.attempts == 0 && self.worker_id.is_none()
    }

    /// The job for the server's API. A JSON result is in it; the name of a file is not.
    pub fn public(&self) -> Value {
        let (result, file) = match &self.output {
            None => (Value::Null, Value::Null),
            Some(JobOutput::Json { result, .. }) => (Value::clone(result), Value::Null),
            Some(JobOutput::File { ext, bytes, .. }) => (Value::Null, json!({ "ext": ext, "bytes": bytes })),
        };
        json!({
            "id": self.id, "gameId": self.game_id, "assetName": self.asset_name, "model": self.model,
            "vramGbEstimate": self.vram_gb_estimate, "task": self.task.to_json(TaskForm::Camel),
            "modelSource": self.model_source, "state": self.state.name(), "attempts": self.attempts,
            "workerId": self.worker_id, "refusedBy": self.refused_by,
            "queuedAt": stamp(self.queued_at), "startedAt": self.started_at.map(stamp),
            "finishedAt": self.finished_at.map(stamp), "error": self.error, "result": result, "file": file,
        })
    }
}

/// A worker that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRecord {
    /// The worker's id.
    pub id: String,
    /// The machine's id, which stays the same over registrations.
    pub install_id: String,
    /// The owner's name for the machine.
    pub label: Option<String>,
    /// What the worker said that it can do, last time it was asked.
    pub capabilities: Arc<Capabilities>,
    /// SHA-256 of the newest token, as hex; `None` until the first approved poll. The token itself is never kept.
    pub token_hash: Option<String>,
    /// When it was approved.
    #[serde(with = "millis")]
    pub approved_at: Wall,
    /// When its last session began or ended.
    #[serde(with = "optional_millis")]
    pub seen_at: Option<Wall>,
    /// When an operator took its registration back.
    #[serde(with = "optional_millis")]
    pub revoked_at: Option<Wall>,
}

impl WorkerRecord {
    /// The worker for the server's API.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id, "installId": self.install_id, "label": self.label, "capabilities": self.capabilities,
            "approvedAt": stamp(self.approved_at), "seenAt": self.seen_at.map(stamp),
            "revokedAt": self.revoked_at.map(stamp),
        })
    }
}

/// A worker that asks to be let in (section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationRecord {
    /// What the worker polls for.
    pub request_id: String,
    /// The order of the requests: of several of one install id the last one counts.
    pub place: u64,
    /// The machine's id.
    pub install_id: String,
    /// SHA-256 of the registration secret, as hex.
    pub secret_hash: String,
    /// The owner's name for the machine.
    pub label: Option<String>,
    /// What the worker says that it can do.
    pub capabilities: Arc<Capabilities>,
    /// `studio-worker/<version>`.
    pub user_agent: String,
    /// What was decided.
    pub standing: Standing,
    /// When it was asked for.
    #[serde(with = "millis")]
    pub asked_at: Wall,
    /// When it was decided.
    #[serde(with = "optional_millis")]
    pub decided_at: Option<Wall>,
}

/// What was decided on a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Standing {
    /// Nothing yet.
    Pending,
    /// An operator let the worker in.
    Approved {
        /// As whom.
        worker_id: String,
    },
    /// An operator refused.
    Rejected {
        /// Why, if they said so.
        reason: Option<String>,
    },
    /// Nobody polls for it any more, the same machine asked anew, or its worker was revoked.
    Expired,
}

impl Standing {
    /// The name that people read: `pending`, `approved`, `rejected`, `expired`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Expired => "expired",
        }
    }
}

impl RegistrationRecord {
    /// The registration for the server's API.
    pub fn public(&self) -> Value {
        let (worker_id, reason) = match &self.standing {
            Standing::Approved { worker_id } => (Some(worker_id), None),
            Standing::Rejected { reason } => (None, reason.as_ref()),
            Standing::Pending | Standing::Expired => (None, None),
        };
        json!({
            "requestId": self.request_id, "installId": self.install_id, "label": self.label,
            "capabilities": self.capabilities, "userAgent": self.user_agent, "status": self.standing.name(),
            "workerId": worker_id, "reason": reason, "askedAt": stamp(self.asked_at),
            "decidedAt": self.decided_at.map(stamp),
        })
    }
}

fn stamp(at: Wall) -> String {
    at.to_rfc3339()
}

fn write_task<S: Serializer>(task: &Task, serializer: S) -> Result<S::Ok, S::Error> {
    task.to_json(TaskForm::Camel).serialize(serializer)
}

fn read_task<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Task, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Task::from_json(&value).map_err(|problem| serde::de::Error::custom(problem.to_string()))
}

/// Times as milliseconds since 1970.
mod millis {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Wall};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(at: &Wall, serializer: S) -> Result<S::Ok, S::Error> {
        at.as_millis().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wall, D::Error> {
        i64::deserialize(deserializer).map(Wall::from_millis)
    }
}

mod optional_millis {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Wall};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(at: &Option<Wall>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(Wall::as_millis).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wall>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(Wall::from_millis))
    }
}
