//! What must never happen, whatever the studio, the network and the engine do.

#![allow(clippy::panic, reason = "a broken promise is what an oracle is to cry about")]

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
};

use crate::{
    engine::{Output, Payload},
    time::{Mono, Now},
    wire::{JobId, StudioFrame, WorkerFrame},
    worker::{Action, ConnId, Input, RequestId, RunId, Step, StoreId, Worker, states::JobState},
};

/// Actions that a worker may decide without an input between them; more is a loop.
const MAX_ACTIONS: usize = 4_096;

/// The most results that are held (section 6).
const MAX_HELD: usize = 4;

/// Watches everything that a worker does. Each violation of a promise panics with its name.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The connection that counts, and how far it has come.
    session: Option<(ConnId, Phase)>,
    /// The job that the studio holds for the worker on that connection.
    claimed: Option<Claimed>,
    /// Offers of that connection that are not answered yet.
    open_offers: BTreeMap<JobId, u32>,
    /// The run that the engine has.
    running: Option<RunId>,
    /// Exchanges under way; an upload with its address.
    requests: BTreeMap<RequestId, Option<String>>,
    /// Jobs that were accepted and are not over.
    accepted: BTreeSet<JobId>,
    /// Files of results that were made and not deleted.
    files: BTreeSet<Arc<str>>,
    exited: bool,
    newest: u64,
}

/// A claim as the studio sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claimed {
    job: JobId,
    /// The newest id when it was accepted: an upload with an older one began under an earlier claim.
    since: u64,
    /// Another offer came: a studio by the rules makes one only when the claim before it is over.
    superseded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Greeting,
    Serving,
    Closing,
}

