//! An engine as its survey found it.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::contract::{Engine, Recipe, Service, Survey};
use crate::wire::Claim;

/// An engine that serves what its survey found, and nothing else.
#[derive(Clone)]
pub struct Surveyed {
    engine: Arc<dyn Engine>,
    services: Vec<Service>,
}

impl Surveyed {
    /// The same engine, with the services that `survey` found. (One that is made of others tells each of them what it
    /// serves: [`Multi::surveyed`](super::Multi::surveyed).)
    pub fn new(engine: Arc<dyn Engine>, survey: Survey) -> Self {
        Self { engine, services: survey.services }
    }
}

impl Engine for Surveyed {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        self.engine.recipe(claim)
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        self.engine.survey()
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        self.engine.loads_model(claim)
    }
}
