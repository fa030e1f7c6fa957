//! A worker's machine: its clocks, its disk, and the runtime that the process on it sees.

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    ledger::ProcessId,
    net::SimSocket,
    promise::promise,
    state::{State, World, micros},
};
use futures::future::{BoxFuture, FutureExt as _};

use crate::{
    drive::{self, Connect, Launched, NoMachine, Progress, Runtime, Store, identity_of},
    engine::SpilledFile,
    http::{HttpAnswer, HttpFailure, HttpRequest},
    machine::{Memory, Process, ProgramFailure, Ran, ServerWanted},
    time::{Mono, Now, Wall},
    wire::Secret,
    worker::{Change, ConnectFailure, Identity, Key, Upload},
};

/// What outlives a process, and what time it is there.
#[derive(Default)]
pub(super) struct Machine {
    /// The process that runs, or ran last.
    pub(super) process: ProcessId,
    /// What the monotonic clock misses of the world's time, for it slept.
    pub(super) lag: u64,
    /// When the process was started, on the monotonic clock.
    pub(super) started: u64,
    /// How far the wall clock is off, in milliseconds.
    pub(super) wall_offset: i64,
    /// Nothing on it runs before then.
    pub(super) asleep_until: u64,
    identity: BTreeMap<Key, Secret>,
    pub(super) disk_is_full: bool,
    pub(super) had_full_disk: bool,
    gpu_is_taken: bool,
    host_is_taken: bool,
    /// Results in private files of the process that runs.
    pub(super) files: BTreeMap<Arc<str>, String>,
    sleepers: BTreeMap<u64, (Mono, Waker)>,
}

impl Machine {
    pub(super) fn identity(&self) -> Identity {
        identity_of(|key| self.identity.get(&key).cloned())
    }

    /// Whether an error in the log is one that something here explains.
    pub(super) fn has_reason_for(&self, line: &str) -> bool {
        (self.had_full_disk && line.contains("no space left")) || line.contains("the engine did not stop")
    }

    /// Others take the memory of the GPU or of the host, or give it back.
    pub(super) fn takes_memory(&mut self, is_gpu: bool, taken: bool) {
        if is_gpu {
            self.gpu_is_taken = taken;
        } else {
            self.host_is_taken = taken;
        }
    }

    /// What is free: for each job, or for none.
    fn memory(&self) -> Memory {
        let free = |taken, gib: u64| Some(if taken { 2 << 30 } else { gib << 30 });
        Memory {
            gpu_total: Some(24 << 30),
            gpu_free: free(self.gpu_is_taken, 23),
            host_available: free(self.host_is_taken, 48),
        }
    }

    fn mono(&self, now: u64) -> Mono {
        Mono::from_micros(now.saturating_sub(self.lag + self.started))
    }

    /// When the first sleeper's time has come, in the world's time.
    pub(super) fn next_due(&self) -> Option<u64> {
        let at = self.sleepers.values().map(|(at, _)| *at).min()?;
        Some((at.as_micros().saturating_add(self.lag + self.started)).max(self.asleep_until))
    }

    pub(super) fn wake_sleepers(&mut self, now: u64) {
        let mono = self.mono(now);
        // Once: a timer fires, and whether anybody still looks at it is not its business.
        self.sleepers.retain(|_, (at, waker)| {
            let sleeps = *at > mono;
            if !sleeps {
                waker.wake_by_ref();
            }
            sleeps
        });
    }
}

/// When a measurement ends that never does.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

