//! Workers in the process of the test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use super::{BYTES_A_CHARACTER, Clock, Ended, Host, Hosted, Network, PATIENCE, Start, clock::Watched};
use crate::{
    drive::{MemoryStore, Store, WorkerHandle},
    engine::{Engine, EngineError, FnEngine, Models, Output, Recipe, Service},
    wire::{ApiBase, Capabilities, Claim, Finite, Task, TaskKind},
    worker::{Exit, Identity, JobOutcome, Options, Settings},
};

/// Makes a worker of a studio on that network, and drives it ([`Running::new`]).
pub type StartWorker = fn(&Network, Options, Arc<dyn Engine>, Arc<dyn Store>) -> Running;

/// Starts workers on a runtime.
#[derive(Clone)]
pub struct InProcess {
    network: Network,
    start: StartWorker,
}

impl InProcess {
    /// A host of workers on that network.
    pub fn new(network: Network, start: StartWorker) -> Self {
        Self { network, start }
    }

    /// Starts a worker of the studio at `base`.
    pub fn start(&self, Start { base, identity, held }: Start<'_>) -> Local {
        let engine = TestEngine::new(self.network.clock());
        if held {
            engine.gate.shut();
        }
        let store = Arc::new(MemoryStore::new());
        let running = (self.start)(&self.network, options(base, identity), engine.clone(), store.clone());
        Local { running, engine, store }
    }
}

impl Host for InProcess {
    fn network(&self) -> &Network {
        &self.network
    }

    fn start(&self, start: Start<'_>) -> Box<dyn Hosted> {
        Box::new(InProcess::start(self, start))
    }
}

/// A worker in this process.
pub struct Local {
    /// The worker.
    pub running: Running,
    /// Its engine.
    pub engine: Arc<TestEngine>,
    /// Where it keeps what it must know again.
    pub store: Arc<MemoryStore>,
}

impl Hosted for Local {
    fn let_go(&self) {
        self.engine.gate.open();
    }

    fn identity(&self) -> Identity {
        self.store.identity()
    }

    fn pause(&self) {
        self.running.handle.pause();
    }

    fn resume(&self) {
        self.running.handle.resume();
    }

    fn set_threshold(&self, gb: f64) {
        self.running.handle.set_threshold(gb).unwrap();
    }

    fn drain(&self) {
        self.running.handle.drain();
    }

    fn stop(&self) {
        self.running.handle.stop();
    }

    fn ended(self: Box<Self>) -> Ended {
        let Self { running, engine, .. } = *self;
        let observers = running.handle.observers();
        let exit = running.exit();
        // A closure of the engine outlives the worker that stopped it.
        engine.gate.open();
        let jobs = observers.recent_jobs().into_iter().rev();
        Ended {
            code: exit.code(),
            said: exit.to_string(),
            runs: engine.runs(),
            jobs: jobs.map(|job| (job.job_id.to_string(), job.outcome == JobOutcome::Completed)).collect(),
        }
    }
}

/// A worker that runs. It is stopped when this is dropped.
pub struct Running {
    /// Its handle.
    pub handle: WorkerHandle,
    exit: Watched<Option<Exit>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Calls `drive` on a thread; it drives the worker until it ends.
    pub fn new(
        network: &Network,
        handle: WorkerHandle,
        drive: impl FnOnce() -> Exit + Send + 'static,
    ) -> Self {
        let exit = Watched::new(network.clock(), None);
        let ended = exit.clone();
        let thread = network.clock().spawn(move || {
            let exit = drive();
            ended.change(|ended| *ended = Some(exit));
        });
        Self { handle, exit, thread: Some(thread) }
    }

    /// Waits until the worker has ended.
    pub fn exit(mut self) -> Exit {
        let exit = self.exit.take_within(PATIENCE, Option::take).expect("the worker does not end");
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
            self.exit.take_within(PATIENCE, Option::take);
            let _ = thread.join();
        }
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
        measured_engines: Vec::new(),
        reconnect_attempts: None,
    };
    Options::new(settings, "studio-worker/test")
}

/// A test result of this length: bytes that tell their place, so that none is lost, doubled or moved unseen.
pub fn result_bytes(length: usize) -> Vec<u8> {
    // Made of numbers rather than byte by byte, which takes seconds in a build that is not optimised.
    let mut bytes = Vec::with_capacity(length + size_of::<u64>());
    for place in (0_u64..).take(length.div_ceil(size_of::<u64>())) {
        bytes.extend_from_slice(&place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Longer than any scenario.
const A_DAY: Duration = Duration::from_secs(86_400);

/// Holds back runs of the engine while it is shut.
#[derive(Clone)]
pub struct Gate(Watched<bool>);

impl Gate {
    /// Lets nobody pass from now on.
    pub fn shut(&self) {
        self.0.change(|open| *open = false);
    }

    /// Lets everyone pass from now on.
    pub fn open(&self) {
        self.0.change(|open| *open = true);
    }

    fn pass(&self) {
        self.0.take_within(A_DAY, |open| open.then_some(()));
    }
}

/// The engine of workers in this process. A chat answers with its prompt; a picture is as many [bytes](result_bytes) as its prompt
/// says, a speech as many as one of its length has; `panic` panics. All of them pass the [`Gate`] first.
pub struct TestEngine {
    engine: Box<dyn Engine>,
    runs: Arc<AtomicUsize>,
    /// What runs pass. It is open.
    pub gate: Gate,
}

impl TestEngine {
    /// An engine whose gate is open.
    pub fn new(clock: &Clock) -> Arc<Self> {
        let listed = |kind| Service {
            kind,
            engine: "synthetic".into(),
            models: Models::Listed(vec!["synthetic".into()]),
        };
        let services = TaskKind::ALL.into_iter().map(listed).collect();
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Gate(Watched::new(clock, true)));
        let (counted, waited) = (Arc::clone(&runs), gate.clone());
        let engine = FnEngine::new("synthetic", services, move |claim| {
            counted.fetch_add(1, Ordering::SeqCst);
            waited.pass();
            run(claim)
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

fn run(claim: &Claim) -> Result<Output, EngineError> {
    let bytes = |ext: &str, length: usize| {
        Ok(Output::Bytes { ext: ext.into(), payload: result_bytes(length).into() })
    };
    match (&claim.task, claim.task.prompt()) {
        (Task::Image(_), length) => bytes("webp", length.parse().map_err(EngineError::permanent)?),
        (Task::AudioTts(_), text) => bytes("wav", text.chars().count() * BYTES_A_CHARACTER),
        (_, "panic") => panic!("out of paint"),
        (_, prompt) => Ok(Output::Json(Arc::new(json!({ "said": prompt })))),
    }
}
