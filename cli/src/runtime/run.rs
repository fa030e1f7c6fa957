//! A worker from its start to its end, and what stands beside it: the way to end it, whoever watches its configuration, and
//! whoever looks for updates.

use std::{
    mem,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures::future::{Either, select};
use studio_worker_core::worker::{Exit, Options};

use super::{
    adopt::advise,
    beside::Beside,
    disclosure,
    known::{Known, configuration},
    log_startup_banner, settings,
    takeover::{Over, have_watched, take_over, take_up},
    watch::{Served, log_services, watch},
};
use crate::{
    Error, VERSION,
    config::{Config, ConfigFile, ConfigStore, Watcher},
    door::{Updates, lines},
    engines::{self, Pace},
    lock::InstanceLock,
    logging,
    metrics::Listening,
    network,
    runtimes::Runtime,
    service,
    signals::Shutdown,
    telemetry,
    update::{AutoUpdates, Before, Place, Ready, supervise::OnTrial},
};

/// How a worker is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunArgs {
    /// Where its metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// Runs a worker with the configuration in `file` until it ends: by a signal, or since it can't go on. Where the program is
/// updated meanwhile, this process becomes the new version.
pub fn run(file: &ConfigFile, on: Runtime, args: &RunArgs) -> Result<(), Error> {
    let mut shutdown = Shutdown::listen().map_err(Error::Signals)?;
    // `logs` has what was said from here on, also before a worker runs, and between two of them.
    let _keeping = lines::keep();
    let place = Place::here().inspect_err(|error| log::warn!("updates are off: {error}")).ok();
    let mut before = Before::default();
    // Before anything that may be wrong with a version that nobody has tried.
    if let Some(place) = &place
        && let Over::Ended(code) = have_watched(place, file, &mut shutdown)?
    {
        return ended_with(code);
    }
    let on = on.configured(file)?;
    // As long as this process is this program: also what goes wrong between two workers is told.
    let _telemetry = telemetry::start(on, &file.load()?.engine);
    if let Some(place) = &place
        && let Over::Ended(code) = take_up(place, file, &mut shutdown, &mut before)?
    {
        return ended_with(code);
    }
    let mut known = None;
    loop {
        // Said before a worker starts, and given up before another version is to have it.
        let metrics = args.metrics.map(Listening::on).transpose()?;
        let lock = InstanceLock::acquire(file)?;
        // Read under the lock: a worker that ran until now may have stored something as its last.
        let config = configuration(file, known.take())?;
        log_startup_banner(&config, file.path());
        network::log_way(&config);
        for (line, key) in file.unknown_keys().unwrap_or_default() {
            log::warn!(
                "{}, line {line}: the key `{key}` is not known here, and means nothing",
                file.path().display()
            );
        }
        let on_trial = OnTrial::here(&config);
        let is_on_trial = on_trial.is_some();
        // By its owner, when another version ran.
        let paused = mem::take(&mut before.paused) || on_trial.as_ref().is_some_and(OnTrial::is_paused);
        let updates = match &place {
            // One that is on trial is not updated.
            Some(place) if on_trial.is_none() => Updating::From(place.clone(), before.clone()),
            _ => Updating::Off,
        };
        let with =
            With { shutdown: Some(&mut shutdown), metrics, on_trial: on_trial.clone(), updates, paused };
        let (exit, ready, counted) = on.block_on(drive(file.clone(), config, on, with))??;
        known = Some(counted);
        drop(lock);
        if let Some(on_trial) = on_trial {
            on_trial.ended(&exit);
        }
        match (exit, ready, &place) {
            (Exit::MadeWay, Some(ready), Some(place)) => {
                match take_over(place, ready, file, &mut shutdown, &mut before)? {
                    Over::Ended(code) => return ended_with(code),
                    Over::AsBefore => {}
                }
            }
            // What was ready was let go of meanwhile.
            (Exit::MadeWay, None, Some(_)) if !is_on_trial => {
                (before.quiet, before.went_back) = (Duration::ZERO, false);
            }
            (Exit::Drained | Exit::Stopped | Exit::MadeWay, ..) => return Ok(()),
            (exit, ..) => {
                advise(&exit, file);
                return Err(Error::Ended(exit));
            }
        }
    }
}

fn ended_with(code: u8) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::OnTrial(code)) }
}

