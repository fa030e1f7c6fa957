//! A world on a string: virtual time, and a studio, an engine's thread and a disk that do as they are told.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{Sink, Stream};

use super::machine::{self, FakeBody, Room};
use crate::{
    drive::{Connect, Fetched, Machine, Outgoing, Progress, Received, Runtime, SocketError},
    engine::SpilledFile,
    http::{FileHead, FileRequest},
    time::{Mono, Now, Wall},
    worker::{ConnectFailure, HttpAnswer, HttpFailure, HttpRequest, Upload},
};

/// How a timer errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timers {
    /// It fires when it should.
    Exact,
    /// It fires at once, each time.
    Hasty,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) now: Duration,
    pub(super) hasty: bool,
    /// Moments that somebody sleeps for.
    sleepers: Vec<Mono>,
    pub(super) sleeps: usize,
    /// What the studio says, and `None` for the end of the connection.
    pub(super) incoming: VecDeque<Option<Result<Received, SocketError>>>,
    /// What left with a flush.
    pub(super) sent: Vec<Outgoing>,
    buffered: Vec<Outgoing>,
    /// How many frames left with each flush.
    pub(super) flushes: Vec<usize>,
    /// Whether nothing can be written, and why it fails.
    pub(super) blocked: bool,
    pub(super) write_error: Option<SocketError>,
    /// Whether closures wait.
    pub(super) thread_busy: bool,
    pub(super) exchanges: usize,
    pub(super) dropped_exchanges: usize,
    pub(super) disk_full: bool,
    pub(super) files: Vec<Arc<str>>,
    pub(super) uploads: Vec<Progress>,
    /// A file that is fetched: how long it is, and what has come of it. An empty piece is its end.
    pub(super) file_length: u64,
    pub(super) pieces: VecDeque<Vec<u8>>,
    pub(super) machine: Room,
    wakers: Vec<Waker>,
}

#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<State>>);

