//! A worker that serves, and what happens to it.

use std::{hint::black_box, sync::Arc, time::Duration};

use serde_json::json;
use studio_worker_core::{
    engine::{EngineError, Models, Output, Service},
    time::{Mono, Now, Wall},
    wire::{ApiBase, Capabilities, Finite, TaskKind},
    worker::{Action, ConnId, HEARTBEAT_INTERVAL, Identity, Input, Options, RunId, Settings, Step, Worker},
};

/// A worker with a session, in virtual time.
#[derive(Clone)]
pub(crate) struct Rig {
    worker: Worker,
    now: Now,
    conn: ConnId,
    /// Frames handed over so far.
    sent: u64,
    run: Option<RunId>,
}

/// What the worker is: it serves every kind, from files that the offer names.
pub(crate) fn settings() -> Settings {
    let engines = [
        (TaskKind::Image, "sd-cpp"),
        (TaskKind::Llm, "llama-cpp"),
        (TaskKind::AudioStt, "parakeet"),
        (TaskKind::AudioTts, "onnx"),
        (TaskKind::Video, "sd-cpp"),
        (TaskKind::Mesh, "torch"),
    ];
    Settings {
        api_base: ApiBase::parse("https://studio.example").expect("an address"),
        identity: Identity {
            install_id: Some("11111111-1111-4111-8111-111111111111".into()),
            worker_id: Some("w_01jdq6v1z8k3".into()),
            auth_token: Some("a-token-of-no-studio".into()),
            ..Identity::default()
        },
        label: None,
        capabilities: Capabilities {
            machine_name: "workstation".into(),
            username: "someone".into(),
            agent_version: "1.0.0".into(),
            engine: "multi".into(),
            vram_total_gb: Finite::from(24),
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            auto_start: true,
            model_engines: Some(vec![]),
            ..Capabilities::default()
        },
        services: engines
            .into_iter()
            .map(|(kind, engine)| Service { kind, engine: engine.into(), models: Models::Sourced })
            .collect(),
        measured_engines: Vec::new(),
        reconnect_attempts: None,
    }
}

impl Rig {
    /// A worker that is about to say hello.
    pub(crate) fn greeting() -> Self {
        let now = Now { mono: Mono::ZERO + START, wall: Wall::from_millis(1_764_054_000_000) };
        let worker = Worker::new(Options::new(settings(), "studio-worker/1.0.0"), [7; 32], now);
        let mut rig = Self { worker, now, conn: ConnId(0), sent: 0, run: None };
        rig.drain();
        let conn = rig.conn;
        rig.tell(Input::Connected { conn });
        rig.flushed();
        rig
    }

    /// A worker that has served for a while and has nothing left to say.
    pub(crate) fn serving() -> Self {
        let mut rig = Self::greeting();
        rig.hear(WELCOME.into());
        // Until the timers of a fresh session have fired.
        for _ in 0..200 {
            rig.pass(HEARTBEAT_INTERVAL);
            rig.hear(ACK.into());
        }
        rig
    }

    /// The studio says this.
    pub(crate) fn hear(&mut self, text: String) {
        let conn = self.conn;
        self.tell(Input::Text { conn, text });
    }

    /// All that was said has left.
    pub(crate) fn flushed(&mut self) {
        let (conn, upto) = (self.conn, self.sent);
        self.tell(Input::Flushed { conn, upto });
    }

    /// Time passes, and what was said has left.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        let millis = i64::try_from(span.as_millis()).unwrap_or_default();
        self.now.wall = Wall::from_millis(self.now.wall.as_millis() + millis);
        self.tell(Input::Tick);
        self.flushed();
    }

    /// The engine has answered a chat.
    pub(crate) fn answers(&mut self) {
        let run = self.run.take().expect("a run");
        self.tell(Input::RunEnded { run, outcome: Ok(Output::Json(answer())) });
        self.flushed();
    }

    /// The engine can't answer.
    pub(crate) fn fails(&mut self) {
        let run = self.run.take().expect("a run");
        self.tell(Input::RunEnded { run, outcome: Err(EngineError::permanent("there is no such model")) });
        self.flushed();
    }

    /// A job, from its offer to its acknowledgement, and a second that passes.
    pub(crate) fn job(&mut self, offer: &str, ack: &str) {
        self.hear(offer.into());
        self.flushed();
        self.answers();
        self.hear(ack.into());
        self.pass(Duration::from_secs(1));
    }

    /// Frames that were handed over so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    fn tell(&mut self, input: Input) {
        self.worker.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Step::Do(action) = self.worker.next() {
            match &action {
                Action::Connect { conn, .. } => self.conn = *conn,
                Action::Send { .. } | Action::SendHeartbeat { .. } => self.sent += 1,
                Action::DispatchJob { run, .. } => self.run = Some(*run),
                _ => {}
            }
            black_box(action);
        }
    }
}

/// What an engine answers.
pub(crate) fn answer() -> Arc<serde_json::Value> {
    Arc::new(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "qwen3-8b",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "A pinch does no harm, but add it after the yeast has woken." } }],
        "usage": { "prompt_tokens": 61, "completion_tokens": 15, "total_tokens": 76 },
    }))
}

/// When the worker starts, after its driver did.
pub(crate) const START: Duration = Duration::from_secs(1);
/// The session is open.
pub(crate) const WELCOME: &str =
    r#"{"type":"welcome","workerId":"w_01jdq6v1z8k3","serverTime":"2025-11-25T07:00:00.000Z"}"#;
/// A heartbeat was seen.
pub(crate) const ACK: &str = r#"{"type":"heartbeatAck"}"#;
