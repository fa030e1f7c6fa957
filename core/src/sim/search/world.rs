//! Making a move: both machines are told what happened, and what they say is put on the link.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use serde_json::json;

use super::{
    Ending, MADE_BOUND, Move, Over, Seen, System, ids,
    link::{Down, Exchange, Link, Run, Side, Stage, Up, Wire},
    sabotage::{Planted, Saboteur},
};
use crate::{
    engine::{EngineError, Output},
    sim::oracle::{Broken, Oracle},
    studio::{self, Answer, CallId, Record},
    time::Mono,
    wire::{CloseCode, JobId, WorkerFrame},
    worker::{
        Action, Command, ConnId, ConnectFailure, HttpAnswer, HttpFailure, Input, RequestId, RunId,
        SessionEnd, Step, states::SessionState,
    },
};

/// The shortest time that there is.
const TICK: Duration = Duration::from_micros(1);
/// Actions without an input between them; more is a loop.
const MAX_ACTIONS: usize = 4_096;

fn wires(link: &Link) -> Vec<u64> {
    link.wires.keys().copied().collect()
}

fn exchanges(link: &Link) -> Vec<u64> {
    link.exchanges.keys().copied().collect()
}

fn runs(link: &Link) -> Vec<u64> {
    link.runs.keys().copied().collect()
}

impl System {
    /// Makes a move, whatever it costs.
    pub(super) fn make(&mut self, next: Move) {
        match next {
            Move::Up(nth) => self.at(wires, nth, Self::up),
            Move::Down(nth) => self.at(wires, nth, Self::down),
            Move::Exchange(nth) => self.at(exchanges, nth, Self::exchange),
            Move::RunEnds(nth, ending) => self.at(runs, nth, |system, run| system.end_run(run, ending)),
            Move::Pass => self.pass(),
            Move::Drop(nth, seen) => self.at(wires, nth, |system, conn| system.drop_wire(conn, seen)),
            Move::Break(nth, seen) => {
                self.at(exchanges, nth, |system, request| system.break_exchange(request, seen));
            }
            Move::Refuse(nth) => self.at(exchanges, nth, |system, request| {
                if let Some(exchange) = system.link.exchanges.get_mut(&request) {
                    exchange.stage = Stage::Answer(HttpAnswer { status: 503, ..HttpAnswer::default() });
                }
            }),
            Move::Echo => {
                if let Some(input) = self.link.echo.take() {
                    self.tell_worker(input);
                }
            }
            Move::RestartWorker(seen) => self.restart_worker(seen),
            Move::RestartStudio => self.restart_studio(),
            Move::Pause | Move::Resume => {
                self.paused = next == Move::Pause;
                self.command(if self.paused { Command::Pause } else { Command::Resume });
            }
            Move::Drain => {
                self.draining = true;
                self.command(Command::Drain);
            }
            Move::Cancel(nth) => {
                let job = self.studio.jobs().nth(usize::from(nth)).map(|job| job.id.clone());
                if let Some(job_id) = job {
                    self.tell_studio(studio::Input::CancelJob { call: CallId(0), job_id });
                }
            }
        }
    }

    /// Does something with what is `nth` on the link.
    fn at(&mut self, of: fn(&Link) -> Vec<u64>, nth: u8, act: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = of(&self.link).get(usize::from(nth)) {
            act(self, *id);
        }
    }

    fn fail(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert_with(|| Broken(what.into()));
    }

    // The worker's side.

    fn command(&mut self, command: Command) {
        // An ended worker refuses, which is fine.
        let now = self.now;
        let _ = self.worker_mut().command(now, command);
        self.drain_worker();
    }

