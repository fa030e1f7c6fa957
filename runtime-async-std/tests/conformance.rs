//! What every worker must do, on this runtime, over loopback sockets.
#![allow(clippy::panic, reason = "a scenario that can't start has failed")]

use std::sync::Arc;

use studio_worker_async_std::{AsyncStd, Store, block_on, start_on};
use studio_worker_core::{
    conformance::{Network, Running, behind_proxy, in_process, run},
    engine::Engine,
    worker::Options,
};

fn on_async_std(
    network: &Network,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Running {
    let runtime = AsyncStd::new().with_roots(network.roots()).with_proxies(network.proxies());
    match start_on(runtime, options, engine, store) {
        Ok((handle, driving)) => Running::new(network, handle, || block_on(driving)),
        Err(error) => panic!("{error}"),
    }
}

fn main() {
    let mut trials = in_process(&[Network::loopback, Network::loopback_tls], on_async_std);
    trials.extend(behind_proxy(on_async_std));
    run(trials);
}
