//! What every worker must do, on this runtime: of one thread and of several, over loopback sockets and in memory.
#![allow(clippy::unwrap_used, reason = "a scenario that can't start has failed")]

use std::{future::ready, sync::Arc};

use studio_worker_core::{
    conformance::{Network, Running, behind_proxy, in_process, run},
    engine::Engine,
    worker::Options,
};
use studio_worker_tokio::{Store, Tokio, TokioPlatform, block_on, start_on};
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// The runtime for workers on that network.
fn tokio_on(network: &Network) -> Tokio {
    if network.name() == "memory" {
        let network = network.clone();
        return Tokio::on(TokioPlatform::dialing(move |to| {
            ready(network.dial(&to.host, to.port).map(FuturesAsyncReadCompatExt::compat))
        }));
    }
    Tokio::new().with_roots(network.roots()).with_proxies(network.proxies())
}

fn on_one_thread(
    network: &Network,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Running {
    let (handle, driving) = start_on(tokio_on(network), options, engine, store).unwrap();
    Running::new(network, handle, || block_on(driving).unwrap())
}

fn on_many_threads(
    network: &Network,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Running {
    let (handle, driving) = start_on(tokio_on(network), options, engine, store).unwrap();
    Running::new(network, handle, || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { tokio::spawn(driving).await.unwrap() })
    })
}

fn main() {
    let of = |kind: &'static str, trials: Vec<_>| {
        trials.into_iter().map(move |trial: libtest_mimic::Trial| trial.with_kind(kind))
    };
    let mut trials = Vec::new();
    let one = in_process(&[Network::loopback, Network::loopback_tls, Network::memory], on_one_thread);
    trials.extend(of("one thread", one));
    trials.extend(of("one thread", behind_proxy(on_one_thread)));
    trials.extend(of("many threads", in_process(&[Network::loopback], on_many_threads)));
    run(trials);
}
