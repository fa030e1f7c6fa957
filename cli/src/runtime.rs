//! The worker as a program: what the subcommands do, and the public vocabulary of section 9.
//!
//! ```no_run
//! use studio_worker::{config::ConfigFile, runtime, runtimes};
//!
//! let config = ConfigFile::locate(None)?;
//! println!("{}", runtime::format_status(&config.load_or_create()?, config.path()));
//! runtime::run(&config, runtimes::Runtime::default())?; // until a signal ends it
//! # Ok::<_, studio_worker::Error>(())
//! ```

use std::{
    convert::Infallible,
    fmt::Write as _,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use futures::future::{Either, select};
use serde_json::{Value, json};
pub use studio_worker_core::{
    drive::{WorkerHandle, WorkerObservers, record_recent_job},
    worker::{
        CurrentJob, Exit, HEARTBEAT_INTERVAL, HeartbeatOutcome, HeartbeatStatus, JobOutcome,
        PROMPT_PREVIEW_CHARS, RECENT_JOBS_CAP, RecentJob, truncate_prompt,
    },
};
use studio_worker_core::{
    engine::{Engine, EngineError, Missing, Models, Survey, advertise},
    machine::Memory,
    wire::{ApiBase, Capabilities, Finite, LogLevel, Task},
    worker::{LogLine, Options, Settings},
};

use crate::{
    Error, VERSION,
    config::{Config, ConfigFile, ConfigStore, DEFAULT_API_BASE_URL, Edit, Seen, Watcher, gigabytes, masked},
    engines::{self, Engines, Pace},
    lock::InstanceLock,
    logging, machine,
    runtimes::Runtime,
    signals::Shutdown,
};

/// Between two looks at the configuration. A change counts at the second look, so it reaches a running worker within
/// one heartbeat.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the configuration between two surveys of the engines: a minute.
const SURVEY_LOOKS: u32 = 60;

const UNUSABLE: &str = "the worker goes on as it was, since the changed configuration can't be used";

/// The flags of `studio-worker register`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegisterArgs {
    /// Another studio.
    pub api_base_url: Option<String>,
    /// Another label; an empty one removes it.
    pub label: Option<String>,
    /// Whether to forget who this worker is.
    pub reset: bool,
}

/// Stores what the next registration is to say; the network is not used. Returns what to tell the person.
pub fn register(file: &ConfigFile, args: &RegisterArgs) -> Result<String, Error> {
    let mut edits = Vec::new();
    if args.reset {
        edits.extend(
            [
                "worker_id",
                "auth_token",
                "registration_request_id",
                "registration_secret",
                "registration_rejected",
                "install_id",
            ]
            .map(Edit::remove),
        );
    }
    if let Some(url) = &args.api_base_url {
        ApiBase::parse(url).map_err(|problem| Error::Argument(problem.to_string()))?;
        edits.push(Edit::set("api_base_url", url.trim()));
    }
    if let Some(label) = &args.label {
        let label = label.trim();
        edits.push(if label.is_empty() { Edit::remove("label") } else { Edit::set("label", label) });
    }
    let config = file.edit(&edits)?;
    Ok(match (&config.identity.worker_id, args.reset) {
        (Some(id), _) => format!(
            "saved; this worker stays registered as {id} at {}: to register anew, add --reset",
            config.api_base_url()
        ),
        (None, true) => format!("forgotten; `studio-worker run` registers anew at {}", config.api_base_url()),
        (None, false) => format!("saved; `studio-worker run` registers at {}", config.api_base_url()),
    })
}

/// Where the registration stands, as `status` prints it.
fn registration(config: &Config) -> String {
    let identity = &config.identity;
    match (&identity.worker_id, &identity.auth_token, &identity.registration_rejected) {
        (Some(id), Some(_), _) => format!("approved as {id}"),
        (_, _, Some(reason)) if reason.trim().is_empty() => "rejected (no reason given)".into(),
        (_, _, Some(reason)) => format!("rejected ({reason})"),
        _ => match &identity.registration_request_id {
            Some(request) => format!("pending operator approval (request {request})"),
            None => "not registered (will auto-register on next launch)".into(),
        },
    }
}

/// What `status` prints: the lines that scripts read (section 8), with values from column 21 on.
pub fn format_status(config: &Config, path: &Path) -> String {
    let mut lines = vec![
        ("config path:", path.display().to_string()),
        ("api_base_url:", config.api_base_url().into()),
        ("registration:", registration(config)),
    ];
    lines.extend(config.label.clone().map(|label| ("label:", label)));
    lines.extend([
        ("engine:", config.engine.clone()),
        ("vram_threshold_gb:", gigabytes(config.vram_threshold_gb)),
        ("auto_enabled:", config.auto_enabled.to_string()),
        ("auto_start:", config.auto_start.to_string()),
        ("auto_update:", config.auto_update_enabled.to_string()),
        ("update_interval:", format!("{}s", config.auto_update_interval_secs)),
    ]);
    let mut status = String::new();
    for (name, value) in lines {
        // Writing to a text can't fail.
        let _ = writeln!(status, "{name:<20}{}", value.replace(char::is_control, " "));
    }
    logging::scrub(status)
}

