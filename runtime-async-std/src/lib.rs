//! Drives a studio worker on async-std, async-tungstenite and surf.
//!
//! ```no_run
//! use std::sync::Arc;
//! use studio_worker_async_std::{MemoryStore, block_on, start};
//! use studio_worker_core::{
//!     engine::{EngineError, FnEngine, Models, Output, Service},
//!     wire::{ApiBase, TaskKind},
//!     worker::{Options, Settings},
//! };
//!
//! let services = vec![Service {
//!     kind: TaskKind::Llm,
//!     engine: "echo".into(),
//!     models: Models::Listed(vec!["echo-1".into()]),
//! }];
//! let engine = FnEngine::new("echo", services, |claim| {
//!     let answer = serde_json::json!({ "choices": [{ "message": {
//!         "role": "assistant", "content": claim.task.prompt(),
//!     }}]});
//!     Ok::<_, EngineError>(Output::Json(Arc::new(answer)))
//! });
//! let store = Arc::new(MemoryStore::new()); // a `FileStore` is the same worker again after a restart
//! let mut settings = Settings::new(ApiBase::parse("https://studio.example")?, store.identity());
//! settings.label = Some("my machine".into());
//! let options = Options::new(settings, "studio-worker/1.0.0");
//! let (handle, driving) = start(options, Arc::new(engine), store)?;
//! let observers = handle.observers(); // what it does; `handle.drain()` ends it
//! let exit = block_on(driving);
//! # let _ = (observers, exit);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything that decides is in `studio-worker-core`; this crate is a [`Runtime`] for its driver: sockets,
//! HTTP, clocks, threads for engines, and private files for large results.
//!
//! # Threads
//!
//! The future that [`start`] returns is driven by whoever polls it. Beside that thread there are async-io's,
//! one for HTTP once the first request was made, and one for each closure that computes, which ends a few
//! seconds later. async-std itself starts a thread for each core when its executor is first used;
//! [`block_on`] asks it for one only.
//!
//! # Logs
//!
//! What the worker says about itself goes to `log`, without credentials. At the level `trace` the WebSocket library below
//! writes every frame there, and one of them has the worker's token: let no logger take `tungstenite` at that level.

mod http;
mod platform;
mod runtime;
mod threads;

use std::{future::Future, sync::Arc};

pub use runtime::AsyncStd;
pub use studio_worker_core::{
    drive::{LOG_TARGET, MemoryStore, Runtime, Store, WorkerHandle, WorkerObservers, record_recent_job},
    transport::{CertificateDer, FileStore, NoRandomness},
};
use studio_worker_core::{
    engine::Engine,
    transport::seed,
    worker::{Exit, Options},
};

/// Starts a worker: a handle to observe and steer it, and the future that drives it and ends with the reason
/// why the worker did. Dropping the future drops all that is under way.
pub fn start(
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Result<(WorkerHandle, impl Future<Output = Exit> + Send + 'static), NoRandomness> {
    start_on(AsyncStd::new(), options, engine, store)
}

/// The same on a runtime that is shared with other workers, or keeps its files elsewhere.
pub fn start_on(
    runtime: AsyncStd,
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
) -> Result<(WorkerHandle, impl Future<Output = Exit> + Send + 'static), NoRandomness> {
    Ok(studio_worker_core::drive::start(runtime, options, engine, store, seed()?))
}

/// Runs a program's main future on this thread, with one thread for async-std's executor instead of one for
/// each core. (`ASYNC_STD_THREAD_COUNT` still counts; an executor that runs already stays as it is.)
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    async_global_executor::init_with_config(
        async_global_executor::GlobalExecutorConfig::default()
            .with_env_var("ASYNC_STD_THREAD_COUNT")
            .with_min_threads(1)
            .with_max_threads(1)
            .with_thread_name_fn(|| "async-std/runtime".into()),
    );
    async_std::task::block_on(future)
}
