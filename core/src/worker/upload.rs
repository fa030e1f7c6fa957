//! The delivery of bytes (section 6): an upload belongs to the claim that it began under.

use alloc::{format, string::ToString};

use super::{
    Worker,
    io::{Action, RequestId, Upload},
    jobs::{JobKey, Product, Uploading},
    observe::{JobOutcome, JobProgress, Moves},
    states::{JobEvent, JobState, SessionState},
    timers::{ACK_BOUND, Timer, UPLOAD_RETRY_BOUND, UPLOAD_STALL_BOUND},
};
use crate::{
    engine::{EngineError, Output},
    http::{HttpAnswer, HttpFailure},
    wire::{LogLevel, multipart::Envelope, retry_after},
};

/// Answers 401 and 403 after which an upload is given up (section 6).
const MAX_REFUSALS: u32 = 3;

impl Worker {
    /// Brings a claimed job's bytes on their way: adopts the upload that moves, or begins one.
    pub(super) fn deliver_bytes(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        match &mut job.upload {
            Some(upload) if upload.request.is_some() => self.adopt_upload(key),
            upload => {
                *upload = Some(Uploading::default());
                self.clear_upload_timers(key);
                self.upload(key);
            }
        }
    }

    /// Takes over an upload for the claim that was just accepted.
    pub(super) fn adopt_upload(&mut self, key: JobKey) {
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.adopt();
            // The new claim has an hour of its own.
            self.timers.clear(Timer::UploadGiveUp(key));
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
            self.stop_upload(key);
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
        state.length = upload.envelope.length(upload.payload.len());
        state.began = self.now.wall;
        job.progress = None;
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
        let Some(job) = self.jobs.get_mut(key) else { return };
        if let Some(upload) = job.upload.as_mut().filter(|upload| sent > upload.moved) {
            upload.moved = sent;
            job.progress = Some(JobProgress {
                moves: Moves::Delivery,
                done: sent.min(upload.length),
                total: Some(upload.length),
                since: upload.began,
                before: 0,
            });
            self.timers.set(Timer::UploadStall(key), stall);
        }
    }

