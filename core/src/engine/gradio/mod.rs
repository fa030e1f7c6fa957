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

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};

use super::{
    contract::{Effect, Engine, Happened, Models, Recipe, Service},
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

    /// Asks the app whether it is there and can draw: what it serves then.
    pub fn survey(&self) -> Box<dyn Recipe<Vec<Service>>> {
        let dialogue = Arc::new(Dialogue::new(&self.server));
        Box::new(Survey { discovery: app::Discovery::new(dialogue), services: self.services() })
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
}

struct Survey {
    discovery: app::Discovery,
    services: Vec<Service>,
}

impl Recipe<Vec<Service>> for Survey {
    fn next(&mut self, happened: Happened) -> Effect<Vec<Service>> {
        self.discovery
            .next(happened)
            .and_then(|outcome| Effect::Done(outcome.map(|_| core::mem::take(&mut self.services))))
    }
}
