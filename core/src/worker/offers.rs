//! Answering offers (sections 5 and 6), and the engine's one slot.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
};

use super::{
    Worker,
    io::{Action, Exit, RunId},
    jobs::{JobKey, Product, Slot, Subject},
    observe::{Hindrance, JobOutcome, truncate_prompt},
    states::{JobEvent, JobState, SessionState},
    timers::{ORPHAN_BOUND, STUCK_BOUND, Timer},
};
use crate::{
    engine::{EngineError, Output, serves},
    wire::{Claim, ClaimProblem, JobId, LogLevel, Offer, RejectCode, TaskKind, WorkerFrame, media},
};

/// Other offers after which an orphan is given up (section 6).
const MAX_PASSED_OVER: u32 = 3;

impl Worker {
    pub(super) fn on_offer(&mut self, offer: Offer) {
        self.note_next_offer(&offer);
        // One that comes again takes the place of the older: what is declined is offered elsewhere, and must not be
        // accepted afterwards.
        self.session.parked.take_if(|parked| parked.job_id() == offer.job_id());
        self.replace_pending(&offer);
        self.judge(offer);
    }

    /// An offer shows that the studio does not hold a job for this worker any more (section 6): what was sent to end
    /// the claim before is confirmed, and an upload need not back off.
    fn note_next_offer(&mut self, offer: &Offer) {
        if let Some(job) = self.jobs.claimed().filter(|job| job.sent.is_some()) {
            let key = job.key;
            if job.is_asked_for_by(offer) {
                // The very job again: the studio let go of the claim without having the result, or will have it run
                // anew after a failure that may pass.
                self.lose_claim_of(key);
            } else {
                self.confirm(key);
            }
            return;
        }
        // Nor does it for one whose end was in doubt.
        self.timers.clear(Timer::Ack);
        if let Some(job) = self.jobs.uploading().filter(|job| !job.is_asked_for_by(offer)) {
            self.supersede_upload(job.key);
        }
    }

    /// Answers an offer, in the order of section 5.
    fn judge(&mut self, offer: Offer) {
        let known =
            self.jobs.by_id(offer.job_id()).map(|job| (job.key, job.state, job.is_asked_for_by(&offer)));
        if self.declines() && !self.wants_back(known) {
            self.decline(offer.job_id());
            return;
        }
        if let Some((key, state, same)) = known
            && self.judge_known(&offer, key, state, same)
        {
            return;
        }
        if let Offer::Readable(claim) = &offer
            && self.session.was_taken(claim)
        {
            self.reject(offer.job_id(), "its result was delivered just now", Some(RejectCode::Busy));
        } else if self.admission.pending().is_some() {
            self.judge_beside_pending(offer);
        } else if self.jobs.slot.is_some() {
            self.reject(offer.job_id(), "another job runs", Some(RejectCode::Busy));
            self.pass_over();
        } else if self.jobs.uploading().is_some() {
            self.park(offer);
        } else {
            match offer {
                Offer::Readable(claim) => self.judge_new(claim),
                Offer::Unreadable { job_id, model, kind, engine, problem } => {
                    self.judge_unreadable(job_id, &model, &kind, engine.as_deref(), &problem);
                }
            }
        }
    }

    /// Whether a paused or draining worker takes this offer all the same: a job of its own whose claim was lost.
    fn wants_back(&self, known: Option<(JobKey, JobState, bool)>) -> bool {
        match known {
            Some((_, state, true)) => state.is_claimed() || self.recovers(),
            _ => false,
        }
    }

