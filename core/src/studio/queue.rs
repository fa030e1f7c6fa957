//! Jobs and their states, attempts, and deliveries by upload (sections 5 and 6).

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};

use super::{
    Action, Answer, CallId, JobEvent, JobOutput, JobRecord, JobState, NewJob, Record, Refusal, Studio,
    Upload, cut,
};
use crate::{
    time::Wall,
    wire::{JobId, LogLevel, Secret},
};

/// Uploads that one worker may have under way. It needs two at most: one that still moves and a fresh one.
const MAX_UPLOADS_PER_WORKER: usize = 8;
/// The longest error text that is kept with a job, in bytes.
const MAX_ERROR: usize = 4_000;

/// An upload that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadClaim {
    worker_id: String,
    job_id: JobId,
}

/// The jobs that are not over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Jobs {
    open: BTreeMap<JobId, Arc<JobRecord>>,
    /// Those that wait for a worker, by their place.
    waiting: BTreeMap<u64, JobId>,
    next_place: u64,
}

impl Jobs {
    pub(super) fn iter(&self) -> impl Iterator<Item = &JobRecord> {
        self.open.values().map(Arc::as_ref)
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Arc<JobRecord>> {
        self.open.get(id)
    }

    /// Those that wait for a worker, in their order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<JobRecord>> {
        self.waiting.values().filter_map(|id| self.open.get(id))
    }

    pub(super) fn restore(&mut self, mut job: Arc<JobRecord>) {
        self.next_place = self.next_place.max(job.place.saturating_add(1));
        if job.state.is_over() {
            return;
        }
        if self.waiting.contains_key(&job.place) {
            // Storage that was tampered with, or merged from two studios: no job is lost over it.
            Arc::make_mut(&mut job).place = self.next_place;
            self.next_place += 1;
        }
        self.put(job);
    }

    /// Places become ranks, and what is there for people is forgotten, to compare states by.
    pub(super) fn forget_places(&mut self) {
        let places: BTreeSet<u64> = self.open.values().map(|job| job.place).collect();
        let rank = |place: u64| places.range(..place).count() as u64;
        for job in self.open.values_mut().map(Arc::make_mut) {
            job.place = rank(job.place);
            (job.queued_at, job.started_at, job.finished_at) = (Wall::default(), None, None);
            job.error = None;
        }
        self.waiting =
            core::mem::take(&mut self.waiting).into_iter().map(|(at, id)| (rank(at), id)).collect();
        self.next_place = 0;
    }

    fn put(&mut self, job: Arc<JobRecord>) {
        if job.state == JobState::Queued {
            self.waiting.insert(job.place, job.id.clone());
        } else {
            self.waiting.remove(&job.place);
        }
        if job.state.is_over() {
            self.open.remove(&job.id);
        } else {
            self.open.insert(job.id.clone(), job);
        }
    }
}

impl Studio {
    pub(super) fn on_queue_job(&mut self, call: CallId, new: NewJob) {
        if let Err(refusal) = new.check() {
            return self.refuse(call, refusal);
        }
        if self.jobs.open.len() >= self.options.max_jobs {
            return self.refuse(call, Refusal::new(503, "the queue is full"));
        }
        let id = match new.id {
            Some(id) if self.jobs.open.contains_key(&id) => {
                let refusal = Refusal {
                    field: Some("id".into()),
                    ..Refusal::new(409, format!("there is a job with the id {:?} already", id.as_str()))
                };
                return self.refuse(call, refusal);
            }
            Some(id) => id,
            None => loop {
                let id = JobId::from(self.chance.id("job"));
                if !self.jobs.open.contains_key(&id) {
                    break id;
                }
            },
        };
        let job = Arc::new(JobRecord {
            id,
            place: self.jobs.next_place,
            game_id: new.game_id,
            asset_name: new.asset_name,
            model: new.model,
            vram_gb_estimate: new.vram_gb_estimate,
            task: new.task,
            model_source: new.model_source,
            state: JobState::Queued,
            attempts: 0,
            worker_id: None,
            refused_by: BTreeSet::new(),
            queued_at: self.now.wall,
            started_at: None,
            finished_at: None,
            error: None,
            output: None,
        });
        self.jobs.next_place += 1;
        self.jobs.put(job.clone());
        self.save(Record::Job(job.clone()));
        self.answer(call, Answer::Job(Box::new((*job).clone())));
        self.may_offer = true;
    }

    pub(super) fn on_cancel_job(&mut self, call: CallId, job_id: &JobId) {
        match self.move_job(job_id, JobEvent::Cancel, |_| {}) {
            Some(job) => self.answer(call, Answer::Job(Box::new((*job).clone()))),
            None => self.refuse(call, Refusal::new(404, "no such job is queued or running")),
        }
    }

