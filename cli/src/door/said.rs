//! What is asked at the door, and what is answered.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use studio_worker_core::{
    drive::WorkerObservers,
    time::Wall,
    wire::Finite,
    worker::{
        CurrentJob, HeartbeatOutcome, HeldResult, JobOutcome, JobProgress, Moves, RecentJob, SessionStatus,
    },
};

/// Changes only when older programs can't make sense of newer ones any more.
pub(super) const DOOR: u32 = 1;

/// Recent jobs that are told.
const RECENT_JOBS: usize = 5;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase")]
pub enum Asked {
    /// How it is now.
    Status,
    /// How it is from now on.
    Watch,
    /// Take no more jobs; the running one is finished.
    Pause,
    /// Take jobs again.
    Resume,
    /// Finish what runs, then end.
    Drain,
    /// End at once.
    Stop,
    /// What was logged.
    Logs {
        /// How many of the newest lines.
        #[serde(default)]
        lines: usize,
        /// Whether to go on with those that come.
        #[serde(default)]
        follow: bool,
    },
}

/// A line that is asked.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    pub(super) door: u32,
    /// Where anybody on this machine can reach the door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(flatten)]
    pub(super) asked: Asked,
}

/// A line that is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Answer {
    /// How the worker is.
    State(Box<State>),
    /// A line of its log.
    Line {
        /// Without the line break.
        text: String,
    },
    /// Lines came faster than they were read, or were too many to keep.
    Missed {
        /// How many are lost.
        lines: u64,
    },
    /// The worker has ended.
    Over,
    /// What was asked is not done.
    Refused {
        /// For a person to read.
        why: String,
    },
    /// An answer of a newer program.
    #[serde(other)]
    Unknown,
}

/// How a worker is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// When this was so.
    pub at: Stamp,
    /// Of the running program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: Stamp,
    /// Whether its loop turns: if not, the rest is how it was when it last did.
    #[serde(default = "yes")]
    pub reacts: bool,
    /// Where it stands with its studio; none before its start.
    pub session: Option<Session>,
    /// The job in hand.
    pub current_job: Option<Job>,
    /// The jobs whose results are here and not delivered: they are kept for the studio to offer them again. The newest last.
    #[serde(default)]
    pub held_results: Vec<Held>,
    /// How the last heartbeat went; none before the first.
    pub last_heartbeat: Option<Heartbeat>,
    /// The jobs that ended last, newest first.
    #[serde(default)]
    pub recent_jobs: Vec<Ended>,
    /// What is known of updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
}

/// Where a worker stands with its studio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// `unregistered`, `waiting`, `connecting`, `greeting`, `serving`, `closing` or `ended`.
    pub state: String,
    /// Since when.
    pub since: Stamp,
    /// The worker's id, once there is one.
    pub worker_id: Option<String>,
    /// What is waited for or went wrong.
    pub detail: Option<String>,
    /// Whether jobs are wanted.
    pub accepting: bool,
    /// Why no new ones are, if so.
    #[serde(default)]
    pub hindrance: Option<String>,
    /// The largest estimate that jobs are taken of now, in GB.
    pub vram_threshold_gb: Finite,
}

/// The job in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    pub job_id: String,
    /// Its kind.
    pub kind: String,
    /// Its model.
    pub model: String,
    /// When it was accepted.
    pub started_at: Stamp,
    /// What moves for it now.
    pub progress: Option<Moved>,
}

/// A job whose result is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Its id.
    pub job_id: String,
    /// Its kind.
    pub kind: String,
    /// Its model.
    pub model: String,
    /// When it was accepted.
    pub started_at: Stamp,
}

/// How far bytes have moved for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// The file that is downloaded; none: the result is delivered.
    pub file: Option<String>,
    /// Bytes.
    pub done: u64,
    /// All of them, once that is known.
    pub total: Option<u64>,
    /// Of the total.
    pub percent: Option<u64>,
    /// On average.
    pub bytes_per_second: Option<u64>,
    /// At that rate.
    pub seconds_left: Option<u64>,
}

/// How the last heartbeat went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// When.
    pub at: Stamp,
    /// Why it was not acknowledged; none: it was.
    pub problem: Option<String>,
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its id.
    pub job_id: String,
    /// Its kind.
    pub kind: String,
    /// Its model.
    pub model: String,
    /// When it was accepted.
    pub started_at: Stamp,
    /// When it ended.
    pub finished_at: Stamp,
    /// `completed` or `failed`.
    pub outcome: String,
    /// Why it failed.
    pub reason: Option<String>,
}

/// What is known of updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    /// When the next look is due; none when nothing is looked for, or right now.
    pub next_check_at: Option<Stamp>,
    /// What became of the last one, in a few words.
    pub last: Option<String>,
}

/// A moment, as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Wall);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Wall::parse_rfc3339(&text).map(Self).ok_or_else(|| D::Error::custom("not a time of RFC 3339"))
    }
}

fn yes() -> bool {
    true
}

