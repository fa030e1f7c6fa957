//! Workers' processes: started, watched, told what their owners want, killed.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::{
    engine::SimEngine,
    machine::{SimDisk, SimRuntime},
    state::World,
};
use crate::{
    drive::{Witness, WorkerHandle, start_witnessed},
    sim::{Broken, Oracle},
    time::Now,
    wire::{ApiBase, Capabilities, Finite, LogLevel},
    worker::{Action, Exit, Input, LogLine, Options, Settings, Step, Worker},
};

/// How long a run may take in a simulated world.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// How long a drain may take there.
const DRAIN_TIME: Duration = Duration::from_secs(120);

pub(super) struct Process {
    future: Pin<Box<dyn Future<Output = Exit> + Send>>,
    pub(super) handle: WorkerHandle,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Process {
    pub(super) fn start(world: &World, machine: usize) -> Self {
        let (identity, process, seed, label, measured) = {
            let mut state = world.lock();
            let process = state.number();
            let seed = state.dice.seed();
            let (now, machine_) = (state.now, &mut state.machines[machine]);
            machine_.process = process;
            machine_.started = now - machine_.lag;
            let identity = machine_.identity();
            state.report.processes += 1;
            state.say(format_args!("box {machine}: starts, {:?}", identity.worker_id));
            (identity, process, seed, format!("box {machine}"), state.scenario.measured)
        };
        let settings = Settings {
            api_base: ApiBase::parse("http://studio").expect("an address"),
            identity,
            label: Some(label),
            capabilities: Capabilities {
                vram_threshold_gb: Finite::from(8),
                auto_enabled: true,
                model_engines: Some(Vec::new()),
                ..Capabilities::default()
            },
            services: Vec::new(),
            measured_engines: measured.then(|| "synthetic".into()).into_iter().collect(),
            reconnect_attempts: None,
        };
        let options = Options {
            run_limit: RUN_LIMIT,
            drain_time: DRAIN_TIME,
            ..Options::new(settings, "studio-worker/simulated")
        };
        let runtime = SimRuntime { world: world.clone(), machine };
        let engine = Arc::new(SimEngine { world: world.clone(), machine, process });
        let store = Arc::new(SimDisk { world: world.clone(), machine });
        let eyes = Box::new(Eyes {
            world: world.clone(),
            machine,
            oracle: Oracle::new(),
            was_told: false,
            sessions: 0,
        });
        let (handle, future) = start_witnessed(runtime, options, engine, store, seed, eyes);
        let bell = Arc::new(Bell(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), handle, bell, waker }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.bell.0.load(Ordering::Relaxed)
    }

    pub(super) fn poll(&mut self) -> Poll<Exit> {
        self.bell.0.store(false, Ordering::Relaxed);
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    pub(super) fn flood_log(&self) {
        for n in 0..3_000 {
            self.handle.log(LogLine {
                level: LogLevel::Info,
                category: "flood".into(),
                message: format!("line {n} of very many, which nobody will ever want to read"),
                job_id: None,
            });
        }
    }
}

/// What watches a worker from inside its process.
struct Eyes {
    world: World,
    machine: usize,
    oracle: Oracle,
    was_told: bool,
    sessions: u64,
}

impl Eyes {
    fn judge(&self, kept: Result<(), Broken>) {
        if let Err(broken) = kept {
            panic!("box {}: {broken}", self.machine);
        }
    }
}

impl Witness for Eyes {
    fn told(&mut self, input: &Input) {
        self.was_told = true;
        self.oracle.happened(input);
        self.world.lock().report.inputs += 1;
    }

    fn saw(&mut self, worker: &Worker, now: Now, step: &Step) {
        match step {
            Step::Wait { until, .. } => {
                // A worker that was told nothing has not heard of this `now`.
                let was_told = std::mem::take(&mut self.was_told);
                assert!(*until > now.mono || !was_told, "a wait must be for later than now");
                let kept = self.oracle.check_rest(worker, now.mono, *until);
                self.judge(kept);
                let sessions = worker.counters().sessions;
                self.world.lock().report.sessions += sessions - self.sessions;
                self.sessions = sessions;
            }
            Step::Do(action) => {
                let kept = self.oracle.check(action, worker, now.mono);
                self.judge(kept);
                let mut world = self.world.lock();
                world.report.actions += 1;
                if let Action::Log(line) = action {
                    world.say(format_args!("box {}: {}", self.machine, line.message));
                    if line.level == LogLevel::Error {
                        let machine = &world.machines[self.machine];
                        assert!(
                            machine.has_reason_for(&line.message),
                            "an error was logged without a reason: {}",
                            line.message
                        );
                    }
                }
            }
        }
    }
}