    /// Moves a job along the table and stores it. `None` when there is no such job; a missing transition is
    /// counted and changes nothing.
    pub(super) fn move_job(
        &mut self,
        id: &JobId,
        event: JobEvent,
        edit: impl FnOnce(&mut JobRecord),
    ) -> Option<Arc<JobRecord>> {
        // Taken out, so that a record that nobody else reads is changed in place.
        let mut job = self.jobs.open.remove(id)?;
        let Some(state) = job.state.after(event) else {
            self.counters.impossible += 1;
            self.jobs.put(job);
            return None;
        };
        let record = Arc::make_mut(&mut job);
        record.state = state;
        edit(record);
        if state.is_over() {
            record.finished_at = Some(self.now.wall);
        }
        if state == JobState::Cancelled {
            // What a worker made of it meanwhile is not wanted.
            record.output = None;
        }
        self.jobs.put(job.clone());
        self.save(Record::Job(job.clone()));
        match state {
            JobState::Failed => {
                let error = cut(job.error.clone().unwrap_or_default(), 300);
                self.log(LogLevel::Warn, format!("job {:?} failed: {error:?}", id.as_str()));
            }
            state if state.is_over() => self.info(format!("job {:?} {}", id.as_str(), state.name())),
            _ => {}
        }
        self.may_offer = true;
        Some(job)
    }

    /// An attempt ended without a result: the job is queued again, unless that can't help or was the last one.
    pub(super) fn end_attempt(&mut self, id: &JobId, error: String, retryable: bool) {
        self.end_attempt_with(id, error, retryable, |_| {});
    }

    /// The same, with something else to note.
    pub(super) fn end_attempt_with(
        &mut self,
        id: &JobId,
        error: String,
        retryable: bool,
        edit: impl FnOnce(&mut JobRecord),
    ) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let attempts = job.attempts.saturating_add(1);
        let event = if retryable && attempts < self.options.max_attempts {
            JobEvent::Requeue
        } else {
            JobEvent::GiveUp
        };
        self.move_job(id, event, |job| {
            job.attempts = attempts;
            job.error = Some(cut(error, MAX_ERROR));
            edit(job);
        });
    }

    /// After a restart: the sessions that had jobs are gone.
    pub(super) fn release_restored(&mut self) {
        let held: Vec<JobId> =
            self.jobs.iter().filter(|job| job.state.is_held()).map(|job| job.id.clone()).collect();
        for id in held {
            self.end_attempt(&id, "the studio was restarted".into(), true);
        }
    }

    /// A result came.
    pub(super) fn deliver(
        &mut self,
        id: &JobId,
        worker_id: &str,
        output: JobOutput,
    ) -> Option<Arc<JobRecord>> {
        self.move_job(id, JobEvent::Deliver, |job| {
            job.worker_id = Some(worker_id.into());
            job.error = None;
            job.output = Some(output);
        })
    }

    pub(super) fn on_upload_begins(
        &mut self,
        call: CallId,
        worker_id: String,
        job_id: JobId,
        bearer: Option<&Secret>,
    ) {
        if let Err(denied) = self.authorise(&worker_id, bearer) {
            return self.refuse(call, denied.refusal());
        }
        if !self.holds(&worker_id, &job_id) {
            return self.refuse(call, not_held());
        }
        let under_way = self.uploads.values().filter(|upload| upload.worker_id == worker_id).count();
        if under_way >= MAX_UPLOADS_PER_WORKER || self.uploads.contains_key(&call) {
            let mut refusal = Refusal::new(429, "too many uploads of this worker are under way");
            refusal.retry_after = Some(5);
            return self.refuse(call, refusal);
        }
        self.uploads.insert(call, UploadClaim { worker_id, job_id });
        self.answer(call, Answer::Proceed);
    }

    /// The claim counts as it stands when the body is there: a job that was released and claimed again by the same
    /// worker meanwhile is delivered by an upload that began before.
    pub(super) fn on_upload_ends(&mut self, call: CallId, upload: Upload) {
        let Upload { file, bytes, ext, prompt } = upload;
        let Some(UploadClaim { worker_id, job_id }) =
            self.uploads.remove(&call).filter(|claim| self.holds(&claim.worker_id, &claim.job_id))
        else {
            self.queue.push_back(Action::Discard { file });
            return self.refuse(call, not_held());
        };
        let output = JobOutput::File { file: file.clone(), ext: cut(ext, 20), bytes, prompt };
        self.free_session(&worker_id);
        let delivered = self.deliver(&job_id, &worker_id, output);
        if delivered.is_none_or(|job| job.output.is_none()) {
            self.queue.push_back(Action::Discard { file });
        }
        self.answer(call, Answer::Delivered);
    }
}

fn not_held() -> Refusal {
    Refusal::new(409, "this worker does not hold the job")
}
