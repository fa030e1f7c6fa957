//! What observers see of the jobs in hand, and how far bytes have moved for them (section 9): shown, logged at steps, and
//! what stops the clock of a run.

use alloc::{format, string::String};
use core::time::Duration;

use super::{
    Worker,
    io::{Action, Observation, RunId},
    jobs::{JobKey, Subject},
    memory::Size,
    observe::{CurrentJob, HeldResult, JobProgress, Moves, truncate_prompt},
    states::JobState,
    timers::Timer,
};
use crate::{
    machine::Transfer,
    time::{Mono, Wall},
    wire::LogLevel,
};

/// Between two observations of the same transfer: nobody reads faster.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// Deliveries of this many bytes and more are logged.
const LARGE_DELIVERY: u64 = 16 << 20;

/// What observers see of the jobs in hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shown {
    pub(super) job: Option<JobKey>,
    progress: Option<JobProgress>,
    /// When that was shown.
    at: Mono,
    /// Whether results are held, or held no more, that observers have not seen so.
    held_anew: bool,
    held_gone: bool,
}

impl Worker {
    /// Bytes of a download moved that a run waits for, or it is over.
    pub(super) fn on_run_progress(&mut self, run: RunId, transfer: Option<Transfer>) {
        let slot = self.jobs.slot.as_mut().filter(|slot| slot.run == run);
        let Some((key, slot)) = slot.and_then(|slot| Some((slot.job?, slot))) else {
            self.counters.stale_inputs += 1;
            return;
        };
        let Some(transfer) = transfer else {
            slot.moved = None;
            self.forget_progress(key);
            return;
        };
        let stood = slot.stand_still(&transfer, self.now.mono);
        if let Some(limit) = self.timers.at(Timer::RunLimit) {
            self.timers.set(Timer::RunLimit, limit + stood);
        }
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Transfer { name, done, total, .. } = transfer;
        let before = job.progress.take().filter(|before| {
            matches!(&before.moves, Moves::Download(shown) if *shown == truncate_prompt(&name))
                && before.done <= done
        });
        let progress = if let Some(before) = &before {
            JobProgress { done, total, ..before.clone() }
        } else {
            let moves = Moves::Download(truncate_prompt(&name));
            JobProgress { moves, done, total, since: self.now.wall, before: done }
        };
        let said = step(before.as_ref()).max(before.map(|_| 0));
        let line = download_line(&progress, said, self.now.wall);
        job.progress = Some(progress);
        if let Some(line) = line {
            let id = job.subject.job_id.clone();
            self.log(LogLevel::Info, "download", format_args!("{line}"), Some(&id));
        }
    }

