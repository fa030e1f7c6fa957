//! Jobs that somebody waits for, from one state of a worker to the next.

use crate::door::{Ended, Held, Job, Stamp, State, text};

/// Jobs that are in hand from a moment on until the worker takes no more, and are not known to be over.
pub(super) struct Following {
    jobs: Vec<Followed>,
    /// When the worker was first seen to take no more jobs: those accepted later are nobody's business here.
    until: Option<Stamp>,
}

struct Followed {
    job_id: String,
    started_at: Stamp,
    /// Whether it was said that its result is held.
    said_held: bool,
    /// In how many states in a row it was not to be seen.
    missed: u8,
}

/// What became of a job.
pub(super) enum News {
    /// Its result is here, and not delivered.
    Held(String),
    /// It is over.
    Over {
        job_id: String,
        /// None when that was not told.
        ended: Option<Ended>,
    },
}

impl Following {
    /// What is in hand from that state on.
    pub(super) fn from(state: &State) -> Self {
        let mut following = Self { jobs: Vec::new(), until: None };
        following.find(state);
        for job in &mut following.jobs {
            job.said_held = state.held_results.iter().any(|held| held.job_id == job.job_id);
        }
        following
    }

    /// Whether nothing is waited for, and nothing is taken any more.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_some() && self.jobs.is_empty()
    }

    /// The jobs that are waited for.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(|job| &*job.job_id)
    }

    /// What the next state has to say.
    pub(super) fn look(&mut self, state: &State) -> Vec<News> {
        self.find(state);
        let mut news = Vec::new();
        self.jobs.retain_mut(|job| {
            let is_current = current(state).any(|current| job.is(&current.job_id, current.started_at));
            let is_held = state.held_results.iter().any(|held| job.is(&held.job_id, held.started_at));
            let ended = state.recent_jobs.iter().find(|ended| job.is(&ended.job_id, ended.started_at));
            if !is_current && is_held && !job.said_held {
                job.said_held = true;
                news.push(News::Held(job.job_id.clone()));
            }
            if is_current || is_held {
                job.missed = 0;
                return true;
            }
            // Many others may have ended since.
            job.missed += 1;
            let is_over = ended.is_some() || job.missed > 1;
            if is_over {
                news.push(News::Over { job_id: job.job_id.clone(), ended: ended.cloned() });
            }
            !is_over
        });
        news
    }

    /// Of several jobs in hand, a state may show one after the other.
    fn find(&mut self, state: &State) {
        let current = current(state).map(|job| (&job.job_id, job.started_at));
        let held = state.held_results.iter().map(|Held { job_id, started_at, .. }| (job_id, *started_at));
        for (job_id, started_at) in current.chain(held) {
            let is_known = self.jobs.iter().any(|job| job.is(job_id, started_at));
            if !is_known && self.until.is_none_or(|until| started_at <= until) {
                let job_id = job_id.clone();
                self.jobs.push(Followed { job_id, started_at, said_held: false, missed: 0 });
            }
        }
        if self.until.is_none() && takes_no_more(state) {
            self.until = Some(state.at);
        }
    }
}

impl Followed {
    fn is(&self, job_id: &str, started_at: Stamp) -> bool {
        self.job_id == job_id && self.started_at == started_at
    }
}

impl News {
    /// Whether the job has a result, and the studio has it.
    pub(super) fn is_delivered(&self) -> bool {
        matches!(self, Self::Over { ended: Some(ended), .. } if ended.outcome == "completed")
    }
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(job_id) => write!(f, "job {job_id}: its result {}", text::IS_HELD),
            Self::Over { job_id, ended: None } => {
                write!(f, "job {job_id}: how it ended is not known here; the worker's log says it")
            }
            Self::Over { job_id, ended: Some(Ended { outcome, reason, .. }) } => {
                write!(f, "job {job_id}: {outcome}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
        }
    }
}

fn takes_no_more(state: &State) -> bool {
    let has_ended = state.session.as_ref().is_some_and(|session| session.state == "ended");
    has_ended || matches!(state.hindrance(), Some("paused" | "draining"))
}

