//! A platform of threads, which has no network.

use std::{
    future::Future,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{channel::oneshot, future::pending, io::Cursor};
use studio_worker_core::{
    http::Reach,
    time::{Mono, Now},
    transport::{Platform, wall_clock},
};

#[derive(Clone)]
pub(crate) struct Threads {
    start: Instant,
    sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self::sleeping(thread::sleep)
    }

    /// The same, where a sleep is over when this is, however long it was to be.
    pub(crate) fn sleeping(sleep: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { start: Instant::now(), sleep: Arc::new(sleep) }
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let _ = tell.send(work());
    });
    match told.await {
        Ok(done) => done,
        Err(oneshot::Canceled) => pending().await,
    }
}

impl Platform for Threads {
    type Stream = Cursor<Vec<u8>>;

    fn now(&self) -> Now {
        Now { mono: Mono::ZERO + self.start.elapsed(), wall: wall_clock() }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        let span: Duration = at.since(self.now().mono);
        let sleep = Arc::clone(&self.sleep);
        on_a_thread(move || sleep(span))
    }

    fn dial(
        &self,
        _: &str,
        _: u16,
        _: Reach,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        on_a_thread(work)
    }
}
