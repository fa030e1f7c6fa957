//! The two sides: each machine is told what happened, and what it decides is put on the link.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use super::{
    MADE_BOUND, Over, System, ids,
    link::{Down, Exchange, Run, Side, Stage, Up, Wire},
    sabotage::{Planted, Saboteur},
};
use crate::{
    sim::oracle::{Broken, Oracle},
    studio::{self, Answer, CallId, Record},
    wire::{JobId, WorkerFrame},
    worker::{Action, Command, ConnId, HttpAnswer, Input, RequestId, Step},
};

/// Actions without an input between them; more is a loop.
const MAX_ACTIONS: usize = 4_096;

impl System {
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert_with(|| Broken(what.into()));
    }

    // The worker's side.

    pub(super) fn command(&mut self, command: Command) {
        // An ended worker refuses, which is fine.
        let now = self.now;
        let _ = self.worker_mut().command(now, command);
        self.drain_worker();
    }

    pub(super) fn tell_worker(&mut self, input: Input) {
        if self.broken.is_some() {
            return;
        }
        if self.budget.echoes > 0 && is_outcome(&input) {
            self.link.echo = Some(input.clone());
        }
        self.oracle.happened(&input);
        self.note_made(&input);
        if self.saboteur.forgets(&input) && self.oracle.running().is_none() {
            let jobs: Vec<JobId> = self.oracle.accepted().cloned().collect();
            let requests: Vec<RequestId> = self.oracle.requests().collect();
            let cancel = requests.into_iter().map(|request| Action::CancelRequest { request });
            cancel.chain(jobs.iter().map(Saboteur::given_up)).for_each(|action| self.carry_out(action));
            return self.begin_worker();
        }
        self.refused = matches!(&input, Input::Answered { outcome: Ok(answer), .. } if answer.status == 409);
        let mut told = self.saboteur.told(input);
        if let Some(id) = ids::of_input(&mut told) {
            // What an earlier process asked for is nothing to this one.
            let Some(own) = id.checked_sub(self.base).filter(|own| *own > 0) else { return };
            *id = own;
        }
        let now = self.now;
        self.worker_mut().handle(now, told);
        self.drain_worker();
    }

    /// Remembers results that were made for a job that is in hand.
    pub(super) fn note_made(&mut self, input: &Input) {
        if let Input::RunEnded { run, outcome: Ok(_) } = input
            && let Some(Run { job_id, cancelled: false, .. }) = self.link.runs.get(&run.0)
        {
            self.made.insert(job_id.clone(), self.now.mono);
        }
    }

    /// Carries out all that the worker decides, until it waits.
    pub(super) fn drain_worker(&mut self) {
        for _ in 0..MAX_ACTIONS {
            if self.broken.is_some() {
                return;
            }
            match self.worker_mut().next() {
                Step::Do(mut action) => {
                    if let Some(id) = ids::of_action(&mut action) {
                        *id += self.base;
                        self.newest = self.newest.max(*id);
                    }
                    match self.saboteur.instead(action, self.newest) {
                        Planted::Actions(actions) => {
                            for action in actions {
                                self.carry_out(action);
                            }
                        }
                        Planted::Reply(input) => self.tell_worker(input),
                    }
                }
                Step::Wait { until, .. } => {
                    if until <= self.now.mono {
                        return self.fail("a wait that is not for later than now");
                    }
                    self.worker_mut().simplify();
                    if let Some(conn) = self.unflushed.take() {
                        let flushed = Input::Flushed { conn: ConnId(conn - self.base), upto: u64::MAX };
                        let now = self.now;
                        self.worker_mut().handle(now, flushed);
                        continue;
                    }
                    let rest = self.oracle.check_rest(&self.worker, self.now.mono, until);
                    self.broken = self.broken.take().or(rest.err());
                    // Without what was just taken away.
                    if let Step::Wait { until, .. } = self.worker_mut().next() {
                        self.until = until;
                    }
                    return;
                }
            }
        }
        self.fail("the worker never waits");
    }

    pub(super) fn carry_out(&mut self, action: Action) {
        if self.broken.is_some() {
            return;
        }
        if let Err(broken) = self.oracle.check(&action, &self.worker, self.now.mono) {
            self.broken = Some(broken);
            return;
        }
        match action {
            Action::Connect { conn, url, bearer } => {
                let path = url.rsplit_once("/workers/").and_then(|(_, path)| path.strip_suffix("/connect"));
                match path {
                    Some(id) => drop(self.link.wires.insert(conn.0, Wire::new(id.into(), bearer))),
                    None => self.fail(format!("a session at {url}")),
                }
            }
            Action::SendHeartbeat { conn, capabilities, current_job_id } => {
                self.send_up(conn, &WorkerFrame::Heartbeat { capabilities, current_job_id });
            }
            Action::Send { conn, frame } => self.send_up(conn, &frame),
            Action::Close { conn, .. } => self.on_wire(conn.0, |wire| wire.push_up(Up::Close)),
            Action::Drop { conn } => self.on_wire(conn.0, |wire| {
                wire.lose_worker();
                wire.push_up(Up::Reset);
            }),
            Action::Upload { request, upload } => match Exchange::new(&upload) {
                Some(exchange) => drop(self.link.exchanges.insert(request.0, exchange)),
                None => self.fail(format!("an upload to {}", upload.url)),
            },
            Action::CancelRequest { request } => self.forget_exchange(request.0),
            Action::DispatchJob { run, claim } => {
                let job_id = claim.job_id.clone();
                if let Some(made) = self.made.get(&job_id)
                    && self.now.mono.since(*made) < MADE_BOUND
                {
                    return self
                        .fail(format!("{job_id} runs again, and its result was made in this process"));
                }
                let run_of = Run { job_id, json: claim.task.kind().result_is_json(), cancelled: false };
                self.link.runs.insert(run.0, run_of);
            }
            Action::CancelRun { run } => {
                if let Some(run) = self.link.runs.get_mut(&run.0) {
                    run.cancelled = true;
                }
            }
            Action::Measure { measure, .. } => drop(self.link.measures.insert(measure.0)),
            Action::Request { .. } | Action::Store { .. } => self.fail("a registered worker registers"),
            // A second 409 ends a job and lets go of its result (section 6).
            Action::RecordRecentJob(job) if self.refused => drop(self.made.remove(&job.job_id)),
            Action::Discard(_)
            | Action::RecordRecentJob(_)
            | Action::Observe(_)
            | Action::Log(_)
            | Action::Exit(_) => {}
        }
    }

    pub(super) fn on_wire(&mut self, conn: u64, act: impl FnOnce(&mut Wire)) {
        if let Some(wire) = self.link.wires.get_mut(&conn) {
            act(wire);
        }
    }

    pub(super) fn send_up(&mut self, conn: ConnId, frame: &WorkerFrame) {
        self.unflushed = Some(conn.0);
        if !matches!(frame, WorkerFrame::LogBatch { .. }) {
            let text = frame.to_text();
            self.on_wire(conn.0, |wire| wire.push_up(Up::Frame(text)));
        }
    }

    /// Nobody waits for the answer any more, and the body does not come.
    pub(super) fn forget_exchange(&mut self, request: u64) {
        let exchange = self.link.exchanges.remove(&request);
        if let Some(Exchange { stage: Stage::Body, .. }) = exchange {
            self.tell_studio(studio::Input::UploadBreaks { call: CallId(request) });
        }
    }

    /// A process of the worker begins, with what was stored.
    pub(super) fn begin_worker(&mut self) {
        self.base = self.newest;
        *self.worker_mut() = super::worker(self.now, self.measured);
        self.unflushed = None;
        self.drain_worker();
    }

    pub(super) fn restart_worker(&mut self, seen: bool) {
        for wire in self.link.wires.values_mut().filter(|wire| wire.worker) {
            wire.lose_worker();
            if seen {
                wire.push_up(Up::Reset);
            }
        }
        let exchanges: Vec<u64> = self.link.exchanges.keys().copied().collect();
        for request in exchanges {
            self.forget_exchange(request);
        }
        self.link.runs.clear();
        self.link.measures.clear();
        self.link.echo = None;
        self.made.clear();
        self.oracle = Oracle::new();
        (self.paused, self.draining) = (false, false);
        self.begin_worker();
    }

    // The studio's side.

    pub(super) fn tell_studio(&mut self, input: studio::Input) {
        if self.broken.is_some() {
            return;
        }
        let (now, violations) = (self.now, self.studio.counters().violations);
        self.studio_mut().handle(now, input);
        while let studio::Step::Do(action) = self.studio_mut().next() {
            match action {
                studio::Action::Save(Record::Job(job)) if job.state.is_over() => {
                    let over = Over { state: job.state, attempts: job.attempts };
                    if self.over.insert(job.id.clone(), over).is_some() {
                        self.fail(format!("{} ended twice", job.id));
                    }
                }
                studio::Action::Answer { call, answer } => self.answer(call.0, &answer),
                studio::Action::Send { conn, frame, form } => {
                    let text = frame.to_text(form);
                    self.on_wire(conn.0, |wire| wire.push_down(Down::Frame(text)));
                }
                studio::Action::Close { conn, code, .. } => self.on_wire(conn.0, |wire| {
                    wire.lose_studio();
                    wire.push_down(Down::Close(code));
                }),
                _ => {}
            }
        }
        let violation = self.studio.violations().last().map(|violation| violation.what.clone());
        if let Some(what) = violation
            && self.studio.counters().violations > violations
        {
            self.fail(format!("the studio saw a violation: {what}"));
        }
        if self.studio.counters().impossible > 0 {
            self.fail("an event without a transition at the studio");
        }
    }

    pub(super) fn answer(&mut self, call: u64, answer: &Answer) {
        if let Some(exchange) = self.link.exchanges.get_mut(&call) {
            exchange.stage = match answer {
                Answer::Proceed => Stage::Body,
                answer => Stage::Answer(http(answer)),
            };
            if !exchange.awaited && *answer != Answer::Proceed {
                self.link.exchanges.remove(&call);
            }
            return;
        }
        self.on_wire(call, |wire| {
            if *answer == Answer::Proceed {
                wire.studio = Side::Open;
                wire.push_down(Down::Upgraded);
            } else {
                wire.lose_studio();
                wire.push_down(Down::Refused(http(answer)));
            }
        });
    }

    pub(super) fn restart_studio(&mut self) {
        let jobs = self.studio.jobs().map(|job| Record::Job(Arc::new(job.clone())));
        let workers = self.studio.workers().map(|worker| Record::Worker(Arc::new(worker.clone())));
        let stored = jobs.chain(workers).collect();
        *self.studio_mut() = super::studio(stored, self.now);
        for wire in self.link.wires.values_mut().filter(|wire| wire.studio == Side::Open) {
            wire.lose_studio();
            wire.push_down(Down::Reset);
        }
        for exchange in self.link.exchanges.values_mut() {
            if matches!(exchange.stage, Stage::Body) {
                exchange.stage = Stage::Broken;
            }
        }
        self.link
            .exchanges
            .retain(|_, exchange| exchange.awaited || !matches!(exchange.stage, Stage::Broken));
        // A job whose last attempt that was ends with it.
        self.tell_studio(studio::Input::Tick);
    }
}

/// Whether `input` is the outcome of something, which a driver might report twice.
fn is_outcome(input: &Input) -> bool {
    matches!(
        input,
        Input::Connected { .. }
            | Input::ConnectFailed { .. }
            | Input::Closed { .. }
            | Input::Answered { .. }
            | Input::RunEnded { .. }
            | Input::Measured { .. }
    )
}

fn http(answer: &Answer) -> HttpAnswer {
    HttpAnswer {
        status: answer.status(),
        retry_after: answer.retry_after().map(|seconds| format!("{seconds}")),
        body: format!("{}", answer.body()).into_bytes(),
        ..HttpAnswer::default()
    }
}
