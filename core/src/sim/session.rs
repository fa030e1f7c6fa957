//! Fuzz body: the session as a sequence of inputs, any of them out of place, with the oracle after each.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use super::oracle::Oracle;
use crate::{
    engine::{EngineError, Models, Output, Payload, Service, SpilledFile},
    machine::{Memory, Transfer},
    time::{Mono, Now, Wall},
    wire::{ApiBase, Capabilities, CloseCode, Finite, LogLevel, TaskKind, UserPresence},
    worker::{
        Action, Command, ConnId, ConnectFailure, HttpAnswer, HttpFailure, Identity, Input, LogLine,
        MeasureId, Options, RequestId, RunId, SessionEnd, Settings, StoreId, Worker,
    },
};

/// Steps of one run; a longer input is cut.
const MAX_STEPS: usize = 2_000;

/// Plays `data` against a worker as operations: one byte says what happens, the ones behind it how.
///
/// # Panics
/// When a promise is broken: that is the finding.
pub fn session(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let how = bytes.next().unwrap_or(0);
    let mut game = Game::new(how % 4 != 0, how & 4 != 0);
    for _ in 0..MAX_STEPS {
        let Some(op) = bytes.next() else { break };
        let how = if op < 128 { bytes.next().unwrap_or(0) } else { 0 };
        game.play(op % 32, how, &mut bytes);
        if game.oracle.exited() {
            break;
        }
    }
}

struct Game {
    worker: Worker,
    oracle: Oracle,
    now: Now,
    until: Mono,
    measured: bool,
    dispatched: Option<RunId>,
    measure: Option<MeasureId>,
    stores: Vec<StoreId>,
    files: u64,
    sent: u64,
}

fn settings(registered: bool, measured: bool) -> Option<Settings> {
    let listed =
        |kind| Service { kind, engine: "synthetic".into(), models: Models::Listed(vec!["synthetic".into()]) };
    let identity = if registered {
        Identity { worker_id: Some("w".into()), auth_token: Some("tok-fuzz".into()), ..Identity::default() }
    } else {
        Identity::default()
    };
    Some(Settings {
        api_base: ApiBase::parse("http://studio").ok()?,
        identity,
        label: None,
        capabilities: Capabilities {
            vram_threshold_gb: Finite::from(8),
            auto_enabled: true,
            only_when_idle: Some(true),
            ..Capabilities::default()
        },
        services: TaskKind::ALL.into_iter().map(listed).collect(),
        measured_engines: measured.then(|| "synthetic".into()).into_iter().collect(),
        reconnect_attempts: None,
    })
}

