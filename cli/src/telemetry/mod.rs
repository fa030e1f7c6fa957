//! What went wrong in a running worker, told to a Sentry server that its operator names: panics and lines of the level
//! `error`, with the warnings before them. Off, and without a thread, unless `SENTRY_DSN` says where; `SENTRY_ENVIRONMENT`
//! says which environment it is.
//!
//! Nothing ever waits for it but the end of the program, or its becoming another version, and that for 1.5 s at most.
//! Credentials are taken out once more before an event leaves. What an engine says about a job stays here, since it may quote
//! the prompt.

mod backtrace;
mod pace;
mod reporter;
mod sender;

use std::{
    cell::Cell,
    convert::Infallible,
    env,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use log::{Level, Metadata};
use sentry::types::Dsn;

use self::{reporter::Reporter, sender::Sender};
use crate::{logging, runtimes::Runtime, secrets};

/// How long the end of the program waits for what was not sent yet.
const EXIT_BOUND: Duration = Duration::from_millis(1_500);
/// What is shorter is no key, and taking it out of log lines would make them unreadable.
const SHORTEST_KEY: usize = 8;

static TELLS: AtomicBool = AtomicBool::new(false);
static REPORTER: RwLock<Option<Arc<Reporter>>> = RwLock::new(None);

thread_local! {
    /// Whether this thread is telling something: what goes wrong then is not told.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Errors are told as long as it lives.
#[must_use = "errors are told as long as it lives"]
pub struct Telemetry {
    sender: Arc<Sender>,
    lost: Arc<AtomicU64>,
    sent: mpsc::Receiver<Infallible>,
}

/// Tells errors from now on, if the environment says where. An address that can't be used is a warning, and nothing is told.
pub fn start(on: Runtime, engine: &str) -> Option<Telemetry> {
    let dsn = secrets::SENTRY_DSN.find_text().unwrap_or_else(|error| {
        log::warn!("no error is told to Sentry: {error}");
        None
    })?;
    let dsn: Dsn = match dsn.trim().parse() {
        Ok(dsn) => dsn,
        Err(problem) => {
            log::warn!(
                "SENTRY_DSN can't be used, so that no error is told to anybody: {problem}; it looks like https://KEY@HOST/PROJECT"
            );
            return None;
        }
    };
    for key in [Some(dsn.public_key()), dsn.secret_key()].into_iter().flatten() {
        if key.len() >= SHORTEST_KEY {
            logging::learn(&key.into());
        }
    }
    let lost = Arc::new(AtomicU64::new(0));
    let (sender, sent) = match Sender::start(on, &dsn, Arc::clone(&lost)) {
        Ok(started) => started,
        Err(error) => {
            log::warn!("no error is told to Sentry, since no thread could be had: {error}");
            return None;
        }
    };
    log::info!("errors are told to Sentry at {}, since SENTRY_DSN is set", dsn.host());
    let environment = env::var("SENTRY_ENVIRONMENT").ok().filter(|name| !name.trim().is_empty());
    let reporter = Reporter::new(dsn, environment, Arc::clone(&sender), Arc::clone(&lost));
    reporter.tag("runtime", on.name());
    reporter.tag("engine", engine);
    *REPORTER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(reporter));
    TELLS.store(true, Ordering::SeqCst);
    Some(Telemetry { sender, lost, sent })
}

/// Whether a line is one of those that are told, or told along.
pub(crate) fn wants(metadata: &Metadata<'_>) -> bool {
    metadata.level() <= Level::Warn
        && TELLS.load(Ordering::Relaxed)
        && metadata.target().starts_with(logging::OWN)
}

/// Takes a line that it [`wants`], without credentials.
pub(crate) fn hear(metadata: &Metadata<'_>, message: &str) {
    let reporter = REPORTER.read().unwrap_or_else(PoisonError::into_inner).clone();
    // A thread that ends has no cell any more, and may be told about.
    let is_telling = TELLING.try_with(|telling| telling.replace(true)).unwrap_or(false);
    if let Some(reporter) = reporter
        && !is_telling
    {
        reporter.hear(metadata.level(), metadata.target(), message, Instant::now());
    }
    let _ = TELLING.try_with(|telling| telling.set(is_telling));
}

/// Waits until what was told is sent, within bounds: for a process that becomes another program next, which knows nothing of
/// it.
pub(crate) fn flush() {
    let reporter = REPORTER.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(reporter) = reporter {
        say_unsent(reporter.flush(EXIT_BOUND), reporter.take_lost());
    }
}

fn say_unsent(is_over: bool, lost: u64) {
    if !is_over {
        log::warn!(
            "some errors were not told to Sentry within {} s, and are not any more",
            EXIT_BOUND.as_secs_f32()
        );
    }
    if lost > 0 {
        log::warn!("{lost} errors were not told to Sentry: too many, or it could not be reached");
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        TELLS.store(false, Ordering::SeqCst);
        *REPORTER.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.sender.close();
        // Its other end goes with the thread, once all is sent.
        let is_over = self.sent.recv_timeout(EXIT_BOUND) != Err(mpsc::RecvTimeoutError::Timeout);
        say_unsent(is_over, self.lost.load(Ordering::SeqCst));
    }
}
