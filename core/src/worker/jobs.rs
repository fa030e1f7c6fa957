//! What the worker knows of jobs: the engine's slot, the claimed job, and results that are held.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use serde_json::Value;

use super::{
    io::{RequestId, RunId},
    observe::{CurrentJob, JobProgress},
    states::JobState,
    timers::{DOWNLOAD_BOUND, DOWNLOAD_STALL_BOUND},
};
use crate::{
    engine::{Output, Payload},
    machine::Transfer,
    time::{Mono, Wall},
    wire::{Claim, JobId, Offer},
};

/// The most results that are held (section 6).
pub(super) const MAX_HELD: usize = 4;
/// The most memory of all held results, in bytes (section 6).
pub(super) const MAX_HELD_BYTES: u64 = 256 * 1024 * 1024;

/// A job as this worker numbers it: a studio may use an id again for another task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobKey(pub(super) u64);

/// A job that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) key: JobKey,
    pub(super) state: JobState,
    pub(super) subject: Subject,
    /// The offer; none when it could not be read and is only there to be failed.
    pub(super) claim: Option<Arc<Claim>>,
    /// What the engine made of it.
    pub(super) product: Option<Product>,
    /// The frame that waits for its acknowledgement.
    pub(super) sent: Option<Sent>,
    /// Whether the studio may have the outcome without having said so.
    pub(super) perhaps_known: bool,
    /// What the studio was told when its upload was given up.
    pub(super) given_up: Option<String>,
    pub(super) upload: Option<Uploading>,
    /// What moves for it now.
    pub(super) progress: Option<JobProgress>,
    /// How often a frame of this job was followed by a close 4002.
    pub(super) violations: u8,
}

/// How a job is called in logs and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) job_id: JobId,
    pub(super) kind: String,
    pub(super) model: String,
    /// Cut for people to read.
    pub(super) prompt: String,
    pub(super) accepted_at: Wall,
}

impl Subject {
    pub(super) fn of(claim: &Claim, accepted_at: Wall) -> Self {
        let CurrentJob { job_id, kind, model, prompt, started_at, .. } = CurrentJob::of(claim, accepted_at);
        Self { job_id, kind: kind.name().into(), model, prompt, accepted_at: started_at }
    }
}

/// What the engine made of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Product {
    /// A result.
    Output(Output),
    /// The certainty that no attempt can help.
    Failure(String),
}

impl Product {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Self::Output(Output::Bytes { payload: Payload::Memory(bytes), .. }) => bytes.len() as u64,
            Self::Output(Output::Bytes { payload: Payload::File(_), .. }) => 0,
            Self::Output(Output::Json(json)) => weight(json),
            Self::Failure(error) => error.len() as u64,
        }
    }
}

/// A frame that ends a claim and waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Complete,
    Fail { error: String, retryable: bool },
}

/// The delivery of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Uploading {
    /// The exchange under way; none while a back-off runs.
    pub(super) request: Option<RequestId>,
    /// How many bytes of the body have left, of how many, and since when.
    pub(super) moved: u64,
    pub(super) length: u64,
    pub(super) began: Wall,
    pub(super) failures: super::chance::Backoff,
    /// Answers 401 and 403.
    pub(super) refusals: u32,
    /// Begun under an earlier claim and taken over by this one: a 409 is answered by one upload afresh.
    pub(super) adopted: bool,
    /// The one afresh: its 409 ends the job.
    pub(super) afresh: bool,
    /// The next offer came on this session: the studio does not hold this claim any more.
    pub(super) superseded: bool,
    /// The one retry because of that: its 409 counts as delivered.
    pub(super) last_try: bool,
    /// The last failure.
    pub(super) trouble: String,
}

impl Uploading {
    /// Goes on under a new claim: the job was offered again, so the studio does not have it yet.
    pub(super) fn adopt(&mut self) {
        let Self { request, moved, length, began, .. } = *self;
        // What is only about to be tried again will be tried under the new claim.
        *self = Self { request, moved, length, began, adopted: request.is_some(), ..Self::default() };
    }
}

/// The engine's slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) run: RunId,
    /// The job that waits for it; none when it was told to stop.
    pub(super) job: Option<JobKey>,
    /// What moved last of the download that it waits for.
    pub(super) moved: Option<Moved>,
    /// How long the clock of the run has stood still so far.
    stood: Duration,
}

