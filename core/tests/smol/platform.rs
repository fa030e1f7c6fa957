use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use smol::{
    Timer,
    net::{TcpStream, resolve},
};
use studio_worker_core::{
    drive::{self, Store, WorkerHandle},
    engine::Engine,
    http::Reach,
    time::{Mono, Now},
    transport::{NoRandomness, Platform, Transport, admit, first_to_connect, seed, wall_clock},
    worker::{Exit, Options},
};

/// The world as smol sees it.
#[derive(Clone)]
pub struct Smol {
    start: Instant,
}

impl Platform for Smol {
    type Stream = TcpStream;

    fn now(&self) -> Now {
        Now { mono: Mono::ZERO + self.start.elapsed(), wall: wall_clock() }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        sleep(at.since(self.now().mono))
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send + 'static {
        let host = host.to_owned();
        async move {
            let addresses = admit(&host, resolve((host.as_str(), port)).await, reach)?;
            let stream = first_to_connect(addresses, TcpStream::connect, sleep).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        async move { smol::unblock(work).await }
    }
}

async fn sleep(span: Duration) {
    Timer::after(span).await;
}

/// Starts a worker; whoever polls the future drives it.
pub fn start(
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Result<(WorkerHandle, impl Future<Output = Exit> + Send + 'static), NoRandomness> {
    let runtime = Transport::on(Smol { start: Instant::now() });
    Ok(drive::start(runtime, options, engine, store, seed()?))
}
