//! The worker's machine and the studio's, with a link between them that keeps what it is told to keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::json;

use crate::{
    engine::{EngineError, Models, Output, Service},
    sim::Oracle,
    studio::{self, Answer, CallId, JobRecord, NewJob, Record, Step, Studio, Upload},
    time::{Mono, Now, Wall},
    wire::{ApiBase, Capabilities, Claim, CloseCode, Finite, JobId, Secret, TaskKind, WorkerFrame},
    worker::{
        Action, Command, ConnId, ConnectFailure, Exit, HttpAnswer, HttpFailure, Identity, Input, Method,
        Options, RequestId, RunId, SessionEnd, Settings, Worker,
    },
};

/// What is under way. Things of one lane keep their order; between lanes anything goes.
#[derive(Debug, Clone)]
enum Trip {
    Connect { conn: ConnId, url: String, bearer: Secret },
    Up { conn: ConnId, text: String, nth: u64 },
    UpClose { conn: ConnId },
    Down { conn: ConnId, text: String },
    DownClose { conn: ConnId, code: CloseCode },
    Request { request: RequestId, method: Method, url: String, bearer: Option<Secret>, body: Option<String> },
    UploadHead { request: RequestId, url: String, bearer: Secret },
    UploadBody { request: RequestId, call: CallId },
    Answer { request: RequestId, answer: HttpAnswer },
    Run { run: RunId, claim: Arc<Claim> },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Up(ConnId),
    Down(ConnId),
    Http(RequestId),
    Run(RunId),
}

impl Trip {
    fn lane(&self) -> Lane {
        match self {
            Self::Connect { conn, .. } | Self::Up { conn, .. } | Self::UpClose { conn } => Lane::Up(*conn),
            Self::Down { conn, .. } | Self::DownClose { conn, .. } => Lane::Down(*conn),
            Self::Request { request, .. }
            | Self::UploadHead { request, .. }
            | Self::UploadBody { request, .. }
            | Self::Answer { request, .. } => Lane::Http(*request),
            Self::Run { run, .. } => Lane::Run(*run),
        }
    }

    fn is_of(&self, of: ConnId) -> bool {
        matches!(self.lane(), Lane::Up(conn) | Lane::Down(conn) if conn == of)
    }
}

/// What goes wrong on the link, and when.
pub(super) enum Weather {
    /// Nothing: first come, first served.
    Fair,
    /// Any order, and that many faults.
    Foul { chance: Box<ChaCha8Rng>, faults: u32 },
}

impl Weather {
    pub(super) fn foul(seed: u64, faults: u32) -> Self {
        Self::Foul { chance: Box::new(ChaCha8Rng::seed_from_u64(seed)), faults }
    }

    /// A number below `n`.
    fn pick(&mut self, n: usize) -> usize {
        match self {
            Self::Fair => 0,
            Self::Foul { chance, .. } => usize::try_from(chance.next_u64() % n as u64).unwrap(),
        }
    }

    fn fault(&mut self) -> bool {
        let Self::Foul { chance, faults } = self else {
            return false;
        };
        let strikes = *faults > 0 && chance.next_u64().is_multiple_of(8);
        *faults -= u32::from(strikes);
        strikes
    }
}

pub(super) struct Link {
    pub(super) worker: Worker,
    pub(super) studio: Studio,
    pub(super) oracle: Oracle,
    now: Now,
    until: Mono,
    trips: Vec<Trip>,
    weather: Weather,
    calls: u64,
    waiting: BTreeMap<CallId, RequestId>,
    upgrades: BTreeMap<CallId, ConnId>,
    /// Sessions whose worker's side is open.
    open: BTreeSet<ConnId>,
    sent: BTreeMap<ConnId, u64>,
    /// Each run of the engine, by its job.
    pub(super) runs: Vec<JobId>,
    pub(super) over: BTreeMap<JobId, Arc<JobRecord>>,
    pub(super) exit: Option<Exit>,
}

const BASE: &str = "http://studio/graphics/api";

