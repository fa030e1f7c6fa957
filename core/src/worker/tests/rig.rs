//! A worker with its hands tied: what it decides is written down, and tests say what happens.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "what a test says about a peer reads best as a value"
)]

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use crate::{
    engine::{EngineError, Models, Output, Payload, Service, SpilledFile},
    sim::Oracle,
    time::{Mono, Now, Wall},
    wire::{ApiBase, Capabilities, CloseCode, Finite, JobId, TaskKind, WorkerFrame},
    worker::{
        Action, Change, Command, ConnId, ConnectFailure, Exit, HttpAnswer, HttpFailure, HttpRequest,
        Identity, Input, JobOutcome, Key, Options, RequestId, RunId, SessionEnd, Settings, Step, Worker,
        states::SessionState,
    },
};

pub(super) struct Rig {
    pub(super) worker: Worker,
    pub(super) now: Now,
    /// Sees all that happens, in every test.
    oracle: Oracle,
    /// Actions that no test has looked at yet.
    pub(super) seen: VecDeque<Action>,
    /// Every action since the start.
    pub(super) history: Vec<Action>,
    /// What was stored, as far as this worker stored it.
    pub(super) file: BTreeMap<Key, String>,
    /// When log batches were sent.
    pub(super) batched_at: Vec<Mono>,
    /// How many heartbeats of a connection were acknowledged.
    acknowledged: (Option<ConnId>, usize),
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn registered() -> Identity {
    Identity {
        install_id: Some("11111111-1111-4111-8111-111111111111".into()),
        worker_id: Some("w-1".into()),
        auth_token: Some("tok-secret".into()),
        ..Identity::default()
    }
}

pub(super) fn settings(identity: Identity) -> Settings {
    let listed =
        |kind| Service { kind, engine: "synthetic".into(), models: Models::Listed(vec!["synthetic".into()]) };
    Settings {
        api_base: ApiBase::parse("http://studio").unwrap(),
        identity,
        label: Some("box".into()),
        capabilities: Capabilities {
            machine_name: "host".into(),
            engine: "synthetic".into(),
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            model_engines: Some(vec![]),
            ..Capabilities::default()
        },
        services: TaskKind::ALL.into_iter().map(listed).collect(),
        measured_engines: Vec::new(),
        reconnect_attempts: None,
    }
}

/// An image offer.
pub(super) fn image(job: &str) -> Value {
    offer(job, json!({ "kind": "image", "prompt": "a cat", "width": 64, "height": 64 }))
}

/// A chat offer.
pub(super) fn llm(job: &str) -> Value {
    offer(job, json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }))
}

pub(super) fn offer(job: &str, task: Value) -> Value {
    json!({ "type": "offer", "claim": {
        "jobId": job, "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2, "task": task,
    }})
}

pub(super) fn bytes() -> Result<Output, EngineError> {
    Ok(Output::Bytes { ext: "webp".into(), payload: vec![1, 2, 3].into() })
}

pub(super) fn answer() -> Result<Output, EngineError> {
    Ok(Output::Json(Arc::new(json!({ "text": "hello" }))))
}

pub(super) fn status(status: u16) -> Result<HttpAnswer, HttpFailure> {
    Ok(HttpAnswer { status, ..HttpAnswer::default() })
}

/// What a request says.
pub(super) fn text(http: &HttpRequest) -> &str {
    http.body.as_ref().map_or("", |body| core::str::from_utf8(&body.bytes).unwrap())
}

pub(super) fn body(status: u16, body: &str) -> HttpAnswer {
    HttpAnswer { status, body: body.as_bytes().to_vec(), ..HttpAnswer::default() }
}

impl Rig {
    pub(super) fn new(settings: Settings) -> Self {
        Self::with(Options::new(settings, "studio-worker/1.0.0"))
    }

    pub(super) fn with(options: Options) -> Self {
        Self::start(options, [7; 32])
    }