/// The same for programs, and which process runs a worker with this configuration, if one does.
pub fn status(config: &Config, path: &Path, running: Option<u32>) -> Value {
    let identity = &config.identity;
    let registration = match (&identity.worker_id, &identity.auth_token, &identity.registration_rejected) {
        (Some(id), Some(_), _) => json!({ "state": "approved", "workerId": id }),
        (_, _, Some(reason)) => json!({ "state": "rejected", "reason": reason }),
        _ => match &identity.registration_request_id {
            Some(request) => json!({ "state": "pending", "requestId": request }),
            None => json!({ "state": "unregistered" }),
        },
    };
    let status = json!({
        "version": VERSION,
        "configPath": path.display().to_string(),
        "runningPid": running,
        "apiBaseUrl": config.api_base_url(),
        "registration": registration,
        "label": config.label,
        "engine": config.engine,
        "engines": config.engines,
        "vramThresholdGb": config.vram_threshold_gb,
        "autoEnabled": config.auto_enabled,
        "autoStart": config.auto_start,
        "autoUpdate": config.auto_update_enabled,
        "updateIntervalSecs": config.auto_update_interval_secs,
    });
    scrubbed(status)
}

/// A JSON value without credentials in its texts.
fn scrubbed(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(logging::scrub(text)),
        Value::Array(values) => values.into_iter().map(scrubbed).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, scrubbed(value))).collect(),
        value => value,
    }
}

/// What `config` prints: where the file is, and everything that counts, as TOML, with credentials masked.
pub fn show_config(file: &ConfigFile) -> Result<String, Error> {
    let config = file.load_or_create()?;
    Ok(format!("# {}\n{}", file.path().display(), masked(file, &config)?))
}

/// Wants jobs from now on, or no more.
pub fn set_enabled(file: &ConfigFile, enabled: bool) -> Result<String, Error> {
    file.edit(&[Edit::set("auto_enabled", enabled)])?;
    Ok(format!("auto_enabled = {enabled}"))
}

/// Takes jobs up to `gb` from now on; at least 0.
pub fn set_threshold(file: &ConfigFile, gb: Finite) -> Result<String, Error> {
    if gb < Finite::ZERO {
        return Err(Error::Argument(format!(
            "the threshold must be a number of GB, at least 0; {gb} is not"
        )));
    }
    file.edit(&[Edit::set("vram_threshold_gb", gb.get())])?;
    Ok(format!("vram_threshold_gb = {}", gigabytes(gb)))
}

/// What the worker says of itself (section 4).
pub fn build_capabilities(config: &Config, engine: &dyn Engine) -> Capabilities {
    let mut capabilities = own_capabilities(config, Finite::ZERO);
    advertise(&engine.services(), &mut capabilities);
    capabilities
}

/// The part that the engine has no say in.
fn own_capabilities(config: &Config, vram_total_gb: Finite) -> Capabilities {
    Capabilities {
        machine_name: machine::host_name(),
        username: machine::user_name(),
        agent_version: VERSION.into(),
        engine: config.engine.clone(),
        vram_total_gb,
        vram_threshold_gb: config.vram_threshold_gb,
        auto_enabled: config.auto_enabled,
        auto_start: config.auto_start,
        auto_update: Some(config.auto_update_enabled),
        start_minimised: Some(config.start_minimised),
        only_when_idle: Some(config.only_when_idle),
        model_engines: Some(Vec::new()),
        ..Capabilities::default()
    }
}

/// What the core is told of a configuration.
pub fn settings(config: &Config, engine: &dyn Engine, memory: Memory) -> Settings {
    Settings {
        api_base: config.api_base.clone(),
        identity: config.identity.clone(),
        label: config.label.clone(),
        capabilities: own_capabilities(config, memory.gpu_total.map_or(Finite::ZERO, Finite::gigabytes)),
        services: engine.services(),
        measured_engines: engines::measured(config),
        reconnect_attempts: config.ws_reconnect_attempts,
    }
}

/// The prompt that is reported with a result (section 5).
pub fn prompt_for(task: &Task) -> &str {
    task.prompt()
}

/// Whether an engine refused a job since it doesn't do such jobs.
pub fn is_unsupported_kind(error: &EngineError) -> bool {
    error.message.contains("cannot serve")
}

/// Sends a log line of the program's to the studio, without credentials.
pub fn push_log(handle: &WorkerHandle, level: LogLevel, category: &str, message: &str) {
    let message = logging::scrub(message.to_owned());
    handle.log(LogLine { level, category: category.into(), message, job_id: None });
}

/// Says at its start what a worker is about to do.
pub fn log_startup_banner(config: &Config, path: &Path) {
    log::info!(
        "studio-worker {VERSION} starts with {}: studio {}, engine {}, jobs up to {} GB, {}, {}",
        path.display(),
        config.api_base,
        config.engine,
        gigabytes(config.vram_threshold_gb),
        if config.auto_enabled { "jobs are wanted" } else { "no jobs are wanted (`studio-worker enable`)" },
        registration(config),
    );
}

/// What a person should know before this machine introduces itself to a studio that they did not choose (section 2).
pub fn disclosure(config: &Config) -> Option<String> {
    let registered = config.identity.worker_id.is_some() && config.identity.auth_token.is_some();
    let chosen =
        config.api_base_url.is_some() && (registered || config.api_base_url() != DEFAULT_API_BASE_URL);
    (!chosen).then(|| {
        format!(
            "this machine's host name ({}) and user name ({}) are now told to the studio {}; \
             to use another one: `studio-worker register --api-base-url URL`",
            machine::host_name(),
            machine::user_name(),
            config.api_base_url(),
        )
    })
}

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

/// What is served, and how that is found out.
struct Served {
    engines: Engines,
    engine: Arc<dyn Engine>,
    found: Survey,
    /// As it was at the start.
    memory: Memory,
    on: Runtime,
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
fn watch(
    mut watcher: Watcher,
    mut served: Served,
    pace: &Pace,
    handle: &WorkerHandle,
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
        pace.follow(&config);
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
fn log_services(config: &Config, engine: &dyn Engine, found: &Survey) {
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
