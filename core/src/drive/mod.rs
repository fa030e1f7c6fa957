//! The one loop that drives a [`Worker`] on any [`Runtime`].
//!
//! [`start`] makes a worker and gives back a handle and a future. Whoever polls the future drives the
//! worker; it ends with the reason, and when it is dropped, so is all that was under way.
//!
//! A turn of the loop hands over what happened, carries out what the worker decides, and looks at
//! everything once: what waits to be written first, in one flush; then what can be read, what is under way
//! (a connection attempt, exchanges, uploads, a run of the engine, values to store), the owner's wishes and,
//! last, the clock. Nothing in a turn waits, so reading goes on while writing is blocked, a ping is answered
//! while the engine runs, and an accept has left before its job begins. When a turn finds nothing, everything
//! that could happen has the loop's waker. A timer only wakes; whether a deadline has come is for the clock
//! to say.
//!
//! The loop keeps no policy and reads no clock but the runtime's.

mod actions;
mod carrier;
mod driver;
mod files;
mod frames;
mod handle;
mod link;
mod machine;
mod mailbox;
mod meter;
mod observers;
pub(crate) mod private;
mod recent;
mod runs;
mod runtime;
mod store;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

#[cfg(feature = "sim")]
pub(crate) use frames::HeartbeatText;
pub use handle::WorkerHandle;
pub use machine::{Launched, Machine, NoMachine};
pub use meter::Meter;
pub use observers::{WorkerObservers, WorkerStatus, record_recent_job};
pub use runs::{carry_out, carry_out_showing};
pub use runtime::{Connect, Fetched, Outgoing, Progress, Received, Runtime, SocketError};
#[cfg(any(feature = "transport", feature = "sim"))]
pub(crate) use store::identity_of;
pub use store::{MemoryStore, Store};

use crate::{
    engine::Engine,
    worker::{Exit, Options, Settings, Worker},
};
#[cfg(any(test, feature = "sim"))]
use crate::{
    time::Now,
    worker::{Input, Step},
};
use driver::Driver;
use machine::Transfers;
use mailbox::Mailbox;
use runs::Runs;

/// The target of the worker's own log lines. They are on their way to the studio when they are logged, so a
/// logger that forwards records to [`WorkerHandle::log`] must leave this target out, or each line would make
/// another one.
pub const LOG_TARGET: &str = "studio_worker";

/// How long to wait after a timer that fired early.
const TIMER_SLACK: Duration = Duration::from_millis(1);

/// Starts a worker: a handle to observe and steer it, and the future that drives it and ends with the reason
/// why the worker did.
///
/// `seed` is 32 bytes of the system's randomness; it makes secrets, so it is used once and never printed.
/// When the options list no services, those of `engine` are taken, and likewise its name.
pub fn start<R: Runtime>(
    runtime: R,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    seed: [u8; 32],
) -> (WorkerHandle, impl Future<Output = Exit> + Send + 'static) {
    let (handle, driver) = prepare(runtime, options, engine, store, seed);
    (handle, driver.run())
}

/// Sees what a driven worker is told and what it decides, in order.
#[cfg(any(test, feature = "sim"))]
pub(crate) trait Witness: Send + 'static {
    /// The worker is about to be told this.
    fn told(&mut self, input: &Input);
    /// The worker decided this, and nothing of it is carried out yet.
    fn saw(&mut self, worker: &Worker, now: Now, step: &Step);
}

/// The same as [`start`], before the eyes of a witness.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn start_witnessed<R: Runtime>(
    runtime: R,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    seed: [u8; 32],
    witness: Box<dyn Witness>,
) -> (WorkerHandle, impl Future<Output = Exit> + Send + 'static) {
    let (handle, mut driver) = prepare(runtime, options, engine, store, seed);
    driver.witness = Some(witness);
    (handle, driver.run())
}

fn prepare<R: Runtime>(
    runtime: R,
    mut options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    seed: [u8; 32],
) -> (WorkerHandle, Driver<R>) {
    complete(&mut options.settings, &*engine);
    let user_agent: Arc<str> = options.user_agent.as_str().into();
    let mailbox = Arc::new(Mailbox::default());
    let observers = WorkerObservers::new();
    let handle = WorkerHandle { mailbox: Arc::clone(&mailbox), observers: observers.clone() };
    let worker = Worker::new(options, seed, runtime.now());
    let transfers = Transfers::new(Arc::clone(&mailbox.bell));
    let runs = Runs::new(runtime.clone(), engine, Arc::clone(&user_agent), transfers);
    (handle, Driver::new(runtime, worker, user_agent, store, mailbox, observers, runs))
}

/// Says of the engine what the owner left to it.
fn complete(settings: &mut Settings, engine: &dyn Engine) {
    if settings.services.is_empty() {
        settings.services = engine.services();
    }
    if settings.capabilities.engine.is_empty() {
        settings.capabilities.engine = engine.name().into();
    }
}
