//! What every worker must do, on this runtime, over loopback sockets.
#![allow(clippy::panic, reason = "a scenario that can't start has failed")]

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use studio_worker_async_std::{Store, block_on, start};
use studio_worker_core::{
    conformance::{InProcess, Running, scenarios},
    engine::Engine,
    worker::Options,
};

fn on_async_std(options: Options, engine: Arc<dyn Engine>, store: Arc<dyn Store>) -> Running {
    match start(options, engine, store) {
        Ok((handle, driving)) => Running::new(handle, || block_on(driving)),
        Err(error) => panic!("{error}"),
    }
}

fn main() {
    let host = InProcess(on_async_std);
    let any = scenarios::ALL.iter().map(|(name, scenario)| {
        Trial::test(*name, move || {
            scenario(&host);
            Ok(())
        })
    });
    let local = scenarios::IN_PROCESS.iter().map(|(name, scenario)| {
        Trial::test(*name, move || {
            scenario(host);
            Ok(())
        })
    });
    let mut arguments = Arguments::from_args();
    // Scenarios mostly wait.
    arguments.test_threads.get_or_insert(16);
    libtest_mimic::run(&arguments, any.chain(local).collect()).exit();
}