    fn tell_worker(&mut self, input: Input) {
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
    fn note_made(&mut self, input: &Input) {
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
                    let rest = self.oracle.check_rest(&self.worker);
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

    fn carry_out(&mut self, action: Action) {
        if self.broken.is_some() {
            return;
        }
        if let Err(broken) = self.oracle.check(&action) {
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

    fn on_wire(&mut self, conn: u64, act: impl FnOnce(&mut Wire)) {
        if let Some(wire) = self.link.wires.get_mut(&conn) {
            act(wire);
        }
    }

    fn send_up(&mut self, conn: ConnId, frame: &WorkerFrame) {
        self.unflushed = Some(conn.0);
        if !matches!(frame, WorkerFrame::LogBatch { .. }) {
            let text = frame.to_text();
            self.on_wire(conn.0, |wire| wire.push_up(Up::Frame(text)));
        }
    }

    /// Nobody waits for the answer any more, and the body does not come.
    fn forget_exchange(&mut self, request: u64) {
        let exchange = self.link.exchanges.remove(&request);
        if let Some(Exchange { stage: Stage::Body, .. }) = exchange {
            self.tell_studio(studio::Input::UploadBreaks { call: CallId(request) });
        }
    }

    /// A process of the worker begins, with what was stored.
    fn begin_worker(&mut self) {
        self.base = self.newest;
        *self.worker_mut() = super::worker(self.now);
        self.unflushed = None;
        self.drain_worker();
    }

    fn restart_worker(&mut self, seen: bool) {
        for wire in self.link.wires.values_mut().filter(|wire| wire.worker) {
            wire.lose_worker();
            if seen {
                wire.push_up(Up::Reset);
            }
        }
        for request in exchanges(&self.link) {
            self.forget_exchange(request);
        }
        self.link.runs.clear();
        self.link.echo = None;
        self.made.clear();
        self.oracle = Oracle::new();
        (self.paused, self.draining) = (false, false);
        self.begin_worker();
    }

    // Between the two.

    fn up(&mut self, conn: u64) {
        let Some(trip) = self.link.wires.get_mut(&conn).and_then(|wire| wire.up.pop_front()) else { return };
        let of = studio::ConnId(conn);
        match trip {
            Up::Upgrade { worker_id, bearer } => {
                let (call, bearer) = (CallId(conn), Some(bearer));
                self.tell_studio(studio::Input::Upgrade { call, conn: of, worker_id, bearer });
            }
            Up::Frame(text) => {
                self.crossing = self.crosses(&text);
                self.tell_studio(studio::Input::Text { conn: of, text });
                self.crossing = false;
            }
            Up::Close => {
                self.on_wire(conn, |wire| {
                    wire.lose_studio();
                    wire.push_down(Down::Close(CloseCode::NORMAL));
                });
                self.tell_studio(studio::Input::Closed { conn: of });
            }
            Up::Reset => {
                self.on_wire(conn, Wire::lose_studio);
                self.tell_studio(studio::Input::Closed { conn: of });
            }
        }
    }

    /// Whether a frame is the `fail` of a worker that was told to stop while the studio had the job's result.
    fn crosses(&self, text: &str) -> bool {
        if !self.draining {
            return false;
        }
        match WorkerFrame::parse(text) {
            Ok(WorkerFrame::Fail { job_id, error, .. }) => {
                self.over.contains_key(&job_id) && error.starts_with("the worker stopped")
            }
            _ => false,
        }
    }

    fn down(&mut self, conn: u64) {
        let Some(trip) = self.link.wires.get_mut(&conn).and_then(|wire| wire.down.pop_front()) else {
            return;
        };
        let of = ConnId(conn);
        match trip {
            Down::Upgraded => {
                self.on_wire(conn, |wire| wire.upgraded = true);
                self.tell_worker(Input::Connected { conn: of });
            }
            Down::Refused(answer) => {
                self.on_wire(conn, |wire| wire.worker = false);
                self.tell_worker(Input::ConnectFailed { conn: of, failure: ConnectFailure::Refused(answer) });
            }
            Down::Frame(text) => self.tell_worker(Input::Text { conn: of, text }),
            Down::Close(code) => {
                self.on_wire(conn, Wire::lose_worker);
                let end = SessionEnd::Closed { code, reason: String::new() };
                self.tell_worker(Input::Closed { conn: of, end });
            }
            Down::Reset => self.lose_for_worker(conn),
        }
    }

    fn exchange(&mut self, request: u64) {
        let Some(exchange) = self.link.exchanges.get(&request).cloned() else { return };
        let call = CallId(request);
        let outcome = match exchange.stage {
            Stage::Head => {
                let Exchange { worker_id, job_id, bearer, .. } = exchange;
                let bearer = Some(bearer);
                return self.tell_studio(studio::Input::UploadBegins { call, worker_id, job_id, bearer });
            }
            Stage::Body => {
                let (file, ext, prompt) = (String::new(), "webp".into(), String::new());
                let upload = studio::Upload { file, bytes: 3, ext, prompt };
                return self.tell_studio(studio::Input::UploadEnds { call, upload });
            }
            Stage::Answer(answer) => Ok(answer),
            Stage::Broken => Err(HttpFailure("broken pipe".into())),
        };
        self.link.exchanges.remove(&request);
        self.tell_worker(Input::Answered { request: RequestId(request), outcome });
    }

    fn end_run(&mut self, run: u64, ending: Ending) {
        let Some(Run { json, .. }) = self.link.runs.get(&run) else { return };
        let outcome = match ending {
            Ending::Made if *json => Ok(Output::Json(Arc::new(json!({ "text": "made" })))),
            Ending::Made => Ok(Output::Bytes { ext: "webp".into(), payload: vec![1, 2, 3].into() }),
            Ending::Transient => Err(EngineError::transient("out of memory")),
            Ending::Permanent => Err(EngineError::permanent("not a picture")),
        };
        self.tell_worker(Input::RunEnded { run: RunId(run), outcome });
        self.link.runs.remove(&run);
    }

    fn drop_wire(&mut self, conn: u64, seen: Seen) {
        match seen {
            Seen::Both => {
                let studio = self.link.wires.get(&conn).map(|wire| wire.studio);
                self.on_wire(conn, Wire::lose_studio);
                if studio == Some(Side::Open) {
                    self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn) });
                }
                self.lose_for_worker(conn);
            }
            Seen::Worker => self.lose_for_worker(conn),
            Seen::Studio => {
                let studio = self.link.wires.get(&conn).map(|wire| wire.studio);
                self.on_wire(conn, Wire::lose_studio);
                if studio == Some(Side::Open) {
                    self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn) });
                }
            }
        }
    }

    /// The worker sees that a connection is gone, or that there will be none.
    fn lose_for_worker(&mut self, conn: u64) {
        let Some(wire) = self.link.wires.get_mut(&conn).filter(|wire| wire.worker) else { return };
        wire.lose_worker();
        let (of, upgraded) = (ConnId(conn), wire.upgraded);
        self.tell_worker(if upgraded {
            Input::Closed { conn: of, end: SessionEnd::Dropped("reset".into()) }
        } else {
            Input::ConnectFailed { conn: of, failure: ConnectFailure::Trouble("reset".into()) }
        });
    }

    fn break_exchange(&mut self, request: u64, seen: Seen) {
        let Some(exchange) = self.link.exchanges.get_mut(&request) else { return };
        if seen == Seen::Worker {
            // It goes on all the same, and its answer is nobody's.
            exchange.awaited = false;
        } else {
            self.forget_exchange(request);
        }
        if seen != Seen::Studio {
            let outcome = Err(HttpFailure("broken pipe".into()));
            self.tell_worker(Input::Answered { request: RequestId(request), outcome });
        }
    }

    /// When either side wants to be woken, or the worker besides for heartbeats where they are answered.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let at = match self.healthy() {
            Some(conn) => {
                let of = Some(studio::ConnId(conn));
                let both = [self.worker.next_besides_heartbeats(), self.studio.next_besides_heartbeats(of)];
                both.into_iter().flatten().min()?
            }
            None => self.next_tick(),
        };
        Some(at.max(self.now.mono + TICK)).filter(|at| *at < Mono::NEVER)
    }

    /// When either side wants to be woken.
    fn next_tick(&self) -> Mono {
        let studio = self.studio.next_besides_heartbeats(None).unwrap_or(Mono::NEVER);
        self.until.min(studio).max(self.now.mono + TICK)
    }

    /// The connection on which heartbeats are all that is sent.
    fn healthy(&self) -> Option<u64> {
        let serves = |wire: &Wire| wire.worker && wire.studio == Side::Open && wire.is_quiet();
        let serving = self.worker.state() == SessionState::Serving;
        let conn = self.oracle.conn().filter(|_| serving)?.0;
        self.link.wires.get(&conn).is_some_and(serves).then_some(conn)
    }

    fn pass(&mut self) {
        let Some(until) = self.deadline() else { return };
        while self.now.mono < until && self.broken.is_none() {
            let healthy = self.healthy();
            self.now.mono = self.next_tick().min(until);
            self.tell_worker(Input::Tick);
            self.tell_studio(studio::Input::Tick);
            let Some(conn) = healthy.filter(|_| self.now.mono < until) else { return };
            // Nothing but a heartbeat can have been due.
            self.up(conn);
            self.down(conn);
        }
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
            && !self.crossing
        {
            self.fail(format!("the studio saw a violation: {what}"));
        }
        if self.studio.counters().impossible > 0 {
            self.fail("an event without a transition at the studio");
        }
    }

    fn answer(&mut self, call: u64, answer: &Answer) {
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

    fn restart_studio(&mut self) {
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
