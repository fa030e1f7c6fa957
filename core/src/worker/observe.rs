//! What can be seen of a worker from outside: the vocabulary of section 9.

use alloc::{borrow::ToOwned, string::String};
use core::time::Duration;

use crate::{
    time::Wall,
    wire::{Claim, Finite, JobId, TaskKind},
};

/// How many finished jobs are kept.
pub const RECENT_JOBS_CAP: usize = 50;

/// How many characters of a prompt are kept for people to read.
pub const PROMPT_PREVIEW_CHARS: usize = 200;

/// The job in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentJob {
    /// The job.
    pub job_id: JobId,
    /// Its kind.
    pub kind: TaskKind,
    /// Its model, cut by [`truncate_prompt`].
    pub model: String,
    /// Its prompt, cut by [`truncate_prompt`].
    pub prompt: String,
    /// When it was accepted.
    pub started_at: Wall,
    /// What moves for it now: a file that is downloaded, or its result. Renewed a few times a second at most.
    pub progress: Option<JobProgress>,
}

/// How far bytes have moved for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// What moves.
    pub moves: Moves,
    /// Bytes that are where they should be, with those of an earlier attempt.
    pub done: u64,
    /// All of them, once that is known.
    pub total: Option<u64>,
    /// When they began to move.
    pub since: Wall,
    /// Bytes that were there by then.
    pub before: u64,
}

/// What moves for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moves {
    /// A file with this name, to this machine.
    Download(String),
    /// The result, to the studio.
    Delivery,
}

impl JobProgress {
    /// Bytes a second up to `now`, on average. None within the first second, which says little.
    pub fn rate(&self, now: Wall) -> Option<u64> {
        let millis = now.since(self.since).as_millis();
        let moved = u128::from(self.done.saturating_sub(self.before));
        (millis >= 1_000).then(|| u64::try_from(moved * 1_000 / millis).unwrap_or(u64::MAX))
    }

    /// How long the rest will take at that rate, to the second; none when that can't be said.
    pub fn time_left(&self, now: Wall) -> Option<Duration> {
        let rate = self.rate(now).filter(|rate| *rate > 0)?;
        let rest = self.total?.saturating_sub(self.done);
        Some(Duration::from_secs(rest.div_ceil(rate)))
    }
}

impl CurrentJob {
    /// What is seen of `claim`, accepted at `started_at`.
    pub fn of(claim: &Claim, started_at: Wall) -> Self {
        Self {
            job_id: claim.job_id.clone(),
            kind: claim.task.kind(),
            model: truncate_prompt(&claim.model),
            prompt: truncate_prompt(claim.task.prompt()),
            started_at,
            progress: None,
        }
    }
}

/// A job whose outcome is here and not delivered: its claim was lost, and it is kept for the studio to offer the job again
/// (section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldResult {
    /// The job.
    pub job_id: JobId,
    /// Its kind, as the wire names it.
    pub kind: String,
    /// Its model, cut by [`truncate_prompt`].
    pub model: String,
    /// When it was accepted.
    pub started_at: Wall,
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentJob {
    /// The job. Its kind and model may be unknown when its offer could not be read.
    pub job_id: JobId,
    /// Its kind, as the wire names it.
    pub kind: String,
    /// Its model.
    pub model: String,
    /// Its prompt, cut by [`truncate_prompt`].
    pub prompt: String,
    /// When it was accepted.
    pub started_at: Wall,
    /// How it ended.
    pub outcome: JobOutcome,
    /// When it ended.
    pub finished_at: Wall,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Its result was delivered.
    Completed,
    /// It has no result.
    Failed {
        /// For a person to read.
        reason: String,
    },
}

/// How the last heartbeat went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatStatus {
    /// When.
    pub at: Wall,
    /// How.
    pub outcome: HeartbeatOutcome,
}

/// How a heartbeat went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The studio acknowledged it.
    Ok,
    /// It did not.
    Err {
        /// For a person to read.
        reason: String,
    },
}