fn current(state: &State) -> impl Iterator<Item = &Job> {
    state.current_job.iter()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const START: &str = "2026-01-01T00:00:00.000Z";

    fn job(id: &str, second: u8) -> Value {
        let at = format!("2026-01-01T00:00:{second:02}.000Z");
        json!({
            "jobId": id, "kind": "llm", "model": "m", "startedAt": at, "progress": null, "finishedAt": at,
            "outcome": "completed", "reason": null,
        })
    }

    fn state(second: u8, current: Option<&Value>, held: &[Value], recent: &[Value]) -> State {
        serde_json::from_value(json!({
            "at": format!("2026-01-01T00:00:{second:02}.000Z"), "version": "1", "pid": 1, "startedAt": START,
            "session": null, "lastHeartbeat": null, "currentJob": current, "heldResults": held, "recentJobs": recent,
        }))
        .unwrap()
    }

    /// The same of a worker that takes no more jobs.
    fn paused(second: u8, current: Option<&Value>, held: &[Value], recent: &[Value]) -> State {
        let session = serde_json::from_value(json!({
            "state": "serving", "since": START, "detail": null, "workerId": "w-1", "accepting": false,
            "hindrance": "paused", "vramThresholdGb": 12,
        }));
        State { session: Some(session.unwrap()), ..state(second, current, held, recent) }
    }

    fn said(following: &mut Following, state: &State) -> Vec<String> {
        following.look(state).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_job_whose_result_is_held_is_not_over_until_it_is_recorded() {
        let (one, other) = (job("j-1", 5), job("j-0", 4));
        // An earlier attempt at the same job says nothing.
        let earlier = job("j-1", 1);
        let begun = state(10, Some(&one), &[], std::slice::from_ref(&earlier));
        let mut following = Following::from(&begun);
        assert_eq!(following.jobs().collect::<Vec<_>>(), ["j-1"]);
        let moving = state(11, Some(&one), std::slice::from_ref(&one), std::slice::from_ref(&earlier));
        assert!(said(&mut following, &moving).is_empty(), "seen twice for a moment");
        let held = paused(12, None, std::slice::from_ref(&one), std::slice::from_ref(&earlier));
        let line = "job j-1: its result is held until the studio offers the job again";
        assert_eq!(said(&mut following, &held), [line]);
        assert!(said(&mut following, &held).is_empty(), "said once");
        // An older one that was not to be seen, and a newer one that is nobody's business.
        let shown = paused(13, Some(&other), &[one.clone(), job("j-2", 13)], &[]);
        assert!(said(&mut following, &shown).is_empty());
        assert_eq!(following.jobs().collect::<Vec<_>>(), ["j-1", "j-0"]);
        let mut failed = other;
        failed["outcome"] = "failed".into();
        failed["reason"] = "no room".into();
        let over = paused(14, Some(&job("j-2", 13)), &[], &[failed, one, earlier]);
        assert_eq!(said(&mut following, &over), ["job j-1: completed", "job j-0: failed: no room"]);
        assert!(following.is_over());
    }

    /// One that is accepted between the first look and the pause counts, whatever the clock did meanwhile.
    #[test]
    fn nothing_is_over_before_the_worker_takes_no_more() {
        let (one, other) = (job("j-1", 11), job("j-2", 5));
        let mut following = Following::from(&state(10, None, &[], &[]));
        assert!(!following.is_over());
        assert!(said(&mut following, &state(11, Some(&one), &[], &[])).is_empty());
        assert!(
            said(&mut following, &state(5, Some(&other), &[], std::slice::from_ref(&one)))
                == ["job j-1: completed"]
        );
        assert!(said(&mut following, &paused(6, Some(&other), &[], &[])).is_empty() && !following.is_over());
        assert_eq!(said(&mut following, &paused(7, None, &[], &[other])), ["job j-2: completed"]);
        assert!(following.is_over());
        assert!(Following::from(&paused(8, None, &[], &[])).is_over());
    }

    #[test]
    fn what_was_not_seen_to_end_is_not_called_completed() {
        let begun = state(10, None, &[job("j-1", 5)], &[]);
        let mut following = Following::from(&begun);
        let gone = paused(11, None, &[], &[]);
        assert!(said(&mut following, &gone).is_empty() && !following.is_over());
        let news = following.look(&gone);
        assert!(matches!(&*news, [news] if !news.is_delivered()));
        assert!(news[0].to_string().starts_with("job j-1: how it ended is not known here"));
    }
}