    pub(super) fn seeded(settings: Settings, seed: [u8; 32]) -> Self {
        Self::start(Options::new(settings, "studio-worker/1.0.0"), seed)
    }

    fn start(options: Options, seed: [u8; 32]) -> Self {
        let now = Now { mono: Mono::from_micros(1_000_000), wall: Wall::from_millis(1_764_054_000_000) };
        let worker = Worker::new(options, seed, now);
        let mut rig = Self {
            worker,
            now,
            oracle: Oracle::new(),
            seen: VecDeque::new(),
            history: Vec::new(),
            file: BTreeMap::new(),
            batched_at: Vec::new(),
            acknowledged: (None, 0),
        };
        rig.drain();
        rig
    }

    /// A rig whose session is open, and whose first actions have been looked at.
    pub(super) fn serving() -> Self {
        let mut rig = Self::new(settings(registered()));
        rig.open();
        rig.seen.clear();
        rig
    }

    /// Answers the connection attempt that is due with a welcome.
    pub(super) fn open(&mut self) -> ConnId {
        let conn = self.connecting();
        self.input(Input::Connected { conn });
        self.welcome();
        assert_eq!(self.worker.state(), SessionState::Serving);
        self.flush();
        conn
    }

    pub(super) fn welcome(&mut self) {
        self.frame(
            &json!({ "type": "welcome", "workerId": "w-1", "serverTime": "2026-01-01T00:00:00.000Z" }),
        );
    }

    /// Waits for the next connection attempt.
    pub(super) fn connecting(&mut self) -> ConnId {
        for _ in 0..100 {
            if let Some(conn) = self.newest_conn().filter(|_| self.worker.state() == SessionState::Connecting)
            {
                return conn;
            }
            self.next_timer();
        }
        panic!("no connection attempt: {:?}", self.worker.state());
    }

