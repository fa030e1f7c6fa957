//! The worker as a program: what the subcommands do, and the public vocabulary of section 9.
//!
//! ```no_run
//! use studio_worker::{config::ConfigFile, runtime, runtimes};
//!
//! let config = ConfigFile::locate(None)?;
//! println!("{}", runtime::format_status(&config.load_or_create()?, config.path()));
//! runtime::run(&config, runtimes::Runtime::default(), &runtime::RunArgs::default())?; // until a signal ends it
//! # Ok::<_, studio_worker::Error>(())
//! ```

mod adopt;
mod beside;
mod known;
mod run;
mod takeover;
mod watch;

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};
pub use studio_worker_core::{
    drive::{WorkerHandle, WorkerObservers, record_recent_job},
    update::{AUTO_UPDATE_TICK, AutoUpdateDecision, LoopSchedule, format_check_outcome},
    worker::{
        CurrentJob, Exit, HEARTBEAT_INTERVAL, HeartbeatOutcome, HeartbeatStatus, JobOutcome,
        PROMPT_PREVIEW_CHARS, RECENT_JOBS_CAP, RecentJob, truncate_prompt,
    },
};
use studio_worker_core::{
    engine::{Engine, EngineError, advertise},
    machine::Memory,
    text::plain,
    wire::{ApiBase, Capabilities, Finite, LogLevel, Task},
    worker::{LogLine, Settings},
};

pub use run::{RunArgs, run, run_loops};

pub use crate::update::{auto_update_tick, check as check_update};

use crate::{
    Error, VERSION,
    config::{Config, ConfigFile, DEFAULT_API_BASE_URL, Edit, gigabytes, masked},
    door::Updates,
    engines,
    lock::Running,
    logging, machine,
    runtimes::Runtime,
    update::{AutoUpdates, Before, Place},
};

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
        let _ = writeln!(status, "{name:<20}{}", plain(value));
    }
    logging::scrub(status)
}

/// The same for programs, and whether a worker runs with this configuration, and as which process.
pub fn status(config: &Config, path: &Path, running: Option<Running>) -> Value {
    let identity = &config.identity;
    let registration = match (&identity.worker_id, &identity.auth_token, &identity.registration_rejected) {
        (Some(id), Some(_), _) => json!({ "state": "approved", "workerId": id }),
        (_, _, Some(reason)) => json!({ "state": "rejected", "reason": reason }),
        _ => match &identity.registration_request_id {
            Some(request) => json!({ "state": "pending", "requestId": request }),
            None => json!({ "state": "unregistered" }),
        },
    };
    let mut status = json!({
        "version": VERSION,
        "configPath": path.display().to_string(),
        "running": running.is_some(),
        "runningPid": running.and_then(|running| running.pid),
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
    logging::each_text(&mut status, &["state"], &logging::scrub);
    status
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

/// Looks for updates beside a worker, as long as what it gives back lives.
pub fn spawn_auto_updater(file: ConfigFile, handle: WorkerHandle, on: Runtime, place: Place) -> AutoUpdates {
    AutoUpdates::start(file, handle, on, place, Updates::default(), Before::default())
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
