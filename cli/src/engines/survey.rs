//! What engines can serve now.

use std::{sync::Arc, time::Duration};

use futures::future::{Either, join_all, select};
use studio_worker_core::engine::{
    Effect, Engine, EngineError, Happened, Missing, Multi, Recipe, Survey, Surveyed,
};

use super::Engines;
use crate::runtimes::Runtime;

/// How long an engine may take to answer: a worker's start waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engines {
    /// Whether what they serve can change while the configuration stays.
    pub(crate) fn can_change(&self) -> bool {
        self.members.iter().any(|engine| engine.survey().is_some())
    }

    /// Asks all engines at the same time what they can serve now: the engine that serves it, and what is missing.
    pub async fn survey(&self, on: Runtime) -> (Arc<dyn Engine>, Survey) {
        let surveys = join_all(self.members.iter().map(|engine| survey(&**engine, on))).await;
        let mut found = Survey { services: Vec::new(), missing: self.lacking.clone() };
        let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
        for (engine, survey) in self.members.iter().zip(surveys) {
            found.services.extend(survey.services.iter().cloned());
            found.missing.extend(survey.missing.iter().cloned());
            engines.push(Arc::new(Surveyed::new(Arc::clone(engine), survey)));
        }
        let engine = match <[_; 1]>::try_from(engines) {
            Ok([engine]) => engine,
            Err(engines) => Arc::new(Multi::new(engines)),
        };
        (engine, found)
    }
}

async fn survey(engine: &dyn Engine, on: Runtime) -> Survey {
    let Some(recipe) = engine.survey() else {
        return Survey { services: engine.services(), missing: Vec::new() };
    };
    let outcome = match select(on.carry_out(recipe), on.carry_out(Box::new(Patience))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            Err(EngineError::transient(format_args!("it did not answer within {} s", PATIENCE.as_secs())))
        }
    };
    outcome.unwrap_or_else(|error| {
        let what = "an answer to what it can serve".into();
        let missing = Missing { engine: engine.name().into(), what, how: error.message };
        Survey { services: Vec::new(), missing: vec![missing] }
    })
}

/// Is over when an engine has taken too long.
struct Patience;

impl Recipe<Survey> for Patience {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        match happened {
            Happened::Started => Effect::Pause(PATIENCE),
            _ => Effect::Done(Ok(Survey::default())),
        }
    }
}
