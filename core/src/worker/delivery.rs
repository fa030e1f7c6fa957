//! Delivery (section 6): the engine never runs twice for a result that is still had.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
};

use super::{
    Worker,
    ends::Verdict,
    io::Action,
    jobs::{JobKey, MAX_HELD, MAX_HELD_BYTES, Product, Sent},
    observe::{JobOutcome, RecentJob},
    states::{JobEvent, JobState},
    timers::{HELD_BOUND, STABLE_AFTER, Timer},
};
use crate::{
    engine::{EngineError, Output, Payload},
    wire::{CloseCode, JobId, LogLevel, WorkerFrame},
};

/// Closes 4002 after which a result is dropped (section 6).
const MAX_VIOLATIONS: u8 = 2;

impl Worker {
    /// Brings a claimed job's outcome on its way.
    pub(super) fn deliver(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        match &job.product {
            Some(Product::Output(Output::Json(result))) => {
                let prompt = job.claim.as_ref().map(|claim| claim.task.prompt().to_string());
                let frame = WorkerFrame::CompleteJson {
                    job_id: job.subject.job_id.clone(),
                    result: Arc::clone(result),
                    prompt: prompt.unwrap_or_default(),
                };
                job.sent = Some(Sent::Complete);
                self.send_for_ack(frame);
            }
            Some(Product::Output(Output::Bytes { .. })) => self.deliver_bytes(key),
            Some(Product::Failure(error)) => {
                let error = EngineError::permanent(error);
                self.fail(key, error);
            }
            None => {}
        }
    }

    /// Ends a claim without a result.
    pub(super) fn fail(&mut self, key: JobKey, error: EngineError) {
        let EngineError { message: error, retryable } = error;
        let Some(job) = self.jobs.get_mut(key) else { return };
        let job_id = job.subject.job_id.clone();
        job.sent = Some(Sent::Fail { error: error.clone(), retryable });
        // What no attempt can mend needs no second run either.
        if !retryable {
            job.product = Some(Product::Failure(error.clone()));
        }
        let again = if retryable { "another attempt may help" } else { "for good" };
        self.log(LogLevel::Warn, "job", format_args!("failed, {again}: {error}"), Some(&job_id));
        self.send_for_ack(WorkerFrame::Fail { job_id, error, retryable });
    }

    pub(super) fn on_ack(&mut self, job_id: &JobId) {
        match self.jobs.claimed().filter(|job| job.sent.is_some() && job.subject.job_id == *job_id) {
            Some(job) => self.confirm(job.key),
            None => self.counters.stale_inputs += 1,
        }
    }

    pub(super) fn on_ack_timeout(&mut self) {
        self.close(
            CloseCode::NORMAL,
            "no acknowledgement",
            Verdict::trouble("the end of a job was not acknowledged within 30 s"),
        );
    }