/// Where a worker stands with its studio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The state of the session, as the table in [`super::states`] names it.
    pub state: &'static str,
    /// Since when.
    pub since: Wall,
    /// The worker's id, once there is one.
    pub worker_id: Option<String>,
    /// What is waited for or went wrong, for a person to read.
    pub detail: Option<String>,
    /// The largest estimate that jobs are taken of now, in GB: the owner's bound, or less while the memory is taken.
    pub vram_threshold_gb: Finite,
    /// Whether jobs are wanted.
    pub accepting: bool,
    /// Why no new ones are, if so.
    pub hindrance: Option<Hindrance>,
}

/// Why a worker takes no new jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hindrance {
    /// It finishes what it has, and ends.
    Draining,
    /// Its owner said so, until they say otherwise.
    Paused,
    /// Its configuration says so.
    Disabled,
    /// A person uses the machine.
    PersonPresent,
    /// Nobody has said yet whether one does.
    PresenceUnknown,
    /// It ends, once it is free, for another version of the program.
    MakingWay,
    /// It is about to reconnect with a changed configuration.
    Reconnecting,
}

impl Hindrance {
    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Disabled => "disabled by the configuration",
            Self::PersonPresent => "somebody uses this machine",
            Self::PresenceUnknown => "it is not known yet whether somebody uses this machine",
            Self::MakingWay => "about to be replaced by another version",
            Self::Reconnecting => "about to reconnect with changed settings",
        }
    }
}

/// A prompt as it is shown to people: at most [`PROMPT_PREVIEW_CHARS`] characters, then `…`.
pub fn truncate_prompt(prompt: &str) -> String {
    let end = match prompt.as_bytes().get(..PROMPT_PREVIEW_CHARS) {
        // A character is at least a byte.
        None => None,
        Some(start) if start.is_ascii() => (prompt.len() > start.len()).then_some(start.len()),
        Some(_) => prompt.char_indices().nth(PROMPT_PREVIEW_CHARS).map(|(at, _)| at),
    };
    match end {
        Some(end) => [&prompt[..end], "…"].concat(),
        None => prompt.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_count_what_moved_since_it_began() {
        let at = Wall::from_millis;
        let progress = JobProgress {
            moves: Moves::Delivery,
            done: 6_000,
            total: Some(10_000),
            since: at(10_000),
            before: 2_000,
        };
        for (now, rate, left) in [
            (14_000, Some(1_000), Some(4)),
            (12_000, Some(2_000), Some(2)),
            (13_000, Some(1_333), Some(4)),
            (10_999, None, None),
            (0, None, None),
            (i64::MAX, Some(0), None),
        ] {
            assert_eq!(progress.rate(at(now)), rate, "{now}");
            assert_eq!(progress.time_left(at(now)), left.map(Duration::from_secs), "{now}");
        }
        let unknown = JobProgress { total: None, ..progress.clone() };
        assert_eq!((unknown.rate(at(14_000)), unknown.time_left(at(14_000))), (Some(1_000), None));
        // A file that turns out longer than it was said to be, and one that was begun anew.
        let longer = JobProgress { done: 12_000, ..progress.clone() };
        assert_eq!(longer.time_left(at(14_000)), Some(Duration::ZERO));
        let anew = JobProgress { done: 0, ..progress };
        assert_eq!((anew.rate(at(14_000)), anew.time_left(at(14_000))), (Some(0), None));
    }

    #[test]
    fn previews_are_cut_at_200_characters_not_bytes() {
        assert_eq!(truncate_prompt(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(truncate_prompt(&"ü".repeat(201)), "ü".repeat(200) + "…");
        assert_eq!(truncate_prompt(&"u".repeat(200)), "u".repeat(200));
        assert_eq!(truncate_prompt(&"u".repeat(201)), "u".repeat(200) + "…");
        assert_eq!(truncate_prompt(&("u".repeat(200) + "ü")), "u".repeat(200) + "…");
        assert_eq!(truncate_prompt(&("u".repeat(199) + "üü")), "u".repeat(199) + "ü…");
    }
}