    /// What moved for a job is where it should be, or does not move any more.
    pub(super) fn forget_progress(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.progress = None;
        }
    }

    /// The studio took a result: says how fast, where that is of interest.
    pub(super) fn log_delivery(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(key) else { return };
        let Some(upload) = job.upload.as_ref().filter(|upload| upload.length >= LARGE_DELIVERY) else {
            return;
        };
        let (id, took) = (job.subject.job_id.clone(), self.now.wall.since(upload.began));
        let line = took_line(upload.length, took);
        self.log(LogLevel::Info, "delivery", format_args!("delivered {line}"), Some(&id));
    }

    /// Shows observers what is in hand. A job that is held from now on, or not any more, is seen twice for a moment rather
    /// than not at all: whoever waits for its end must not take that for it.
    pub(super) fn show_jobs(&mut self) {
        if self.shown.held_anew {
            self.show_held_results();
        }
        self.show_current_job();
        if self.shown.held_gone {
            self.show_held_results();
        }
        (self.shown.held_anew, self.shown.held_gone) = (false, false);
    }

    /// Nothing is in hand any more.
    pub(super) fn show_no_jobs(&mut self) {
        self.act(Action::Observe(Observation::CurrentJob(None)));
        if self.shown.held_gone {
            self.show_held_results();
        }
    }

    /// A job came from one state to another.
    pub(super) fn note_held(&mut self, from: JobState, to: JobState) {
        self.shown.held_anew |= to == JobState::Held;
        self.shown.held_gone |= from == JobState::Held;
    }

    fn show_held_results(&mut self) {
        let results = self.jobs.all.iter().filter(|job| job.state == JobState::Held).map(|job| {
            let Subject { job_id, kind, model, accepted_at, .. } = job.subject.clone();
            HeldResult { job_id, kind, model, started_at: accepted_at }
        });
        let results = results.collect();
        self.act(Action::Observe(Observation::HeldResults(results)));
    }

    /// Shows the job in hand, the claimed one or an orphan, and what moves for it.
    fn show_current_job(&mut self) {
        let job = self.jobs.claimed().or_else(|| self.jobs.orphan());
        let (key, progress) = (job.map(|job| job.key), job.and_then(|job| job.progress.as_ref()));
        let shown = &self.shown;
        let moved = progress != shown.progress.as_ref();
        // That it begins or ends to move is news at once.
        let is_due =
            progress.is_some() != shown.progress.is_some() || self.now.mono.since(shown.at) >= SHOW_INTERVAL;
        if key == shown.job && !(moved && is_due) {
            return;
        }
        let progress = progress.cloned();
        let current = job.and_then(|job| {
            let Subject { job_id, model, prompt, accepted_at, .. } = job.subject.clone();
            let kind = job.claim.as_ref()?.task.kind();
            let progress = progress.clone();
            Some(CurrentJob { job_id, kind, model, prompt, started_at: accepted_at, progress })
        });
        self.shown = Shown { job: key, progress, at: self.now.mono, ..self.shown };
        self.act(Action::Observe(Observation::CurrentJob(current)));
    }

    /// What only observers see decides nothing.
    pub(super) fn forget_progress_shown(&mut self) {
        self.shown = Shown { job: self.shown.job, ..Shown::default() };
    }
}

/// How many tenths have moved, where that can be said.
fn step(progress: Option<&JobProgress>) -> Option<u64> {
    let progress = progress?;
    let total = progress.total.filter(|total| *total > 0)?;
    Some(u64::try_from(u128::from(progress.done.min(total)) * 10 / u128::from(total)).unwrap_or(10))
}

/// What is worth a line of a download: its beginning, each tenth, and its end. `said` is the step of the line before.
fn download_line(progress: &JobProgress, said: Option<u64>, now: Wall) -> Option<String> {
    let Moves::Download(name) = &progress.moves else { return None };
    let step = step(Some(progress));
    let size = progress.total.map_or_else(String::new, |total| format!(", {}", Size(total)));
    match (said, step) {
        (Some(said), Some(10)) if said < 10 => {
            let line = took_line(progress.done.saturating_sub(progress.before), now.since(progress.since));
            Some(format!("{name}: downloaded {line}"))
        }
        (None, Some(10)) => Some(format!("{name}: downloaded{size}")),
        (None, _) => Some(format!("{name}: downloading{size}")),
        (Some(said), Some(step)) if step > said => {
            let rate = progress.rate(now).map_or_else(String::new, |rate| format!(", {}/s", Size(rate)));
            let left =
                progress.time_left(now).map_or_else(String::new, |left| format!(", {} left", Span(left)));
            let done = Size(progress.done);
            Some(format!("{name}: {}0 %, {done} of {}{rate}{left}", step, Size(progress.total?)))
        }
        _ => None,
    }
}

/// So many bytes in such a time, and how fast that is.
fn took_line(bytes: u64, took: Duration) -> String {
    let millis = took.as_millis().max(1);
    let rate = u64::try_from(u128::from(bytes) * 1_000 / millis).unwrap_or(u64::MAX);
    format!("{} in {}, {}/s", Size(bytes), Span(took), Size(rate))
}

/// A time for people to read.
struct Span(Duration);

impl core::fmt::Display for Span {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => write!(f, "{seconds} s"),
            (0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
        }
    }
}