impl Oracle {
    /// An oracle that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all actions up to the next wait, shows each to `carry_out`, and says when to come back.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn drain(&mut self, worker: &mut Worker, now: Now, mut carry_out: impl FnMut(Action)) -> Mono {
        for _ in 0..MAX_ACTIONS {
            match worker.next() {
                Step::Do(action) => {
                    self.decided(&action);
                    carry_out(action);
                }
                Step::Wait { until, .. } => {
                    self.rests(worker, now, until);
                    return until;
                }
            }
        }
        panic!("the worker never waits");
    }

    /// The run that the engine has.
    pub fn running(&self) -> Option<RunId> {
        self.running
    }

    /// Whether the worker has ended.
    pub fn exited(&self) -> bool {
        self.exited
    }

    /// The connection that counts.
    pub fn conn(&self) -> Option<ConnId> {
        self.session.map(|(conn, _)| conn)
    }

    /// Whether that connection's upgrade is under way.
    pub fn is_connecting(&self) -> bool {
        matches!(self.session, Some((_, Phase::Connecting)))
    }

    /// Files of results that were made and not deleted.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Jobs that were accepted and are not over.
    pub fn accepted(&self) -> impl Iterator<Item = &JobId> {
        self.accepted.iter()
    }

    /// Exchanges under way, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.requests.keys().copied()
    }

    /// Takes note of what the worker is about to be told.
    pub fn happened(&mut self, input: &Input) {
        match input {
            Input::Connected { conn } if self.is_in(*conn, Phase::Connecting) => {
                self.advance(*conn, Phase::Greeting);
            }
            Input::ConnectFailed { conn, .. } if self.is_in(*conn, Phase::Connecting) => {
                self.disconnected(*conn);
            }
            Input::Closed { conn, .. } => self.disconnected(*conn),
            Input::Text { conn, text } => match StudioFrame::parse(text) {
                Ok(StudioFrame::Welcome { .. }) if self.is_in(*conn, Phase::Greeting) => {
                    self.advance(*conn, Phase::Serving);
                }
                Ok(StudioFrame::Offer(offer)) if self.is_in(*conn, Phase::Serving) => {
                    self.offered(offer.job_id());
                }
                _ => {}
            },
            Input::RunEnded { run, outcome } => {
                if self.running == Some(*run) {
                    self.running = None;
                }
                if let Ok(Output::Bytes { payload: Payload::File(file), .. }) = outcome {
                    self.files.insert(Arc::clone(&file.path));
                }
            }
            Input::Answered { request, outcome } => {
                self.answered(*request, outcome.as_ref().ok().map(|answer| answer.status));
            }
            _ => {}
        }
    }

    fn offered(&mut self, job: &JobId) {
        *self.open_offers.entry(job.clone()).or_default() += 1;
        // Engines that run make any studio that offers a rude one, which proves nothing.
        if self.running.is_none()
            && let Some(claimed) = &mut self.claimed
        {
            claimed.superseded = true;
        }
    }

    fn disconnected(&mut self, conn: ConnId) {
        if self.conn() == Some(conn) {
            self.session = None;
            self.claimed = None;
            self.open_offers.clear();
        }
    }

    fn answered(&mut self, request: RequestId, status: Option<u16>) {
        let Some(Some(url)) = self.requests.remove(&request) else { return };
        self.claimed.take_if(|claimed| {
            url.ends_with(&format!("/jobs/{}/complete", claimed.job))
                && match status {
                    Some(200..=299) => true,
                    Some(404 | 409 | 410) => request.0 > claimed.since,
                    _ => false,
                }
        });
    }

    fn is_in(&self, conn: ConnId, phase: Phase) -> bool {
        self.session == Some((conn, phase))
    }

    fn advance(&mut self, conn: ConnId, phase: Phase) {
        if self.conn() == Some(conn) {
            self.session = Some((conn, phase));
        }
    }

    fn fresh(&mut self, id: u64) {
        assert!(id > self.newest, "an id was used twice");
        self.newest = id;
    }

    /// What must hold whenever the worker waits.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn rests(&self, worker: &Worker, now: Now, until: Mono) {
        assert!(until > now.mono, "a wait must be for later than now");
        assert_eq!(worker.counters().impossible, 0, "an event without a transition");
        let jobs: BTreeSet<_> = worker.jobs().map(|(job, _)| job).collect();
        assert_eq!(jobs, self.accepted.iter().collect(), "jobs that are not over");
        let claimed = worker.jobs().filter(|(_, state)| state.is_claimed()).count();
        assert!(claimed <= 1, "{claimed} jobs are held at once");
        let held = worker.jobs().filter(|(_, state)| *state == JobState::Held).count();
        assert!(held <= MAX_HELD, "{held} results are held");
        assert!(self.files.len() <= worker.jobs().count(), "a file was left behind: {:?}", self.files);
    }

    /// Takes note of what the worker decided.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn decided(&mut self, action: &Action) {
        assert!(!self.exited, "an action after Exit: {action:?}");
        match action {
            Action::Connect { conn, .. } => {
                self.fresh(conn.0);
                assert!(self.session.is_none(), "two connections at once");
                self.session = Some((*conn, Phase::Connecting));
            }
            Action::SendHeartbeat { conn, current_job_id, .. } => {
                self.serves(*conn, "a heartbeat");
                if let Some(job) = current_job_id {
                    self.holds(job, "a heartbeat");
                }
            }
            Action::Send { conn, frame } => self.check_frame(*conn, frame),
            Action::Close { conn, .. } => {
                assert_eq!(self.conn(), Some(*conn), "a close of a connection that is gone");
                self.advance(*conn, Phase::Closing);
            }
            Action::Drop { conn } => {
                assert_eq!(self.conn(), Some(*conn), "a drop of a connection that is gone");
                self.disconnected(*conn);
            }
            Action::Request { request, .. } => {
                self.fresh(request.0);
                self.requests.insert(*request, None);
            }
            Action::Upload { request, upload } => {
                self.fresh(request.0);
                self.requests.insert(*request, Some(upload.url.clone()));
            }
            Action::CancelRequest { request } => {
                assert!(self.requests.remove(request).is_some(), "an exchange that is over was cancelled");
            }
            Action::DispatchJob { run, .. } => {
                self.fresh(run.0);
                assert_eq!(self.running.replace(*run), None, "two runs at once");
            }
            Action::CancelRun { run } => {
                assert_eq!(self.running, Some(*run), "a run that is over was cancelled");
            }
            Action::Discard(file) => {
                assert!(self.files.remove(&file.path), "a file was deleted twice");
            }
            Action::Store { store: StoreId(id), .. } => self.fresh(*id),
            Action::RecordRecentJob(job) => {
                let was = self.accepted.remove(&job.job_id);
                assert!(was, "a job ended twice, or was never accepted: {}", job.job_id);
            }
            Action::Exit(_) => {
                assert!(self.accepted.is_empty(), "the worker ended and left jobs open: {:?}", self.accepted);
                assert!(self.session.is_none(), "the worker ended with a connection open");
                assert!(self.files.is_empty(), "the worker ended and left files: {:?}", self.files);
                assert!(self.requests.is_empty(), "the worker ended with exchanges under way");
                self.exited = true;
            }
            Action::Observe(_) | Action::Log(_) => {}
        }
    }

    fn check_frame(&mut self, conn: ConnId, frame: &WorkerFrame) {
        if let WorkerFrame::Hello { .. } = frame {
            assert_eq!(self.session, Some((conn, Phase::Greeting)), "a hello out of place");
            return;
        }
        self.serves(conn, frame.name());
        match frame {
            WorkerFrame::Accept { job_id } => {
                self.take_offer(job_id);
                if let Some(claimed) = &self.claimed {
                    let free = claimed.job == *job_id || claimed.superseded;
                    assert!(free, "a job was accepted while another is held");
                }
                self.accepted.insert(job_id.clone());
                self.claimed = Some(Claimed { job: job_id.clone(), since: self.newest, superseded: false });
            }
            WorkerFrame::Reject { job_id, .. } => self.take_offer(job_id),
            WorkerFrame::CompleteJson { job_id, .. } | WorkerFrame::Fail { job_id, .. } => {
                self.holds(job_id, frame.name());
                let over = self.claimed.as_ref().is_some_and(|claimed| claimed.superseded);
                assert!(!over, "{} for a job whose claim the next offer showed to be over", frame.name());
                self.claimed = None;
            }
            WorkerFrame::ReadyForMore => panic!("readyForMore is never sent"),
            _ => {}
        }
    }

    fn take_offer(&mut self, job: &JobId) {
        let open = self.open_offers.get_mut(job);
        assert!(open.is_some(), "an answer to an offer that was not made: {job}");
        if let Some(count) = open {
            *count -= 1;
            if *count == 0 {
                self.open_offers.remove(job);
            }
        }
    }

    fn holds(&self, job: &JobId, what: &str) {
        let claimed = self.claimed.as_ref().map(|claimed| &claimed.job);
        assert_eq!(claimed, Some(job), "{what} for a job that isn't held");
    }

    fn serves(&self, conn: ConnId, what: &str) {
        assert_eq!(self.session, Some((conn, Phase::Serving)), "{what} out of place");
    }
}
