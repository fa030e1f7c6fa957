//! An app made with Gradio that draws pictures: 4 and later over its event API, 3 over `run/predict`.
//!
//! Each job asks the app what it is (`config`, `info`), so that an app that was updated meanwhile is no trouble,
//! then calls the endpoint that makes a picture from a prompt. Inputs are mapped by their names.

mod app;
mod events;
mod inputs;
mod job;
mod output;

#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, boxed::Box, format, string::String, sync::Arc, vec::Vec};

use super::{
    contract::{Effect, Engine, EngineError, Happened, Missing, Models, Recipe, Service, Survey},
    server::{Dialogue, Server},
};
use crate::wire::{Claim, TaskKind};

/// The engine of a Gradio app.
#[derive(Debug, Clone)]
pub struct Gradio {
    server: Server,
    models: Vec<String>,
}

impl Gradio {
    /// The name of this engine.
    pub const NAME: &str = "gradio";

    /// The engine of the app at `server`, which is said to draw with `models`.
    pub fn new(server: Server, models: Vec<String>) -> Self {
        Self { server, models }
    }
}

impl Engine for Gradio {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        Vec::from([Service {
            kind: TaskKind::Image,
            engine: Self::NAME.to_owned(),
            models: Models::Listed(self.models.clone()),
        }])
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(job::Job::new(Dialogue::new(&self.server), Arc::clone(claim)))
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        let discovery = app::Discovery::new(Arc::new(Dialogue::new(&self.server)));
        Some(Box::new(Surveying { engine: self.clone(), discovery }))
    }
}

/// Asks an app whether it is there and can draw.
struct Surveying {
    engine: Gradio,
    discovery: app::Discovery,
}

impl Surveying {
    fn survey(&self, outcome: Result<app::App, EngineError>) -> Survey {
        let missing = |what: String, how: String| Survey {
            services: Vec::new(),
            missing: Vec::from([Missing { engine: Gradio::NAME.to_owned(), what, how }]),
        };
        match outcome {
            Err(error) => {
                missing(format!("a Gradio app that draws at {}", self.engine.server), error.message)
            }
            Ok(_) if self.engine.models.is_empty() => missing(
                "the names of the models that the Gradio app draws with".to_owned(),
                "Name them in `supported_models_override`.".to_owned(),
            ),
            Ok(_) => Survey { services: self.engine.services(), missing: Vec::new() },
        }
    }
}

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        self.discovery.next(happened).and_then(|outcome| Effect::Done(Ok(self.survey(outcome))))
    }
}
