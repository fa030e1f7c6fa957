//! A driven worker in a world where nothing takes time: the loop of `drive` and the worker are all that costs.

use std::{
    collections::VecDeque,
    future::{Future, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Sink, Stream, future::poll_fn};
use studio_worker_core::{
    drive::{self, Connect, MemoryStore, Outgoing, Progress, Received, Runtime, SocketError, WorkerHandle},
    engine::{Effect, Engine, Happened, Output, Recipe, Service, SpilledFile},
    time::{Mono, Now, Wall},
    wire::Claim,
    worker::{
        ConnectFailure, Exit, HEARTBEAT_INTERVAL, HttpAnswer, HttpFailure, HttpRequest, Options, Settings,
        Upload,
    },
};

use super::rig::{ACK, START, WELCOME, answer, settings};

/// A driven worker with a session, in virtual time.
pub(crate) struct Quiet {
    world: World,
    pub(crate) handle: WorkerHandle,
    driven: Pin<Box<dyn Future<Output = Exit> + Send>>,
    /// Bytes of the future, which is in the box.
    pub(crate) future_bytes: usize,
}

impl Quiet {
    /// A worker that has served for a while, of all kinds.
    pub(crate) fn serving() -> Self {
        let settings = settings();
        let engine = Prompt::new(&settings);
        Self::of(settings, World::new(), engine)
    }

    /// A worker that has served for a while. Its world and its engine may be those of other workers too.
    pub(crate) fn of(settings: Settings, world: World, engine: Arc<Prompt>) -> Self {
        let options = Options::new(settings, "studio-worker/1.0.0");
        let store = Arc::new(MemoryStore::default());
        let (handle, driven) = drive::start(world.clone(), options, engine, store, [7; 32]);
        let future_bytes = size_of_val(&driven);
        let mut quiet = Self { world, handle, driven: Box::pin(driven), future_bytes };
        quiet.go();
        quiet.hear(WELCOME.into());
        // Until the timers of a fresh session have fired.
        for _ in 0..200 {
            quiet.hear(ACK.into());
            quiet.pass(HEARTBEAT_INTERVAL);
        }
        quiet.hear(ACK.into());
        quiet
    }

    /// The studio says this.
    pub(crate) fn hear(&mut self, text: String) {
        self.world.state().incoming.push_back(text);
        self.go();
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.world.state().now += span;
        self.go();
    }

    /// A job, from its offer to its acknowledgement, and a second that passes.
    pub(crate) fn job(&mut self, offer: &str, ack: &str) {
        self.hear(offer.into());
        self.hear(ack.into());
        self.pass(Duration::from_secs(1));
    }

    /// Frames that left so far.
    pub(crate) fn sent(&self) -> usize {
        self.world.state().sent
    }

    fn go(&mut self) {
        let polled = self.driven.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the worker has ended");
    }
}

/// Where it is driven: its clock and its socket.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

struct State {
    now: Duration,
    incoming: VecDeque<String>,
    sent: usize,
}

impl World {
    /// A world at its start.
    pub(crate) fn new() -> Self {
        // Roomy, so that what grows is the worker's.
        Self(Arc::new(Mutex::new(State { now: START, incoming: VecDeque::with_capacity(64), sent: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the lock")
    }
}

impl Runtime for World {
    type Socket = Self;

    fn now(&self) -> Now {
        let now = self.state().now;
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Now { mono: Mono::ZERO + now, wall: Wall::from_millis(1_764_054_000_000 + millis) }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        let world = self.clone();
        poll_fn(move |_| if world.now().mono >= at { Poll::Ready(()) } else { Poll::Pending })
    }

    fn connect(&self, _: Connect) -> impl Future<Output = Result<Self, ConnectFailure>> + Send + 'static {
        ready(Ok(self.clone()))
    }

    fn exchange(
        &self,
        _: HttpRequest,
        _: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        ready(Ok(HttpAnswer::default()))
    }

    fn upload(
        &self,
        _: Upload,
        _: Arc<str>,
        _: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        ready(Ok(HttpAnswer { status: 200, ..HttpAnswer::default() }))
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        ready(work())
    }

    fn spill(
        &self,
        _: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<SpilledFile, io::Error>> + Send + 'static {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn discard(&self, _: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        ready(())
    }
}

impl Stream for World {
    type Item = Result<Received, SocketError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.state().incoming.pop_front() {
            Some(text) => Poll::Ready(Some(Ok(Received::Text(text)))),
            None => Poll::Pending,
        }
    }
}

impl Sink<Outgoing> for World {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Outgoing) -> Result<(), SocketError> {
        self.state().sent += 1;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Poll::Ready(Ok(()))
    }
}

/// Answers every chat from a closure, and the same.
pub(crate) struct Prompt {
    services: Vec<Service>,
}

impl Prompt {
    /// An engine for what the worker is set to serve.
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self { services: settings.services.clone() })
    }
}

struct Answers;

impl Engine for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    fn recipe(&self, _: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(Answers)
    }
}

impl Recipe for Answers {
    fn next(&mut self, happened: Happened) -> Effect {
        match happened {
            Happened::Computed(outcome) => Effect::Done(outcome),
            _ => Effect::Compute(Box::new(|| Ok(Output::Json(answer())))),
        }
    }
}
