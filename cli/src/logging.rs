//! Log lines: to stderr by `env_logger`, and to the studio while a worker runs. Credentials are taken out of every line
//! on its way.

use std::{
    collections::VecDeque,
    mem,
    panic::PanicHookInfo,
    sync::{OnceLock, PoisonError, RwLock},
};

use env_logger::{Builder, Env};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::Value;
use studio_worker_core::{
    drive::{LOG_TARGET, WorkerHandle},
    text::plain,
    wire::{LogLevel, Secret},
    worker::LogLine,
};

use crate::door;
use crate::telemetry;

/// Credentials of a kind that are remembered; a program that lives long may see many, one after another.
const MAX_SECRETS: usize = 64;
/// What has fewer characters is no secret.
const SHORTEST_SECRET: usize = 6;
/// The start of this program's own targets, and of those of its runtime.
pub(crate) const OWN: &str = "studio_worker";
/// What a studio in the same process says: sent to itself, each line would make another one.
const STUDIO: &str = "studio_worker::studio";
/// How errors are told to an operator's server is nobody else's business.
const TELEMETRY: &str = "studio_worker::telemetry";
/// The target of a line about a panic.
pub(crate) const PANIC_TARGET: &str = "studio_worker::panic";

static SECRETS: RwLock<Known> = RwLock::new(Known::new());
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

/// Keeps `secret`, which an operator gave, out of everything that is logged or reported from now on. One of less than six
/// characters is left alone: it keeps nobody out, and a line without its every `1` or `is` could not be read.
pub fn learn(secret: &Secret) {
    SECRETS.write().unwrap_or_else(PoisonError::into_inner).given.remember(secret);
}

/// The same for what a studio issued, or the worker made for one. However often it changes, no other secret is forgotten
/// for it.
pub fn learn_issued(secret: &Secret) {
    SECRETS.write().unwrap_or_else(PoisonError::into_inner).issued.remember(secret);
}

/// `text` without any credential that is known.
pub fn scrub(text: String) -> String {
    SECRETS.read().unwrap_or_else(PoisonError::into_inner).scrub(text)
}

/// Puts each text of a JSON value through `scrub`, but for what stands under the keys of `but`.
pub(crate) fn each_text(value: &mut Value, but: &[&str], scrub: &impl Fn(String) -> String) {
    match value {
        Value::String(text) => *text = scrub(mem::take(text)),
        Value::Array(values) => values.iter_mut().for_each(|value| each_text(value, but, scrub)),
        Value::Object(fields) => fields
            .iter_mut()
            .filter(|(key, _)| !but.contains(&key.as_str()))
            .for_each(|(_, value)| each_text(value, but, scrub)),
        _ => {}
    }
}

/// Credentials, by who could make them many.
struct Known {
    given: Recent,
    issued: Recent,
}

impl Known {
    const fn new() -> Self {
        Self { given: Recent(VecDeque::new()), issued: Recent(VecDeque::new()) }
    }

    fn scrub(&self, text: String) -> String {
        Secret::scrub_all(self.given.0.iter().chain(&self.issued.0), text)
    }
}

/// The credentials that were seen last, in that order.
struct Recent(VecDeque<Secret>);

impl Recent {
    fn remember(&mut self, secret: &Secret) {
        if secret.reveal().chars().count() < SHORTEST_SECRET {
            return;
        }
        self.0.retain(|known| known != secret);
        if self.0.len() == MAX_SECRETS {
            self.0.pop_front();
        }
        self.0.push_back(secret.clone());
    }
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
    /// Whether a line may be shown at all: what a library traces are bytes on their way, and a credential in them
    /// is written in forms that can't be found.
    fn may_be_shown(metadata: &Metadata<'_>) -> bool {
        metadata.level() < Level::Trace || metadata.target().starts_with(OWN)
    }

