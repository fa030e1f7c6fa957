//! What a rig's worker did for its jobs.

use alloc::{string::String, vec::Vec};

use serde_json::{Value, json};

use super::rig::*;
use crate::{
    engine::{EngineError, Output},
    wire::JobId,
    worker::{Action, Input, JobOutcome, RequestId, Upload, states::JobState},
};

impl Rig {
    /// The session drops and the next one is welcomed.
    pub(super) fn reopen(&mut self) {
        self.break_connection();
        self.open();
        self.seen.clear();
    }

    pub(super) fn text(&self, frame: &Value) -> Input {
        Input::Text { conn: self.conn(), text: alloc::format!("{frame}") }
    }

    /// Takes the answers to offers that were not looked at: `accept`, `reject` or `reject <code>`, and the job.
    pub(super) fn answers(&mut self) -> Vec<(String, String)> {
        let answers = self.frames().into_iter().filter_map(|frame| {
            let job = frame["jobId"].as_str()?.into();
            match (frame["type"].as_str()?, frame["code"].as_str()) {
                ("accept", _) => Some(("accept".into(), job)),
                ("reject", None) => Some(("reject".into(), job)),
                ("reject", Some(code)) => Some((alloc::format!("reject {code}"), job)),
                _ => None,
            }
        });
        answers.collect()
    }

    /// Offers a job and says how that was answered.
    pub(super) fn answer_to(&mut self, offer: &Value) -> String {
        self.seen.clear();
        self.frame(offer);
        let mut answers = self.answers();
        assert!(answers.len() < 2, "{answers:?}");
        answers.pop().map_or_else(|| "nothing".into(), |(answer, _)| answer)
    }

    pub(super) fn ack(&mut self, kind: &str, job: &str) {
        self.frame(&json!({ "type": kind, "jobId": job }));
    }

    /// The codes of the closes that this side sent.
    pub(super) fn closed_with(&self) -> Vec<u16> {
        let of = |action: &Action| match action {
            Action::Close { code, .. } => Some(code.0),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    pub(super) fn state_of(&self, job: &str) -> Option<JobState> {
        self.worker.jobs().find(|(id, _)| id.as_str() == job).map(|(_, state)| state)
    }

    /// How a job ended, as it is on record.
    pub(super) fn outcome(&self, job: &str) -> Option<JobOutcome> {
        self.outcomes().into_iter().find(|(id, _)| *id == JobId::from(job)).map(|(_, outcome)| outcome)
    }

    /// Why a job failed, as it is on record.
    pub(super) fn failure(&self, job: &str) -> String {
        match self.outcome(job) {
            Some(JobOutcome::Failed { reason }) => reason,
            other => panic!("{job} did not fail: {other:?}"),
        }
    }

    /// Whether a line that has `part` in it was logged.
    pub(super) fn logged(&self, part: &str) -> bool {
        self.history.iter().any(|action| matches!(action, Action::Log(line) if line.message.contains(part)))
    }

    /// Files of results that were deleted.
    pub(super) fn discarded(&self) -> Vec<&str> {
        self.history
            .iter()
            .filter_map(|action| match action {
                Action::Discard(file) => Some(&*file.path),
                _ => None,
            })
            .collect()
    }

    pub(super) fn cancelled_runs(&self) -> usize {
        self.history.iter().filter(|action| matches!(action, Action::CancelRun { .. })).count()
    }

    pub(super) fn cancelled(&self, request: RequestId) -> bool {
        self.history.contains(&Action::CancelRequest { request })
    }

    pub(super) fn last_upload(&self) -> Upload {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::Upload { upload, .. } => Some(upload.clone()),
            _ => None,
        });
        newest.expect("no upload")
    }

    /// Whether the newest heartbeat says that jobs are taken, and the job that it names.
    pub(super) fn last_heartbeat(&self) -> (bool, Option<&str>) {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::SendHeartbeat { capabilities, current_job_id, .. } => {
                Some((capabilities.auto_enabled, current_job_id.as_ref().map(JobId::as_str)))
            }
            _ => None,
        });
        newest.expect("no heartbeat")
    }
}

/// A JSON job whose result was sent and not acknowledged.
pub(super) fn sent(job: &str) -> Rig {
    let mut rig = Rig::serving();
    rig.frame(&llm(job));
    rig.run_ends(answer());
    rig.flush();
    rig.seen.clear();
    rig
}

/// An image job that goes on running after its session dropped; the next session is open.
pub(super) fn orphaned(job: &str) -> Rig {
    let mut rig = running(job);
    rig.reopen();
    rig
}

/// A job whose result is held for want of a claim; a session is open.
pub(super) fn held(offer: &Value, outcome: Result<Output, EngineError>) -> Rig {
    let mut rig = Rig::serving();
    rig.frame(offer);
    rig.reopen();
    rig.run_ends(outcome);
    rig.seen.clear();
    rig
}