impl State {
    /// How the observed worker of this process is at `at`.
    pub(super) fn of(
        observers: &WorkerObservers,
        started_at: Wall,
        reacts: bool,
        update: Option<UpdateStatus>,
        at: Wall,
    ) -> Self {
        let status = observers.status();
        Self {
            at: Stamp(at),
            version: crate::VERSION.into(),
            pid: std::process::id(),
            started_at: Stamp(started_at),
            reacts,
            session: status.session.map(Session::of),
            current_job: status.current_job.map(|job| Job::of(job, at)),
            held_results: status.held_results.into_iter().map(Held::of).collect(),
            last_heartbeat: status.last_heartbeat.map(|heartbeat| Heartbeat {
                at: Stamp(heartbeat.at),
                problem: match heartbeat.outcome {
                    HeartbeatOutcome::Ok => None,
                    HeartbeatOutcome::Err { reason } => Some(reason),
                },
            }),
            recent_jobs: observers.recent_jobs().into_iter().take(RECENT_JOBS).map(Ended::of).collect(),
            update,
        }
    }

    /// Whether a session is open, as far as one that does not react can have one.
    pub fn is_serving(&self) -> bool {
        self.reacts && self.session.as_ref().is_some_and(|session| session.state == "serving")
    }

    /// Why no new jobs are taken, if so.
    pub fn hindrance(&self) -> Option<&str> {
        self.session.as_ref().and_then(|session| session.hindrance.as_deref())
    }
}

impl Session {
    fn of(status: SessionStatus) -> Self {
        Self {
            state: status.state.into(),
            since: Stamp(status.since),
            worker_id: status.worker_id,
            detail: status.detail,
            accepting: status.accepting,
            hindrance: status.hindrance.map(|hindrance| hindrance.name().into()),
            vram_threshold_gb: status.vram_threshold_gb,
        }
    }
}

impl Job {
    fn of(job: CurrentJob, now: Wall) -> Self {
        Self {
            job_id: job.job_id.to_string(),
            kind: job.kind.name().into(),
            model: job.model,
            started_at: Stamp(job.started_at),
            progress: job.progress.map(|progress| Moved::of(&progress, now)),
        }
    }
}

impl Held {
    fn of(result: HeldResult) -> Self {
        let HeldResult { job_id, kind, model, started_at } = result;
        Self { job_id: job_id.to_string(), kind, model, started_at: Stamp(started_at) }
    }
}

impl Moved {
    fn of(progress: &JobProgress, now: Wall) -> Self {
        let percent = |total: u64| {
            let percent = u128::from(progress.done) * 100 / u128::from(total.max(1));
            u64::try_from(percent.min(100)).unwrap_or(100)
        };
        Self {
            file: match &progress.moves {
                Moves::Download(name) => Some(name.clone()),
                Moves::Delivery => None,
            },
            done: progress.done,
            total: progress.total,
            percent: progress.total.map(percent),
            bytes_per_second: progress.rate(now),
            seconds_left: progress.time_left(now).map(|left| left.as_secs()),
        }
    }
}

impl Ended {
    fn of(job: RecentJob) -> Self {
        let (outcome, reason) = match job.outcome {
            JobOutcome::Completed => ("completed", None),
            JobOutcome::Failed { reason } => ("failed", Some(reason)),
        };
        Self {
            job_id: job.job_id.to_string(),
            kind: job.kind,
            model: job.model,
            started_at: Stamp(job.started_at),
            finished_at: Stamp(job.finished_at),
            outcome: outcome.into(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_leniently() {
        let read = |line: &str| serde_json::from_str::<Request>(line).map(|request| request.asked);
        for (line, asked) in [
            (r#"{"door":1,"ask":"status"}"#, Asked::Status),
            (r#"{"ask":"pause","door":2,"afterwards":{"new":[1]}}"#, Asked::Pause),
            (r#"{"ask":"logs"}"#, Asked::Logs { lines: 0, follow: false }),
            (r#"{"ask":"logs","lines":7,"follow":true,"token":"t"}"#, Asked::Logs { lines: 7, follow: true }),
        ] {
            assert_eq!(read(line).unwrap(), asked, "{line}");
        }
        for line in ["", "1", "{}", r#"{"ask":"dance"}"#, r#"{"ask":"logs","lines":-1}"#] {
            assert!(read(line).is_err(), "{line}");
        }
        let written = Request { door: DOOR, token: None, asked: Asked::Logs { lines: 1, follow: true } };
        let line = serde_json::to_string(&written).unwrap();
        assert_eq!(line, r#"{"door":1,"ask":"logs","lines":1,"follow":true}"#);
    }

    #[test]
    fn an_answer_of_a_newer_program_is_no_error() {
        let answer: Answer = serde_json::from_str(r#"{"is":"song","text":"la"}"#).unwrap();
        assert_eq!(answer, Answer::Unknown);
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_without_what_came_later() {
        let state = crate::door::text::tests::busy();
        let line = serde_json::to_value(Answer::State(state.clone().into())).unwrap();
        assert_eq!(line["is"], "state");
        assert_eq!(line["currentJob"]["progress"]["percent"], 43);
        assert_eq!(serde_json::from_value::<Answer>(line.clone()).unwrap(), Answer::State(state.into()));
        let mut older = line;
        for key in ["recentJobs", "update", "heldResults", "reacts"] {
            older.as_object_mut().unwrap().remove(key);
        }
        older["new"] = 1.into();
        let Answer::State(read) = serde_json::from_value(older).unwrap() else { panic!("a state") };
        assert_eq!((read.recent_jobs.len(), read.held_results.len(), &read.update), (0, 0, &None));
        assert!(read.is_serving(), "it answered");
    }
}
