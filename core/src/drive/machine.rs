//! What a runtime does with the machine that it is on: programs, files, memory.

use std::{
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::{BoxFuture, FutureExt as _};

use super::mailbox::Bell;
use crate::machine::{
    Ended, Memory, Process, Program, ProgramFailure, Ran, ServerWanted, Serving, Transfer, files::Room,
};

/// The machine that a worker is on. As with a [`Runtime`](super::Runtime), what is dropped is given up at once: a
/// program that runs for it is killed with everything that it started.
pub trait Machine: Send + Sync + 'static {
    /// Runs a program to its end.
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>>;

    /// Starts a server, on a port of this machine alone and with a key of its own.
    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>>;

    /// Where these programs are: each by its path, or looked for in `PATH` by its name.
    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>>;

    /// Measures the memory, within a few seconds.
    fn measure(&self) -> BoxFuture<'static, Memory>;

    /// The room on the disk that a folder is on; none when nobody can tell.
    fn room(&self, folder: String) -> BoxFuture<'static, Option<Room>> {
        let _ = folder;
        ready(None).boxed()
    }
}

/// A server that was started. When it is dropped, the server is killed with everything that it started.
pub struct Launched {
    /// How it is reached.
    pub serving: Serving,
    /// Ends it. Called once at most; [`Launched::ended`] tells when it is gone.
    pub stop: Box<dyn FnOnce() + Send>,
    /// When it has ended.
    pub ended: BoxFuture<'static, Ended>,
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launched").field("serving", &self.serving).finish_non_exhaustive()
    }
}

/// A runtime that has no machine: engines that need files or programs don't work on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMachine;

impl NoMachine {
    fn refused(program: &Program) -> ProgramFailure {
        let why = "this runtime runs no programs".into();
        ProgramFailure::Trouble { program: program.program.clone(), why }
    }
}

impl Machine for NoMachine {
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>> {
        ready(Err(Self::refused(&process.program))).boxed()
    }

    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>> {
        ready(Err(Self::refused(&server.program))).boxed()
    }

    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>> {
        ready(vec![None; programs.len()]).boxed()
    }

    fn measure(&self) -> BoxFuture<'static, Memory> {
        ready(Memory::default()).boxed()
    }
}

/// Where a download tells how far it is.
pub(super) type OnTransfer = Arc<dyn Fn(Transfer) + Send + Sync>;

/// How far the download of a run is: the newest word counts.
#[derive(Debug)]
pub(super) struct Transfers {
    newest: Mutex<Option<Transfer>>,
    bell: Arc<Bell>,
}

impl Transfers {
    pub(super) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { newest: Mutex::default(), bell })
    }

    /// Called from any thread, a few times a second.
    pub(super) fn teller(self: &Arc<Self>) -> OnTransfer {
        let transfers = Arc::clone(self);
        Arc::new(move |transfer| {
            *transfers.lock() = Some(transfer);
            transfers.bell.ring();
        })
    }

    /// What was told since the last look.
    pub(super) fn take(&self) -> Option<Transfer> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
