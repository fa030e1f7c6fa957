//! Sends events, on a thread of its own, over the HTTP of the worker's runtime: no second client is linked for them.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use sentry::{Envelope, Transport, types::Dsn};
use studio_worker_core::{
    engine::{Effect, EngineError, Happened, Recipe},
    http::{HttpAnswer, HttpBody, HttpRequest},
};

use super::TELLING;
use crate::runtimes::Runtime;

/// Events that wait to be sent; those beyond are counted only.
const QUEUED: usize = 30;
/// How long sending one may take.
const SEND_BOUND: Duration = Duration::from_secs(15);
/// How long a server that has enough is left alone when it doesn't say how long.
const REST: Duration = Duration::from_secs(60);
/// And when it does, at most.
const MAX_REST: Duration = Duration::from_secs(60 * 60);

/// The way to the thread that sends.
pub(super) struct Sender {
    queue: Mutex<Option<SyncSender<Vec<u8>>>>,
    lost: Arc<AtomicU64>,
    unsent: Arc<Unsent>,
}

/// How many events are queued, or about to be sent.
#[derive(Default)]
struct Unsent {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Unsent {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_less(&self) {
        *self.count() -= 1;
        self.fewer.notify_all();
    }

    /// Waits until there is none; whether that came in time.
    fn wait(&self, bound: Duration) -> bool {
        let waited = self.fewer.wait_timeout_while(self.count(), bound, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Sender {
    /// Starts the thread; the other end of what is returned goes with it.
    pub(super) fn start(
        on: Runtime,
        dsn: &Dsn,
        lost: Arc<AtomicU64>,
    ) -> io::Result<(Arc<Self>, Receiver<Infallible>)> {
        // Sentry takes the key there as well as in a header of its own.
        let mut url = dsn.envelope_api_url();
        url.query_pairs_mut()
            .append_pair("sentry_key", dsn.public_key())
            .append_pair("sentry_version", "7")
            .append_pair("sentry_client", concat!("studio-worker/", env!("CARGO_PKG_VERSION")));
        let unsent = Arc::<Unsent>::default();
        let sending = Sending {
            unsent: Arc::clone(&unsent),
            on,
            url: url.into(),
            host: dsn.host().to_owned(),
            rests_until: None,
            fails: false,
            lost: Arc::clone(&lost),
        };
        let (queue, queued) = mpsc::sync_channel(QUEUED);
        let (lives, sent) = mpsc::channel();
        thread::Builder::new().name("sentry".into()).spawn(move || {
            sending.run(&queued);
            drop(lives);
        })?;
        Ok((Arc::new(Self { queue: Mutex::new(Some(queue)), lost, unsent }), sent))
    }

    /// What is queued is sent still, and nothing after it.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Transport for Sender {
    fn send_envelope(&self, envelope: Envelope) {
        let mut bytes = Vec::new();
        let is_whole = envelope.to_writer(&mut bytes).is_ok();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before the thread can have sent it.
        *self.unsent.count() += 1;
        if !(is_whole && queue.as_ref().is_some_and(|queue| queue.try_send(bytes).is_ok())) {
            self.unsent.one_less();
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.unsent.wait(timeout)
    }
}

/// The thread that sends.
struct Sending {
    on: Runtime,
    url: String,
    host: String,
    /// The server has enough until then.
    rests_until: Option<Instant>,
    /// Whether the last one could not be sent, which has been said.
    fails: bool,
    lost: Arc<AtomicU64>,
    unsent: Arc<Unsent>,
}

impl Sending {
    fn run(mut self, queued: &Receiver<Vec<u8>>) {
        // What goes wrong with telling is not told.
        TELLING.set(true);
        for envelope in queued {
            let outcome = match self.rests_until {
                Some(end) if Instant::now() < end => Err(None),
                _ => self.send(envelope).map_err(Some),
            };
            match outcome {
                Ok(()) => self.fails = false,
                Err(why) => {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    if let Some(why) = why
                        && !std::mem::replace(&mut self.fails, true)
                    {
                        log::warn!("an error could not be told to Sentry at {}: {why}", self.host);
                    }
                }
            }
            self.unsent.one_less();
        }
    }

    fn send(&mut self, envelope: Vec<u8>) -> Result<(), String> {
        let content_type = "application/x-sentry-envelope".into();
        let body = HttpBody { content_type, bytes: envelope };
        let request = HttpRequest { timeout: SEND_BOUND, ..HttpRequest::post(self.url.clone(), body) };
        let exchange = self.on.carry_out(Box::new(Exchange(Some(request))));
        let answer = self
            .on
            .block_on(exchange)
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        if answer.status == 429 {
            let asked = answer.retry_after.and_then(|seconds| seconds.trim().parse().ok());
            let rest = asked.map_or(REST, Duration::from_secs).min(MAX_REST);
            self.rests_until = Some(Instant::now() + rest);
        }
        if (200..300).contains(&answer.status) {
            Ok(())
        } else {
            Err(format!("it answers {}", answer.status))
        }
    }
}

/// One exchange.
struct Exchange(Option<HttpRequest>);

impl Recipe<HttpAnswer> for Exchange {
    fn next(&mut self, happened: Happened) -> Effect<HttpAnswer> {
        match (happened, self.0.take()) {
            (Happened::Started, Some(request)) => Effect::Exchange(request),
            (Happened::Exchanged(Ok(answer)), _) => Effect::Done(Ok(answer)),
            (Happened::Exchanged(Err(failure)), _) => Effect::Done(Err(EngineError::transient(failure))),
            _ => Effect::Done(Err(EngineError::transient("nothing was exchanged"))),
        }
    }
}
