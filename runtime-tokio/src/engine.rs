//! Engines from async functions, each run a task of its own.

use std::{future::Future, panic::resume_unwind, sync::Arc};

use studio_worker_core::{
    engine::{AsyncFnEngine, Engine, EngineError, Output, Service},
    wire::Claim,
};
use tokio_util::task::AbortOnDropHandle;

/// An engine that serves `services` by calling `run`, which may use all of tokio. Each run is a task of its own, so
/// that one that computes for a while does not hold up the session on a runtime of several threads; a run that is
/// cancelled is aborted where it waits.
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
    Arc::new(AsyncFnEngine::new(name, services, move |claim| {
        let run = run(claim);
        #[cfg(feature = "tracing")]
        let run = tracing::Instrument::instrument(run, tracing::Span::current());
        let task = AbortOnDropHandle::new(tokio::spawn(run));
        async move {
            match task.await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    // Whoever carries the run out makes it an error of the job.
                    Ok(panic) => resume_unwind(panic),
                    Err(error) => Err(EngineError::transient(format_args!("the run was given up: {error}"))),
                },
            }
        }
    }))
}