    /// The level at which a line goes to the studio. The worker's own lines are on their way already.
    fn forwarded(metadata: &Metadata<'_>) -> Option<LogLevel> {
        let target = metadata.target();
        let is_private = target.starts_with(STUDIO) || target.starts_with(TELEMETRY);
        if target == LOG_TARGET || is_private || !target.starts_with(OWN) {
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
        Self::may_be_shown(metadata) && self.stderr.enabled(metadata)
            || Self::forwarded(metadata).is_some()
            || telemetry::wants(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let shown = Self::may_be_shown(record.metadata()) && self.stderr.matches(record);
        let forwarded = Self::forwarded(record.metadata());
        let told = telemetry::wants(record.metadata());
        if !shown && forwarded.is_none() && !told {
            return;
        }
        // One line, whatever is quoted in it.
        let message = plain(scrub(record.args().to_string()));
        if shown {
            let metadata = record.metadata().clone();
            // Without key-values: they would have to be scrubbed one by one, and nobody uses them here.
            self.stderr.log(&Record::builder().metadata(metadata).args(format_args!("{message}")).build());
        }
        door::lines::note(record.metadata(), &message);
        if told {
            telemetry::hear(record.metadata(), &message);
        }
        if let Some(level) = forwarded
            && let Some(handle) = HANDLE.read().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            let category = record.target().rsplit("::").next().unwrap_or_default().to_owned();
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
    let text = text.unwrap_or("without a text");
    log::error!(target: PANIC_TARGET, "the thread {} panicked at {place}: {text}", thread.name().unwrap_or("without a name"));
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_shows_a_credential() {
        let written = Written::default();
        let target = env_logger::Target::Pipe(Box::new(written.clone()));
        let stderr = Builder::new().parse_filters("trace").target(target).build();
        let logger = Scrubbing { stderr };
        learn(&"tok-logged-1".into());
        learn(&"tok-logged-2".into());
        learn(&"".into());
        for (level, target) in
            [(Level::Debug, "isahc::wire"), (Level::Info, LOG_TARGET), (Level::Trace, "tungstenite")]
        {
            logger.log(
                &Record::builder()
                    .level(level)
                    .target(target)
                    .args(format_args!("Authorization: Bearer {}, not {:?}", "tok-logged-1", "tok-logged-2"))
                    .build(),
            );
        }
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "a library's trace may hold a credential as hex: {text}");
        assert!(lines[0].ends_with("DEBUG isahc::wire] Authorization: Bearer …, not \"…\""), "{text}");
        assert!(lines[1].contains("INFO  studio_worker] "), "{text}");
    }

    #[test]
    fn what_is_as_short_as_a_word_is_no_secret() {
        for short in ["1", "is", "short", "äöü", "tok 1"] {
            learn(&short.into());
        }
        let line = "is 1 a short äöü tok 1?";
        assert_eq!(scrub(line.into()), line);
        learn(&"s-1234".into());
        assert_eq!(scrub("not s-1234".into()), "not …");
    }

    #[test]
    fn what_a_studio_issues_pushes_out_nothing_that_was_given() {
        let mut known = Known::new();
        known.given.remember(&"password-of-a-proxy".into());
        for count in 0..3 * MAX_SECRETS {
            known.issued.remember(&format!("tok-issued-{count:03}").into());
            assert_eq!(
                known.scrub("tok-issued-000".into()),
                "…",
                "one that counts still is read again and again"
            );
            known.issued.remember(&"tok-issued-000".into());
        }
        assert_eq!(known.scrub("password-of-a-proxy tok-issued-000 tok-issued-191".into()), "… … …");
        assert_eq!(known.scrub("tok-issued-001".into()), "tok-issued-001", "it has a bound");
    }

    #[test]
    fn only_lines_of_the_program_go_to_the_studio() {
        for (level, target, forwarded) in [
            (Level::Info, "studio_worker::runtime", Some(LogLevel::Info)),
            (Level::Warn, "studio_worker::config::file", Some(LogLevel::Warn)),
            (Level::Error, PANIC_TARGET, Some(LogLevel::Error)),
            (Level::Warn, "studio_worker_core::transport::files", Some(LogLevel::Warn)),
            (Level::Debug, "studio_worker::runtime", None),
            (Level::Info, "studio_worker::studio::session", None),
            (Level::Warn, "studio_worker::telemetry::sender", None),
            // The worker's own, which are on their way already, and those of other crates.
            (Level::Warn, LOG_TARGET, None),
            (Level::Error, "isahc", None),
        ] {
            let metadata = Metadata::builder().level(level).target(target).build();
            assert_eq!(Scrubbing::forwarded(&metadata), forwarded, "{level} {target}");
        }
    }
}
