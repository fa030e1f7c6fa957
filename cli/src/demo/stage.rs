//! Where the demo is played: a studio and a worker, each on a thread of its own, and a temporary directory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use studio_worker_core::{
    drive::WorkerHandle,
    machine::Memory,
    studio::Options as Rules,
    worker::{Exit, Options},
};
use tempfile::TempDir;

use super::{Cast, DemoError};
use crate::{
    VERSION,
    config::{ConfigFile, ConfigStore, Edit},
    runtime,
    runtimes::Runtime,
    studio::{Config, Running, Server},
};

/// The stage. Dropped, it stops the worker, then the studio, and is gone.
pub(super) struct Stage {
    // Dropped in this order: the worker says goodbye to a studio that is still there.
    worker: Worker,
    studio: Running,
    place: TempDir,
}

impl Stage {
    /// Starts both: the worker asks to be registered at once.
    pub(super) fn open(cast: Cast, on: Runtime) -> Result<Self, DemoError> {
        let place = tempfile::Builder::new().prefix("studio-demo-").tempdir()?;
        let studio = Server::open(Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            names: Vec::new(),
            data: place.path().join("studio"),
            options: Rules::default(),
        })?
        .spawn()?;
        let worker = Worker::start(cast, &place, studio.address(), on)?;
        Ok(Self { worker, studio, place })
    }

    /// Where the studio listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.studio.address()
    }

    /// Why the worker has ended, if it has.
    pub(super) fn worker_ended(&self) -> Option<String> {
        let exit = self.worker.exit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if exit.is_none() && self.worker.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Some("its thread is gone".to_owned());
        }
        exit.map(|exit| exit.to_string())
    }

    /// Ends both as a signal would, and removes what is left.
    pub(super) fn close(self) -> Result<(), DemoError> {
        let Self { mut worker, studio, place } = self;
        worker.handle.drain();
        worker.join();
        studio.stop()?;
        Ok(place.close()?)
    }
}

struct Worker {
    handle: WorkerHandle,
    exit: Arc<Mutex<Option<Exit>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// As `studio-worker run` does it, with a configuration of its own.
    fn start(cast: Cast, place: &TempDir, studio: SocketAddr, on: Runtime) -> Result<Self, DemoError> {
        let failed = |error: &dyn std::fmt::Display| DemoError::Worker(error.to_string());
        let file = ConfigFile::locate(Some(&place.path().join("config.toml"))).map_err(|e| failed(&e))?;
        let config = file
            .edit(&[
                Edit::set("api_base_url", format!("http://{studio}")),
                Edit::set("engine", cast.engine.name()),
                Edit::set("label", "demo"),
            ])
            .map_err(|e| failed(&e))?;
        let Cast { engine, job_limit } = cast;
        let settings = runtime::settings(&config, &*engine, Memory::default());
        let mut options = Options::new(settings, format!("studio-worker/{VERSION}"));
        options.run_limit = job_limit;
        let store = Arc::new(ConfigStore::new(file));
        let (handle, driving) = on.start(options, engine, store).map_err(|e| failed(&e))?;
        let exit = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&exit);
        let thread = thread::Builder::new().name("demo/worker".to_owned()).spawn(move || {
            match on.block_on(driving) {
                Ok(exit) => *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit),
                Err(error) => log::error!("{error}"),
            }
        })?;
        Ok(Self { handle, exit, thread: Some(thread) })
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic on it was reported when it happened
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.handle.stop();
        self.join();
    }
}
