//! What async-std brings: clocks, timers, TCP; and the threads for what blocks.

use std::{future::Future, io, time::Instant};

use async_std::{net::TcpStream, task};
use studio_worker_core::{
    http::Reach,
    time::{Mono, Now},
    transport::{self, Platform, first_to_connect},
};

use crate::threads::Threads;

/// The world as async-std sees it. Clones share the clock and the threads.
#[derive(Debug, Clone)]
pub(crate) struct World {
    start: Instant,
    threads: Threads,
}

impl World {
    /// Its clock starts now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), threads: Threads::default() }
    }

    fn mono(&self) -> Mono {
        Mono::ZERO + self.start.elapsed()
    }
}

impl Platform for World {
    type Stream = TcpStream;

    fn now(&self) -> Now {
        Now { mono: self.mono(), wall: transport::wall_clock() }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        task::sleep(at.since(self.mono()))
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send + 'static {
        let (world, host) = (self.clone(), host.to_owned());
        async move {
            let addresses = world.resolve(&host, port, reach).await?;
            let stream = first_to_connect(addresses, TcpStream::connect, task::sleep).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let threads = self.threads.clone();
        // Started when it is first polled, so that what was decided before it leaves first.
        async move { threads.run(work).await }
    }
}