thread_local! {
    /// How long the closure that runs now is to take, if it says so.
    static TAKES: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Says, from inside a closure on a simulated thread, how long it takes.
pub(super) fn takes(span: Duration) {
    TAKES.set(Some(span));
}

/// The runtime of one process.
#[derive(Clone)]
pub(super) struct SimRuntime {
    pub(super) world: World,
    pub(super) machine: usize,
}

impl Runtime for SimRuntime {
    type Socket = SimSocket;

    fn now(&self) -> Now {
        let world = self.world.lock();
        let machine = &world.machines[self.machine];
        let wall = i64::try_from(world.now / 1_000).unwrap_or(i64::MAX) + 1_764_054_000_000;
        Now { mono: machine.mono(world.now), wall: Wall::from_millis(wall + machine.wall_offset) }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        let id = self.world.lock().number();
        Sleep { runtime: self.clone(), id, at }
    }

    fn connect(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<SimSocket, ConnectFailure>> + Send + 'static {
        let (promise, kept) = promise();
        self.world.lock().upgrade(self.machine, connect, promise);
        let world = self.world.clone();
        async move { kept.await.map(|conn| SimSocket::new(world, conn)) }
    }

    fn exchange(
        &self,
        request: HttpRequest,
        _: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        let (promise, kept) = promise();
        self.world.lock().exchange(self.machine, request, promise);
        kept
    }

    fn upload(
        &self,
        upload: Upload,
        _: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        let (promise, kept) = promise();
        self.world.lock().upload(self.machine, upload, progress, promise);
        kept
    }

    /// What the closure does, it does at once; that it is done is known later.
    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let world = self.world.clone();
        async move {
            TAKES.set(None);
            let result = work();
            let span = TAKES.take().unwrap_or(Duration::from_micros(50));
            let (promise, kept) = promise();
            world.lock().after(span, |_| promise.keep(result));
            kept.await
        }
    }

    fn spill(
        &self,
        bytes: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<SpilledFile, io::Error>> + Send + 'static {
        let (runtime, length) = (self.clone(), bytes.len() as u64);
        async move {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            runtime.world.lock().write_file(runtime.machine, text, length)
        }
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        let runtime = self.clone();
        async move {
            let gone = runtime.world.lock().machines[runtime.machine].files.remove(&file.path);
            assert!(gone.is_some(), "a result's file is deleted twice");
        }
    }

    fn machine(&self) -> Arc<dyn drive::Machine> {
        Arc::new(Meter(self.clone()))
    }
}

/// The machine as its runtime knows it: nothing but its memory, which takes a while to measure.
struct Meter(SimRuntime);

impl drive::Machine for Meter {
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>> {
        NoMachine.run(process)
    }

    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>> {
        NoMachine.launch(server)
    }

    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>> {
        NoMachine.find(programs)
    }

    fn measure(&self) -> BoxFuture<'static, Memory> {
        let SimRuntime { world, machine } = self.0.clone();
        let (promise, kept) = promise();
        let mut state = world.lock();
        let bad = state.scenario.bad_measurements;
        let goes_wrong = state.goes_wrong(bad);
        let longest = Duration::from_secs(if goes_wrong { 10 } else { 2 });
        let span = state.dice.between(Duration::from_millis(20), longest);
        if goes_wrong && state.dice.below(3) == 0 {
            // It never ends, and its promise is kept as long as somebody waits.
            state.after(FOR_EVER, move |_| promise.keep(Memory::default()));
        } else {
            let is_blind = goes_wrong && state.dice.below(2) == 0;
            state.after(span, move |state| {
                let memory = state.machines[machine].memory();
                promise.keep(if is_blind { Memory::default() } else { memory });
            });
        }
        kept.boxed()
    }
}

impl State {
    pub(super) fn write_file(&mut self, machine: usize, text: String, bytes: u64) -> io::Result<SpilledFile> {
        let number = self.number();
        let machine = &mut self.machines[machine];
        if machine.disk_is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path: Arc<str> = format!("result-{number}").into();
        machine.files.insert(Arc::clone(&path), text);
        Ok(SpilledFile { path, bytes })
    }
}

struct Sleep {
    runtime: SimRuntime,
    id: u64,
    at: Mono,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.runtime.now().mono >= self.at {
            return Poll::Ready(());
        }
        let sleeper = (self.at, cx.waker().clone());
        self.runtime.world.lock().machines[self.runtime.machine].sleepers.insert(self.id, sleeper);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.runtime.world.lock().machines[self.runtime.machine].sleepers.remove(&self.id);
    }
}

/// The disk, as the worker's store.
pub(super) struct SimDisk {
    pub(super) world: World,
    pub(super) machine: usize,
}

impl Store for SimDisk {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let mut world = self.world.lock();
        let slow = world.dice.below(8) == 0;
        takes(Duration::from_millis(if slow { 800 } else { 2 }));
        let machine = &mut world.machines[self.machine];
        if machine.disk_is_full {
            return Err("no space left on device".into());
        }
        for Change { key, value } in changes {
            match value {
                Some(value) => machine.identity.insert(*key, value.clone()),
                None => machine.identity.remove(key),
            };
        }
        Ok(())
    }
}

/// What is asked of a machine that sleeps: nothing runs for `span`, and its monotonic clock runs on or doesn't.
pub(super) fn sleep(state: &mut State, machine: usize, span: Duration, is_counted: bool) {
    if state.machines[machine].asleep_until > state.now {
        return;
    }
    let sleeper = &mut state.machines[machine];
    sleeper.asleep_until = state.now + micros(span);
    if !is_counted {
        // Nobody looks at that clock meanwhile.
        sleeper.lag += micros(span);
    }
    let until = sleeper.asleep_until;
    // Something to wake it with, also when nothing on it sleeps.
    state.at(until, |_| {});
}
