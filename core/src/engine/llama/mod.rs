//! Chats on llama.cpp's `llama-server`, which runs as a child of the worker and is kept between jobs of one model.
//!
//! A job's files are downloaded, the server is started with them on a port of this machine and with a random key, and
//! asked once it has loaded (`/health`). It caps the context at what the model was trained with, and refuses a prompt
//! that doesn't fit; older builds are told to do so. Nothing is ever cut.
//!
//! A server that doesn't answer, or not as it should, is ended with the job, so that the next one finds none that hangs.

mod files;
mod job;

#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use super::{
    contract::{Effect, Engine, EngineError, Happened, Missing, Models, Recipe, Service, Survey},
    input::InputPolicy,
    refusal::{Refusal, interrupted},
};
use crate::wire::{Claim, Task, TaskKind};

/// The engine of `llama-server`.
#[derive(Debug, Clone)]
pub struct LlamaCpp {
    models_root: String,
    program: String,
    local: Vec<String>,
    idle: Duration,
    inputs: InputPolicy,
}

impl LlamaCpp {
    /// The name of this engine.
    pub const NAME: &str = "llama-cpp";
    /// The program that it runs, unless told otherwise.
    pub const PROGRAM: &str = "llama-server";
    /// The folder of its models in the models' root.
    pub const FOLDER: &str = "llm";
    /// How long the server is kept without a job, unless told otherwise.
    pub const IDLE: Duration = Duration::from_secs(10 * 60);

    /// The engine that keeps its models in the folder [`LlamaCpp::FOLDER`] of `models_root`, an absolute path. Files
    /// and pictures come from where `inputs` allows.
    pub fn new(models_root: &str, inputs: InputPolicy) -> Self {
        Self {
            models_root: models_root.to_owned(),
            program: Self::PROGRAM.to_owned(),
            local: Vec::new(),
            idle: Self::IDLE,
            inputs,
        }
    }

    /// The same, with `program`: a path, or a name that is looked for in `PATH`.
    #[must_use]
    pub fn with_program(self, program: &str) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    /// The same, which also serves the models that lie in its folder: `names` are those of the files there.
    #[must_use]
    pub fn with_local<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let local = names.into_iter().filter_map(files::model_of).map(ToOwned::to_owned).collect();
        Self { local, ..self }
    }

    /// The same, whose server is kept for `idle` without a job.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }
}

impl Engine for LlamaCpp {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        let service = |models| Service { kind: TaskKind::Llm, engine: Self::NAME.to_owned(), models };
        let mut services = Vec::from([service(Models::Sourced)]);
        if !self.local.is_empty() {
            services.push(service(Models::Listed(self.local.clone())));
        }
        services
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        match &claim.task {
            Task::Llm(task) => Box::new(job::Job::new(self.clone(), Arc::clone(claim), task.clone())),
            task => Box::new(Refusal::new(EngineError::permanent(format_args!(
                "the llama-cpp engine cannot serve {}",
                task.kind()
            )))),
        }
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        Some(Box::new(Surveying(self.clone())))
    }
}

/// Finds out whether the program is there.
struct Surveying(LlamaCpp);

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        match happened {
            Happened::Started => Effect::Find(Vec::from([self.0.program.clone()])),
            Happened::Found(found) if found.iter().any(Option::is_some) => {
                Effect::Done(Ok(Survey { services: self.0.services(), missing: Vec::new() }))
            }
            Happened::Found(_) => {
                let missing = Missing {
                    engine: LlamaCpp::NAME.to_owned(),
                    what: self.0.program.clone(),
                    how: "Install llama.cpp, so that its `llama-server` is found in `PATH`, or name its path in the \
                          configuration."
                        .to_owned(),
                };
                Effect::Done(Ok(Survey { services: Vec::new(), missing: Vec::from([missing]) }))
            }
            _ => Effect::Done(Err(interrupted())),
        }
    }
}
