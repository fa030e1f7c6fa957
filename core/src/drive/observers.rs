//! What is seen of a driven worker from outside (section 9).

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::recent::RecentJobs;
use crate::{
    time::Wall,
    worker::{
        CurrentJob, HeartbeatStatus, HeldResult, Observation, RECENT_JOBS_CAP, RecentJob, SessionStatus,
        states::SessionState,
    },
};

/// What a worker does now and did last. Cheap to clone; every clone sees the same worker.
#[derive(Debug, Clone, Default)]
pub struct WorkerObservers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    listeners: Mutex<Vec<Listener>>,
}

type Listener = Arc<dyn Fn(&WorkerObservers) -> bool + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.fmt(f)
    }
}

/// All that can be seen at one moment, but for the list of recent jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Where the worker stands with its studio; none before its start.
    pub session: Option<SessionStatus>,
    /// The job in hand.
    pub current_job: Option<CurrentJob>,
    /// The results that are kept for the studio to offer their jobs again, the newest last.
    pub held_results: Vec<HeldResult>,
    /// The job that ended last.
    pub last_job: Option<RecentJob>,
    /// How the last heartbeat went; none before the first.
    pub last_heartbeat: Option<HeartbeatStatus>,
}

impl WorkerStatus {
    /// Whether a session is open, past its welcome.
    pub fn is_connected(&self) -> bool {
        self.is_in(SessionState::Serving)
    }

    /// Whether the worker has ended.
    pub fn has_ended(&self) -> bool {
        self.is_in(SessionState::Ended)
    }

    fn is_in(&self, state: SessionState) -> bool {
        self.session.as_ref().is_some_and(|session| session.state == state.name())
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// Most workers have nothing most of the time, and there may be thousands of them.
    in_hand: Option<Box<InHand>>,
    recent_jobs: RecentJobs,
    last_heartbeat: Option<HeartbeatStatus>,
    session: Option<SessionStatus>,
}

/// The jobs that are not over.
#[derive(Debug, Default)]
struct InHand {
    current_job: Option<CurrentJob>,
    held_results: Vec<HeldResult>,
}

impl Seen {
    fn current_job(&self) -> Option<CurrentJob> {
        self.in_hand.as_ref()?.current_job.clone()
    }

    fn held_results(&self) -> Vec<HeldResult> {
        self.in_hand.as_ref().map(|in_hand| in_hand.held_results.clone()).unwrap_or_default()
    }

    fn take_in_hand(&mut self, change: impl FnOnce(&mut InHand)) {
        let mut in_hand = self.in_hand.take().unwrap_or_default();
        change(&mut in_hand);
        let is_empty = in_hand.current_job.is_none() && in_hand.held_results.is_empty();
        self.in_hand = (!is_empty).then_some(in_hand);
    }
}

impl WorkerObservers {
    /// Observers of a worker that has not started.
    pub fn new() -> Self {
        Self::default()
    }

    /// The job in hand.
    pub fn current_job(&self) -> Option<CurrentJob> {
        self.lock().current_job()
    }

    /// The results that are kept for the studio to offer their jobs again, the newest last.
    pub fn held_results(&self) -> Vec<HeldResult> {
        self.lock().held_results()
    }

    /// The jobs that ended last, newest first, at most [`RECENT_JOBS_CAP`].
    pub fn recent_jobs(&self) -> Vec<RecentJob> {
        self.lock().recent_jobs.iter().collect()
    }

    /// How the last heartbeat went; none before the first.
    pub fn last_heartbeat(&self) -> Option<HeartbeatStatus> {
        self.lock().last_heartbeat.clone()
    }

    /// Where the worker stands with its studio; none before its start.
    pub fn session(&self) -> Option<SessionStatus> {
        self.lock().session.clone()
    }

    /// All of it, as it is now.
    pub fn status(&self) -> WorkerStatus {
        let seen = self.lock();
        WorkerStatus {
            session: seen.session.clone(),
            current_job: seen.current_job(),
            held_results: seen.held_results(),
            last_job: seen.recent_jobs.iter().next(),
            last_heartbeat: seen.last_heartbeat.clone(),
        }
    }

    /// Calls `listener` after every change, in the loop that drives the worker: it must not block. One that answers
    /// false, or panics, is not called again.
    pub fn on_change(&self, listener: impl Fn(&Self) -> bool + Send + Sync + 'static) {
        self.listeners().push(Arc::new(listener));
    }