impl Link {
    pub(super) fn new(options: studio::Options, weather: Weather) -> Self {
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_764_054_000_000) };
        let listed = |kind| Service {
            kind,
            engine: "synthetic".into(),
            models: Models::Listed(vec!["synthetic".into()]),
        };
        let settings = Settings {
            api_base: ApiBase::parse("http://studio").unwrap(),
            identity: Identity::default(),
            label: Some("box".into()),
            capabilities: Capabilities {
                vram_threshold_gb: Finite::from(12),
                auto_enabled: true,
                model_engines: Some(vec![]),
                ..Capabilities::default()
            },
            services: TaskKind::ALL.into_iter().map(listed).collect(),
            reconnect_attempts: None,
        };
        let mut link = Self {
            worker: Worker::new(Options::new(settings, "studio-worker/test"), [1; 32], now),
            studio: Studio::new(options, [2; 32], now),
            oracle: Oracle::new(),
            now,
            until: Mono::NEVER,
            trips: Vec::new(),
            weather,
            calls: 0,
            waiting: BTreeMap::new(),
            upgrades: BTreeMap::new(),
            open: BTreeSet::new(),
            sent: BTreeMap::new(),
            runs: Vec::new(),
            over: BTreeMap::new(),
            exit: None,
        };
        link.drain_worker();
        link
    }

    pub(super) fn queue(&mut self, job: NewJob) -> JobId {
        let id = JobId::from(format!("job {}/%", self.calls));
        let call = self.call();
        let job = Box::new(NewJob { id: Some(id.clone()), ..job });
        self.tell_studio(studio::Input::QueueJob { call, job });
        id
    }

    pub(super) fn ask(&mut self, input: impl FnOnce(CallId) -> studio::Input) {
        let call = self.call();
        self.tell_studio(input(call));
    }

    pub(super) fn command(&mut self, command: Command) {
        self.worker.command(self.now, command).unwrap();
        self.drain_worker();
    }

    /// Lets things happen until `done` says so.
    pub(super) fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("{what} never came: {:?}, jobs {:?}", self.trips, self.studio.jobs().collect::<Vec<_>>());
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    fn step(&mut self) {
        if self.weather.fault() {
            return self.fault();
        }
        let mut lanes = BTreeSet::new();
        let heads: Vec<usize> =
            (0..self.trips.len()).filter(|at| lanes.insert(self.trips[*at].lane())).collect();
        // In foul weather time may pass while things are under way.
        let choices =
            heads.len() + usize::from(heads.is_empty() || matches!(self.weather, Weather::Foul { .. }));
        let choice = self.weather.pick(choices);
        match heads.get(choice) {
            Some(at) => {
                let trip = self.trips.remove(*at);
                self.arrive(trip);
            }
            None => self.pass(heads.is_empty()),
        }
    }

    fn pass(&mut self, idle: bool) {
        let Step::Wait { until: studio, .. } = self.studio.next() else { panic!("drained") };
        let due = self.until.min(studio);
        assert!(due < Mono::NEVER, "nothing is under way and nobody waits for anything");
        let at = if idle { due } else { due.min(self.now.mono + Duration::from_millis(500)) };
        self.now.wall = Wall::from_millis(
            self.now.wall.as_millis() + i64::try_from(at.since(self.now.mono).as_millis()).unwrap(),
        );
        self.now.mono = at;
        self.tell_worker(Input::Tick);
        self.tell_studio(studio::Input::Tick);
    }

    /// The session drops, for both sides or for the worker alone, or an exchange breaks.
    fn fault(&mut self) {
        let kind = self.weather.pick(3);
        let conn = self.open.iter().next().copied();
        if let (Some(conn), 0 | 1) = (conn, kind) {
            self.forget(conn);
            self.tell_worker(Input::Closed { conn, end: SessionEnd::Dropped("reset".into()) });
            if kind == 0 {
                self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn.0) });
            }
            return;
        }
        let exchange = self.trips.iter().find_map(|trip| match trip.lane() {
            Lane::Http(request) => Some(request),
            _ => None,
        });
        if let Some(request) = exchange {
            self.give_up(request);
            self.tell_worker(Input::Answered { request, outcome: Err(HttpFailure("broken pipe".into())) });
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.trips.retain(|trip| !trip.is_of(conn));
    }

    fn give_up(&mut self, request: RequestId) {
        let body = self.trips.iter().find_map(|trip| match trip {
            Trip::UploadBody { request: of, call } if *of == request => Some(*call),
            _ => None,
        });
        self.trips.retain(|trip| trip.lane() != Lane::Http(request));
        if let Some(call) = body {
            self.tell_studio(studio::Input::UploadBreaks { call });
        }
    }

    fn tell_worker(&mut self, input: Input) {
        self.oracle.happened(&input);
        self.worker.handle(self.now, input);
        self.drain_worker();
    }

    fn drain_worker(&mut self) {
        let mut actions = Vec::new();
        self.until = self.oracle.drain(&mut self.worker, self.now, |action| actions.push(action));
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, url, bearer } => self.trips.push(Trip::Connect { conn, url, bearer }),
            Action::SendHeartbeat { conn, capabilities, current_job_id } => {
                self.send_up(conn, &WorkerFrame::Heartbeat { capabilities, current_job_id });
            }
            Action::Send { conn, frame } => self.send_up(conn, &frame),
            Action::Close { conn, .. } => self.trips.push(Trip::UpClose { conn }),
            Action::Drop { conn } => {
                self.forget(conn);
                self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn.0) });
            }
            Action::Request { request, http } => self.trips.push(Trip::Request {
                request,
                method: http.method,
                url: http.url,
                bearer: http.bearer,
                body: http.body.map(|body| String::from_utf8(body.bytes).unwrap()),
            }),
            Action::Upload { request, upload } => {
                self.trips.push(Trip::UploadHead { request, url: upload.url, bearer: upload.bearer });
            }
            Action::CancelRequest { request } => self.give_up(request),
            Action::DispatchJob { run, claim } => {
                self.runs.push(claim.job_id.clone());
                self.trips.push(Trip::Run { run, claim });
            }
            Action::CancelRun { run } => {
                self.trips.retain(|trip| trip.lane() != Lane::Run(run));
                self.tell_worker(Input::RunEnded { run, outcome: Err(EngineError::transient("cancelled")) });
            }
            Action::Store { store, .. } => self.tell_worker(Input::Stored { store, outcome: Ok(()) }),
            Action::Exit(exit) => self.exit = Some(exit),
            Action::Discard(_) | Action::RecordRecentJob(_) | Action::Observe(_) | Action::Log(_) => {}
        }
    }

    fn send_up(&mut self, conn: ConnId, frame: &WorkerFrame) {
        let nth = self.sent.entry(conn).or_default();
        *nth += 1;
        self.trips.push(Trip::Up { conn, text: frame.to_text(), nth: *nth });
    }

    fn arrive(&mut self, trip: Trip) {
        match trip {
            Trip::Connect { conn, url, bearer } => {
                let path = url.strip_prefix("ws://studio/graphics/api/workers/").unwrap();
                let worker_id = path.strip_suffix("/connect").unwrap().to_owned();
                let call = self.call();
                self.upgrades.insert(call, conn);
                let bearer = Some(bearer);
                let of = studio::ConnId(conn.0);
                self.tell_studio(studio::Input::Upgrade { call, conn: of, worker_id, bearer });
            }
            Trip::Up { conn, text, nth } => {
                self.tell_worker(Input::Flushed { conn, upto: nth });
                self.tell_studio(studio::Input::Text { conn: studio::ConnId(conn.0), text });
            }
            Trip::UpClose { conn } => {
                self.forget(conn);
                self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn.0) });
                let end = SessionEnd::Closed { code: CloseCode::NORMAL, reason: String::new() };
                self.tell_worker(Input::Closed { conn, end });
            }
            Trip::Down { conn, text } => self.tell_worker(Input::Text { conn, text }),
            Trip::DownClose { conn, code } => {
                self.forget(conn);
                self.tell_worker(Input::Closed {
                    conn,
                    end: SessionEnd::Closed { code, reason: String::new() },
                });
            }
            Trip::Request { request, method, url, bearer, body } => {
                let call = self.call();
                self.waiting.insert(call, request);
                let path = url.strip_prefix(BASE).unwrap();
                self.tell_studio(match method {
                    Method::Post => {
                        assert_eq!(path, "/workers/register-request");
                        let body = body.unwrap().into_bytes();
                        studio::Input::Register { call, peer: "127.0.0.1".into(), body }
                    }
                    Method::Get => {
                        let id = path.strip_prefix("/workers/register-requests/").unwrap();
                        studio::Input::Poll { call, request_id: id.into(), bearer }
                    }
                });
            }
            Trip::UploadHead { request, url, bearer } => {
                let call = self.call();
                self.waiting.insert(call, request);
                let path = url.strip_prefix(BASE).unwrap().strip_prefix("/workers/").unwrap();
                let (worker_id, rest) = path.split_once("/jobs/").unwrap();
                let job = rest.strip_suffix("/complete").unwrap();
                let job_id =
                    percent_encoding::percent_decode_str(job).decode_utf8().unwrap().into_owned().into();
                let (worker_id, bearer) = (worker_id.to_owned(), Some(bearer));
                self.tell_studio(studio::Input::UploadBegins { call, worker_id, job_id, bearer });
            }
            Trip::UploadBody { request, call } => {
                self.waiting.insert(call, request);
                let upload =
                    Upload { file: format!("{call:?}"), bytes: 3, ext: "webp".into(), prompt: String::new() };
                self.tell_studio(studio::Input::UploadEnds { call, upload });
            }
            Trip::Answer { request, answer } => {
                self.tell_worker(Input::Answered { request, outcome: Ok(answer) });
            }
            Trip::Run { run, claim } => {
                let output = if claim.task.kind().result_is_json() {
                    Output::Json(Arc::new(json!({ "text": "hello" })))
                } else {
                    Output::Bytes { ext: "webp".into(), payload: vec![1, 2, 3].into() }
                };
                self.tell_worker(Input::RunEnded { run, outcome: Ok(output) });
            }
        }
    }

    fn tell_studio(&mut self, input: studio::Input) {
        self.studio.handle(self.now, input);
        while let Step::Do(action) = self.studio.next() {
            match action {
                studio::Action::Save(Record::Job(job)) if job.state.is_over() => {
                    assert!(self.over.insert(job.id.clone(), job).is_none(), "a job ends once");
                }
                studio::Action::Answer { call, answer } => self.answer(call, &answer),
                studio::Action::Send { conn, frame, form } => {
                    let conn = ConnId(conn.0);
                    if self.open.contains(&conn) {
                        self.trips.push(Trip::Down { conn, text: frame.to_text(form) });
                    }
                }
                studio::Action::Close { conn, code, .. } => {
                    let conn = ConnId(conn.0);
                    if self.open.contains(&conn) {
                        self.trips.push(Trip::DownClose { conn, code });
                    }
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, call: CallId, answer: &Answer) {
        if let Some(conn) = self.upgrades.remove(&call) {
            if *answer == Answer::Proceed {
                self.open.insert(conn);
                self.tell_worker(Input::Connected { conn });
            } else {
                let failure = ConnectFailure::Refused(http(answer));
                self.tell_worker(Input::ConnectFailed { conn, failure });
            }
        } else if let Some(request) = self.waiting.remove(&call) {
            self.trips.push(match answer {
                Answer::Proceed => Trip::UploadBody { request, call },
                answer => Trip::Answer { request, answer: http(answer) },
            });
        }
    }

    /// What must hold whatever the weather was.
    pub(super) fn check(&self) {
        assert_eq!(self.studio.violations().collect::<Vec<_>>(), Vec::<&studio::Violation>::new());
        assert_eq!(self.studio.counters().impossible, 0);
        assert_eq!(self.worker.counters().impossible, 0);
    }
}

fn http(answer: &Answer) -> HttpAnswer {
    HttpAnswer {
        status: answer.status(),
        retry_after: answer.retry_after().map(|seconds| seconds.to_string()),
        body: answer.body().to_string().into_bytes(),
        ..HttpAnswer::default()
    }
}
