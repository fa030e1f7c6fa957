//! An engine from a closure, for those who link the library.

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
