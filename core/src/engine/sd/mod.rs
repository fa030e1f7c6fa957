//! Pictures by stable-diffusion.cpp's `sd-cli`, which is run once for each.
//!
//! | file's role | argument |
//! | --- | --- |
//! | `diffusion-model`, else `model` | `--diffusion-model`, else `--model` |
//! | `vae` | `--vae` |
//! | `text-encoder`, `text-encoder-vision` | `--llm`, `--llm_vision` |
//! | `lora` | `--lora-model-dir`, and ` <lora:name:weight>` behind the prompt |
//!
//! The program picks the format by the name of the file that it is to write. Builds from before WebP was added make no
//! file of that name: then the picture is made again as PNG, and from then on all are.

mod arguments;
mod job;

#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::AtomicBool;

use super::{
    contract::{Effect, Engine, EngineError, Happened, Missing, Models, Recipe, Service, Survey},
    input::InputPolicy,
    refusal::{Refusal, interrupted},
};
use crate::wire::{Claim, Task, TaskKind};

/// The engine of `sd-cli`.
#[derive(Debug, Clone)]
pub struct SdCpp {
    models_root: String,
    candidates: Vec<String>,
    loader: Option<Loader>,
    inputs: InputPolicy,
    /// Whether the program was seen to write no WebP.
    writes_no_webp: Arc<AtomicBool>,
}

/// How the system's loader finds the library that lies beside a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// The variable with the folders that it looks in.
    pub variable: String,
    /// The name of the library's file.
    pub library: String,
    /// What is in the variable already.
    pub inherited: Option<String>,
}

impl Loader {
    /// The one of Linux.
    pub fn linux(inherited: Option<String>) -> Self {
        Self { variable: "LD_LIBRARY_PATH".into(), library: "libstable-diffusion.so".into(), inherited }
    }

    /// The one of macOS.
    pub fn macos(inherited: Option<String>) -> Self {
        Self { variable: "DYLD_LIBRARY_PATH".into(), library: "libstable-diffusion.dylib".into(), inherited }
    }
}

impl SdCpp {
    /// The name of this engine.
    pub const NAME: &str = "sd-cpp";
    /// The program that it runs.
    pub const PROGRAM: &str = "sd-cli";

    /// The engine that keeps each model in a folder of its own in `models_root`, an absolute path. The program is the
    /// first of `candidates` that is there: paths, or names that are looked for in `PATH`. Files and pictures come from
    /// where `inputs` allows.
    pub fn new(models_root: &str, candidates: Vec<String>, inputs: InputPolicy) -> Self {
        Self {
            models_root: models_root.to_owned(),
            candidates,
            loader: None,
            inputs,
            writes_no_webp: Arc::default(),
        }
    }

    /// The same, whose program finds the library that lies beside it.
    #[must_use]
    pub fn with_loader(self, loader: Loader) -> Self {
        Self { loader: Some(loader), ..self }
    }
}

impl Engine for SdCpp {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        Vec::from([Service { kind: TaskKind::Image, engine: Self::NAME.to_owned(), models: Models::Sourced }])
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let refused = match (&claim.task, &claim.model_source) {
            (Task::Image(task), Some(source)) => {
                match arguments::Drawing::new(self, &claim.model, task, source) {
                    Ok(drawing) => return Box::new(job::Job::new(self.clone(), task.clone(), drawing)),
                    Err(error) => error,
                }
            }
            (Task::Image(_), None) => {
                EngineError::permanent("the sd-cpp engine cannot serve a model without knowing its files")
            }
            (task, _) => {
                EngineError::permanent(format_args!("the sd-cpp engine cannot serve {}", task.kind()))
            }
        };
        Box::new(Refusal::new(refused))
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        Some(Box::new(Surveying(self.clone())))
    }
}

/// Finds out whether the program is there.
struct Surveying(SdCpp);

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        match happened {
            Happened::Started => Effect::Find(self.0.candidates.clone()),
            Happened::Found(found) if found.iter().any(Option::is_some) => {
                Effect::Done(Ok(Survey { services: self.0.services(), missing: Vec::new() }))
            }
            Happened::Found(_) => {
                let missing = Missing {
                    engine: SdCpp::NAME.to_owned(),
                    what: SdCpp::PROGRAM.to_owned(),
                    how: not_there(&self.0.candidates),
                };
                Effect::Done(Ok(Survey { services: Vec::new(), missing: Vec::from([missing]) }))
            }
            _ => Effect::Done(Err(interrupted())),
        }
    }
}

/// Where the program was looked for.
fn not_there(candidates: &[String]) -> String {
    alloc::format!(
        "Get stable-diffusion.cpp, and put its `sd-cli` where it is looked for: {}.",
        candidates.join(", ")
    )
}
