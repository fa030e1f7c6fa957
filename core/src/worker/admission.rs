//! Admission (section 5): the memory for a job is taken at the moment of accepting it.
//!
//! An offer of an engine that loads models into this machine's memory is *pending* until the memory was measured. It is
//! not claimed: heartbeats don't name it, it is forgotten with its session, and declined when no more jobs are taken.
//!
//! A job that the GPU has no room for lowers the threshold that is advertised, so that the studio offers it elsewhere:
//! for a while, or until a measurement shows that there is room again.

use alloc::{collections::VecDeque, format, sync::Arc};

use super::{
    Worker,
    io::{Action, MeasureId, Observation},
    memory::{Shortage, just_under},
    timers::{LOOK_INTERVAL, LOWERED_BOUND, MEASURE_BOUND, Timer},
};
use crate::{
    digested::Digested,
    machine::Memory,
    wire::{Claim, Finite, JobId, LogLevel, Offer, RejectCode},
};

/// The refusal of one job for host memory at which it is to go elsewhere.
const LAST_REFUSAL: u8 = 3;
/// Jobs whose refusals are counted: those that were refused last.
const MAX_REFUSED: usize = 32;

/// What is known of the memory, and who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Admission {
    /// The measurement that counts.
    asked: Option<MeasureId>,
    /// The offer that waits for it.
    pending: Option<Arc<Claim>>,
    lowered: Option<Lowered>,
    /// Memory of the GPU in bytes, once it was measured.
    gpu_total: Option<u64>,
    /// How often jobs were refused for host memory, by a digest of their id: those can be of any length.
    refused: VecDeque<([u8; 32], u8)>,
}

/// A threshold below the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lowered {
    /// What is advertised, in GB.
    to: Finite,
    /// What must be free on the GPU for the job that was refused, in bytes.
    need: u64,
}

impl Admission {
    /// The id of the measurement that is waited for.
    pub(super) fn asked(&self) -> Option<u64> {
        self.asked.map(|measure| measure.0)
    }

    pub(super) fn asked_mut(&mut self) -> Option<&mut u64> {
        self.asked.as_mut().map(|measure| &mut measure.0)
    }

    /// The job that waits to be admitted.
    pub(super) fn pending(&self) -> Option<&JobId> {
        self.pending.as_ref().map(|claim| &claim.job_id)
    }

    /// GPU memory in GB, as it was measured.
    pub(super) fn vram_total(&self) -> Option<Finite> {
        self.gpu_total.map(Finite::gigabytes)
    }

    /// Counts a refusal for host memory: the how-manieth it is of that job.
    fn count_refusal(&mut self, job_id: &JobId) -> u8 {
        let job = digest(job_id);
        let known = self.refused.iter().position(|(refused, _)| *refused == job);
        let before = known.and_then(|at| self.refused.remove(at)).map_or(0, |(_, count)| count);
        if self.refused.len() == MAX_REFUSED {
            self.refused.pop_front();
        }
        let count = before.saturating_add(1);
        self.refused.push_back((job, count));
        count
    }

    fn forget_refusals(&mut self, job_id: &JobId) {
        if !self.refused.is_empty() {
            let job = digest(job_id);
            self.refused.retain(|(refused, _)| *refused != job);
        }
    }

    /// Jobs of one studio are no business of another.
    pub(super) fn forget_jobs(&mut self) {
        self.refused = VecDeque::new();
    }
}

fn digest(job_id: &JobId) -> [u8; 32] {
    let mut digest = Digested::default();
    digest.bytes(job_id.as_str().as_bytes());
    digest.finish()
}

impl Worker {
    /// Whether a job is of an engine that loads its model into this machine's memory.
    pub(crate) fn measures(&self, claim: &Claim) -> bool {
        let settings = &self.options.settings;
        if settings.measured_engines.is_empty() {
            return false;
        }
        let (kind, engine) = (claim.task.kind(), claim.engine());
        let service = settings.services.iter().find(|service| service.covers(kind, &claim.model, engine));
        service.is_some_and(|service| settings.measured_engines.contains(&service.engine))
    }

    /// The largest estimate that is advertised, in GB: the owner's bound, unless the memory is taken.
    pub(super) fn advertised_threshold(&self) -> Finite {
        self.admission.lowered.map_or(self.threshold, |lowered| lowered.to.min(self.threshold))
    }

    /// Has the memory measured for a job that may be accepted otherwise.
    pub(super) fn ask_for_memory(&mut self, claim: Arc<Claim>) {
        self.admission.pending = Some(Arc::clone(&claim));
        self.timers.set(Timer::Measure, self.after(MEASURE_BOUND));
        self.measure(Some(claim));
    }

    fn measure(&mut self, claim: Option<Arc<Claim>>) {
        let measure = MeasureId(self.id());
        self.admission.asked = Some(measure);
        self.act(Action::Measure { measure, claim });
    }

    /// A job that is offered again as another one takes the place of the one that waits.
    pub(super) fn replace_pending(&mut self, offer: &Offer) {
        let Some(pending) = self.admission.pending.as_ref().filter(|job| job.job_id == *offer.job_id())
        else {
            return;
        };
        if !matches!(offer, Offer::Readable(claim) if pending.same_job(claim)) {
            self.forget_pending();
        }
    }