impl World {
    pub(super) fn new(timers: Timers) -> Self {
        let world = Self::default();
        world.state().hasty = timers == Timers::Hasty;
        world
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world and wakes whoever waits for something in it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, wakers) = {
            let mut state = self.state();
            (change(&mut state), std::mem::take(&mut state.wakers))
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// The studio says something.
    pub(super) fn says(&self, received: Received) {
        self.change(|state| state.incoming.push_back(Some(Ok(received))));
    }

    /// The text frames that left so far.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = |frame: &Outgoing| match frame {
            Outgoing::Text(text) => Some(text.clone()),
            Outgoing::Close { .. } => None,
        };
        self.state().sent.iter().filter_map(texts).collect()
    }

    /// Waits until `ready` gives something.
    pub(super) fn until<T>(
        &self,
        mut ready: impl FnMut(&mut State) -> Option<T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
    {
        let world = self.clone();
        poll_fn(move |cx| {
            let mut state = world.state();
            if let Some(result) = ready(&mut state) {
                return Poll::Ready(result);
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// Counts wakes.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that is driven by hand.
pub(super) struct Driven<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    world: World,
    pub(super) polls: usize,
}

impl<F: Future> Driven<F> {
    pub(super) fn new(world: &World, future: F) -> Self {
        Self { future: Box::pin(future), bell: Arc::default(), world: world.clone(), polls: 0 }
    }

    /// Whether it wants to be polled.
    pub(super) fn is_woken(&self) -> bool {
        self.bell.0.load(Ordering::SeqCst) > 0
    }

    /// Polls as long as it wakes itself, without time passing.
    pub(super) fn settle(&mut self) -> Poll<F::Output> {
        for _ in 0..10_000 {
            self.polls += 1;
            self.bell.0.store(0, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&self.bell));
            let polled = self.future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || self.bell.0.load(Ordering::SeqCst) == 0 {
                return polled;
            }
        }
        panic!("it wakes itself without end");
    }

    /// Lets time pass, from one timer to the next.
    pub(super) fn pass(&mut self, span: Duration) -> Poll<F::Output> {
        let end = Mono::ZERO + self.world.state().now + span;
        loop {
            let polled = self.settle();
            if polled.is_ready() {
                return polled;
            }
            let mut state = self.world.state();
            let now = Mono::ZERO + state.now;
            state.sleepers.retain(|at| *at > now);
            let next = state.sleepers.iter().copied().min().unwrap_or(Mono::NEVER).min(end);
            drop(state);
            self.world.change(|state| state.now = next.since(Mono::ZERO));
            if next == end {
                return self.settle();
            }
        }
    }
}

impl Runtime for World {
    type Socket = FakeSocket;

    fn now(&self) -> Now {
        let now = self.state().now;
        Now { mono: Mono::ZERO + now, wall: Wall::from_millis(i64::try_from(now.as_millis()).unwrap()) }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state();
        state.sleeps += 1;
        // A hasty timer fires a millisecond after it was set, whatever it was set for.
        let at = if state.hasty { at.min(Mono::ZERO + state.now + Duration::from_millis(1)) } else { at };
        state.sleepers.push(at);
        drop(state);
        self.until(move |state| (Mono::ZERO + state.now >= at).then_some(()))
    }

    fn connect(
        &self,
        _: Connect,
    ) -> impl Future<Output = Result<FakeSocket, ConnectFailure>> + Send + 'static {
        let world = self.clone();
        async move { Ok(FakeSocket(world)) }
    }

    fn exchange(
        &self,
        _: HttpRequest,
        _: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        struct Gone(World);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.state().dropped_exchanges += 1;
            }
        }
        self.state().exchanges += 1;
        let gone = Gone(self.clone());
        async move {
            let _gone = gone;
            std::future::pending().await
        }
    }

    fn upload(
        &self,
        _: Upload,
        _: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.state().uploads.push(progress);
        std::future::pending()
    }

    fn fetch(
        &self,
        _: FileRequest,
        _: Arc<str>,
    ) -> impl Future<Output = Result<Fetched, HttpFailure>> + Send + 'static {
        let content_length = Some(self.state().file_length.to_string());
        let head = FileHead { status: 200, content_length, ..FileHead::default() };
        ready(Ok(Fetched { head, body: Box::pin(FakeBody(self.clone())) }))
    }

    fn machine(&self) -> Arc<dyn Machine> {
        machine::of(self)
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let free = self.until(|state| (!state.thread_busy).then_some(()));
        async move {
            free.await;
            work()
        }
    }

    fn spill(
        &self,
        bytes: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<SpilledFile, io::Error>> + Send + 'static {
        let world = self.clone();
        async move {
            let mut state = world.state();
            if state.disk_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let path: Arc<str> = format!("file-{}", state.files.len()).into();
            state.files.push(Arc::clone(&path));
            Ok(SpilledFile { path, bytes: bytes.len() as u64 })
        }
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        let world = self.clone();
        async move { world.state().files.retain(|path| *path != file.path) }
    }
}

pub(super) struct FakeSocket(pub(super) World);

impl Stream for FakeSocket {
    type Item = Result<Received, SocketError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        pin!(self.0.until(|state| state.incoming.pop_front())).poll(cx)
    }
}

impl Sink<Outgoing> for FakeSocket {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        pin!(self.0.until(|state| match state.write_error.clone() {
            Some(error) => Some(Err(error)),
            None => (!state.blocked).then_some(Ok(())),
        }))
        .poll(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Outgoing) -> Result<(), SocketError> {
        self.0.state().buffered.push(frame);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        pin!(self.0.until(|state| {
            if let Some(error) = state.write_error.clone() {
                return Some(Err(error));
            }
            if state.blocked {
                return None;
            }
            let left = std::mem::take(&mut state.buffered);
            state.flushes.push(left.len());
            state.sent.extend(left);
            Some(Ok(()))
        }))
        .poll(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.poll_flush(cx)
    }
}
