//! What changes while a worker runs: its configuration, and what its engines can serve.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use studio_worker_core::{
    drive::WorkerHandle,
    engine::{Engine, Missing, Models, Survey},
    machine::Memory,
};

use super::{build_capabilities, known::Known, settings};
use crate::{
    Error,
    config::{Config, Seen, Watcher},
    engines::{self, Engines, Pace},
    runtimes::Runtime,
};

/// Between two looks at the configuration. A change counts at the second look, so it reaches a running worker within
/// one heartbeat.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the configuration between two surveys of the engines: a minute.
const SURVEY_LOOKS: u32 = 60;

pub(super) const UNUSABLE: &str =
    "the worker goes on as it was, since the changed configuration can't be used";

/// What is served, and how that is found out.
pub(super) struct Served {
    pub(super) engines: Engines,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) found: Survey,
    /// As it was at the start.
    pub(super) memory: Memory,
    pub(super) on: Runtime,
}

impl Served {
    /// Looks again: whether something else is served now.
    fn look(&mut self) -> Result<bool, Error> {
        let (engine, found) = self.on.block_on(self.engines.survey(self.on))?;
        let changed = found.services != self.found.services;
        if changed {
            self.engine = engine;
        }
        self.found = found;
        Ok(changed)
    }

    /// Takes other engines, and looks what they serve.
    fn replace(&mut self, engines: Engines) -> Result<(), Error> {
        let (engine, found) = self.on.block_on(engines.survey(self.on))?;
        *self = Self { engines, engine, found, ..*self };
        Ok(())
    }
}

/// Takes over what changes in the configuration and in what engines can serve, until the other end of `ended` is dropped.
pub(super) fn watch(
    mut watcher: Watcher,
    mut served: Served,
    pace: &Pace,
    handle: &WorkerHandle,
    counts: &Known,
    ended: &mpsc::Receiver<Infallible>,
) {
    let mut known = watcher.config().clone();
    let mut looks = 0;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_INTERVAL) {
        let config = match watcher.look() {
            Seen::Changed(config) => Some(config),
            Seen::Nothing => None,
            Seen::Mended => {
                log::info!("the configuration is fine again");
                None
            }
            Seen::Broken(problem) => {
                log::warn!("{UNUSABLE}: {problem}");
                None
            }
        };
        looks += 1;
        let due = looks >= SURVEY_LOOKS && served.engines.can_change();
        let Some(config) = config else {
            if due {
                looks = 0;
                look_again(&mut served, &known, handle);
            }
            continue;
        };
        counts.is(&config.identity);
        pace.follow(&config);
        if known.ca_file != config.ca_file {
            log::warn!("the key `ca_file` changed: that counts from the next start of the worker");
        }
        let mut changed = None;
        if !engines::same(&known, &config) {
            let replaced = engines::build(&config, pace)
                .map_err(|problem| problem.to_string())
                .and_then(|engines| served.replace(engines).map_err(|problem| problem.to_string()));
            match replaced {
                Ok(()) => {
                    log_services(&config, &*served.engine, &served.found);
                    changed = Some(Arc::clone(&served.engine));
                }
                Err(problem) => {
                    log::warn!("{UNUSABLE}: {problem}");
                    continue;
                }
            }
        }
        log::debug!("the configuration changed");
        handle.reconfigure(settings(&config, &*served.engine, served.memory), changed);
        known = *config;
        counts.becomes(&known);
    }
}

/// Servers come and go, and programs are installed: what is served follows.
fn look_again(served: &mut Served, config: &Config, handle: &WorkerHandle) {
    match served.look() {
        Ok(true) => {
            log_services(config, &*served.engine, &served.found);
            handle.reconfigure(
                settings(config, &*served.engine, served.memory),
                Some(Arc::clone(&served.engine)),
            );
        }
        Ok(false) => {}
        Err(problem) => log::warn!("what the engines can serve could not be found out: {problem}"),
    }
}

/// Says what is served and what is missing for more.
pub(super) fn log_services(config: &Config, engine: &dyn Engine, found: &Survey) {
    let capabilities = build_capabilities(config, engine);
    let engines = capabilities.model_engines.unwrap_or_default();
    if engines.is_empty() {
        log::warn!("nothing can be served now, so no job will come: see `studio-worker engines`");
    } else {
        let mut models = capabilities.supported_models.clone();
        if found.services.iter().any(|service| service.models == Models::Sourced) {
            models.push("those whose offers say where their files are".into());
        }
        let (kinds, engines) = (capabilities.task_kinds.join(", "), engines.join(", "));
        log::info!("serves {kinds} with {engines}: {}", models.join(", "));
    }
    for Missing { engine, what, how } in &found.missing {
        // Of what nobody asked for, nothing is missed.
        let named = config.engine == *engine || config.engines.contains(engine);
        let level = if named { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "the engine {engine} lacks {what}: {how}");
    }
    if engines == ["synthetic"] && config.engine == "multi" && config.engines.is_empty() {
        log::warn!(
            "no engine for real models is set up: results are made up by the synthetic engine, for its own models only (see `studio-worker engines`)"
        );
    }
}
