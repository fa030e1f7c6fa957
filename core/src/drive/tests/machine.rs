//! A machine that does as it is told, and what it was told, in order.

use std::{
    collections::BTreeMap,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    AsyncRead,
    future::{BoxFuture, FutureExt as _},
};

use super::world::World;
use crate::{
    drive::{Launched, Machine},
    engine::SpilledFile,
    machine::{
        Ended, Keep, Made, Memory, Part, Process, Program, ProgramFailure, Ran, ServerWanted, Serving,
    },
};

/// What the machine is about.
#[derive(Default)]
pub(super) struct Room {
    /// What happened, in order: `launch a`, `stop a`, `run p`, `measure`, `drop a`.
    pub(super) told: Vec<String>,
    /// Servers that run, by their number, and how each ended that has.
    servers: BTreeMap<usize, (String, Option<Ended>)>,
    launched: usize,
    /// Whether a server that is stopped goes on.
    pub(super) stubborn: bool,
    /// Whether nothing can be launched.
    pub(super) unlaunchable: bool,
    /// Whether programs go on.
    pub(super) busy: bool,
    /// Whether measuring goes on, and what of the GPU is free (plenty).
    pub(super) measuring: bool,
    pub(super) memory: Option<u64>,
    made: usize,
}

impl Room {
    /// What was told since the last look.
    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// All servers end by themselves.
    pub(super) fn servers_die(&mut self) {
        for (name, ended) in self.servers.values_mut() {
            self.told.push(format!("{name} dies"));
            *ended = Some(died());
        }
    }
}

/// How a server ends by itself.
pub(super) fn died() -> Ended {
    Ended { code: Some(3), signal: None, stderr: b"out of memory".to_vec() }
}

/// A server that is called so; behind a `#` stands what it loads.
pub(super) fn server(name: &str, idle: std::time::Duration) -> ServerWanted {
    let (name, loads) = name.split_once('#').map_or((name, None), |(name, loads)| (name, Some(loads.into())));
    let program = Program { program: name.into(), arguments: vec![Part::Port.into()], ..Program::default() };
    ServerWanted { program, loads: loads.into_iter().collect(), idle }
}

struct Fake(World);

pub(super) fn of(world: &World) -> Arc<dyn Machine> {
    Arc::new(Fake(world.clone()))
}

impl Machine for Fake {
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>> {
        let world = self.0.clone();
        let program = process.program.program;
        world.state().machine.told.push(format!("run {program}"));
        let free = world.until(|state| (!state.machine.busy).then_some(()));
        async move {
            free.await;
            let mut state = world.state();
            state.machine.made += 1;
            let made = match process.keep {
                Keep::Memory => Made::Memory(b"made".to_vec()),
                Keep::File => {
                    let path: Arc<str> = format!("made-{}", state.machine.made).into();
                    state.files.push(Arc::clone(&path));
                    Made::File { file: SpilledFile { path, bytes: 4 }, head: b"made".to_vec() }
                }
            };
            let ended = Ended { code: Some(0), ..Ended::default() };
            Ok(Ran { ended, made: Some(made) })
        }
        .boxed()
    }

    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>> {
        let world = self.0.clone();
        let name = server.program.program;
        async move {
            let mut state = world.state();
            state.machine.told.push(format!("launch {name}"));
            if state.machine.unlaunchable {
                return Err(ProgramFailure::NotFound { program: name });
            }
            state.machine.launched += 1;
            let nth = state.machine.launched;
            state.machine.servers.insert(nth, (name.clone(), None));
            drop(state);
            let serving = Serving { base: format!("http://127.0.0.1:{nth}"), key: "key".into() };
            let stops = world.clone();
            let stop = move || {
                stops.change(|state| {
                    state.machine.told.push(format!("stop {name}"));
                    if !state.machine.stubborn
                        && let Some((_, ended)) = state.machine.servers.get_mut(&nth)
                    {
                        *ended = Some(Ended { signal: Some(15), ..Ended::default() });
                    }
                });
            };
            let runs = Runs { world: world.clone(), nth };
            let ended = async move {
                let runs = runs;
                runs.ended().await
            };
            Ok(Launched { serving, stop: Box::new(stop), ended: ended.boxed() })
        }
        .boxed()
    }

    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>> {
        async move { programs.into_iter().map(Some).collect() }.boxed()
    }

    fn measure(&self) -> BoxFuture<'static, Memory> {
        let world = self.0.clone();
        let measured = world.until(|state| (!state.machine.measuring).then_some(()));
        async move {
            world.state().machine.told.push("measure".into());
            measured.await;
            Memory { gpu_free: Some(world.state().machine.memory.unwrap_or(1 << 40)), ..Memory::default() }
        }
        .boxed()
    }
}

/// A server that ends at the latest when this is dropped.
struct Runs {
    world: World,
    nth: usize,
}

impl Runs {
    async fn ended(&self) -> Ended {
        let nth = self.nth;
        self.world.until(move |state| state.machine.servers.get(&nth)?.1.clone()).await
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let mut state = self.world.state();
        if let Some((name, None)) = state.machine.servers.remove(&self.nth) {
            state.machine.told.push(format!("kill {name}"));
        }
    }
}

/// A file that comes as the world says.
pub(super) struct FakeBody(pub(super) World);

impl AsyncRead for FakeBody {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let pieces = self.0.until(|state| state.pieces.pop_front());
        pin!(pieces).poll(cx).map(|piece| {
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            Ok(count)
        })
    }
}
