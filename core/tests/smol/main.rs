//! A runtime that somebody else might write: the one that `RUNTIMES.md` shows is this one, and it does what every
//! worker must do.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::manual_async_fn,
    reason = "the page shows a crate of its own, which has a clock"
)]

mod platform;

use std::sync::Arc;

use libtest_mimic::Trial;
use studio_worker_core::{
    conformance::{Network, Running, in_process, run},
    drive::Store,
    engine::Engine,
    worker::Options,
};

fn on_smol(network: &Network, options: Options, engine: Arc<dyn Engine>, store: Arc<dyn Store>) -> Running {
    let (handle, driving) = platform::start(options, engine, store).unwrap();
    Running::new(network, handle, || smol::block_on(driving))
}

/// The page shows what is tested here, to the letter.
fn the_page_shows_this_runtime() {
    let page = include_str!("../../RUNTIMES.md");
    let shown = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(shown, include_str!("platform.rs"));
}

fn main() {
    let mut trials = in_process(&[Network::loopback], on_smol);
    trials.push(Trial::test("the_page_shows_this_runtime", || {
        the_page_shows_this_runtime();
        Ok(())
    }));
    run(trials);
}
