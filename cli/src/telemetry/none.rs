//! Nothing is told to anybody: this program is built without the feature `sentry`.

use log::Metadata;

use crate::runtimes::Runtime;

/// Nothing to keep.
pub(crate) struct Telemetry;

pub(crate) fn start(_: Runtime, _: &str) -> Option<Telemetry> {
    if std::env::var_os("SENTRY_DSN").is_some_and(|dsn| !dsn.is_empty()) {
        log::warn!(
            "SENTRY_DSN is set, but this program is built without the feature `sentry`: no error is told"
        );
    }
    None
}

pub(crate) fn flush() {}

pub(crate) fn wants(_: &Metadata<'_>) -> bool {
    false
}

pub(crate) fn hear(_: &Metadata<'_>, _: &str) {}
