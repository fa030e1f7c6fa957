//! The machine that a worker is on, for every runtime on threads: programs, files, memory.
//!
//! A program runs in a process group of its own ([`Group`](group::Group)), which ends as a whole: with the program, when
//! nobody waits for it any more, and with the worker, however that ends. What it writes is read by threads that live as
//! long as it does, so that nothing it does, or doesn't, holds up the worker.

mod find;
mod group;
mod made;
mod measure;
mod pipes;
mod run;
mod serve;

use std::{ffi::OsString, fmt, future::Future, path::PathBuf, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};

use self::{
    find::Surroundings,
    group::{Reins, Rider},
    measure::Tools,
};
use super::{Folder, Platform};
use crate::{
    drive::{Launched, Machine},
    machine::{Memory, Process, ProgramFailure, Ran, ServerWanted, files::Room},
};

/// What a thread is called.
const THREAD: &str = "studio-worker";

/// The machine that a worker is on. Cheap to clone.
///
/// On Unix `/bin/sh` watches over each program, so that it ends with the worker even when that is killed. Elsewhere a
/// program is ended when it is to end, but what it has started itself is not.
#[derive(Clone)]
pub struct LocalMachine<P> {
    platform: P,
    folder: Folder,
    surroundings: Arc<Surroundings>,
    tools: Arc<Tools>,
}

impl<P> fmt::Debug for LocalMachine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMachine").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<P: Platform> LocalMachine<P> {
    /// This machine. Scratch folders and results are in `folder`.
    pub fn new(platform: P, folder: Folder) -> Self {
        Self { platform, folder, surroundings: Arc::default(), tools: Arc::default() }
    }

    /// As if the worker had been started with these variables, and no others.
    #[must_use]
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Arc::make_mut(&mut self.surroundings).environment = Some(variables.into_iter().collect());
        self
    }

    /// As if the system's root were this folder, for what the system tells in files (`/proc`, `/sys`).
    #[must_use]
    pub fn with_system_files_in(mut self, root: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.surroundings).root = Some(root.into());
        self
    }

    /// The same machine, with scratch folders and results in another folder.
    #[must_use]
    pub fn with_files_in(self, folder: Folder) -> Self {
        Self { folder, ..self }
    }

    /// Carries out what needs a program, on a thread. It is ended when the future is dropped.
    fn ridden<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce(&Surroundings, &Folder, &Reins) -> T + Send + 'static,
    {
        let Self { platform, folder, surroundings, .. } = self.clone();
        async move {
            let reins = Reins::default();
            let _rider = Rider::new(&reins);
            platform.compute(move || work(&surroundings, &folder, &reins)).await
        }
    }
}

impl<P: Platform> Machine for LocalMachine<P> {
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>> {
        let name = process.program.program.clone();
        let ridden =
            self.ridden(|surroundings, folder, reins| run::to_end(process, surroundings, folder, reins));
        // What was made is kept only where somebody still waits for it.
        async move { ridden.await?.keep(&name) }.boxed()
    }

    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>> {
        let Self { platform, folder, surroundings, .. } = self.clone();
        async move { platform.block(move || serve::launch(&server, &surroundings, &folder)).await }.boxed()
    }

    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>> {
        let Self { platform, surroundings, .. } = self.clone();
        async move {
            let find = move || {
                let found =
                    |program: &String| surroundings.find(program)?.into_os_string().into_string().ok();
                programs.iter().map(found).collect()
            };
            platform.block(find).await
        }
        .boxed()
    }

    fn measure(&self) -> BoxFuture<'static, Memory> {
        self.clone().memory().boxed()
    }

    fn room(&self, folder: String) -> BoxFuture<'static, Option<Room>> {
        let platform = self.platform.clone();
        async move { platform.block(move || room(&folder)).await }.boxed()
    }
}

/// The room on the disk that a folder is on, for users without privileges.
#[cfg(unix)]
fn room(folder: &str) -> Option<Room> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let block = disk.f_frsize;
    Some(Room { free: disk.f_bavail.saturating_mul(block), total: disk.f_blocks.saturating_mul(block) })
}

#[cfg(not(unix))]
fn room(_: &str) -> Option<Room> {
    None
}