/// Where updates go, if they are looked for.
enum Updating {
    /// There, and what came of that so far.
    From(Place, Before),
    Off,
}

/// What a worker is driven with.
struct With<'a> {
    shutdown: Option<&'a mut Shutdown>,
    metrics: Option<Listening>,
    on_trial: Option<OnTrial>,
    updates: Updating,
    paused: bool,
}

/// Drives a worker, its configuration's watcher and, if there is one, the operator's way to end it. The caller sees to
/// it that only one worker runs with a configuration ([`InstanceLock`]), and polls this on the runtime that it names
/// ([`Runtime::block_on`]). Updates are the caller's, too ([`spawn_auto_updater`](super::spawn_auto_updater)).
pub async fn run_loops(
    file: ConfigFile,
    config: Config,
    on: Runtime,
    mut shutdown: Option<Shutdown>,
) -> Result<Exit, Error> {
    let with = With {
        shutdown: shutdown.as_mut(),
        metrics: None,
        on_trial: None,
        updates: Updating::Off,
        paused: false,
    };
    drive(file, config, on, with).await.map(|(exit, ..)| exit)
}

/// How the worker ended, what takes over then, and the configuration that counted in the end.
async fn drive(
    file: ConfigFile,
    config: Config,
    on: Runtime,
    with: With<'_>,
) -> Result<(Exit, Option<Ready>, Config), Error> {
    let With { shutdown, metrics, on_trial, updates, paused } = with;
    let pace = Pace::of(&config);
    let engines = engines::build(&config, &pace)
        .map_err(|problem| Error::Engine { path: file.path().to_owned(), problem })?;
    let (engine, found) = engines.survey(on).await;
    log_services(&config, &*engine, &found);
    if let Some(disclosure) = disclosure(&config) {
        log::warn!("{disclosure}");
    }
    if !config.api_base.is_secure() && !config.api_base.is_own() {
        log::warn!(
            "the connection to {} is not encrypted: whoever is on the way can read the worker's token, and act as it; https is wanted",
            config.api_base_url()
        );
    }
    let memory = on.measure().await;
    let mut options = Options::new(settings(&config, &*engine, memory), format!("studio-worker/{VERSION}"));
    options.run_limit = Duration::from_secs(config.job_limit_secs.into());
    let known = Known::of(config.clone());
    let store = Arc::new(known.storing(ConfigStore::new(file.clone())));
    let (handle, driving) = on.start(options, Arc::clone(&engine), store)?;
    if paused {
        handle.pause();
    }
    let forwarding = logging::forward_to(handle.clone());
    service::attend(&handle);
    // Whoever looks for updates says here where it stands.
    let seen = Updates::default();
    let beside = Beside::open(&file, &handle, &seen, metrics);
    if let Some(on_trial) = on_trial {
        on_trial.beside(&handle, &file);
    }
    let updates = match updates {
        Updating::Off => None,
        Updating::From(at, before) => {
            Some(AutoUpdates::start(file.clone(), handle.clone(), on, at, seen, before))
        }
    };
    // On a thread of its own: a file system that hangs must not silence the worker, and a thread that sleeps costs less
    // than a timer, which wakes two others.
    let (ends, ended) = mpsc::channel();
    let (watcher, told, counting) = (Watcher::new(file, config), handle.clone(), known.clone());
    let watching = move || {
        let served = Served { engines, engine, found, memory, on };
        watch(watcher, served, &pace, &told, &counting, &ended);
    };
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
    drop((beside, forwarding, ends));
    let ready = updates.and_then(|updates| updates.take_ready());
    Ok((exit, ready, known.config()))
}