    /// An offer of a job that this worker knows; whether it is answered.
    fn judge_known(&mut self, offer: &Offer, key: JobKey, state: JobState, same: bool) -> bool {
        match (state, same) {
            (JobState::Running, true) => self.accept(offer.job_id()),
            (JobState::Delivering, true) => {
                self.accept_again(key, offer.job_id());
                self.adopt_upload(key);
            }
            (JobState::Orphaned, true) => {
                self.timers.clear(Timer::Orphan);
                self.accept(offer.job_id());
                self.job_event(key, JobEvent::Reoffered);
                self.say_changed_recovery();
            }
            (JobState::Orphaned, false) => {
                self.give_up_orphan("the studio offers its id with another task");
                self.reject(offer.job_id(), "another job runs", Some(RejectCode::Busy));
            }
            (JobState::Held, true) => {
                let elsewhere = self.jobs.all.iter().any(|job| job.key != key && job.upload.is_some());
                let taken = self.jobs.slot.is_some() || self.jobs.claimed().is_some();
                if taken || elsewhere || self.admission.pending().is_some() {
                    return false;
                }
                self.accept_again(key, offer.job_id());
                self.job_event(key, JobEvent::Reoffered);
                self.timers.clear(Timer::Expire(key));
                self.deliver(key);
                self.say_changed_recovery();
            }
            (JobState::Running, false) => return false,
            (JobState::Delivering | JobState::Held | JobState::Ended, false) | (JobState::Ended, true) => {
                let reason = "the studio offered its id with another task".to_string();
                self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason });
                return false;
            }
        }
        true
    }

    fn judge_new(&mut self, claim: Box<Claim>) {
        if let Some((reason, code)) = self.hindrance(&claim) {
            self.reject(&claim.job_id, &reason, code);
        } else if self.measures(&claim) {
            self.ask_for_memory(claim.into());
        } else {
            self.run(&claim.into());
        }
    }

    /// Why a job is not for this worker, whatever memory is free: the reason and code to reject it with. The threshold
    /// is the owner's: whether an offer above a lower one that is advertised fits is measured.
    pub(super) fn hindrance(&self, claim: &Claim) -> Option<(String, Option<RejectCode>)> {
        let services = &self.options.settings.services;
        let (kind, engine) = (claim.task.kind(), claim.engine());
        if !serves(services, kind, &claim.model, engine) {
            let by = engine.map(|engine| format!(" on the engine {engine:?}")).unwrap_or_default();
            Some((format!("cannot serve {kind} with the model {:?}{by}", claim.model), None))
        } else if claim.vram_gb_estimate > self.threshold {
            let reason = format!(
                "the job wants {} GB, jobs up to {} GB are taken",
                claim.vram_gb_estimate, self.threshold
            );
            Some((reason, Some(RejectCode::InsufficientMemory)))
        } else {
            None
        }
    }

    fn judge_unreadable(
        &mut self,
        job_id: JobId,
        model: &str,
        kind: &str,
        engine: Option<&str>,
        problem: &ClaimProblem,
    ) {
        let cannot = match TaskKind::parse(kind) {
            _ if matches!(problem, ClaimProblem::UnknownKind { .. }) => true,
            Some(kind) if !model.is_empty() => !serves(&self.options.settings.services, kind, model, engine),
            _ => false,
        };
        if cannot {
            let reason = match problem {
                ClaimProblem::UnknownKind { .. } => problem.to_string(),
                ClaimProblem::Parameter { .. } => format!("cannot serve {kind} with the model {model:?}"),
            };
            self.reject(&job_id, &reason, None);
            return;
        }
        // Invalid for everyone: taken, so that it can be failed for good.
        self.accept(&job_id);
        let subject = Subject {
            job_id,
            kind: truncate_prompt(kind),
            model: truncate_prompt(model),
            prompt: String::new(),
            accepted_at: self.now.wall,
        };
        let key = self.jobs.add(JobState::Running, subject, None);
        self.job_event(key, JobEvent::Finished);
        self.fail(key, EngineError::permanent(format_args!("the job is invalid: {problem}")));
    }

    fn accept(&mut self, job_id: &JobId) {
        self.send(WorkerFrame::Accept { job_id: job_id.clone() });
    }

    /// Accepts a job whose outcome is here already. Whatever was sent of it: the studio does not have it, or it would
    /// not offer the job.
    fn accept_again(&mut self, key: JobKey, job_id: &JobId) {
        self.accept(job_id);
        if let Some(job) = self.jobs.get_mut(key) {
            job.perhaps_known = false;
            job.given_up = None;
        }
    }

    /// Rejects an offer since no job is taken now. One that another version of the program may soon take is only busy.
    pub(super) fn decline(&mut self, job_id: &JobId) {
        let code = match self.hindered_by() {
            Some(Hindrance::MakingWay) => RejectCode::Busy,
            _ => RejectCode::Paused,
        };
        self.reject(job_id, "the worker takes no jobs now", Some(code));
    }

    pub(super) fn reject(&mut self, job_id: &JobId, reason: &str, code: Option<RejectCode>) {
        // Names in it are the studio's own words, of any length.
        let reason = truncate_prompt(reason);
        self.log(LogLevel::Info, "job", format_args!("declined: {reason}"), Some(job_id));
        self.send(WorkerFrame::Reject { job_id: job_id.clone(), reason, code });
    }

    /// Accepts a job and gives it to the engine.
    pub(super) fn run(&mut self, claim: &Arc<Claim>) {
        self.accept(&claim.job_id);
        let key =
            self.jobs.add(JobState::Running, Subject::of(claim, self.now.wall), Some(Arc::clone(claim)));
        let run = RunId(self.id());
        self.jobs.slot = Some(Slot::new(run, key));
        self.counters.runs += 1;
        self.timers.set(Timer::RunLimit, self.after(self.options.run_limit));
        let (kind, model) = (claim.task.kind(), claim.model.clone());
        self.act(Action::DispatchJob { run, claim: Arc::clone(claim) });
        self.log(LogLevel::Info, "job", format_args!("accepted: {kind} with {model}"), Some(&claim.job_id));
    }

    pub(super) fn on_run_ended(&mut self, run: RunId, outcome: Result<Output, EngineError>) {
        let Some(slot) = self.jobs.slot.take_if(|slot| slot.run == run) else {
            self.counters.stale_inputs += 1;
            self.discard(outcome.ok().map(Product::Output));
            return;
        };
        self.timers.clear(Timer::RunLimit);
        self.timers.clear(Timer::Stuck);
        slot.job.into_iter().for_each(|key| self.forget_progress(key));
        let Some(job) = slot.job.and_then(|key| self.jobs.get(key)) else {
            self.discard(outcome.ok().map(Product::Output));
            return;
        };
        let (key, state) = (job.key, job.state);
        let outcome = match (&job.claim, outcome) {
            (Some(claim), Ok(output)) => match checked(claim.task.kind(), output) {
                Ok(output) => Ok(output),
                Err((output, error)) => {
                    self.discard(Some(Product::Output(output)));
                    Err(error)
                }
            },
            (_, outcome) => outcome.map_err(EngineError::bounded),
        };
        let claimed = state == JobState::Running;
        self.timers.clear(Timer::Orphan);
        match outcome {
            Err(error) if error.retryable && !claimed => {
                self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason: error.message });
            }
            outcome => {
                self.job_event(key, JobEvent::Finished);
                let product = match outcome {
                    Err(error) if claimed => return self.fail(key, error),
                    Err(error) => Product::Failure(error.message),
                    Ok(output) => Product::Output(output),
                };
                if let Some(job) = self.jobs.get_mut(key) {
                    job.product = Some(product);
                }
                if claimed { self.deliver(key) } else { self.hold(key) }
            }
        }
    }

    pub(super) fn on_run_limit(&mut self) {
        let Some(slot) = &mut self.jobs.slot else { return };
        let (run, key) = (slot.run, slot.job.take());
        self.timers.set(Timer::Stuck, self.after(STUCK_BOUND));
        self.act(Action::CancelRun { run });
        let limit = self.options.run_limit.as_secs();
        let error = format!("the run passed its time limit of {limit} s and was stopped");
        if let Some(key) = key {
            self.forget_progress(key);
            self.timers.clear(Timer::Orphan);
            if self.jobs.get(key).is_some_and(|job| job.state == JobState::Running) {
                self.job_event(key, JobEvent::Finished);
                self.fail(key, EngineError::transient(error));
            } else {
                self.end_job(key, JobEvent::GivenUp, JobOutcome::Failed { reason: error });
            }
        }
    }

    pub(super) fn on_stuck(&mut self) {
        self.finish(Exit::EngineStuck);
    }

    /// Counts an offer that was declined while an orphan ran.
    fn pass_over(&mut self) {
        if self.jobs.orphan().is_some() {
            self.session.passed_over += 1;
            if self.session.passed_over >= MAX_PASSED_OVER {
                self.give_up_orphan("the studio offered three other jobs");
            }
        }
    }

    /// Stops the run of a job whose claim was lost.
    pub(super) fn give_up_orphan(&mut self, why: &str) {
        self.timers.clear(Timer::Orphan);
        let Some(key) = self.jobs.orphan().map(|job| job.key) else { return };
        self.abandon(key, format!("cancelled after its claim was lost: {why}"));
    }

    /// Tells the engine to stop a job's run, if it has it. The slot is taken until it has.
    pub(super) fn stop_run(&mut self, key: JobKey) {
        if let Some(slot) = self.jobs.slot.as_mut().filter(|slot| slot.job == Some(key)) {
            slot.job = None;
            let run = slot.run;
            self.act(Action::CancelRun { run });
        }
    }

    /// Keeps an offer until the upload before it is over.
    fn park(&mut self, offer: Offer) {
        if self.session.parked.is_some() {
            self.reject(offer.job_id(), "a result is being delivered", Some(RejectCode::Busy));
        } else {
            self.session.parked = Some(Box::new(offer));
        }
    }

    /// Answers the parked offer once nothing is in its way any more.
    pub(super) fn unpark(&mut self) {
        let free =
            self.jobs.slot.is_none() && self.jobs.uploading().is_none() && self.jobs.claimed().is_none();
        if free
            && self.admission.pending().is_none()
            && self.state == SessionState::Serving
            && let Some(offer) = self.session.parked.take()
        {
            self.judge(*offer);
        }
    }

    pub(super) fn decline_parked(&mut self) {
        if let Some(offer) = self.session.parked.take() {
            self.decline(offer.job_id());
        }
    }

    /// Whether a worker that takes no jobs still wants one of its own back (section 6).
    pub(super) fn recovers(&self) -> bool {
        self.declines()
            && self.exit.is_none()
            && (!self.session.recovery_over || self.stays_for_held())
            && self.jobs.unconfirmed()
            && self.registration.has_credentials()
    }

    /// Whether what is held is waited for as long as it is held: nobody is kept waiting but another version.
    fn stays_for_held(&self) -> bool {
        self.makes_way && !self.draining
    }

    /// Bounds the time in which it does: from the welcome, or from when it stopped taking jobs.
    pub(super) fn arm_recovery(&mut self) {
        if !self.declines() {
            self.session.recovery_over = false;
        }
        if !self.recovers() {
            self.timers.clear(Timer::Recover);
        } else if self.state == SessionState::Serving
            && !self.session.recovery_over
            && !self.timers.is_set(Timer::Recover)
        {
            self.timers.set(Timer::Recover, self.after(ORPHAN_BOUND));
        }
    }

    /// A job got a claim, lost it or ended, and a worker that takes no jobs may have stayed for it alone.
    pub(super) fn say_changed_recovery(&mut self) {
        if self.declines() {
            self.say_changes();
        }
    }

    pub(super) fn on_recovery_over(&mut self) {
        self.session.recovery_over = true;
        self.wants_changed();
    }

    /// Moves a job along its table; an event without a transition is a bug, and is counted.
    pub(super) fn job_event(&mut self, key: JobKey, event: JobEvent) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let from = job.state;
        match from.after(event) {
            Some(state) => {
                job.state = state;
                self.note_held(from, state);
            }
            None => self.counters.impossible += 1,
        }
    }
}

/// An engine that makes the wrong sort of result has a bug that another attempt won't mend.
fn checked(kind: TaskKind, output: Output) -> Result<Output, (Output, EngineError)> {
    match output {
        Output::Bytes { ext, payload } if !kind.result_is_json() => {
            let ext = if media::is_plain_ext(&ext) { ext } else { "bin".into() };
            Ok(Output::Bytes { ext, payload })
        }
        Output::Json(json) if kind.result_is_json() => Ok(Output::Json(json)),
        output => {
            let error =
                EngineError::permanent(format!("the engine made the wrong sort of result for {kind}"));
            Err((output, error))
        }
    }
}