impl Game {
    fn new(registered: bool, measured: bool) -> Self {
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_764_054_000_000) };
        let Some(settings) = settings(registered, measured) else { unreachable!("a constant address") };
        let worker = Worker::new(Options::new(settings, "studio-worker/fuzz"), [3; 32], now);
        let mut game = Self {
            worker,
            oracle: Oracle::new(),
            now,
            until: now.mono,
            measured,
            dispatched: None,
            measure: None,
            stores: Vec::new(),
            files: 0,
            sent: 0,
        };
        game.drain();
        if registered {
            // Else most plays would be over before the first job is taken.
            game.command(Command::Presence(Some(UserPresence::Idle)));
        }
        game
    }

    fn drain(&mut self) {
        let Self { worker, oracle, now, dispatched, measure, stores, sent, .. } = self;
        self.until = oracle.drain(worker, *now, |action| match action {
            Action::DispatchJob { run, .. } => *dispatched = Some(run),
            Action::Measure { measure: asked, .. } => *measure = Some(asked),
            Action::Store { store, .. } => stores.push(store),
            Action::Connect { .. } => *sent = 0,
            Action::Send { .. } | Action::SendHeartbeat { .. } => *sent += 1,
            _ => {}
        });
        stores.truncate(16);
    }

    fn input(&mut self, input: Input) {
        self.oracle.happened(&input);
        self.worker.handle(self.now, input);
        self.drain();
    }

    fn command(&mut self, command: Command) {
        // Refusals are fine: what counts is what follows.
        let _ = self.worker.command(self.now, command);
        self.drain();
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.input(Input::Tick);
    }

    fn text(&mut self, text: String) {
        if let Some(conn) = self.oracle.conn() {
            self.input(Input::Text { conn, text });
        }
    }

    fn play(&mut self, op: u8, how: u8, more: &mut impl Iterator<Item = u8>) {
        // An outcome that no driver could report now is one of a connection that is long gone.
        let fits = self.oracle.conn().filter(|_| (op <= 1) == self.oracle.is_connecting());
        let conn = fits.unwrap_or(ConnId(0));
        let job = format!("j-{}", how % 4);
        match op {
            0 => {
                self.input(Input::Connected { conn });
            }
            1 => {
                let failure = match how % 6 {
                    0 => ConnectFailure::Trouble("no route".into()),
                    1 => refused(401, "bad token"),
                    2 => refused(404, r#"{"error":"worker not found"}"#),
                    3 => refused(404, "<html>nothing here</html>"),
                    4 => refused(503, ""),
                    _ => refused(429, ""),
                };
                self.input(Input::ConnectFailed { conn, failure });
            }
            2 => {
                self.text(r#"{"type":"welcome","workerId":"w","serverTime":""}"#.into());
            }
            3 => self.text(r#"{"type":"heartbeatAck"}"#.into()),
            4..=7 => self.offer(&job, how),
            8 => self.text(format!(r#"{{"type":"completeAck","jobId":"{job}"}}"#)),
            9 => self.text(format!(r#"{{"type":"failAck","jobId":"{job}"}}"#)),
            10 => {
                let codes = [
                    "auth_failed",
                    "protocol_violation",
                    "duplicate_worker",
                    "worker_deleted",
                    "internal_error",
                    "new",
                ];
                let code = codes[usize::from(how) % codes.len()];
                self.text(format!(r#"{{"type":"error","code":"{code}","message":"m"}}"#));
            }
            11 => {
                let code = [1000, 1001, 1006, 1009, 4000, 4001, 4002, 4003, 4004][usize::from(how % 9)];
                self.input(Input::Closed {
                    conn,
                    end: SessionEnd::Closed { code: CloseCode(code), reason: "r".into() },
                });
            }
            12 => {
                let end = if how.is_multiple_of(2) {
                    SessionEnd::Dropped("gone".into())
                } else {
                    SessionEnd::TooLarge
                };
                self.input(Input::Closed { conn, end });
            }
            13..=15 => self.end_run(how),
            16 | 17 => self.answer(how, more),
            18 if how >= 192 => {
                let run = self.dispatched.unwrap_or(RunId(0));
                let (done, name) = (u64::from(how) << 20, format!("f-{}", how % 3));
                let total = (!how.is_multiple_of(5)).then_some(250 << 20);
                let transfer = (how != 255).then_some(Transfer { name, done, total, came: done });
                self.input(Input::RunProgress { run, transfer });
            }
            18 if how >= 128 => self.measured(how),
            18 => {
                let request = self.nth_request(how);
                self.input(Input::UploadProgress { request, sent: u64::from(how) * 1000 });
            }
            19 => {
                let outcome = if how.is_multiple_of(4) { Err("disk full".to_owned()) } else { Ok(()) };
                let store = self.stores.pop().unwrap_or(StoreId(u64::from(how)));
                self.input(Input::Stored { store, outcome });
            }
            20 | 21 => {
                let span = self.until.since(self.now.mono);
                // A worker that waits for nothing would jump to the end of time.
                self.pass(span.min(Duration::from_secs(7_200)));
            }
            22 => self.pass(Duration::from_millis(u64::from(how) * 40)),
            23 => {
                // Time that goes back, and a wall clock that jumps.
                self.now.wall = Wall::from_millis(i64::from(how) * 1_000_000_000);
                let earlier = Now { mono: self.now.mono - Duration::from_secs(u64::from(how)), ..self.now };
                self.worker.handle(earlier, Input::Tick);
                self.drain();
            }
            24 if how >= 192 => self.command(Command::Presence(match how % 3 {
                0 => Some(UserPresence::Active),
                1 => Some(UserPresence::Idle),
                _ => None,
            })),
            24 => self.command(match how % 4 {
                0 | 1 => Command::Pause,
                _ => Command::Resume,
            }),
            25 => self.command(Command::SetThreshold(f64::from(how) / 8.0 - 1.0)),
            26 if how > 200 => self.command(match how {
                201..=225 => Command::MakeWay,
                226..=250 => Command::Drain,
                _ => Command::Stop,
            }),
            27 if how > 200 => {
                let measured = self.measured && !how.is_multiple_of(5);
                if let Some(settings) = settings(how.is_multiple_of(2), measured) {
                    self.command(Command::Reconfigure(settings.into()));
                }
            }
            28 => self.input(Input::Log(LogLine {
                level: LogLevel::Info,
                category: "fuzz".into(),
                message: "a line".into(),
                job_id: None,
            })),
            29 => {
                let text: Vec<u8> = more.take(usize::from(how)).collect();
                let text = String::from_utf8_lossy(&text).into_owned();
                self.text(text);
            }
            30 => self.input(Input::OtherFrame { conn, binary: how.is_multiple_of(2) }),
            _ => self.input(Input::Flushed { conn, upto: self.sent }),
        }
    }

    fn offer(&mut self, job: &str, how: u8) {
        let task = match how / 4 % 8 {
            0..=2 => r#"{"kind":"image","prompt":"p"}"#,
            3 | 4 => r#"{"kind":"llm","messages":[{"role":"user","content":"c"}]}"#,
            5 => r#"{"kind":"image","prompt":"other"}"#,
            6 => r#"{"kind":"image","width":0}"#,
            _ => r#"{"kind":"hologram"}"#,
        };
        let gb = if how > 240 { 99 } else { 1 + how / 64 };
        let source = if (192..=240).contains(&how) {
            r#","modelSource":{"engine":"synthetic","files":[{"approxBytes":8589934592}],"cliDefaults":{"offloadToCpu":true}}"#
        } else {
            ""
        };
        self.text(format!(
            r#"{{"type":"offer","claim":{{"jobId":"{job}","model":"synthetic","vramGbEstimate":{gb},"task":{task}{source}}}}}"#
        ));
    }

    fn measured(&mut self, how: u8) {
        let gib = |n: u8| Some(u64::from(n) << 30);
        let memory = match how % 4 {
            0 => Memory { gpu_total: gib(24), gpu_free: gib(how % 8), host_available: gib(16) },
            1 => Memory { gpu_total: gib(24), gpu_free: gib(24), host_available: gib(how % 32) },
            2 => Memory { gpu_total: gib(24), gpu_free: gib(24), host_available: gib(64) },
            _ => Memory::default(),
        };
        let measure = self.measure.take().unwrap_or(MeasureId(u64::from(how)));
        self.input(Input::Measured { measure, memory, resident: how % 16 == 4 });
    }

    fn end_run(&mut self, how: u8) {
        let run = if how == 255 { RunId(u64::MAX) } else { self.dispatched.unwrap_or(RunId(0)) };
        let live = self.oracle.running() == Some(run);
        let outcome = match how % 6 {
            0 | 1 => Ok(Output::Bytes { ext: "webp".into(), payload: vec![0; 64].into() }),
            2 => {
                self.files += 1;
                let file = SpilledFile { path: format!("f-{}", self.files).into(), bytes: 1 << 30 };
                Ok(Output::Bytes { ext: "mp4".into(), payload: Payload::File(file) })
            }
            3 => Ok(Output::Json(Arc::new("text".into()))),
            4 => Err(EngineError::transient("out of memory")),
            _ => Err(EngineError::permanent("not a picture")),
        };
        if live {
            self.dispatched = None;
        }
        self.input(Input::RunEnded { run, outcome });
    }

    fn nth_request(&self, how: u8) -> RequestId {
        let all: Vec<_> = self.oracle.requests().collect();
        all.get(usize::from(how) % all.len().max(1)).copied().unwrap_or(RequestId(u64::from(how)))
    }

    fn answer(&mut self, how: u8, more: &mut impl Iterator<Item = u8>) {
        let request = self.nth_request(more.next().unwrap_or(0));
        let body = match how / 16 % 4 {
            0 => r#"{"requestId":"rr-1","status":"pending"}"#,
            1 => r#"{"status":"approved","workerId":"w","authToken":"t2"}"#,
            2 => r#"{"status":"rejected","reason":"no"}"#,
            _ => "{}",
        };
        let statuses = [200, 204, 302, 400, 401, 403, 404, 408, 409, 410, 413, 429, 500, 503];
        let outcome = match statuses.get(usize::from(how % 16)) {
            Some(status) => Ok(HttpAnswer {
                status: *status,
                retry_after: (how > 128).then(|| "7".to_owned()),
                body: body.as_bytes().to_vec(),
                ..HttpAnswer::default()
            }),
            None => Err(HttpFailure("broken".into())),
        };
        self.input(Input::Answered { request, outcome });
    }
}

fn refused(status: u16, body: &str) -> ConnectFailure {
    ConnectFailure::Refused(HttpAnswer { status, body: body.as_bytes().to_vec(), ..HttpAnswer::default() })
}
