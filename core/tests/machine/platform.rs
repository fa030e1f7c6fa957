//! A platform of threads, which has no network.

use std::{
    future::Future,
    io, thread,
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
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
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
        on_a_thread(move || thread::sleep(span))
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