    /// An offer that comes while another one waits for the memory.
    pub(super) fn judge_beside_pending(&mut self, offer: Offer) {
        match (&mut self.admission.pending, offer) {
            // The studio says it again: one answer serves both, and its addresses are newer.
            (Some(pending), Offer::Readable(claim)) if pending.same_job(&claim) => *pending = claim.into(),
            (_, offer) => {
                self.reject(offer.job_id(), "another job is being admitted", Some(RejectCode::Busy));
            }
        }
    }

    pub(super) fn on_measured(&mut self, measure: MeasureId, memory: Memory, resident: bool) {
        if self.admission.asked != Some(measure) {
            self.counters.stale_inputs += 1;
            return;
        }
        self.admission.asked = None;
        self.timers.clear(Timer::Measure);
        self.admission.gpu_total = memory.gpu_total.or(self.admission.gpu_total);
        let need = self.admission.lowered.map(|lowered| lowered.need);
        if need.zip(memory.gpu_free).is_some_and(|(need, free)| free >= need) {
            self.restore_threshold("the memory is free again");
        }
        self.admit_pending(memory, resident);
        // The total may be news as well.
        self.say_changes();
    }

    /// What can't be measured in time is admitted.
    pub(super) fn on_measure_timeout(&mut self) {
        self.admission.asked = None;
        if let Some(job) = self.admission.pending().cloned() {
            let bound = MEASURE_BOUND.as_secs();
            let what = format_args!("the memory was not measured within {bound} s");
            self.log(LogLevel::Warn, "job", what, Some(&job));
        }
        self.admit_pending(Memory::default(), false);
    }

    /// Accepts or rejects the offer that waits for the memory. What it was offered for may have changed meanwhile.
    fn admit_pending(&mut self, memory: Memory, resident: bool) {
        let Some(claim) = self.admission.pending.take() else { return };
        if let Some((reason, code)) = self.hindrance(&claim) {
            return self.reject(&claim.job_id, &reason, code);
        }
        let shortage = if resident || !self.measures(&claim) { None } else { Shortage::of(&claim, memory) };
        match shortage {
            None => {
                self.admission.forget_refusals(&claim.job_id);
                self.run(&claim);
            }
            Some(shortage) => self.refuse(&claim, shortage),
        }
    }

    fn refuse(&mut self, claim: &Claim, shortage: Shortage) {
        let code = match shortage {
            Shortage::Gpu { need, .. } => {
                // Said first, so that the studio knows it when it looks for another worker.
                self.lower_threshold(claim.vram_gb_estimate, need);
                Some(RejectCode::InsufficientMemory)
            }
            Shortage::Host { .. } => {
                let nth = self.admission.count_refusal(&claim.job_id);
                (nth < LAST_REFUSAL).then_some(RejectCode::InsufficientMemory)
            }
        };
        self.reject(&claim.job_id, &shortage.reason(), code);
    }

    /// Keeps jobs away that are as large as one that was refused. A threshold that is lower already is left alone.
    fn lower_threshold(&mut self, estimate: Finite, need: u64) {
        let to = just_under(estimate);
        if self.admission.lowered.is_some_and(|lowered| lowered.to < to) {
            return;
        }
        self.timers.set(Timer::Lowered, self.after(LOWERED_BOUND));
        self.look_later();
        let why = format!("the memory is taken, for {} s at most", LOWERED_BOUND.as_secs());
        self.set_lowered(Some(Lowered { to, need }), &why);
    }

    /// The owner's threshold counts again.
    fn restore_threshold(&mut self, why: &str) {
        self.timers.clear(Timer::Lowered);
        self.timers.clear(Timer::Look);
        self.set_lowered(None, why);
    }

    pub(super) fn on_lowered_over(&mut self) {
        self.restore_threshold("it may fit again");
    }

    fn set_lowered(&mut self, lowered: Option<Lowered>, why: &str) {
        let before = self.advertised_threshold();
        self.admission.lowered = lowered;
        let threshold = self.advertised_threshold();
        if threshold == before {
            return;
        }
        self.act(Action::Observe(Observation::Threshold(threshold)));
        self.log(LogLevel::Info, "session", format_args!("jobs up to {threshold} GB are taken: {why}"), None);
        self.say_changes();
    }

    fn look_later(&mut self) {
        if !self.timers.is_set(Timer::Look) {
            self.timers.set(Timer::Look, self.after(LOOK_INTERVAL));
        }
    }

    /// Looks whether the memory is free again. A measurement for an offer says so, too.
    pub(super) fn on_look_due(&mut self) {
        self.look_later();
        if self.admission.pending.is_none() {
            self.measure(None);
        }
    }

    /// Where nothing is measured any more, nothing is kept away either.
    pub(super) fn measured_engines_changed(&mut self) {
        if self.options.settings.measured_engines.is_empty() {
            self.restore_threshold("nothing is measured any more");
        }
    }

    /// The session that it was made on is gone, or is about to be.
    pub(super) fn forget_pending(&mut self) {
        if self.admission.pending.take().is_some() {
            self.admission.asked = None;
            self.timers.clear(Timer::Measure);
        }
    }

    pub(super) fn decline_pending(&mut self) {
        if let Some(job_id) = self.admission.pending().cloned() {
            self.forget_pending();
            self.decline(&job_id);
        }
    }
}
