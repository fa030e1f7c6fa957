//! A worker from its start to its end, and what stands beside it: the way to end it, and whoever watches its configuration.

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures::future::{Either, select};
use studio_worker_core::worker::{Exit, Options};

use super::{
    disclosure, log_startup_banner, settings,
    watch::{Served, log_services, watch},
};
use crate::{
    Error, VERSION,
    config::{Config, ConfigFile, ConfigStore, Watcher},
    engines::{self, Pace},
    lock::InstanceLock,
    logging,
    runtimes::Runtime,
    service,
    signals::Shutdown,
};

/// Runs a worker with the configuration in `file` until it ends: by a signal, or since it can't go on.
pub fn run(file: &ConfigFile, on: Runtime) -> Result<(), Error> {
    let shutdown = Shutdown::listen().map_err(Error::Signals)?;
    file.load_or_create()?;
    let lock = InstanceLock::acquire(file)?;
    // Read under the lock: a worker that ran until now may have stored something as its last.
    let config = file.load()?;
    log_startup_banner(&config, file.path());
    for (line, key) in file.unknown_keys()? {
        log::warn!(
            "{}, line {line}: the key `{key}` is not known here, and means nothing",
            file.path().display()
        );
    }
    let exit = on.block_on(run_loops(file.clone(), config, on, Some(shutdown)))??;
    drop(lock);
    match exit {
        Exit::Drained | Exit::Stopped => Ok(()),
        exit => Err(Error::Ended(exit)),
    }
}

/// Drives a worker, its configuration's watcher and, if there is one, the operator's way to end it. The caller sees to
/// it that only one worker runs with a configuration ([`InstanceLock`]), and polls this on the runtime that it names
/// ([`Runtime::block_on`]).
pub async fn run_loops(
    file: ConfigFile,
    config: Config,
    on: Runtime,
    shutdown: Option<Shutdown>,
) -> Result<Exit, Error> {
    let pace = Pace::of(&config);
    let engines = engines::build(&config, &pace)
        .map_err(|problem| Error::Engine { path: file.path().to_owned(), problem })?;
    let (engine, found) = engines.survey(on).await;
    log_services(&config, &*engine, &found);
    if config.only_when_idle {
        log::warn!(
            "`only_when_idle` is not in this version: jobs are taken also while somebody uses this machine"
        );
    }
    if let Some(disclosure) = disclosure(&config) {
        log::warn!("{disclosure}");
    }
    let memory = on.measure().await;
    let mut options = Options::new(settings(&config, &*engine, memory), format!("studio-worker/{VERSION}"));
    options.run_limit = Duration::from_secs(config.job_limit_secs.into());
    let store = Arc::new(ConfigStore::new(file.clone()));
    let (handle, driving) = on.start(options, Arc::clone(&engine), store)?;
    let forwarding = logging::forward_to(handle.clone());
    service::attend(&handle);
    // On a thread of its own: a file system that hangs must not silence the worker, and a thread that sleeps costs less
    // than a timer, which wakes two others.
    let (ends, ended) = mpsc::channel();
    let (watcher, told) = (Watcher::new(file, config), handle.clone());
    let watching =
        move || watch(watcher, Served { engines, engine, found, memory, on }, &pace, &told, &ended);
    if let Err(error) = thread::Builder::new().name("config".into()).spawn(watching) {
        log::warn!(
            "changes of the configuration count after a restart only, since no thread could be had: {error}"
        );
    }
    let exit = match shutdown {
        None => driving.await,
        Some(shutdown) => match select(driving, pin!(shutdown.steer(handle))).await {
            Either::Left((exit, _)) => exit,
            Either::Right((never, _)) => match never {},
        },
    };
    drop((forwarding, ends));
    Ok(exit)
}