    fn changed(&self) {
        // Called without the lock, so that a listener may look, and add another.
        let listeners = self.listeners().clone();
        for listener in listeners {
            // What it says is its own business; that it panics, too, and must not end the worker.
            if !catch_unwind(AssertUnwindSafe(|| listener(self))).unwrap_or(false) {
                self.listeners().retain(|other| !Arc::ptr_eq(other, &listener));
            }
        }
    }

    /// The loop is over. If the worker did not end it, it was dropped, or something in it panicked.
    pub(super) fn given_up(&self, now: Wall) {
        let mut seen = self.lock();
        let ended = SessionState::Ended.name();
        match &mut seen.session {
            Some(session) if session.state != ended => {
                session.state = ended;
                session.since = now;
                session.detail = Some("the worker was given up by its program".into());
            }
            _ => return,
        }
        seen.in_hand = None;
        drop(seen);
        self.changed();
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn observe(&self, observation: Observation) {
        let mut seen = self.lock();
        match observation {
            Observation::CurrentJob(job) => seen.take_in_hand(|in_hand| in_hand.current_job = job),
            Observation::HeldResults(results) => seen.take_in_hand(|in_hand| in_hand.held_results = results),
            Observation::Heartbeat(status) => seen.last_heartbeat = Some(status),
            Observation::Session(mut status) => {
                // Where it only says anew what it wants, it stands where it stood.
                if let Some(known) = seen.session.take_if(|known| known.state == status.state) {
                    status.since = known.since;
                    status.detail = status.detail.or(known.detail);
                }
                seen.session = Some(status);
            }
            Observation::Threshold(gb) => {
                if let Some(session) = &mut seen.session {
                    session.vram_threshold_gb = gb;
                }
            }
        }
        drop(seen);
        self.changed();
    }

    pub(super) fn record(&self, job: &RecentJob) {
        self.lock().recent_jobs.record(job);
        self.changed();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Every change is whole before the lock is given up: a panic elsewhere leaves nothing half done.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts `job` in front of `jobs`, of which the newest [`RECENT_JOBS_CAP`] are kept.
pub fn record_recent_job(jobs: &mut VecDeque<RecentJob>, job: RecentJob) {
    jobs.push_front(job);
    jobs.truncate(RECENT_JOBS_CAP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{time::Wall, worker::JobOutcome};

    fn job(id: usize) -> RecentJob {
        RecentJob {
            job_id: id.to_string().as_str().into(),
            kind: "llm".into(),
            model: "m".into(),
            prompt: String::new(),
            started_at: Wall::from_millis(0),
            outcome: JobOutcome::Completed,
            finished_at: Wall::from_millis(1),
        }
    }

    #[test]
    fn the_newest_50_jobs_are_kept_newest_first() {
        let observers = WorkerObservers::new();
        let seen_elsewhere = observers.clone();
        for id in 0..60 {
            observers.record(&job(id));
        }
        let jobs = seen_elsewhere.recent_jobs();
        assert_eq!(jobs.len(), RECENT_JOBS_CAP);
        assert_eq!(jobs[0].job_id.as_str(), "59");
        assert_eq!(jobs[49].job_id.as_str(), "10");
    }

    #[test]
    fn whoever_listens_hears_of_every_change_and_may_look() {
        let observers = WorkerObservers::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        observers.on_change(move |observers| {
            told.lock().unwrap().push(observers.status().last_job.map(|job| job.job_id.to_string()));
            true
        });
        let (bored, heard_of) = (Arc::new(Mutex::new(0)), Arc::clone(&heard));
        let count = Arc::clone(&bored);
        observers.on_change(move |_| {
            *count.lock().unwrap() += 1;
            false
        });
        observers.on_change(move |_| {
            assert!(heard_of.lock().unwrap().len() > 1, "one that panics is not called again either");
            true
        });
        observers.record(&job(1));
        observers.observe(Observation::Threshold(crate::wire::Finite::from(1)));
        observers.record(&job(2));
        assert_eq!(*bored.lock().unwrap(), 1);
        assert_eq!(observers.listeners().len(), 1);
        let heard = heard.lock().unwrap();
        assert_eq!(*heard, [Some("1".into()), Some("1".into()), Some("2".into())]);
    }

    #[test]
    fn a_panic_of_one_who_looks_blinds_nobody() {
        let observers = WorkerObservers::new();
        observers.record(&job(1));
        let looking = observers.clone();
        let panicked = std::panic::catch_unwind(move || {
            let _held = looking.0.seen.lock().unwrap();
            panic!("while looking");
        });
        assert!(panicked.is_err());
        assert_eq!(observers.recent_jobs().len(), 1);
    }
}
