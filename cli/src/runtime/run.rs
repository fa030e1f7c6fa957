//! A worker from its start to its end, and what stands beside it: the way to end it, and whoever watches its configuration.

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures::future::{Either, select};
use studio_worker_core::{
    update::{Record, Version},
    worker::{Exit, Options},
};

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
    update::{
        self, AutoUpdates, Place, Ready,
        supervise::{self, OnTrial, Outcome},
    },
};

/// Runs a worker with the configuration in `file` until it ends: by a signal, or since it can't go on. Where the program is
/// updated meanwhile, this process becomes the new version.
pub fn run(file: &ConfigFile, on: Runtime) -> Result<(), Error> {
    let mut shutdown = Shutdown::listen().map_err(Error::Signals)?;
    file.load_or_create()?;
    let place = Place::here().inspect_err(|error| log::warn!("updates are off: {error}")).ok();
    if let Some(place) = &place
        && let Some(code) = take_up(place, file, &mut shutdown)?
    {
        return ended_with(code);
    }
    let mut quiet = Duration::ZERO;
    loop {
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
        let on_trial = OnTrial::here(&config);
        let updates = match &place {
            // One that is on trial is not updated.
            Some(place) if on_trial.is_none() => Updating::From(place.clone(), quiet),
            _ => Updating::Off,
        };
        let beside = Beside { shutdown: Some(&mut shutdown), on_trial: on_trial.clone(), updates };
        let (exit, ready) = on.block_on(drive(file.clone(), config, on, beside))??;
        drop(lock);
        if let Some(on_trial) = on_trial {
            on_trial.ended(&exit);
        }
        match (exit, ready, &place) {
            (Exit::MadeWay, Some(ready), Some(place)) => {
                match take_over(place, ready, file, &mut shutdown)? {
                    Over::Ended(code) => return ended_with(code),
                    Over::AsBefore => quiet = Duration::ZERO,
                    Over::NotInPlace => quiet = AFTER_TROUBLE,
                }
            }
            (Exit::Drained | Exit::Stopped | Exit::MadeWay, ..) => return Ok(()),
            (exit, ..) => return Err(Error::Ended(exit)),
        }
    }
}

fn ended_with(code: u8) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::OnTrial(code)) }
}

/// What the start of this process has to do with an update: it may be there to watch the trial of another version, or be a
/// version that nobody watches yet. The exit code, if this process is to end.
fn take_up(place: &Place, file: &ConfigFile, shutdown: &mut Shutdown) -> Result<Option<u8>, Error> {
    let record = place.record();
    if supervise::is_to_watch() {
        return match record.on_trial {
            Some(version) => try_out(place, &version, file, shutdown),
            None => Ok(None),
        };
    }
    let own = update::own_version()?;
    match record.on_trial {
        // Put in place while no worker ran, or this machine lost its power in the trial.
        Some(version) if version == own && !OnTrial::is_here() => {
            if place.old().exists() {
                let error = supervise::have_it_watched(place);
                log::warn!(
                    "{own} goes on without a trial, since {} can't be run: {error}",
                    place.old().display()
                );
            }
            note(place, Record::keep);
        }
        // Somebody put another version in its place.
        Some(version) if version != own => note(place, |record| record.on_trial = None),
        _ => {}
    }
    Ok(None)
}

fn note(place: &Place, change: impl FnOnce(&mut Record)) {
    if let Err(error) = place.note(change) {
        log::warn!("{error}");
    }
}

/// After a version that could not be put in place: a worker that makes way costs a session.
const AFTER_TROUBLE: Duration = Duration::from_secs(6 * 60 * 60);

/// What became of a version that was to take over.
enum Over {
    /// This process is to end with this exit code.
    Ended(u8),
    /// It was no good, and the worker goes on as before.
    AsBefore,
    /// It could not be put in place.
    NotInPlace,
}

/// Has what is ready take over.
fn take_over(place: &Place, ready: Ready, file: &ConfigFile, shutdown: &mut Shutdown) -> Result<Over, Error> {
    let version = match ready {
        Ready::WentBack => return Err(Error::Become(supervise::become_it(place))),
        Ready::InPlace(version) => version,
        Ready::Staged(version) => match place.put_staged(&version) {
            Ok(()) => version,
            Err(error) => {
                log::error!("{version} was not installed: {error}; this version goes on");
                return Ok(Over::NotInPlace);
            }
        },
    };
    Ok(try_out(place, &version, file, shutdown)?.map_or(Over::AsBefore, Over::Ended))
}

/// Tries a version that is in place.
fn try_out(
    place: &Place,
    version: &Version,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
) -> Result<Option<u8>, Error> {
    let pulse = service::Pulse::of_this_process();
    pulse.say(&format!("version {version} is on trial"));
    match supervise::watch(place, version, &file.load()?, shutdown, || pulse.beat()) {
        Outcome::Kept => Err(Error::Become(supervise::become_it(place))),
        Outcome::Ended(code) => Ok(Some(code)),
        Outcome::WentBack(_) => Ok(None),
    }
}

/// Where updates go, if they are looked for.
enum Updating {
    /// There, after this time.
    From(Place, Duration),
    Off,
}

/// What stands beside a worker.
struct Beside<'a> {
    shutdown: Option<&'a mut Shutdown>,
    on_trial: Option<OnTrial>,
    updates: Updating,
}

/// Drives a worker, its configuration's watcher and, if there is one, the operator's way to end it. The caller sees to
/// it that only one worker runs with a configuration ([`InstanceLock`]), and polls this on the runtime that it names
/// ([`Runtime::block_on`]).
pub async fn run_loops(
    file: ConfigFile,
    config: Config,
    on: Runtime,
    mut shutdown: Option<Shutdown>,
) -> Result<Exit, Error> {
    let beside = Beside { shutdown: shutdown.as_mut(), on_trial: None, updates: Updating::Off };
    drive(file, config, on, beside).await.map(|(exit, _)| exit)
}

async fn drive(
    file: ConfigFile,
    config: Config,
    on: Runtime,
    beside: Beside<'_>,
) -> Result<(Exit, Option<Ready>), Error> {
    let Beside { shutdown, on_trial, updates } = beside;
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
    if let Some(on_trial) = on_trial {
        on_trial.beside(&handle);
    }
    let updates = match updates {
        Updating::Off => None,
        Updating::From(place, quiet) => {
            update::say_news(&place);
            Some(AutoUpdates::start(file.clone(), handle.clone(), on, place, quiet))
        }
    };
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
    let ready = updates.and_then(|updates| updates.take_ready());
    Ok((exit, ready))
}
