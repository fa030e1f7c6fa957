//! A job that ends before it begins.

use super::contract::{Effect, EngineError, Happened, Recipe};

/// The recipe of a job that an engine doesn't do.
pub(super) struct Refusal(Option<EngineError>);

impl Refusal {
    pub(super) fn new(error: EngineError) -> Self {
        Self(Some(error))
    }
}

impl Recipe for Refusal {
    fn next(&mut self, _: Happened) -> Effect {
        Effect::Done(Err(self.0.take().unwrap_or_else(interrupted)))
    }
}

/// What happened is not what was asked for: only a driver with a mistake comes here.
pub(super) fn interrupted() -> EngineError {
    EngineError::transient("the run was interrupted")
}