    /// The studio has what was sent to end the claim.
    pub(super) fn confirm(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        match (&job.sent, &job.product) {
            // The upload was given up, and the studio knows that it has no result; but it is still here.
            (Some(Sent::Fail { error, retryable: true }), Some(Product::Output(_))) => {
                job.given_up = Some(error.clone());
                job.perhaps_known = false;
                job.sent = None;
                self.lose_claim_of(key);
            }
            (Some(Sent::Fail { error, .. }), _) => {
                let reason = error.clone();
                self.end_job(key, JobEvent::Confirmed, JobOutcome::Failed { reason });
            }
            _ => self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed),
        }
    }

    /// The session is gone, and with it the claim.
    pub(super) fn lose_claim(&mut self, verdict: &Verdict) {
        self.session.parked = None;
        self.forget_pending();
        let Some(key) = self.jobs.claimed().map(|job| job.key) else { return };
        let Some(job) = self.jobs.get_mut(key) else { return };
        match verdict {
            Verdict::Violation(what) => {
                job.violations += 1;
                let violations = job.violations;
                // What may be the cause goes out under a new offer only.
                self.stop_upload(key);
                if violations >= MAX_VIOLATIONS {
                    let reason = format!("the studio called its frames a violation twice: {what}");
                    self.abandon(key, reason);
                    return;
                }
            }
            Verdict::TooBig(what) if job.sent == Some(Sent::Complete) => {
                let error = format!("the studio refused the result as too large: {what}");
                let product = job.product.replace(Product::Failure(error));
                self.discard(product);
            }
            _ => {}
        }
        self.lose_claim_of(key);
    }

    /// A job's claim is gone: its run goes on, its result is held.
    pub(super) fn lose_claim_of(&mut self, key: JobKey) {
        self.timers.clear(Timer::Ack);
        let Some(job) = self.jobs.get_mut(key) else { return };
        self.session.recovery_over = false;
        let sent = job.sent.take();
        job.perhaps_known |= sent == Some(Sent::Complete);
        let kept = match job.state {
            JobState::Running => true,
            _ => job.claim.is_some() && job.product.is_some(),
        };
        let id = job.subject.job_id.clone();
        if !kept {
            let reason = match sent {
                Some(Sent::Fail { error, .. }) => error,
                _ => "its claim was lost".into(),
            };
            self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
            return;
        }
        self.job_event(key, JobEvent::ClaimLost);
        let state = self.jobs.get(key).map(|job| job.state);
        let what =
            if state == Some(JobState::Orphaned) { "it goes on running" } else { "its outcome is held" };
        self.log(LogLevel::Warn, "delivery", format_args!("the claim was lost, {what}"), Some(&id));
        if state == Some(JobState::Held) {
            self.hold(key);
        }
        self.say_changed_recovery();
    }

    /// Keeps an outcome without a claim, within the bounds: what was held first makes room.
    pub(super) fn hold(&mut self, key: JobKey) {
        self.timers.set(Timer::Expire(key), self.after(HELD_BOUND));
        self.jobs.make_newest(key);
        loop {
            let held = || self.jobs.all.iter().filter(|job| job.state == JobState::Held);
            let memory: u64 = held().filter_map(|job| job.product.as_ref()).map(Product::memory).sum();
            if held().count() <= MAX_HELD && memory <= MAX_HELD_BYTES {
                break;
            }
            let Some(oldest) = held().next().map(|job| job.key) else { break };
            self.forget(oldest, "its result had to make room for newer ones before it was offered again");
        }
    }

    pub(super) fn on_expired(&mut self, key: JobKey) {
        if self.jobs.get(key).is_some_and(|job| job.upload.is_some()) {
            // It still moves, and may well arrive.
            self.timers.set(Timer::Expire(key), self.after(STABLE_AFTER));
        } else {
            self.forget(key, "its claim was lost, and it was not offered again");
        }
    }

    /// Lets go of a job without a claim, since nobody asked for its outcome in time.
    fn forget(&mut self, key: JobKey, why: &str) {
        self.stop_upload(key);
        let Some(job) = self.jobs.get(key) else { return };
        let outcome = match &job.product {
            Some(Product::Failure(error)) => JobOutcome::Failed { reason: error.clone() },
            Some(Product::Output(_)) if job.perhaps_known => JobOutcome::Completed,
            _ => JobOutcome::Failed { reason: job.given_up.clone().unwrap_or_else(|| why.into()) },
        };
        if outcome == JobOutcome::Completed {
            let id = job.subject.job_id.clone();
            self.log(
                LogLevel::Warn,
                "delivery",
                format_args!("unconfirmed: the result was sent and the job never offered again"),
                Some(&id),
            );
        }
        self.end_job(key, JobEvent::GivenUp, outcome);
    }

    /// Lets go of all that is in hand.
    pub(super) fn forget_all(&mut self, why: &str) {
        while let Some(key) = self.jobs.all.first().map(|job| job.key) {
            self.stop_run(key);
            self.forget(key, why);
        }
    }

    /// Ends a job that nobody will want, its run and its upload with it.
    pub(super) fn abandon(&mut self, key: JobKey, reason: String) {
        self.stop_run(key);
        self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
    }

    /// The one place where a job is over: forgets it, and records how it ended.
    pub(super) fn end_job(&mut self, key: JobKey, event: JobEvent, outcome: JobOutcome) {
        self.stop_upload(key);
        self.job_event(key, event);
        let Some(job) = self.jobs.remove(key) else { return };
        self.timers.clear(Timer::Expire(key));
        if job.sent.is_some() {
            self.timers.clear(Timer::Ack);
        }
        self.discard(job.product);
        let subject = job.subject;
        match &outcome {
            JobOutcome::Completed => {
                self.log(LogLevel::Info, "job", format_args!("completed"), Some(&subject.job_id));
            }
            JobOutcome::Failed { reason } => {
                self.log(
                    LogLevel::Warn,
                    "job",
                    format_args!("ended without a result: {reason}"),
                    Some(&subject.job_id),
                );
            }
        }
        self.act(Action::RecordRecentJob(RecentJob {
            job_id: subject.job_id,
            kind: subject.kind,
            model: subject.model,
            prompt: subject.prompt,
            started_at: subject.accepted_at,
            outcome,
            finished_at: self.now.wall,
        }));
        // A worker that only stayed for this one may say so now.
        self.say_changed_recovery();
    }

    /// Deletes what a result left on the disk.
    pub(super) fn discard(&mut self, product: Option<Product>) {
        if let Some(Product::Output(Output::Bytes { payload: Payload::File(file), .. })) = product {
            self.act(Action::Discard(file));
        }
    }

    /// Lets go of what is in hand, since the worker ends now.
    pub(super) fn release_for_stop(&mut self, why: &str) {
        let Some(job) = self.jobs.claimed().filter(|job| job.sent.is_none()) else { return };
        let (key, state) = (job.key, job.state);
        let upload = self.stop_upload(key);
        if upload.as_ref().is_some_and(|upload| upload.superseded) {
            self.lose_claim_of(key);
            return;
        }
        // An upload that failed, with whatever answer: something in between may have given it.
        if upload.is_some() || self.jobs.get(key).is_some_and(|job| job.perhaps_known) {
            // The studio may have the result by now, and then a `fail` would be for a job that it doesn't hold. If it
            // does, the end of the session releases the claim as well.
            let reason = format!("the worker stopped before the studio confirmed the result ({why})");
            self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
            return;
        }
        if state == JobState::Running {
            self.job_event(key, JobEvent::Finished);
        }
        let product = self.jobs.get_mut(key).and_then(|job| job.product.take());
        self.discard(product);
        let error = format_args!("the worker stopped before the job was done ({why})");
        self.fail(key, EngineError::transient(error));
    }
}
