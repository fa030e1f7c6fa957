//! Delivery (section 6): the engine never runs twice for a result that is still had.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
};

use super::{
    Worker,
    ends::Verdict,
    io::{Action, HttpAnswer, HttpFailure, RequestId, Upload},
    jobs::{JobKey, MAX_HELD, MAX_HELD_BYTES, Product, Sent, Uploading},
    observe::{JobOutcome, RecentJob},
    states::{JobEvent, JobState, SessionState},
    timers::{HELD_BOUND, STABLE_AFTER, Timer, UPLOAD_RETRY_BOUND, UPLOAD_STALL_BOUND},
};
use crate::{
    engine::{Output, Payload},
    wire::{CloseCode, JobId, LogLevel, WorkerFrame, multipart::Envelope, retry_after},
};

/// Answers 401 and 403 after which an upload is given up (section 6).
const MAX_REFUSALS: u32 = 3;
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
            Some(Product::Output(Output::Bytes { .. })) => match &mut job.upload {
                Some(upload) if upload.request.is_some() => upload.adopt(),
                _ => {
                    job.upload = Some(Uploading::default());
                    self.clear_upload_timers(key);
                    self.upload(key);
                }
            },
            Some(Product::Failure(error)) => {
                let error = error.clone();
                self.fail(key, Sent::Fail { error, retryable: false });
            }
            None => {}
        }
    }

    /// Ends a claim without a result.
    pub(super) fn fail(&mut self, key: JobKey, sent: Sent) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        if let Sent::Fail { error, retryable } = &sent {
            let frame = WorkerFrame::Fail {
                job_id: job.subject.job_id.clone(),
                error: error.clone(),
                retryable: *retryable,
            };
            // What no attempt can mend needs no second run either.
            if !retryable && job.claim.is_some() {
                job.product = Some(Product::Failure(error.clone()));
            }
            let again = if *retryable { "another attempt may help" } else { "for good" };
            let (id, error) = (job.subject.job_id.clone(), error.clone());
            job.sent = Some(sent);
            self.log(LogLevel::Warn, "job", format_args!("failed, {again}: {error}"), Some(&id));
            self.send_for_ack(frame);
        }
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
            Verdict::trouble("a result was not acknowledged within 30 s"),
        );
    }

    /// The studio has what was sent to end the claim.
    pub(super) fn confirm(&mut self, key: JobKey) {
        self.timers.clear(Timer::Ack);
        let Some(job) = self.jobs.get(key) else { return };
        match (&job.sent, &job.product) {
            // The upload was given up for now, but the result is still here.
            (Some(Sent::Fail { retryable: true, .. }), Some(Product::Output(_))) => self.lose_claim_of(key),
            (Some(Sent::Fail { error, .. }), _) => {
                let reason = error.clone();
                self.end_job(key, JobEvent::Confirmed, JobOutcome::Failed { reason });
            }
            _ => self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed),
        }
    }

    /// Starts an upload, or starts it again.
    pub(super) fn upload(&mut self, key: JobKey) {
        let request = RequestId(self.id());
        let nonce = self.chance.nonce();
        let credentials =
            self.registration.credentials().map(|(worker_id, token)| (worker_id.to_string(), token.clone()));
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Some(Product::Output(Output::Bytes { ext, payload })) = &job.product else { return };
        let (Some((worker_id, bearer)), Some(claim)) = (credentials, &job.claim) else {
            job.upload = None;
            self.clear_upload_timers(key);
            return;
        };
        let upload = Upload {
            url: self.options.settings.api_base.complete(&worker_id, job.subject.job_id.as_str()),
            bearer,
            envelope: Envelope::new(&job.subject.job_id, claim.task.prompt(), ext, nonce),
            payload: payload.clone(),
        };
        let state = job.upload.get_or_insert_default();
        state.request = Some(request);
        state.moved = 0;
        // Whatever the one before began under, this one begins under the claim of now.
        state.adopted = false;
        self.timers.clear(Timer::UploadRetry(key));
        self.timers.set(Timer::UploadStall(key), self.after(UPLOAD_STALL_BOUND));
        self.act(Action::Upload { request, upload });
    }

    pub(super) fn on_upload_progress(&mut self, request: RequestId, sent: u64) {
        let stall = self.after(UPLOAD_STALL_BOUND);
        let Some(key) = self.jobs.by_request(request).map(|job| job.key) else {
            self.counters.stale_inputs += 1;
            return;
        };
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut())
            && sent > upload.moved
        {
            upload.moved = sent;
            self.timers.set(Timer::UploadStall(key), stall);
        }
    }

    pub(super) fn on_upload_stall(&mut self, key: JobKey) {
        let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) else { return };
        if let Some(request) = upload.request.take() {
            self.act(Action::CancelRequest { request });
            self.upload_broke(key, "no byte moved for 60 s");
        }
    }

    pub(super) fn on_answered(&mut self, request: RequestId, outcome: Result<HttpAnswer, HttpFailure>) {
        let Err(outcome) = self.on_registration_answer(request, outcome) else { return };
        let Some(key) = self.jobs.by_request(request).map(|job| job.key) else {
            self.counters.stale_inputs += 1;
            return;
        };
        self.timers.clear(Timer::UploadStall(key));
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.request = None;
        }
        let answer = match outcome {
            Err(failure) => return self.upload_broke(key, &self.registration.scrub(failure.0)),
            Ok(answer) => answer,
        };
        let what = format!("HTTP {}{}", answer.status, self.quote(&answer.body));
        match answer.status {
            200..=299 => self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed),
            404 | 409 | 410 => self.on_conflict(key, answer.status, &what),
            401 | 403 => {
                let refusals =
                    self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()).map_or(0, |upload| {
                        upload.refusals += 1;
                        upload.refusals
                    });
                if refusals >= MAX_REFUSALS {
                    self.note_trouble(key, &what);
                    self.give_up_upload(key);
                } else {
                    self.try_upload_again(key, &what, None);
                }
            }
            400..=499 if answer.status != 408 && answer.status != 429 => self.on_upload_refused(key, &what),
            _ => self.try_upload_again(key, &what, Some(&answer)),
        }
    }

    /// The connection broke: the studio may have the bytes or not.
    fn upload_broke(&mut self, key: JobKey, what: &str) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.perhaps_known = true;
        }
        self.try_upload_again(key, what, None);
    }

    fn note_trouble(&mut self, key: JobKey, what: &str) {
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.trouble = what.into();
        }
    }

    /// Tries again after a back-off, or at once when the next offer shows that the studio has moved on.
    fn try_upload_again(&mut self, key: JobKey, what: &str, answer: Option<&HttpAnswer>) {
        self.note_trouble(key, what);
        if self.session.parked.is_some() {
            let hurried = self.jobs.get(key).and_then(|job| job.upload.as_ref()).is_some_and(|up| up.hurried);
            if hurried {
                // The claim can't be open any more, or the studio would not have offered another job.
                self.upload_claim_over(key, what);
            } else {
                self.hurry_upload();
            }
            return;
        }
        if !self.timers.is_set(Timer::UploadGiveUp(key)) {
            self.timers.set(Timer::UploadGiveUp(key), self.after(UPLOAD_RETRY_BOUND));
        }
        let asked = answer
            .and_then(|answer| retry_after::parse(answer.retry_after.as_deref()?, answer.date.as_deref()));
        let Some(job) = self.jobs.get_mut(key) else { return };
        let id = job.subject.job_id.clone();
        let Some(upload) = &mut job.upload else { return };
        let wait = upload.failures.failed(&mut self.chance, asked);
        self.timers.set(Timer::UploadRetry(key), self.after(wait));
        self.log(
            LogLevel::Warn,
            "delivery",
            format_args!("upload failed, trying again in {} s: {what}", wait.as_secs().max(1)),
            Some(&id),
        );
    }

    /// Ends the back-off of the upload that the parked offer waits for.
    pub(super) fn hurry_upload(&mut self) {
        let Some(job) = self.jobs.all.iter_mut().find(|job| job.upload.is_some()) else { return };
        let key = job.key;
        if let Some(upload) = job.upload.as_mut().filter(|upload| upload.request.is_none()) {
            upload.hurried = true;
            self.upload(key);
        }
    }

    /// Takes over an upload under way for the claim that was just accepted.
    pub(super) fn adopt_upload(&mut self, key: JobKey) {
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.adopt();
        }
    }

    /// The studio does not hold the job for this worker.
    fn on_conflict(&mut self, key: JobKey, status: u16, what: &str) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let claimed = job.state == JobState::Delivering;
        let Some(upload) = &mut job.upload else { return };
        if upload.hurried && status == 409 {
            self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed);
        } else if claimed && upload.adopted {
            // It began under an earlier claim, and under this one it has not been tried.
            *upload = Uploading { afresh: true, ..Uploading::default() };
            self.clear_upload_timers(key);
            self.upload(key);
        } else if claimed && upload.afresh {
            let reason = format!("the studio offered the job and then refused its result twice ({what})");
            self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
        } else {
            self.upload_claim_over(key, what);
        }
    }

    /// The claim is over; the result stays.
    fn upload_claim_over(&mut self, key: JobKey, what: &str) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        job.upload = None;
        let (id, claimed) = (job.subject.job_id.clone(), job.state == JobState::Delivering);
        self.clear_upload_timers(key);
        self.log(
            LogLevel::Warn,
            "delivery",
            format_args!("the studio doesn't hold the job for this worker, its result is kept: {what}"),
            Some(&id),
        );
        if claimed {
            self.lose_claim_of(key);
        }
    }

    /// No attempt to upload it will help: the job fails, under this claim or the next.
    fn on_upload_refused(&mut self, key: JobKey, what: &str) {
        let error = format!("the studio refused the result: {what}");
        let Some(job) = self.jobs.get_mut(key) else { return };
        job.upload = None;
        let claimed = job.state == JobState::Delivering;
        let product = job.product.replace(Product::Failure(error.clone()));
        self.clear_upload_timers(key);
        self.discard(product);
        if claimed {
            self.fail(key, Sent::Fail { error, retryable: false });
        }
    }

    /// The upload has failed for too long: lets go of the claim, keeps the result.
    pub(super) fn give_up_upload(&mut self, key: JobKey) {
        self.clear_upload_timers(key);
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Some(upload) = job.upload.take() else { return };
        let claimed = job.state == JobState::Delivering;
        if let Some(request) = upload.request {
            self.act(Action::CancelRequest { request });
        }
        if claimed {
            let error = format!("the result could not be uploaded: {}", upload.trouble);
            self.fail(key, Sent::Fail { error, retryable: true });
        }
    }

    fn clear_upload_timers(&mut self, key: JobKey) {
        for timer in [Timer::UploadStall(key), Timer::UploadRetry(key), Timer::UploadGiveUp(key)] {
            self.timers.clear(timer);
        }
    }

    /// The session is gone, and with it the claim.
    pub(super) fn lose_claim(&mut self, verdict: &Verdict) {
        self.session.parked = None;
        let Some(key) = self.jobs.claimed().map(|job| job.key) else { return };
        let Some(job) = self.jobs.get_mut(key) else { return };
        match verdict {
            Verdict::Violation(what) => {
                job.violations += 1;
                if job.violations >= MAX_VIOLATIONS {
                    let reason = format!("the studio called its frames a violation twice: {what}");
                    self.abandon(key, reason);
                    return;
                }
            }
            Verdict::TooBig(what) if job.sent == Some(Sent::Complete) => {
                let error = format!("the studio refused the result as too large: {what}");
                let product = job.product.replace(Product::Failure(error));
                job.sent = None;
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
        job.perhaps_known |= sent.is_some();
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
        self.arm_recovery();
    }

    /// Keeps an outcome without a claim, within the bounds: the oldest makes room.
    pub(super) fn hold(&mut self, key: JobKey) {
        self.timers.set(Timer::Expire(key), self.after(HELD_BOUND));
        loop {
            let held = || self.jobs.all.iter().filter(|job| job.state == JobState::Held);
            let memory: u64 = held().filter_map(|job| job.product.as_ref()).map(Product::memory).sum();
            if held().count() <= MAX_HELD && memory <= MAX_HELD_BYTES {
                break;
            }
            let Some(oldest) = held().map(|job| job.key).min() else { break };
            let reason = "its result had to make room for newer ones before it was offered again".into();
            self.abandon(oldest, reason);
        }
    }

    pub(super) fn on_expired(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(key) else { return };
        if job.upload.is_some() {
            // It still moves, and may well arrive.
            self.timers.set(Timer::Expire(key), self.after(STABLE_AFTER));
            return;
        }
        let id = job.subject.job_id.clone();
        let outcome = match &job.product {
            Some(Product::Failure(error)) => JobOutcome::Failed { reason: error.clone() },
            _ if job.perhaps_known => JobOutcome::Completed,
            _ => JobOutcome::Failed { reason: "its claim was lost, and it was not offered again".into() },
        };
        if outcome == JobOutcome::Completed {
            self.log(
                LogLevel::Warn,
                "delivery",
                format_args!("unconfirmed: the result was sent and the job never offered again"),
                Some(&id),
            );
        }
        self.end_job(key, JobEvent::GivenUp, outcome);
    }

    /// Ends a job that nobody will want, its run and its upload with it.
    fn abandon(&mut self, key: JobKey, reason: String) {
        if let Some(slot) = self.jobs.slot.as_mut().filter(|slot| slot.job == Some(key)) {
            slot.job = None;
            let run = slot.run;
            self.act(Action::CancelRun { run });
        }
        self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
    }

    /// The one place where a job is over: forgets it, and records how it ended.
    pub(super) fn end_job(&mut self, key: JobKey, event: JobEvent, outcome: JobOutcome) {
        self.job_event(key, event);
        let Some(at) = self.jobs.all.iter().position(|job| job.key == key) else { return };
        let job = self.jobs.all.remove(at);
        self.clear_upload_timers(key);
        self.timers.clear(Timer::Expire(key));
        if job.sent.is_some() {
            self.timers.clear(Timer::Ack);
        }
        if let Some(request) = job.upload.and_then(|upload| upload.request) {
            self.act(Action::CancelRequest { request });
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
        if self.declines() && self.state == SessionState::Serving && self.refresh_capabilities() {
            self.heartbeat();
        }
    }

    /// Deletes what a result left on the disk.
    pub(super) fn discard(&mut self, product: Option<Product>) {
        if let Some(Product::Output(Output::Bytes { payload: Payload::File(file), .. })) = product {
            self.act(Action::Discard(file));
        }
    }

    /// Lets go of what is in hand, since the worker ends now.
    pub(super) fn release_for_stop(&mut self, why: &str) {
        self.decline_parked();
        let Some(job) = self.jobs.claimed().filter(|job| job.sent.is_none()) else { return };
        let key = job.key;
        self.give_up_upload_quietly(key);
        if self.state == SessionState::Serving {
            self.fail(
                key,
                Sent::Fail {
                    error: format!("the worker stopped before the job was done ({why})"),
                    retryable: true,
                },
            );
        }
    }

    fn give_up_upload_quietly(&mut self, key: JobKey) {
        self.clear_upload_timers(key);
        if let Some(request) =
            self.jobs.get_mut(key).and_then(|job| job.upload.take()).and_then(|upload| upload.request)
        {
            self.act(Action::CancelRequest { request });
        }
    }
}