    pub(super) fn newest_conn(&self) -> Option<ConnId> {
        self.history.iter().rev().find_map(|action| match action {
            Action::Connect { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    pub(super) fn conn(&self) -> ConnId {
        self.newest_conn().unwrap()
    }

    pub(super) fn input(&mut self, input: Input) {
        self.inputs([input]);
    }

    /// What came in one read: the worker decides on all of it before anything is carried out.
    pub(super) fn inputs<const N: usize>(&mut self, inputs: [Input; N]) {
        for input in inputs {
            self.oracle.happened(&input);
            self.worker.handle(self.now, input);
        }
        self.drain();
    }

    /// A command; the studio has acknowledged what the worker said about it.
    pub(super) fn command(&mut self, command: Command) {
        self.command_unheard(command);
        self.acknowledge();
    }

    /// A command of which the studio hasn't heard yet.
    pub(super) fn command_unheard(&mut self, command: Command) {
        self.worker.command(self.now, command).unwrap();
        self.drain();
    }

    /// Acknowledges every heartbeat, as a live studio does.
    pub(super) fn acknowledge(&mut self) {
        let Some(conn) = self.newest_conn() else { return };
        while self.is_unanswered(conn) {
            self.frame(&json!({ "type": "heartbeatAck" }));
        }
    }

    /// Whether a heartbeat of this connection was not acknowledged.
    fn is_unanswered(&mut self, conn: ConnId) -> bool {
        let of = |action: &&Action| matches!(action, Action::SendHeartbeat { conn: on, .. } if *on == conn);
        let sent = self.history.iter().filter(of).count();
        if self.acknowledged.0 != Some(conn) {
            self.acknowledged = (Some(conn), 0);
        }
        self.acknowledged.1 < sent
    }

    pub(super) fn frame(&mut self, frame: &Value) {
        let conn = self.conn();
        if frame["type"] == "heartbeatAck" && self.is_unanswered(conn) {
            self.acknowledged.1 += 1;
        }
        self.input(Input::Text { conn, text: frame.to_string() });
    }

    /// Everything that was handed over has left.
    pub(super) fn flush(&mut self) {
        let conn = self.conn();
        let of = |action: &&Action| match action {
            Action::Send { conn: on, .. } | Action::SendHeartbeat { conn: on, .. } => *on == conn,
            _ => false,
        };
        let upto = self.history.iter().filter(of).count() as u64;
        self.input(Input::Flushed { conn, upto });
    }

    fn drain(&mut self) {
        let Self { worker, oracle, now, seen, history, file, batched_at, .. } = self;
        oracle.drain(worker, *now, |action| {
            if let Action::Send { frame: WorkerFrame::LogBatch { .. }, .. } = &action {
                batched_at.push(now.mono);
            }
            if let Action::Store { changes, .. } = &action {
                write(file, changes);
            }
            seen.push_back(action.clone());
            history.push(action);
        });
    }

    /// When the next timer is due, and what for.
    pub(super) fn wait(&mut self) -> (Mono, &'static str) {
        match self.worker.next() {
            Step::Wait { until, reason } => (until, reason),
            Step::Do(action) => panic!("not drained: {action:?}"),
        }
    }

    /// Lets time pass up to the next timer.
    pub(super) fn next_timer(&mut self) -> &'static str {
        let (until, reason) = self.wait();
        self.at(until);
        reason
    }

    fn at(&mut self, until: Mono) {
        let passed = until.since(self.now.mono);
        self.now.mono = until;
        self.now.wall =
            Wall::from_millis(self.now.wall.as_millis() + i64::try_from(passed.as_millis()).unwrap_or(0));
        self.input(Input::Tick);
    }

    /// Lets time pass, timer by timer, while the studio acknowledges heartbeats and reads everything.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let (until, _) = self.wait();
            if until > end {
                self.at(end);
                break self.acknowledge();
            }
            self.at(until);
            if self.worker.state() == SessionState::Serving {
                self.flush();
                self.frame(&json!({ "type": "heartbeatAck" }));
            }
        }
    }

    /// The same while the studio says nothing.
    pub(super) fn pass_in_silence(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let (until, _) = self.wait();
            if until > end {
                break self.at(end);
            }
            self.at(until);
        }
    }

    /// The connection breaks.
    pub(super) fn break_connection(&mut self) {
        let conn = self.conn();
        self.input(Input::Closed { conn, end: SessionEnd::Dropped("broken".into()) });
    }

    /// The studio closes with that code.
    pub(super) fn closed(&mut self, code: u16) {
        let conn = self.conn();
        let end = SessionEnd::Closed { code: CloseCode(code), reason: "because".into() };
        self.input(Input::Closed { conn, end });
    }

    /// The studio refuses the upgrade.
    pub(super) fn refuse(&mut self, answer: HttpAnswer) {
        let conn = self.connecting();
        self.input(Input::ConnectFailed { conn, failure: ConnectFailure::Refused(answer) });
    }

