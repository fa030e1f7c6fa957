//! Log lines: to stderr by `env_logger`, and to the studio while a worker runs. Credentials are taken out of every line
//! on its way.

use std::{
    collections::VecDeque,
    panic::PanicHookInfo,
    sync::{OnceLock, PoisonError, RwLock},
};

use env_logger::{Builder, Env};
use log::{Level, LevelFilter, Log, Metadata, Record};
use studio_worker_core::{
    drive::{LOG_TARGET, WorkerHandle},
    wire::{LogLevel, Secret},
    worker::LogLine,
};

/// Credentials that are remembered; a program that lives long may see many, one after another.
const MAX_SECRETS: usize = 64;
/// The start of this program's own targets.
const OWN: &str = "studio_worker::";

static SECRETS: RwLock<VecDeque<Secret>> = RwLock::new(VecDeque::new());
static HANDLE: RwLock<Option<WorkerHandle>> = RwLock::new(None);

/// Starts logging: by `RUST_LOG`, or else from `info` on. Also takes over what a panic says. Later calls do nothing.
pub fn init() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let stderr =
            Builder::from_env(Env::default().default_filter_or("info")).format_timestamp_millis().build();
        // What the studio gets does not depend on what is wanted on stderr.
        let level = stderr.filter().max(LevelFilter::Info);
        if log::set_boxed_logger(Box::new(Scrubbing { stderr })).is_ok() {
            log::set_max_level(level);
            std::panic::set_hook(Box::new(report_panic));
        }
    });
}

/// Keeps `secret` out of everything that is logged or reported from now on.
pub fn learn(secret: &Secret) {
    if secret.reveal().is_empty() {
        return;
    }
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if !secrets.contains(secret) {
        if secrets.len() == MAX_SECRETS {
            secrets.pop_front();
        }
        secrets.push_back(secret.clone());
    }
}

/// `text` without any credential that is known.
pub fn scrub(text: String) -> String {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().fold(text, |text, secret| secret.scrub(text))
}

/// Sends the program's lines to the studio, too, from now on, until [`Forwarding`] is dropped.
pub fn forward_to(handle: WorkerHandle) -> Forwarding {
    *HANDLE.write().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    Forwarding(())
}

/// Lines are sent to a studio as long as it lives.
#[derive(Debug)]
#[must_use = "lines are sent as long as it lives"]
pub struct Forwarding(());

impl Drop for Forwarding {
    fn drop(&mut self) {
        *HANDLE.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct Scrubbing {
    stderr: env_logger::Logger,
}

impl Scrubbing {
    /// The level at which a line goes to the studio. The worker's own lines are on their way already.
    fn forwarded(metadata: &Metadata<'_>) -> Option<LogLevel> {
        if metadata.target() == LOG_TARGET || !metadata.target().starts_with(OWN) {
            return None;
        }
        match metadata.level() {
            Level::Error => Some(LogLevel::Error),
            Level::Warn => Some(LogLevel::Warn),
            Level::Info => Some(LogLevel::Info),
            Level::Debug | Level::Trace => None,
        }
    }
}

impl Log for Scrubbing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.stderr.enabled(metadata) || Self::forwarded(metadata).is_some()
    }

    fn log(&self, record: &Record<'_>) {
        let shown = self.stderr.matches(record);
        let forwarded = Self::forwarded(record.metadata());
        if !shown && forwarded.is_none() {
            return;
        }
        let message = scrub(record.args().to_string());
        if shown {
            let metadata = record.metadata().clone();
            // Without key-values: they would have to be scrubbed one by one, and nobody uses them here.
            self.stderr.log(&Record::builder().metadata(metadata).args(format_args!("{message}")).build());
        }
        if let Some(level) = forwarded
            && let Some(handle) = HANDLE.read().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            let category = record.target().strip_prefix(OWN).unwrap_or(record.target()).to_owned();
            handle.log(LogLine { level, category, message, job_id: None });
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// A panic as one log line.
fn report_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("without a text").replace('\n', " ");
    log::error!("the thread {} panicked at {place}: {text}", thread.name().unwrap_or("without a name"));
}
