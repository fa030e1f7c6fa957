//! Spans of a worker: `worker` around all it does, `session` as long as one is open, `job` around each run of the engine.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use studio_worker_core::{
    drive::WorkerObservers,
    engine::{Effect, Engine, Happened, Recipe, Service},
    wire::Claim,
    worker::Options,
};
use tracing::{Instrument as _, Span, field::Empty, info_span};

/// Puts each run of `engine` in a span `job` with its `job_id`, `kind` and `model`, and at its end its `outcome`. What
/// the engine records, on its threads and in its futures too, is in that span.
///
/// [`WorkerBuilder`](crate::WorkerBuilder) does it by itself; this is for an engine that takes the place of another one
/// ([`WorkerHandle::reconfigure`](crate::WorkerHandle::reconfigure)).
pub fn traced(engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
    Arc::new(Traced(engine))
}

struct Traced(Arc<dyn Engine>);

impl Engine for Traced {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn services(&self) -> Vec<Service> {
        self.0.services()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let span = info_span!(
            "job",
            job_id = claim.job_id.as_str(),
            kind = claim.task.kind().name(),
            model = claim.model.as_str(),
            outcome = Empty,
        );
        let recipe = span.in_scope(|| self.0.recipe(claim));
        Box::new(TracedRecipe { recipe, span })
    }
}

struct TracedRecipe {
    recipe: Box<dyn Recipe>,
    span: Span,
}

impl Recipe for TracedRecipe {
    fn next(&mut self, happened: Happened) -> Effect {
        let span = self.span.clone();
        match self.span.in_scope(|| self.recipe.next(happened)) {
            Effect::Compute(work) => Effect::Compute(Box::new(move || span.in_scope(work))),
            Effect::Await(work) => Effect::Await(Box::pin(work.instrument(span))),
            Effect::Done(outcome) => {
                match &outcome {
                    Ok(_) => span.record("outcome", "completed"),
                    Err(error) => span.record("outcome", error.message.as_str()),
                };
                Effect::Done(outcome)
            }
            effect => effect,
        }
    }
}

/// The spans of one worker.
pub(crate) struct Spans {
    worker: Span,
}

impl Spans {
    pub(crate) fn of(options: &Options) -> Self {
        let label = options.settings.label.as_deref().unwrap_or_default();
        Self { worker: info_span!("worker", label, worker_id = Empty) }
    }

    /// Does all that `driving` does in the worker's span, and keeps a span open while a session is.
    pub(crate) fn follow<T>(
        self,
        observers: &WorkerObservers,
        driving: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        // The worker's and its session's. Observers may outlive the worker, and its span must not.
        let open = Mutex::new((Some(self.worker.clone()), None));
        observers.on_change(move |observers| {
            let status = observers.status();
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let (worker, session) = &mut *open;
            if status.has_ended() {
                (*worker, *session) = (None, None);
            }
            let Some(worker) = worker else { return false };
            if !status.is_connected() {
                *session = None;
            } else if session.is_none() {
                let worker_id = status.session.and_then(|session| session.worker_id);
                worker.record("worker_id", worker_id.as_deref());
                *session = Some(info_span!(parent: &*worker, "session", worker_id));
            }
            true
        });
        driving.instrument(self.worker)
    }
}