    pub(super) fn on_upload_stall(&mut self, key: JobKey) {
        let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) else { return };
        if let Some(request) = upload.request.take() {
            self.forget_progress(key);
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
        self.forget_progress(key);
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.request = None;
        }
        let answer = match outcome {
            Err(failure) => return self.upload_broke(key, &self.registration.scrub(failure.0)),
            Ok(answer) => answer,
        };
        let what = format!("HTTP {}{}", answer.status, self.quote(&answer.body));
        match answer.status {
            200..=299 => {
                self.log_delivery(key);
                self.note_taken(key);
                self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed);
            }
            404 | 409 | 410 => self.on_conflict(key, answer.status, &what),
            401 | 403 => self.on_bearer_refused(key, &what),
            400..=499 if answer.status != 408 && answer.status != 429 => self.on_upload_refused(key, &what),
            500 | 502 | 504 => {
                // Said by a gateway, or after the result was stored: the studio may have it.
                self.perhaps_known(key);
                self.try_upload_again(key, &what, Some(&answer));
            }
            _ => self.try_upload_again(key, &what, Some(&answer)),
        }
    }

    /// The connection broke: the studio may have the bytes or not.
    fn upload_broke(&mut self, key: JobKey, what: &str) {
        self.perhaps_known(key);
        self.try_upload_again(key, what, None);
    }

    fn perhaps_known(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.perhaps_known = true;
        }
    }

    fn note_trouble(&mut self, key: JobKey, what: &str) {
        if let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) {
            upload.trouble = what.into();
        }
    }

    /// Tries again after a back-off, or once and at once when the next offer shows that the studio has moved on.
    fn try_upload_again(&mut self, key: JobKey, what: &str, answer: Option<&HttpAnswer>) {
        self.note_trouble(key, what);
        let Some(job) = self.jobs.get_mut(key) else { return };
        let (id, claimed) = (job.subject.job_id.clone(), job.state == JobState::Delivering);
        let Some(upload) = &mut job.upload else { return };
        if upload.superseded {
            if claimed && !upload.last_try {
                upload.last_try = true;
                self.upload(key);
            } else {
                self.upload_claim_over(key, what);
            }
            return;
        }
        let asked = answer
            .and_then(|answer| retry_after::parse(answer.retry_after.as_deref()?, answer.date.as_deref()));
        let wait = upload.failures.failed(&mut self.chance, asked);
        if !self.timers.is_set(Timer::UploadGiveUp(key)) {
            self.timers.set(Timer::UploadGiveUp(key), self.after(UPLOAD_RETRY_BOUND));
        }
        self.timers.set(Timer::UploadRetry(key), self.after(wait));
        self.log(
            LogLevel::Warn,
            "delivery",
            format_args!("upload failed, trying again in {} s: {what}", wait.as_secs().max(1)),
            Some(&id),
        );
    }

    /// The next offer came, so the claim of the upload under way is over: either the studio has the result by now,
    /// or it will not take it any more. One retry at once finds out.
    pub(super) fn supersede_upload(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let claimed = job.state == JobState::Delivering;
        let Some(upload) = job.upload.as_mut().filter(|upload| !upload.superseded) else { return };
        upload.superseded = true;
        match upload.request {
            None if claimed => {
                upload.last_try = true;
                self.upload(key);
            }
            // Its claim went with an earlier session: without a next offer it would be refused.
            None => {
                self.stop_upload(key);
            }
            // A retry that is under way already is that one.
            Some(_) => upload.last_try = upload.failures.failures() > 0 && !upload.adopted,
        }
    }

    /// The studio does not hold the job for this worker.
    fn on_conflict(&mut self, key: JobKey, status: u16, what: &str) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let claimed = job.state == JobState::Delivering;
        let Some(upload) = &mut job.upload else { return };
        if claimed && upload.superseded {
            if upload.last_try && status == 409 {
                self.end_job(key, JobEvent::Confirmed, JobOutcome::Completed);
            } else {
                self.upload_claim_over(key, what);
            }
        } else if claimed && upload.adopted {
            // It began under an earlier claim, and under this one it has not been tried.
            *upload = Uploading { afresh: true, ..Uploading::default() };
            self.clear_upload_timers(key);
            self.upload(key);
        } else if claimed && upload.afresh {
            let reason = format!("the studio offered the job and then refused its result twice ({what})");
            self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
            self.doubt_claim();
        } else {
            self.upload_claim_over(key, what);
        }
    }

    /// The claim is over; the result stays.
    fn upload_claim_over(&mut self, key: JobKey, what: &str) {
        let superseded = self.stop_upload(key).is_some_and(|upload| upload.superseded);
        let Some(job) = self.jobs.get(key) else { return };
        let (id, claimed) = (job.subject.job_id.clone(), job.state == JobState::Delivering);
        self.log(
            LogLevel::Warn,
            "delivery",
            format_args!("the studio doesn't hold the job for this worker, its result is kept: {what}"),
            Some(&id),
        );
        if claimed {
            self.lose_claim_of(key);
            if !superseded {
                self.doubt_claim();
            }
        }
    }

    /// Something between the two may have said that a claim is over, and then the studio would wait for its result as
    /// long as the session is open. A next offer shows that it doesn't; without one a new session puts it right.
    fn doubt_claim(&mut self) {
        if self.state == SessionState::Serving {
            self.timers.set(Timer::Ack, self.after(ACK_BOUND));
        }
    }

    /// The studio refuses the token, or says so: a few tries, since it may be a gateway's mood.
    fn on_bearer_refused(&mut self, key: JobKey, what: &str) {
        let Some(upload) = self.jobs.get_mut(key).and_then(|job| job.upload.as_mut()) else { return };
        upload.refusals += 1;
        if upload.refusals >= MAX_REFUSALS {
            self.note_trouble(key, what);
            self.give_up_upload(key);
        } else {
            self.try_upload_again(key, what, None);
        }
    }

    /// No attempt to upload it will help: the job fails, under this claim or the next.
    fn on_upload_refused(&mut self, key: JobKey, what: &str) {
        let upload = self.stop_upload(key);
        let error = EngineError::permanent(format_args!("the studio refused the result: {what}"));
        let Some(job) = self.jobs.get_mut(key) else { return };
        let product = job.product.replace(Product::Failure(error.message.clone()));
        self.discard(product);
        self.fail_upload(key, upload.as_ref(), error);
    }

    /// The upload has failed for too long: lets go of the claim, keeps the result.
    pub(super) fn give_up_upload(&mut self, key: JobKey) {
        let Some(upload) = self.stop_upload(key) else { return };
        let error = format_args!("the result could not be uploaded: {}", upload.trouble);
        self.fail_upload(key, Some(&upload), EngineError::transient(error));
    }

    /// Ends the claim of an upload that failed, if the studio still holds it: a `fail` for any other job is a
    /// violation.
    fn fail_upload(&mut self, key: JobKey, upload: Option<&Uploading>, error: EngineError) {
        if self.jobs.get(key).is_none_or(|job| job.state != JobState::Delivering) {
            return;
        }
        if upload.is_some_and(|upload| upload.superseded) {
            self.lose_claim_of(key);
        } else {
            self.fail(key, error);
        }
    }

    /// Stops an upload, whether it moves or waits to be tried again.
    pub(super) fn stop_upload(&mut self, key: JobKey) -> Option<Uploading> {
        self.clear_upload_timers(key);
        let job = self.jobs.get_mut(key)?;
        let upload = job.upload.take()?;
        job.progress = None;
        if let Some(request) = upload.request {
            // Every byte may have left.
            job.perhaps_known = true;
            self.act(Action::CancelRequest { request });
        }
        Some(upload)
    }

    fn clear_upload_timers(&mut self, key: JobKey) {
        for timer in [Timer::UploadStall(key), Timer::UploadRetry(key), Timer::UploadGiveUp(key)] {
            self.timers.clear(timer);
        }
    }
}
