//! Engines from async functions.

use std::{future::Future, sync::Arc};

use studio_worker_core::{
    engine::{AsyncFnEngine, Engine, EngineError, Output, Service},
    wire::Claim,
};

/// An engine that serves `services` by calling `run`, which may use all of tokio.
///
/// Its futures are polled in the worker's own task, so that a run that is given up has really stopped when the next one
/// begins. They must not block that task, nor compute for long between two awaits: what does so belongs into
/// [`FnEngine`](studio_worker_core::engine::FnEngine), whose closures have threads.
///
/// ```
/// use std::sync::Arc;
/// use studio_worker_core::{
///     engine::{EngineError, Models, Output, Service},
///     wire::TaskKind,
/// };
/// use studio_worker_tokio::engine_fn;
///
/// let services = vec![Service {
///     kind: TaskKind::Llm,
///     engine: "echo".into(),
///     models: Models::Listed(vec!["echo-1".into()]),
/// }];
/// let engine = engine_fn("echo", services, |claim| async move {
///     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
///     Ok::<_, EngineError>(Output::Json(Arc::new(serde_json::json!({ "text": claim.task.prompt() }))))
/// });
/// # let _ = engine;
/// ```
pub fn engine_fn<F, R>(name: impl Into<String>, services: Vec<Service>, run: F) -> Arc<dyn Engine>
where
    F: Fn(Arc<Claim>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, EngineError>> + Send + 'static,
{
    Arc::new(AsyncFnEngine::new(name, services, run))
}