    /// Takes the frames that were sent and not looked at, log batches left out; other actions are dropped.
    pub(super) fn frames(&mut self) -> Vec<Value> {
        let actions = core::mem::take(&mut self.seen);
        actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Send { frame: WorkerFrame::LogBatch { .. }, .. } => None,
                Action::Send { frame, .. } => Some(serde_json::from_str(&frame.to_text()).unwrap()),
                Action::SendHeartbeat { capabilities, current_job_id, .. } => Some(json!({
                    "type": "heartbeat", "autoEnabled": capabilities.auto_enabled, "currentJobId": current_job_id,
                })),
                _ => None,
            })
            .collect()
    }

    /// The types of those frames, heartbeats left out.
    pub(super) fn said(&mut self) -> Vec<String> {
        self.frames()
            .into_iter()
            .map(|frame| frame["type"].as_str().unwrap().to_string())
            .filter(|kind| kind != "heartbeat")
            .collect()
    }

    /// The newest run that was dispatched.
    pub(super) fn run(&self) -> RunId {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::DispatchJob { run, .. } => Some(*run),
            _ => None,
        });
        newest.expect("no run")
    }

    /// How many runs were dispatched for a job.
    pub(super) fn runs_of(&self, job: &str) -> usize {
        let of = |action: &&Action| match action {
            Action::DispatchJob { claim, .. } => claim.job_id.as_str() == job,
            _ => false,
        };
        self.history.iter().filter(of).count()
    }

    pub(super) fn run_ends(&mut self, outcome: Result<Output, EngineError>) {
        let run = self.run();
        self.input(Input::RunEnded { run, outcome });
    }

    /// The newest request or upload.
    pub(super) fn request(&self) -> RequestId {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::Request { request, .. } | Action::Upload { request, .. } => Some(*request),
            _ => None,
        });
        newest.expect("no exchange")
    }

    /// How many uploads were started.
    pub(super) fn uploads(&self) -> usize {
        self.history.iter().filter(|action| matches!(action, Action::Upload { .. })).count()
    }

    pub(super) fn answered(&mut self, outcome: Result<HttpAnswer, HttpFailure>) {
        let request = self.request();
        self.input(Input::Answered { request, outcome });
    }

    /// How the jobs ended so far.
    pub(super) fn outcomes(&self) -> Vec<(JobId, JobOutcome)> {
        self.history
            .iter()
            .filter_map(|action| match action {
                Action::RecordRecentJob(job) => Some((job.job_id.clone(), job.outcome.clone())),
                _ => None,
            })
            .collect()
    }

    pub(super) fn completed(&self, job: &str) -> bool {
        self.outcomes().contains(&(job.into(), JobOutcome::Completed))
    }

    /// How many connection attempts were made.
    pub(super) fn attempts(&self) -> usize {
        self.history.iter().filter(|action| matches!(action, Action::Connect { .. })).count()
    }

    /// The time from now until the next connection attempt.
    pub(super) fn gap(&mut self) -> Duration {
        let (before, attempts) = (self.now.mono, self.attempts());
        for _ in 0..1_000 {
            if self.attempts() > attempts {
                return self.now.mono.since(before);
            }
            self.next_timer();
        }
        panic!("no connection attempt: {:?}", self.worker.state());
    }

    /// Lets time pass in one leap, as a machine does that was suspended.
    pub(super) fn leap(&mut self, span: Duration) {
        let until = self.now.mono + span;
        self.at(until);
    }

    /// How the worker ended; checks that nothing came after.
    pub(super) fn exit(&self) -> Option<Exit> {
        let at = self.history.iter().position(|action| matches!(action, Action::Exit(_)))?;
        assert_eq!(at + 1, self.history.len(), "something came after the exit");
        match self.history.last() {
            Some(Action::Exit(exit)) => Some(exit.clone()),
            _ => None,
        }
    }
}

/// A result in a private file.
pub(super) fn file(path: &str) -> Result<Output, EngineError> {
    let file = SpilledFile { path: path.into(), bytes: 100 << 20 };
    Ok(Output::Bytes { ext: "mp4".into(), payload: Payload::File(file) })
}

/// A claimed image job whose engine is done and whose upload is under way.
pub(super) fn uploading(job: &str) -> Rig {
    let mut rig = Rig::serving();
    rig.frame(&image(job));
    rig.run_ends(bytes());
    rig.flush();
    rig.seen.clear();
    rig
}

/// A claimed image job that runs.
pub(super) fn running(job: &str) -> Rig {
    let mut rig = Rig::serving();
    rig.frame(&image(job));
    rig.flush();
    rig.seen.clear();
    rig
}

fn write(file: &mut BTreeMap<Key, String>, changes: &[Change]) {
    for change in changes {
        match &change.value {
            Some(value) => file.insert(change.key, value.reveal().into()),
            None => file.remove(&change.key),
        };
    }
}
