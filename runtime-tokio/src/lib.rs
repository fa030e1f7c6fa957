//! Drives a studio worker on tokio: for services that host one beside their own work.
//!
//! ```no_run
//! use std::sync::Arc;
//! use studio_worker_core::{
//!     engine::{EngineError, Models, Output, Service},
//!     wire::{ApiBase, TaskKind},
//!     worker::{Options, Settings},
//! };
//! use studio_worker_tokio::{MemoryStore, WorkerBuilder, engine_fn};
//!
//! # async fn host() -> Result<(), Box<dyn std::error::Error>> {
//! let services = vec![Service {
//!     kind: TaskKind::Llm,
//!     engine: "echo".into(),
//!     models: Models::Listed(vec!["echo-1".into()]),
//! }];
//! let engine = engine_fn("echo", services, |claim| async move {
//!     let answer = serde_json::json!({ "choices": [{ "message": {
//!         "role": "assistant", "content": claim.task.prompt(),
//!     }}]});
//!     Ok::<_, EngineError>(Output::Json(Arc::new(answer)))
//! });
//! let store = Arc::new(MemoryStore::new()); // a `FileStore` is the same worker again after a restart
//! let mut settings = Settings::new(ApiBase::parse("https://studio.example")?, store.identity());
//! settings.label = Some("my service".into());
//! let options = Options::new(settings, "my-service/1.0.0");
//! let worker = WorkerBuilder::new(options, engine, store).spawn()?;
//! // `worker.status()` is a channel of what it does, `worker.handle()` steers it from anywhere.
//! let exit = worker.shutdown().await?; // what runs is finished and delivered first
//! # let _ = exit;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that decides is in `studio-worker-core`; this crate is a [`Runtime`] for its driver ([`Tokio`]) and what a
//! service needs around it ([`WorkerBuilder`], [`engine_fn`]). There is no global state: any number of workers, of
//! different studios too, live in one process, and the runtime may have one thread or many.
//!
//! # Threads
//!
//! A worker is one task. Beside tokio's own threads there is one for each closure that computes ([`FnEngine`]), for as
//! long as it does, and for a moment one when a value is stored or a name is looked up. Files are read and written on
//! tokio's threads for blocking work.
//!
//! # Logs
//!
//! What the worker says about itself goes to `log`, without credentials. At the level `trace` the WebSocket library below
//! writes every frame there, and one of them has the worker's token: let no logger take `tungstenite` at that level.
//!
//! # Features
//!
//! `tracing`: a span `worker` around all that a spawned worker does, `session` as long as one is open, and `job` around
//! each run of the engine. `tracing-log` makes events of what goes to `log`.
//!
//! [`FnEngine`]: studio_worker_core::engine::FnEngine

mod engine;
mod platform;
#[cfg(feature = "tracing")]
mod spans;
mod worker;

use std::{future::Future, io, sync::Arc};

pub use engine::engine_fn;
pub use platform::{Address, ByteStream, TokioPlatform};
#[cfg(feature = "tracing")]
pub use spans::traced;
pub use studio_worker_core::{
    drive::{
        LOG_TARGET, MemoryStore, Runtime, Store, WorkerHandle, WorkerObservers, WorkerStatus,
        record_recent_job,
    },
    transport::{CertificateDer, FileStore, NoRandomness},
};
use studio_worker_core::{
    engine::Engine,
    transport::{Transport, seed},
    worker::{Exit, Options},
};
pub use worker::{SpawnError, Worker, WorkerBuilder};

/// The world as tokio sees it: a [`Runtime`]. Cheap to clone; workers on clones share what TLS trusts and the clock.
///
/// [`Tokio::new`](Transport::new) connects over TCP; [`TokioPlatform::dialing`] makes one that connects otherwise.
pub type Tokio = Transport<TokioPlatform>;

/// Starts a worker: a handle to observe and steer it, and the future that drives it and ends with the reason
/// why the worker did. Dropping the future drops all that is under way. It is polled on a tokio runtime;
/// [`WorkerBuilder`] makes a task of it.
pub fn start(
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Result<(WorkerHandle, impl Future<Output = Exit> + Send + 'static), NoRandomness> {
    start_on(Tokio::new(), options, engine, store)
}

/// The same on a runtime that is shared with other workers, dials in another way, or keeps its files elsewhere.
pub fn start_on(
    runtime: Tokio,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Result<(WorkerHandle, impl Future<Output = Exit> + Send + 'static), NoRandomness> {
    Ok(studio_worker_core::drive::start(runtime, options, engine, store, seed()?))
}

/// Runs a program's main future on this thread, on a tokio runtime of one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(future);
    // Without waiting for what nobody waits for any more.
    runtime.shutdown_background();
    Ok(done)
}
