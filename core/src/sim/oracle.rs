//! What must never happen, whatever the studio, the network and the engine do.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use super::admission::{self, Asked};
use crate::{
    engine::{Output, Payload},
    time::{Mono, Now},
    wire::{Claim, JobId, StudioFrame, WorkerFrame},
    worker::{Action, ConnId, Input, RecentJob, RequestId, RunId, Step, StoreId, Worker, states::JobState},
};

/// Actions that a worker may decide without an input between them; more is a loop.
const MAX_ACTIONS: usize = 4_096;

/// The most results that are held (section 6).
const MAX_HELD: usize = 4;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What is `kept` unless a promise is broken.
type Kept<T = ()> = Result<T, Broken>;

/// A promise, and what its breach is called.
fn promise(kept: bool, breach: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Err(Broken(breach())) }
}

/// Watches everything that a worker does. It is a value, as the worker is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Oracle {
    /// The connection that counts, and how far it has come.
    session: Option<(ConnId, Phase)>,
    /// The job that the studio holds for the worker on that connection.
    claimed: Option<Claimed>,
    /// Offers of that connection that are not answered yet.
    open_offers: BTreeMap<JobId, u32>,
    /// The jobs whose offers wait, for an upload or the memory. When one is offered again, that offer takes the place of
    /// the older.
    waiting: BTreeSet<JobId>,
    /// The measurement that an offer waits for, or waited for last.
    asked: Option<Asked>,
    /// The run that the engine has, and the job that waits for it.
    running: Option<(RunId, Option<JobId>)>,
    /// Jobs that are not over and whose result was made.
    made: BTreeSet<JobId>,
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
    #[allow(clippy::panic, reason = "a broken promise is what an oracle is to cry about")]
    pub fn drain(&mut self, worker: &mut Worker, now: Now, carry_out: impl FnMut(Action)) -> Mono {
        match self.try_drain(worker, now, carry_out) {
            Ok(until) => until,
            Err(broken) => panic!("{broken}"),
        }
    }

    /// The same for a caller that wants to know which promise was broken: the action that did it is not carried
    /// out, nor is any after it.
    pub fn try_drain(
        &mut self,
        worker: &mut Worker,
        now: Now,
        mut carry_out: impl FnMut(Action),
    ) -> Result<Mono, Broken> {
        for _ in 0..MAX_ACTIONS {
            match worker.next() {
                Step::Do(action) => {
                    self.check(&action, worker, now.mono)?;
                    carry_out(action);
                }
                Step::Wait { until, .. } => {
                    promise(until > now.mono, || "a wait that is not for later than now".into())?;
                    self.check_rest(worker, now.mono, until)?;
                    return Ok(until);
                }
            }
        }
        Err(Broken("the worker never waits".into()))
    }

    /// The run that the engine has.
    pub fn running(&self) -> Option<RunId> {
        self.running.as_ref().map(|(run, _)| *run)
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
                let job = self.running.take_if(|(running, _)| running == run).and_then(|(_, job)| job);
                if let Ok(output) = outcome {
                    self.made.extend(job.filter(|job| self.accepted.contains(job)));
                    if let Output::Bytes { payload: Payload::File(file), .. } = output {
                        self.files.insert(Arc::clone(&file.path));
                    }
                }
            }
            Input::Measured { measure, memory, resident } => {
                if let Some(asked) = self.asked.as_mut().filter(|asked| asked.measure == *measure) {
                    asked.answer.get_or_insert((*memory, *resident));
                }
            }
            Input::Answered { request, outcome } => {
                self.answered(*request, outcome.as_ref().ok().map(|answer| answer.status));
            }
            _ => {}
        }
    }

    fn offered(&mut self, job: &JobId) {
        if !self.waiting.contains(job) {
            *self.open_offers.entry(job.clone()).or_default() += 1;
        }
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
            self.forget_offers();
        }
    }

    /// The session is over, or about to be, and its offers with it.
    fn forget_offers(&mut self) {
        self.open_offers.clear();
        self.waiting.clear();
        self.asked = None;
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

    fn fresh(&mut self, id: u64) -> Kept {
        promise(id > self.newest, || "an id was used twice".into())?;
        self.newest = id;
        Ok(())
    }

    /// What must hold whenever the worker waits, which it does until `until`.
    pub(super) fn check_rest(&mut self, worker: &Worker, now: Mono, until: Mono) -> Kept {
        let [parked, pending] = worker.waiting_offers();
        self.waiting = parked.into_iter().chain(pending).cloned().collect();
        promise(self.waiting.iter().eq(self.open_offers.keys()), || {
            format!("offers of {:?} wait, and {:?} are not answered", self.waiting, self.open_offers)
        })?;
        // An offer that was made twice and waits is answered once.
        self.open_offers.values_mut().for_each(|count| *count = 1);
        let asked = self.asked.as_ref().filter(|asked| pending == Some(&asked.job_id));
        let is_bounded = asked.is_some_and(|asked| asked.is_bounded(now, until));
        promise(is_bounded || pending.is_none(), || "an offer waits for the memory without a bound".into())?;
        promise(worker.counters().impossible == 0, || "an event without a transition".into())?;
        let jobs: BTreeSet<_> = worker.jobs().map(|(job, _)| job).collect();
        promise(jobs == self.accepted.iter().collect(), || {
            format!("jobs {jobs:?} are in hand, and {:?} were accepted and are not over", self.accepted)
        })?;
        let claimed = worker.jobs().filter(|(_, state)| state.is_claimed()).count();
        promise(claimed <= 1, || format!("{claimed} jobs are held at once"))?;
        let held = worker.jobs().filter(|(_, state)| *state == JobState::Held).count();
        promise(held <= MAX_HELD, || format!("{held} results are held"))?;
        promise(self.files.len() <= worker.jobs().count(), || {
            format!("a file was left behind: {:?}", self.files)
        })
    }

    /// Whether the next action of `worker` keeps every promise.
    pub(super) fn check(&mut self, action: &Action, worker: &Worker, now: Mono) -> Kept {
        promise(!self.exited, || format!("an action after Exit: {action:?}"))?;
        match action {
            Action::Connect { conn, .. } => {
                self.fresh(conn.0)?;
                promise(self.session.is_none(), || "two connections at once".into())?;
                self.session = Some((*conn, Phase::Connecting));
            }
            Action::SendHeartbeat { conn, current_job_id, .. } => {
                self.serves(*conn, "a heartbeat")?;
                if let Some(job) = current_job_id {
                    self.holds(job, "a heartbeat")?;
                }
            }
            Action::Send { conn, frame } => self.check_frame(*conn, frame)?,
            Action::Close { conn, .. } => {
                promise(self.conn() == Some(*conn), || "a close of a connection that is gone".into())?;
                self.advance(*conn, Phase::Closing);
                self.forget_offers();
            }
            Action::Drop { conn } => {
                promise(self.conn() == Some(*conn), || "a drop of a connection that is gone".into())?;
                self.disconnected(*conn);
            }
            Action::Request { request, .. } => {
                self.fresh(request.0)?;
                self.requests.insert(*request, None);
            }
            Action::Upload { request, upload } => {
                self.fresh(request.0)?;
                self.requests.insert(*request, Some(upload.url.clone()));
            }
            Action::CancelRequest { request } => {
                let was = self.requests.remove(request).is_some();
                promise(was, || "an exchange that is over was cancelled".into())?;
            }
            Action::DispatchJob { run, claim } => {
                self.fresh(run.0)?;
                let job = claim.job_id.clone();
                promise(self.running.is_none(), || "two runs at once".into())?;
                promise(!self.made.contains(&job), || format!("{job} runs again, and its result is had"))?;
                self.running = Some((*run, Some(job)));
                self.check_admitted(claim, worker, now)?;
            }
            Action::Measure { measure, claim } => {
                self.fresh(measure.0)?;
                if let Some(claim) = claim {
                    let job_id = claim.job_id.clone();
                    promise(self.open_offers.contains_key(&job_id), || {
                        format!("the memory is measured for {job_id}, which is not offered")
                    })?;
                    promise(self.running.is_none(), || "a job is admitted while another runs".into())?;
                    self.asked = Some(Asked { measure: *measure, job_id, at: now, answer: None });
                }
            }
            Action::CancelRun { run } => {
                let running = self.running.as_mut().filter(|(running, _)| running == run);
                // What it makes all the same is nobody's.
                let was = running.map(|(_, job)| *job = None).is_some();
                promise(was, || "a run that is over was cancelled".into())?;
            }
            Action::Discard(file) => {
                promise(self.files.remove(&file.path), || "a file was deleted twice".into())?;
            }
            Action::Store { store: StoreId(id), .. } => self.fresh(*id)?,
            Action::RecordRecentJob(RecentJob { job_id, .. }) => {
                self.made.remove(job_id);
                promise(self.accepted.remove(job_id), || {
                    format!("a job ended twice, or was never accepted: {job_id}")
                })?;
            }
            Action::Exit(_) => {
                let all_over = self.accepted.is_empty();
                promise(all_over, || format!("the worker ended and left jobs open: {:?}", self.accepted))?;
                promise(self.session.is_none(), || "the worker ended with a connection open".into())?;
                let clean = self.files.is_empty();
                promise(clean, || format!("the worker ended and left files: {:?}", self.files))?;
                promise(self.requests.is_empty(), || "the worker ended with exchanges under way".into())?;
                self.exited = true;
            }
            Action::Observe(_) | Action::Log(_) => {}
        }
        Ok(())
    }

    /// Whether a job that runs was measured, where it had to be, and fits.
    fn check_admitted(&mut self, claim: &Claim, worker: &Worker, now: Mono) -> Kept {
        let asked = self.asked.take_if(|asked| asked.job_id == claim.job_id);
        if !worker.measures(claim) {
            return Ok(());
        }
        let Some(asked) = asked else {
            return Err(Broken(format!("{} runs, and the memory was not measured", claim.job_id)));
        };
        match asked.answer {
            Some((memory, resident)) => promise(resident || admission::fits(claim, memory), || {
                format!("{} runs and does not fit into {memory:?}", claim.job_id)
            }),
            None => promise(now >= asked.deadline(), || {
                format!("{} runs before the memory was measured", claim.job_id)
            }),
        }
    }

    fn check_frame(&mut self, conn: ConnId, frame: &WorkerFrame) -> Kept {
        if let WorkerFrame::Hello { .. } = frame {
            return promise(self.is_in(conn, Phase::Greeting), || "a hello out of place".into());
        }
        self.serves(conn, frame.name())?;
        match frame {
            WorkerFrame::Accept { job_id } => {
                self.take_offer(job_id)?;
                if let Some(claimed) = &self.claimed {
                    let free = claimed.job == *job_id || claimed.superseded;
                    promise(free, || "a job was accepted while another is held".into())?;
                }
                self.accepted.insert(job_id.clone());
                self.claimed = Some(Claimed { job: job_id.clone(), since: self.newest, superseded: false });
            }
            WorkerFrame::Reject { job_id, .. } => self.take_offer(job_id)?,
            WorkerFrame::CompleteJson { job_id, .. } | WorkerFrame::Fail { job_id, .. } => {
                self.holds(job_id, frame.name())?;
                let over = self.claimed.as_ref().is_some_and(|claimed| claimed.superseded);
                promise(!over, || {
                    format!("{} for a job whose claim the next offer showed to be over", frame.name())
                })?;
                self.claimed = None;
            }
            WorkerFrame::ReadyForMore => return Err(Broken("readyForMore is never sent".to_string())),
            _ => {}
        }
        Ok(())
    }

    fn take_offer(&mut self, job: &JobId) -> Kept {
        let Some(count) = self.open_offers.get_mut(job) else {
            return Err(Broken(format!("an answer to an offer that was not made: {job}")));
        };
        self.waiting.remove(job);
        *count -= 1;
        if *count == 0 {
            self.open_offers.remove(job);
        }
        Ok(())
    }

    fn holds(&self, job: &JobId, what: &str) -> Kept {
        let claimed = self.claimed.as_ref().map(|claimed| &claimed.job);
        promise(claimed == Some(job), || format!("{what} for the job {job}, which isn't held"))
    }

    fn serves(&self, conn: ConnId, what: &str) -> Kept {
        promise(self.is_in(conn, Phase::Serving), || format!("{what} out of place"))
    }

    /// Every id that it remembers, to give them new names.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let conn = self.session.iter().map(|(conn, _)| conn.0);
        let run = self.running.iter().map(|(run, _)| run.0);
        let asked = self.asked.iter().map(|asked| asked.measure.0);
        conn.chain(run).chain(asked).chain(self.requests.keys().map(|request| request.0))
    }

    /// What decides the future, with ids by the name that `rank` gives them.
    pub(super) fn digest(&self, rank: &impl Fn(u64) -> u64, now: Mono) -> String {
        let Self {
            session,
            claimed,
            open_offers,
            waiting: _,
            asked,
            running,
            made,
            requests,
            accepted,
            files,
            exited,
            newest: _,
        } = self;
        let session = session.map(|(conn, phase)| (rank(conn.0), phase));
        let claimed =
            claimed.as_ref().map(|claimed| (&claimed.job, rank(claimed.since + 1), claimed.superseded));
        let running = running.as_ref().map(|(run, job)| (rank(run.0), job));
        let asked = asked
            .as_ref()
            .map(|asked| (rank(asked.measure.0), &asked.job_id, now.since(asked.at), &asked.answer));
        let requests: Vec<_> = requests.iter().map(|(request, url)| (rank(request.0), url)).collect();
        format!(
            "{session:?}{claimed:?}{open_offers:?}{asked:?}{running:?}{made:?}{requests:?}{accepted:?}{files:?}{exited}"
        )
    }
}
