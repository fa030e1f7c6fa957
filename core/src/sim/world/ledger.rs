//! What is owed to those who want jobs done: kept for each job, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    studio::{JobOutput, JobRecord, JobState},
    wire::JobId,
};

/// How long a result is surely held (section 6), in microseconds.
const SURELY_HELD: u64 = 15 * 60 * 1_000_000;
/// How many results are held (section 6).
const MAX_HELD: u64 = 4;

/// Which process, of all that ever ran.
pub(super) type ProcessId = u64;

#[derive(Default)]
pub(super) struct Ledger {
    wishes: BTreeMap<String, Wish>,
    by_id: BTreeMap<JobId, String>,
    pub(super) open: BTreeSet<String>,
    /// How many results each process has had.
    results: BTreeMap<ProcessId, u64>,
    /// The first promise that was broken where a panic would be taken for the engine's.
    pub(super) breach: Option<String>,
    pub(super) runs: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
}

/// One job, by its prompt: nothing else stays the same everywhere.
struct Wish {
    is_json: bool,
    /// The newest result of each process: when it came, and the how-manieth of that process it was.
    had: BTreeMap<ProcessId, (u64, u64)>,
    /// Whether an engine, or something in between, said that it can't be done.
    impossible: bool,
    /// Whether something in between answered for the studio, so that the worker could not know better.
    misled: bool,
    unwanted: bool,
}

impl Ledger {
    pub(super) fn wanted(&mut self, prompt: String, id: JobId, is_json: bool) {
        let wish = Wish { is_json, had: BTreeMap::new(), impossible: false, misled: false, unwanted: false };
        self.open.insert(prompt.clone());
        self.by_id.insert(id, prompt.clone());
        self.wishes.insert(prompt, wish);
    }

    pub(super) fn refused(&mut self, id: &JobId) {
        if let Some(prompt) = self.by_id.remove(id) {
            self.open.remove(&prompt);
            self.wishes.remove(&prompt);
        }
    }

    fn of(&mut self, id: &JobId) -> Option<&mut Wish> {
        self.wishes.get_mut(self.by_id.get(id)?)
    }

    pub(super) fn is_over(&self, job: &str) -> bool {
        self.by_id.get(&job.into()).is_none_or(|prompt| !self.open.contains(prompt))
    }

    pub(super) fn unwanted(&mut self, id: &JobId) {
        if let Some(wish) = self.of(id) {
            wish.unwanted = true;
        }
    }

    /// Something in between answered an upload.
    pub(super) fn answered_for(&mut self, job: &str, status: u16) {
        if let Some(wish) = self.of(&job.into()) {
            wish.misled = true;
            wish.impossible |= matches!(status, 413);
        }
    }

    /// An engine begins a run.
    pub(super) fn runs(&mut self, process: ProcessId, prompt: &str, now: u64) {
        self.runs += 1;
        let results = self.results.get(&process).copied().unwrap_or(0);
        let Some(wish) = self.wishes.get_mut(prompt) else {
            self.breach.get_or_insert(format!("{prompt:?} is run, and nobody wanted it"));
            return;
        };
        if let Some((at, nth)) = wish.had.get(&process) {
            let is_held = now - at < SURELY_HELD && results - nth < MAX_HELD;
            if is_held && !wish.misled {
                self.breach.get_or_insert(format!("{prompt:?} is computed again while its result is had"));
            }
        }
    }

    /// An engine had a result.
    pub(super) fn had(&mut self, process: ProcessId, prompt: &str, now: u64) {
        let results = self.results.entry(process).or_default();
        *results += 1;
        let nth = *results;
        if let Some(wish) = self.wishes.get_mut(prompt) {
            wish.had.insert(process, (now, nth));
        }
    }

    pub(super) fn impossible(&mut self, prompt: &str) {
        if let Some(wish) = self.wishes.get_mut(prompt) {
            wish.impossible = true;
        }
    }

    /// A job is over at the studio; the file that its result came in.
    pub(super) fn over(
        &mut self,
        job: &JobRecord,
        files: &BTreeMap<String, String>,
        max_attempts: u32,
    ) -> Option<String> {
        let id = &job.id;
        let prompt = self.by_id.get(id).expect("a job that nobody wanted").clone();
        assert!(self.open.remove(&prompt), "{prompt:?} ends twice");
        let wish = &self.wishes[&prompt];
        match job.state {
            JobState::Completed => {
                self.completed += 1;
                match job.output.as_ref().expect("completed without a result") {
                    JobOutput::Json { result, .. } => {
                        assert!(wish.is_json, "{prompt:?} was answered by JSON");
                        assert_eq!(result["of"], prompt.as_str(), "a result of another job");
                        None
                    }
                    JobOutput::File { file, .. } => {
                        assert!(!wish.is_json, "{prompt:?} was answered by bytes");
                        assert_eq!(files.get(file), Some(&prompt), "a result of another job");
                        Some(file.clone())
                    }
                }
            }
            JobState::Failed => {
                self.failed += 1;
                let by_the_rules = job.attempts >= max_attempts || wish.impossible;
                assert!(by_the_rules, "{prompt:?} failed before its last attempt: {:?}", job.error);
                None
            }
            _ => {
                assert!(wish.unwanted, "{prompt:?} was cancelled by nobody");
                None
            }
        }
    }
}
