//! Planted bugs, to see that the search finds them.

use alloc::{string::String, sync::Arc, vec, vec::Vec};

use crate::{
    machine::Memory,
    time::Wall,
    wire::{Claim, JobId, Offer, StudioFrame, TaskForm, WorkerFrame},
    worker::{Action, ConnId, HttpAnswer, Input, JobOutcome, RecentJob, RunId},
};

/// A planted bug: what passes between the worker's machine and the link is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sabotage {
    /// A job is accepted before the studio said welcome.
    AcceptsBeforeWelcome,
    /// A job whose result is here runs again when it is offered again.
    RunsAgain,
    /// A result in JSON that a drop left unconfirmed is sent on the next session without an offer.
    CompletesAfterRelease,
    /// What is in hand is given up when the session drops.
    ForgetsOnDrop,
    /// A job that is declined as one too many is run all the same.
    RunsTwoAtOnce,
    /// A result in JSON is taken for delivered without having been sent.
    NeverSends,
    /// An offer of a job that can't be taken is not answered.
    NeverDeclines,
    /// An upload that was given up is taken for delivered.
    TakesBreakForSuccess,
    /// Heartbeats name the job of the session before.
    NamesReleasedJob,
    /// The last words come after the end.
    SpeaksAfterExit,
    /// What is measured of the memory is not looked at.
    TakesAnyMemory,
}

/// Who plants it, and what they remember.
#[derive(Debug, Clone, Default)]
pub(super) struct Saboteur {
    sabotage: Option<Sabotage>,
    /// Offers on this session, by their job.
    offered: Vec<Arc<Claim>>,
    /// The job that was accepted last, or the frame that was sent for it, with its connection.
    last: Option<JobId>,
    frame: Option<(u64, WorkerFrame)>,
}

/// What becomes of an action or an input.
pub(super) enum Planted {
    /// These actions are seen by everybody instead of the one that was decided.
    Actions(Vec<Action>),
    /// It is not carried out, and the worker is told this instead.
    Reply(Input),
}

impl Saboteur {
    pub(super) fn new(sabotage: Option<Sabotage>) -> Self {
        Self { sabotage, ..Self::default() }
    }

    /// Whether the worker's process is replaced by one that knows nothing of the jobs in hand. Also remembers offers.
    pub(super) fn forgets(&mut self, input: &Input) -> bool {
        if self.sabotage.is_some()
            && let Input::Text { text, .. } = input
            && let Ok(StudioFrame::Offer(Offer::Readable(claim))) = StudioFrame::parse(text)
        {
            self.offered.retain(|known| known.job_id != claim.job_id);
            self.offered.push(Arc::from(claim));
        }
        matches!(input, Input::Closed { .. }) && self.sabotage == Some(Sabotage::ForgetsOnDrop)
    }

    /// The end of a job that is forgotten.
    pub(super) fn given_up(job: &JobId) -> Action {
        Action::RecordRecentJob(RecentJob {
            job_id: job.clone(),
            kind: String::new(),
            model: String::new(),
            prompt: String::new(),
            started_at: Wall::default(),
            outcome: JobOutcome::Failed { reason: "the session dropped".into() },
            finished_at: Wall::default(),
        })
    }

    /// What passes instead of `action`; `newest` is the largest number that was given out.
    pub(super) fn instead(&mut self, action: Action, newest: u64) -> Planted {
        let Some(sabotage) = self.sabotage else { return Planted::Actions(vec![action]) };
        let more = match (sabotage, &action) {
            (Sabotage::AcceptsBeforeWelcome, Action::Send { conn, frame: WorkerFrame::Hello { .. } }) => {
                vec![Action::Send { conn: *conn, frame: WorkerFrame::Accept { job_id: "job-0".into() } }]
            }
            (Sabotage::RunsAgain, Action::Send { frame: WorkerFrame::CompleteJson { job_id, .. }, .. }) => {
                // It was offered again since it was last sent.
                let again = self.frame.replace((0, WorkerFrame::Accept { job_id: job_id.clone() })).is_some();
                self.claim(job_id).filter(|_| again).map(|claim| run(claim, newest)).into_iter().collect()
            }
            (Sabotage::CompletesAfterRelease, Action::Send { conn, frame }) => {
                if let WorkerFrame::CompleteJson { .. } = frame {
                    self.frame = Some((conn.0, frame.clone()));
                }
                vec![]
            }
            (Sabotage::CompletesAfterRelease, Action::SendHeartbeat { conn, .. }) => {
                let late = self.frame.take_if(|(sent_on, _)| *sent_on != conn.0);
                late.map(|(_, frame)| Action::Send { conn: *conn, frame }).into_iter().collect()
            }
            (Sabotage::CompletesAfterRelease, Action::RecordRecentJob(_)) => {
                self.frame = None;
                vec![]
            }
            (Sabotage::RunsTwoAtOnce, Action::Send { conn, frame: WorkerFrame::Reject { job_id, .. } }) => {
                let Some(claim) = self.claim(job_id) else { return Planted::Actions(vec![action]) };
                let accept = WorkerFrame::Accept { job_id: job_id.clone() };
                return Planted::Actions(vec![
                    Action::Send { conn: *conn, frame: accept },
                    run(claim, newest),
                ]);
            }
            (
                Sabotage::NeverSends,
                Action::Send { conn, frame: WorkerFrame::CompleteJson { job_id, .. } },
            ) => {
                let text = StudioFrame::CompleteAck { job_id: job_id.clone() }.to_text(TaskForm::Camel);
                return Planted::Reply(Input::Text { conn: *conn, text });
            }
            (Sabotage::NeverDeclines, Action::Send { frame: WorkerFrame::Reject { .. }, .. }) => {
                return Planted::Actions(vec![]);
            }
            (Sabotage::NamesReleasedJob, Action::Send { frame: WorkerFrame::Accept { job_id }, .. }) => {
                self.last = Some(job_id.clone());
                vec![]
            }
            (
                Sabotage::NamesReleasedJob,
                Action::SendHeartbeat { conn, capabilities, current_job_id: None },
            ) => {
                let (conn, capabilities) = (*conn, Arc::clone(capabilities));
                let current_job_id = self.last.clone();
                return Planted::Actions(vec![Action::SendHeartbeat { conn, capabilities, current_job_id }]);
            }
            (Sabotage::NamesReleasedJob, Action::RecordRecentJob(_)) => {
                self.last = None;
                vec![]
            }
            (Sabotage::SpeaksAfterExit, Action::Exit(_)) => {
                vec![Action::Send { conn: ConnId(newest), frame: WorkerFrame::ReadyForMore }]
            }
            _ => vec![],
        };
        Planted::Actions([vec![action], more].concat())
    }

    /// What the worker is told instead of `input`.
    pub(super) fn told(&self, input: Input) -> Input {
        match (self.sabotage, input) {
            (Some(Sabotage::TakesBreakForSuccess), Input::Answered { request, outcome: Err(_) }) => {
                let answer = HttpAnswer { status: 200, ..HttpAnswer::default() };
                Input::Answered { request, outcome: Ok(answer) }
            }
            (Some(Sabotage::TakesAnyMemory), Input::Measured { measure, resident, .. }) => {
                Input::Measured { measure, memory: Memory::default(), resident }
            }
            (_, input) => input,
        }
    }

    fn claim(&self, job: &JobId) -> Option<Arc<Claim>> {
        self.offered.iter().find(|claim| claim.job_id == *job).cloned()
    }
}

fn run(claim: Arc<Claim>, newest: u64) -> Action {
    // A number that no process gives out.
    Action::DispatchJob { run: RunId(newest + 1_000), claim }
}