/// Bytes of a download, when some had just moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    name: String,
    done: u64,
    pub(super) at: Mono,
}

impl Slot {
    pub(super) fn new(run: RunId, job: JobKey) -> Self {
        Self { run, job: Some(job), moved: None, stood: Duration::ZERO }
    }

    /// Bytes of a download moved: how long the clock of the run stood still for them. It does from the first report of a
    /// file on, within bounds that a download that gets nowhere runs into.
    pub(super) fn stand_still(&mut self, transfer: &Transfer, now: Mono) -> Duration {
        let stood = match &self.moved {
            Some(moved) if moved.name == transfer.name && moved.done == transfer.done => {
                return Duration::ZERO;
            }
            Some(moved) if moved.name == transfer.name => now.since(moved.at),
            _ => Duration::ZERO,
        };
        self.moved = Some(Moved { name: transfer.name.clone(), done: transfer.done, at: now });
        let stood = stood.min(DOWNLOAD_STALL_BOUND).min(DOWNLOAD_BOUND.saturating_sub(self.stood));
        self.stood += stood;
        stood
    }
}

/// The jobs that are not over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Jobs {
    pub(super) all: Vec<Job>,
    pub(super) slot: Option<Slot>,
    pub(super) last_key: u64,
}

impl Job {
    /// Whether an offer asks for this very job (section 6).
    pub(super) fn is_asked_for_by(&self, offer: &Offer) -> bool {
        matches!((offer, &self.claim), (Offer::Readable(claim), Some(known)) if known.same_job(claim))
    }
}

impl Jobs {
    pub(super) fn add(&mut self, state: JobState, subject: Subject, claim: Option<Arc<Claim>>) -> JobKey {
        self.last_key += 1;
        let key = JobKey(self.last_key);
        // Mostly there is one, and then none.
        self.all.reserve_exact(1);
        self.all.push(Job {
            key,
            state,
            subject,
            claim,
            product: None,
            sent: None,
            perhaps_known: false,
            given_up: None,
            upload: None,
            progress: None,
            violations: 0,
        });
        key
    }

    pub(super) fn remove(&mut self, key: JobKey) -> Option<Job> {
        let at = self.all.iter().position(|job| job.key == key)?;
        let job = self.all.remove(at);
        self.all.shrink_to_fit();
        Some(job)
    }

    pub(super) fn get(&self, key: JobKey) -> Option<&Job> {
        self.all.iter().find(|job| job.key == key)
    }

    pub(super) fn get_mut(&mut self, key: JobKey) -> Option<&mut Job> {
        self.all.iter_mut().find(|job| job.key == key)
    }

    pub(super) fn claimed(&self) -> Option<&Job> {
        self.all.iter().find(|job| job.state.is_claimed())
    }

    pub(super) fn orphan(&self) -> Option<&Job> {
        self.all.iter().find(|job| job.state == JobState::Orphaned)
    }

    pub(super) fn by_id(&self, id: &JobId) -> Option<&Job> {
        self.all.iter().find(|job| job.subject.job_id == *id)
    }

    pub(super) fn by_request(&self, request: RequestId) -> Option<&Job> {
        self.all.iter().find(|job| job.upload.as_ref().is_some_and(|upload| upload.request == Some(request)))
    }

    /// Jobs are kept in the order of their age; a result that is held anew is the newest.
    pub(super) fn make_newest(&mut self, key: JobKey) {
        if let Some(at) = self.all.iter().position(|job| job.key == key) {
            self.all[at..].rotate_left(1);
        }
    }

    /// Jobs whose claim is lost and whose outcome is here or to come.
    pub(super) fn unconfirmed(&self) -> bool {
        self.all.iter().any(|job| !job.state.is_claimed())
    }

    /// Whether an upload moves or waits to be tried again.
    pub(super) fn uploading(&self) -> Option<&Job> {
        self.all.iter().find(|job| job.upload.is_some())
    }
}

/// About how many bytes a JSON value takes.
fn weight(json: &Value) -> u64 {
    let own = size_of::<Value>() as u64;
    own + match json {
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
