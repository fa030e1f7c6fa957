//! Drives a studio worker on tokio: for services that host one beside their own work.
//!
//! ```no_run
//! use std::sync::Arc;
//! use studio_worker_core::{
//!     engine::{EngineError, Models, Output, Service},
//!     wire::{ApiBase, Capabilities, TaskKind},
//!     worker::{Identity, Options, Settings},
//! };
//! use studio_worker_tokio::{MemoryStore, WorkerBuilder, engine_fn};
//!
//! # async fn host() -> Result<(), Box<dyn std::error::Error>> {
//! let services = vec![Service {
//!     kind: TaskKind::Llm,
//!     engine: "echo".into(),
//!     models: Models::Listed(vec!["echo-1".into()]),
//! }];
//! let engine = engine_fn("echo", services.clone(), |claim| async move {
//!     let answer = serde_json::json!({ "choices": [{ "message": {
//!         "role": "assistant", "content": claim.task.prompt(),
//!     }}]});
//!     Ok::<_, EngineError>(Output::Json(Arc::new(answer)))
//! });
//! let settings = Settings {
//!     api_base: ApiBase::parse("https://studio.example")?,
//!     identity: Identity::default(),
//!     label: Some("my service".into()),
//!     capabilities: Capabilities { auto_enabled: true, ..Capabilities::default() },
//!     services,
//!     reconnect_attempts: None,
//! };
//! let options = Options::new(settings, "my-service/1.0.0");
//! let worker = WorkerBuilder::new(options, engine, Arc::new(MemoryStore::new())).spawn()?;
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
//! long as it does, and for a moment one when a value is stored or a large result goes to a file.
//!
//! # Features
//!
//! `tracing`: a span `worker` around all that a spawned worker does, `session` as long as one is open, and `job` around
//! each run of the engine. What the worker says about itself goes to `log`, as everywhere; `tracing-log` makes events of
//! it.
//!
//! [`FnEngine`]: studio_worker_core::engine::FnEngine

mod engine;
mod platform;
mod runtime;
#[cfg(feature = "tracing")]
mod spans;
mod worker;

use std::{future::Future, io, sync::Arc};

pub use engine::engine_fn;
pub use platform::{Address, ByteStream};
pub use runtime::Tokio;
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
    transport::seed,
    worker::{Exit, Options},
};
pub use worker::{SpawnError, Worker, WorkerBuilder};

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
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}
