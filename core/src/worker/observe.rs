//! What can be seen of a worker from outside: the vocabulary of section 9.

use alloc::{borrow::ToOwned, string::String};

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
        }
    }
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
    /// The accepted estimate, in GB.
    pub vram_threshold_gb: Finite,
    /// Whether jobs are wanted.
    pub accepting: bool,
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
    fn previews_are_cut_at_200_characters_not_bytes() {
        assert_eq!(truncate_prompt(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(truncate_prompt(&"ü".repeat(201)), "ü".repeat(200) + "…");
        assert_eq!(truncate_prompt(&"u".repeat(200)), "u".repeat(200));
        assert_eq!(truncate_prompt(&"u".repeat(201)), "u".repeat(200) + "…");
        assert_eq!(truncate_prompt(&("u".repeat(200) + "ü")), "u".repeat(200) + "…");
        assert_eq!(truncate_prompt(&("u".repeat(199) + "üü")), "u".repeat(199) + "ü…");
    }
}
