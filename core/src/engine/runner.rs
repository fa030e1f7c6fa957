//! Where recipes live while they run.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc};

use super::contract::{Effect, Engine, Happened, Recipe};
use crate::{wire::Claim, worker::RunId};

/// The recipes of the runs under way, by their id. It knows nothing of the session: the driver carries out
/// its effects and hands the outcome to the worker.
pub struct Runner {
    engine: Arc<dyn Engine>,
    runs: BTreeMap<RunId, Box<dyn Recipe>>,
}

impl Runner {
    /// A runner for the jobs of `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, runs: BTreeMap::new() }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Takes another engine for the runs to come; those under way keep theirs.
    pub fn set_engine(&mut self, engine: Arc<dyn Engine>) {
        self.engine = engine;
    }

    /// Keeps no room for recipes when there are none.
    #[cfg(feature = "drive")]
    pub(crate) fn let_go(&mut self) {
        if self.runs.is_empty() {
            self.runs = BTreeMap::new();
        }
    }

    /// Starts a run; the effect is the first thing to do for it.
    pub fn start(&mut self, run: RunId, claim: &Arc<Claim>) -> Effect {
        let mut recipe = self.engine.recipe(claim);
        let effect = recipe.next(Happened::Started);
        if !matches!(effect, Effect::Done(_)) {
            self.runs.insert(run, recipe);
        }
        effect
    }

    /// Goes on with a run after its last effect; `None` when the run was cancelled meanwhile.
    pub fn resume(&mut self, run: RunId, happened: Happened) -> Option<Effect> {
        let effect = self.runs.get_mut(&run)?.next(happened);
        if matches!(effect, Effect::Done(_)) {
            self.runs.remove(&run);
        }
        Some(effect)
    }

    /// Forgets a run. A closure that computes for it goes on until it returns, since a thread can't be
    /// stopped.
    pub fn cancel(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// How many runs are under way.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}
