//! An engine from a closure or an async function, for those who link the library.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use super::contract::{Effect, Engine, EngineError, Happened, Output, Recipe, Service};
use crate::wire::Claim;

/// An engine whose jobs are one call of a closure on a thread of its own.
///
/// ```
/// use std::sync::Arc;
/// use studio_worker_core::{
///     engine::{EngineError, FnEngine, Models, Output, Service},
///     wire::TaskKind,
/// };
///
/// let services = vec![Service {
///     kind: TaskKind::Llm,
///     engine: "echo".into(),
///     models: Models::Listed(vec!["echo-1".into()]),
/// }];
/// let engine = FnEngine::new("echo", services, |claim| {
///     let answer = serde_json::json!({ "choices": [{ "message": {
///         "role": "assistant", "content": claim.task.prompt(),
///     }}]});
///     Ok::<_, EngineError>(Output::Json(Arc::new(answer)))
/// });
/// # let _ = engine;
/// ```
pub struct FnEngine<F> {
    name: String,
    services: Vec<Service>,
    run: Arc<F>,
}

impl<F> FnEngine<F>
where
    F: Fn(&Claim) -> Result<Output, EngineError> + Send + Sync + 'static,
{
    /// An engine that serves `services` by calling `run`.
    pub fn new(name: impl Into<String>, services: Vec<Service>, run: F) -> Self {
        Self { name: name.into(), services, run: Arc::new(run) }
    }
}

impl<F> Engine for FnEngine<F>
where
    F: Fn(&Claim) -> Result<Output, EngineError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(OneCall { call: Some((Arc::clone(&self.run), Arc::clone(claim))) })
    }
}

/// Computes once and is done.
struct OneCall<F> {
    call: Option<(Arc<F>, Arc<Claim>)>,
}

impl<F> Recipe for OneCall<F>
where
    F: Fn(&Claim) -> Result<Output, EngineError> + Send + Sync + 'static,
{
    fn next(&mut self, happened: Happened) -> Effect {
        match (happened, self.call.take()) {
            (Happened::Computed(outcome), _) => Effect::Done(outcome),
            (_, Some((run, claim))) => Effect::Compute(Box::new(move || run(&claim))),
            (_, None) => Effect::Done(Err(EngineError::transient("the run was interrupted"))),
        }
    }
}

/// An engine whose jobs are one call of an async function.
///
/// Its futures are polled beside the session by whoever drives the worker, so they must not block; a run that is
/// cancelled drops its future. (A runtime may have better: a task for each run.)
///
/// ```
/// # use std::sync::Arc;
/// # use studio_worker_core::{
/// #     engine::{AsyncFnEngine, EngineError, Output, Service},
/// #     wire::Claim,
/// # };
/// # fn of(services: Vec<Service>) {
/// async fn answer(claim: Arc<Claim>) -> Result<Output, EngineError> {
///     // Ask another service, say.
///     Ok(Output::Json(Arc::new(serde_json::json!({ "text": claim.task.prompt() }))))
/// }
/// let engine = AsyncFnEngine::new("echo", services, answer);
/// # let _ = engine;
/// # }
/// ```
pub struct AsyncFnEngine<F> {
    name: String,
    services: Vec<Service>,
    run: Arc<F>,
}

impl<F, R> AsyncFnEngine<F>
where
    F: Fn(Arc<Claim>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, EngineError>> + Send + 'static,
{
    /// An engine that serves `services` by calling `run`.
    pub fn new(name: impl Into<String>, services: Vec<Service>, run: F) -> Self {
        Self { name: name.into(), services, run: Arc::new(run) }
    }
}

impl<F, R> Engine for AsyncFnEngine<F>
where
    F: Fn(Arc<Claim>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, EngineError>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(OneWait { call: Some((Arc::clone(&self.run), Arc::clone(claim))) })
    }
}

/// Waits once and is done.
struct OneWait<F> {
    call: Option<(Arc<F>, Arc<Claim>)>,
}

impl<F, R> Recipe for OneWait<F>
where
    F: Fn(Arc<Claim>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, EngineError>> + Send + 'static,
{
    fn next(&mut self, happened: Happened) -> Effect {
        match (happened, self.call.take()) {
            (Happened::Computed(outcome), _) => Effect::Done(outcome),
            // Called when it is polled: what was decided before it has left by then.
            (_, Some((run, claim))) => Effect::Await(Box::pin(async move { run(claim).await })),
            (_, None) => Effect::Done(Err(EngineError::transient("the run was interrupted"))),
        }
    }
}
