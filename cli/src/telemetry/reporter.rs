//! What is told about an error.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use log::Level;
use sentry::{
    Breadcrumb, Client, ClientOptions, Hub, Scope, Transport,
    protocol::{Event, Exception, Mechanism},
    types::Dsn,
};
use studio_worker_core::drive::LOG_TARGET;

use super::{backtrace, pace::Pace};
use crate::{VERSION, logging, machine};

/// Warnings that are told along with an error.
const BREADCRUMBS: usize = 30;
/// The longest text, in characters.
const MAX_CHARS: usize = 2_000;

/// Makes events of lines. Its hub is its own: what one thread warned of belongs to the error of another.
pub(super) struct Reporter {
    hub: Hub,
    pace: Mutex<Pace>,
    /// Events that were not told, since the last one that was.
    lost: Arc<AtomicU64>,
}

impl Reporter {
    pub(super) fn new(
        dsn: Dsn,
        environment: Option<String>,
        transport: Arc<impl Transport>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        let mut options = ClientOptions::new()
            .release(format!("studio-worker@{VERSION}"))
            .environment(environment.unwrap_or_else(|| "production".into()))
            .server_name(machine::host_name())
            .default_integrations(false)
            .send_default_pii(false)
            .max_breadcrumbs(BREADCRUMBS)
            .before_send(|event| scrubbed(&event))
            .transport(transport);
        options.dsn = Some(dsn);
        let client = Arc::new(Client::with_options(options));
        Self { hub: Hub::new(Some(client), Arc::new(Scope::default())), pace: Mutex::default(), lost }
    }

    /// Says the same with each event.
    pub(super) fn tag(&self, name: &str, value: &str) {
        self.hub.configure_scope(|scope| scope.set_tag(name, value));
    }

    /// An error is told; it and a warning are told along with the next ones.
    pub(super) fn hear(&self, level: Level, target: &str, message: &str, now: Instant) {
        let message: String = without_words(target, message).chars().take(MAX_CHARS).collect();
        if level == Level::Error {
            if self.pace.lock().unwrap_or_else(PoisonError::into_inner).admits(now) {
                self.hub.capture_event(self.event(target, &message));
            } else {
                self.lost.fetch_add(1, Ordering::SeqCst);
            }
        }
        let level = if level == Level::Error { sentry::Level::Error } else { sentry::Level::Warning };
        let (category, message) = (Some(target.to_owned()), Some(message));
        self.hub.add_breadcrumb(Breadcrumb { level, category, message, ..Breadcrumb::default() });
    }

    /// Waits until everything is sent; whether that came in time.
    pub(super) fn flush(&self, bound: Duration) -> bool {
        self.hub.client().is_none_or(|client| client.flush(Some(bound)))
    }

    /// How many events could not be told, since that was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::SeqCst)
    }

    fn event(&self, target: &str, message: &str) -> Event<'static> {
        let mut event =
            Event { level: sentry::Level::Error, logger: Some(target.to_owned()), ..Event::default() };
        if target == logging::PANIC_TARGET {
            event.exception.values.push(Exception {
                ty: "panic".into(),
                value: Some(message.to_owned()),
                stacktrace: backtrace::here(),
                // The thread ends, and whoever started it deals with that.
                mechanism: Some(Mechanism {
                    ty: "panic".into(),
                    handled: Some(false),
                    ..Mechanism::default()
                }),
                ..Exception::default()
            });
        } else {
            event.message = Some(message.to_owned());
        }
        match self.lost.swap(0, Ordering::SeqCst) {
            0 => {}
            lost => {
                event.extra.insert("errors_not_told_before".into(), lost.into());
            }
        }
        event
    }
}

/// A line without what an engine said about a job: `job: job ID: failed, for good: its words`.
fn without_words<'a>(target: &str, message: &'a str) -> &'a str {
    let is_of_a_job = target == LOG_TARGET && message.starts_with("job: ");
    match message.match_indices(": ").nth(2) {
        Some((end, _)) if is_of_a_job => &message[..end],
        _ => message,
    }
}

/// An event without credentials in any of its texts: also those that were learned since.
fn scrubbed(event: &Event<'static>) -> Option<Event<'static>> {
    let mut value = serde_json::to_value(event).ok()?;
    // What is no level can't be read as one.
    logging::each_text(&mut value, &["level"], &logging::scrub);
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use sentry::Envelope;

    use super::*;
    use crate::telemetry::pace::EVENTS;

    #[derive(Default)]
    struct Told(Mutex<Vec<Event<'static>>>);

    impl Transport for Told {
        fn send_envelope(&self, envelope: Envelope) {
            self.0.lock().unwrap().extend(envelope.event().cloned());
        }
    }

    fn reporter() -> (Reporter, Arc<Told>) {
        let told = Arc::new(Told::default());
        let dsn = "http://public-key@127.0.0.1:9/7".parse().unwrap();
        (Reporter::new(dsn, None, Arc::clone(&told), Arc::default()), told)
    }

    #[test]
    fn a_flood_of_errors_is_counted() {
        let (reporter, told) = reporter();
        let start = Instant::now();
        for _ in 0..100 {
            reporter.hear(Level::Error, LOG_TARGET, "again", start);
        }
        assert_eq!(told.0.lock().unwrap().len(), EVENTS as usize);
        reporter.hear(Level::Error, LOG_TARGET, "later", start + Duration::from_secs(61));
        let told = told.0.lock().unwrap();
        let last = told.last().unwrap();
        assert_eq!(
            (last.message.as_deref(), &last.extra["errors_not_told_before"]),
            (Some("later"), &70.into())
        );
        assert_eq!(last.breadcrumbs.len(), BREADCRUMBS);
        assert_eq!(last.environment.as_deref(), Some("production"));
    }

    #[test]
    fn a_credential_that_is_learned_later_is_taken_out_of_what_was_heard_before() {
        let (reporter, told) = reporter();
        reporter.hear(Level::Warn, LOG_TARGET, "Bearer tok-of-later was refused", Instant::now());
        reporter.tag("engine", "tok-of-later");
        logging::learn(&"tok-of-later".into());
        reporter.hear(Level::Error, LOG_TARGET, "so it ends", Instant::now());
        let text = serde_json::to_string(&told.0.lock().unwrap()[0]).unwrap();
        assert!(text.contains("Bearer … was refused") && !text.contains("tok-of-later"), "{text}");
    }

    #[test]
    fn what_an_engine_says_about_a_job_stays_here() {
        for (message, left) in [
            ("job: job j-1: failed, for good: no `a red fox: at night`", "job: job j-1: failed, for good"),
            ("job: job j-1: the memory was not measured", "job: job j-1: the memory was not measured"),
            ("session: closed by the studio (1011): a: b", "session: closed by the studio (1011): a: b"),
        ] {
            assert_eq!(without_words(LOG_TARGET, message), left);
        }
        assert_eq!(without_words("studio_worker::config", "job: a: b: c"), "job: a: b: c");
    }

    #[test]
    fn a_long_text_is_cut() {
        let (reporter, told) = reporter();
        reporter.hear(Level::Error, "studio_worker::config", &"é".repeat(5_000), Instant::now());
        let told = told.0.lock().unwrap();
        assert_eq!(told[0].message.as_ref().unwrap().chars().count(), MAX_CHARS);
    }
}
