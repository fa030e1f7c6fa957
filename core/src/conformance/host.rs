//! The worker's side of a scenario.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use serde_json::json;

use super::PATIENCE;
use crate::{
    drive::{Store, WorkerHandle},
    engine::{Engine, EngineError, FnEngine, Models, Output, Recipe, Service},
    wire::{ApiBase, Capabilities, Claim, Finite, Task, TaskKind},
    worker::{Exit, Identity, Options, Settings},
};

/// Starts workers on the runtime under test.
pub trait Host {
    /// Starts a worker and drives it on a thread; see [`Running::new`].
    fn start(&self, options: Options, engine: Arc<dyn Engine>, store: Arc<dyn Store>) -> Running;
}

/// A worker that runs. It is stopped when this is dropped.
pub struct Running {
    /// Its handle.
    pub handle: WorkerHandle,
    exit: mpsc::Receiver<Exit>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Calls `drive` on a thread; it drives the worker until it ends.
    pub fn new(handle: WorkerHandle, drive: impl FnOnce() -> Exit + Send + 'static) -> Self {
        let (sender, exit) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _ = sender.send(drive());
        });
        Self { handle, exit, thread: Some(thread) }
    }

    /// Waits until the worker has ended.
    pub fn exit(mut self) -> Exit {
        let exit = self.exit.recv_timeout(PATIENCE).expect("the worker does not end");
        self.thread.take().unwrap().join().unwrap();
        exit
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if !thread::panicking()
            && let Some(thread) = self.thread.take()
        {
            let _ = self.exit.recv_timeout(PATIENCE);
            let _ = thread.join();
        }
    }
}

/// A worker's identity after its approval.
pub fn registered() -> Identity {
    Identity {
        install_id: Some("11111111-1111-4111-8111-111111111111".into()),
        worker_id: Some("w-1".into()),
        auth_token: Some("tok-1".into()),
        ..Identity::default()
    }
}

/// Options for a worker of the studio at `base`.
pub fn options(base: &str, identity: Identity) -> Options {
    let settings = Settings {
        api_base: ApiBase::parse(base).unwrap(),
        identity,
        label: Some("test".into()),
        capabilities: Capabilities {
            machine_name: "host".into(),
            engine: "synthetic".into(),
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            ..Capabilities::default()
        },
        services: Vec::new(),
        reconnect_attempts: None,
    };
    Options::new(settings, "studio-worker/test")
}

/// The byte of a test result at this place.
#[allow(clippy::cast_possible_truncation, reason = "a byte of the mixed place is what is wanted")]
pub fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8 ^ at as u8
}

/// Holds back runs of the engine until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everyone pass from now on.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
    }
}

/// The engine of the scenarios. A chat answers with its prompt, repeated; a picture is as many [`byte`]s as
/// its prompt says; `panic` panics; `wait` waits for the [`Gate`] and says so.
pub struct TestEngine {
    engine: Box<dyn Engine>,
    runs: Arc<AtomicUsize>,
    /// What `wait` waits for.
    pub gate: Gate,
}

impl TestEngine {
    /// An engine whose gate is shut.
    pub fn new() -> Arc<Self> {
        let listed = |kind| Service {
            kind,
            engine: "synthetic".into(),
            models: Models::Listed(vec!["synthetic".into()]),
        };
        let services = TaskKind::ALL.into_iter().map(listed).collect();
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
        let (counted, waited) = (Arc::clone(&runs), gate.clone());
        let engine = FnEngine::new("synthetic", services, move |claim| {
            counted.fetch_add(1, Ordering::SeqCst);
            run(claim, &waited)
        });
        Arc::new(Self { engine: Box::new(engine), runs, gate })
    }

    /// How many runs have begun.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Engine for TestEngine {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn services(&self) -> Vec<Service> {
        self.engine.services()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        self.engine.recipe(claim)
    }
}

fn run(claim: &Claim, gate: &Gate) -> Result<Output, EngineError> {
    let prompt = claim.task.prompt();
    if matches!(claim.task, Task::Image(_)) {
        let length = prompt.parse::<usize>().map_err(EngineError::permanent)?;
        let bytes: Vec<u8> = (0..length).map(byte).collect();
        return Ok(Output::Bytes { ext: "webp".into(), payload: bytes.into() });
    }
    match prompt {
        "panic" => panic!("out of paint"),
        "wait" => gate.pass(),
        _ => {}
    }
    let repeat = prompt.strip_prefix("repeat ").and_then(|times| times.parse().ok()).unwrap_or(1);
    Ok(Output::Json(Arc::new(json!({ "said": prompt.repeat(repeat) }))))
}
