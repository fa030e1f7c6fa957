//! The third runtime: a driver, its sessions and its HTTP over pipes in memory, by a network's clock.
//!
//! On [`Network::virtual_time`] a scenario takes the milliseconds that its threads compute for, hours of back-off
//! included, and its bounds are exact. A runtime on anything else begins as this one: with a [`Platform`].

use std::{
    future::{Future, pending, ready},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::channel::oneshot;

use super::{Clock, Network, Pipe, Running};
use crate::{
    drive::{self, Store},
    engine::Engine,
    http::Reach,
    time::{Mono, Now, Wall},
    transport::{Platform, Transport, admit},
    worker::Options,
};

/// What the wall clock says when a network begins: 2026-01-01T00:00:00Z.
const BEGINNING: Wall = Wall::from_millis(1_767_225_600_000);

/// What a network in memory brings.
#[derive(Debug, Clone)]
pub struct Simulated(Network);

impl Simulated {
    /// Workers on it reach the studios of that network, which is one in memory.
    pub fn new(network: &Network) -> Self {
        Self(network.clone())
    }

    fn clock(&self) -> &Clock {
        self.0.clock()
    }
}

impl Platform for Simulated {
    type Stream = Pipe;

    fn now(&self) -> Now {
        let mono = self.clock().now();
        let millis = i64::try_from(mono.as_micros() / 1_000).unwrap_or(i64::MAX);
        Now { mono, wall: Wall::from_millis(BEGINNING.as_millis().saturating_add(millis)) }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        self.clock().sleep_until(at)
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<Pipe>> + Send + 'static {
        // Every name is one of this machine's; whether somebody listens there is another matter.
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        ready(admit(host, Ok([here]), reach).and_then(|_| self.0.dial(host, port)))
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let clock = self.clock().clone();
        async move {
            let (sender, result) = oneshot::channel();
            clock.spawn(move || {
                // Nobody waits any more: then the result is of no use.
                let _ = sender.send(work());
            });
            match result.await {
                Ok(result) => result,
                // The work panicked, which its caller has ruled out; there is nothing to answer with.
                Err(oneshot::Canceled) => pending().await,
            }
        }
    }
}

/// Starts a worker on a network in memory: what [`in_process`](super::in_process) wants.
pub fn simulated(
    network: &Network,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Running {
    let runtime = Transport::on(Simulated::new(network));
    // A simulation has no secrets, and each worker its own jitter.
    let seed = [network.number(); 32];
    let (handle, driving) = drive::start(runtime, options, engine, store, seed);
    let clock = network.clock().clone();
    Running::new(network, handle, move || clock.block_on(driving))
}
