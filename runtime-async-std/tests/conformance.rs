//! What every runtime must do, on this one, over loopback sockets.
#![allow(clippy::panic, reason = "a scenario that can't start has failed")]

use std::sync::Arc;

use studio_worker_async_std::{Store, block_on, start};
use studio_worker_core::{
    conformance::{Host, Running},
    conformance_tests,
    engine::Engine,
    worker::Options,
};

struct OnAsyncStd;

impl Host for OnAsyncStd {
    fn start(&self, options: Options, engine: Arc<dyn Engine>, store: Arc<dyn Store>) -> Running {
        match start(options, engine, store) {
            Ok((handle, driving)) => Running::new(handle, || block_on(driving)),
            Err(error) => panic!("{error}"),
        }
    }
}

conformance_tests!(OnAsyncStd);
