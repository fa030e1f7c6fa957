//! The engine that needs no GPU: real, decodable results that are made up from the task's hash.
//!
//! The same task and model give the same bytes, on every machine: shapes, tones and texts come from SHA-256 of
//! the whole task, and nothing but basic arithmetic is used, whose results don't differ between platforms.
//! Made-up results must never pass for real ones, so only models named `synthetic*` are served, unless the
//! operator names others.

mod film;
mod mesh;
mod picture;
mod scene;
mod seed;
mod speech;
mod text;

#[cfg(test)]
mod tests;

use alloc::{boxed::Box, format, string::String, sync::Arc, vec, vec::Vec};

use serde_json::Value;

use self::seed::Seed;
use super::{Engine, EngineError, FnEngine, Models, Output, Payload, Recipe, Service, serves};
use crate::wire::{Claim, Task, TaskKind};

/// The name of the engine, also as `modelSource.engine` has it.
const NAME: &str = "synthetic";

type Run = Box<dyn Fn(&Claim) -> Result<Output, EngineError> + Send + Sync>;

/// The synthetic engine.
///
/// | kind | result |
/// | --- | --- |
/// | image | png, jpeg or webp at the size asked for, at most 64 megapixels; another `ext` gives webp |
/// | video | an animated gif of the size and length asked for |
/// | speech | 16-bit mono WAV, 60 ms for each character |
/// | mesh | GLB with normals and colours |
/// | llm | an OpenAI `chat.completion`; with a JSON schema, a text that fits simple ones |
/// | transcript | the Whisper shape |
pub struct Synthetic(FnEngine<Run>);

impl Synthetic {
    /// An engine that serves `synthetic` and the `synthetic-*` model of each kind.
    pub fn new() -> Self {
        Self::with_models(&[])
    }

    /// One that also serves the operator's own models (`supported_models_override`), in every kind.
    pub fn with_models(overrides: &[String]) -> Self {
        let services: Vec<Service> = TaskKind::ALL.map(|kind| service(kind, overrides)).into();
        let served = services.clone();
        let run: Run = Box::new(move |claim| {
            let kind = claim.task.kind();
            if serves(&served, kind, &claim.model, claim.engine()) {
                run(claim)
            } else {
                let model = &claim.model;
                Err(EngineError::permanent(format!(
                    "the synthetic engine cannot serve {kind} by model `{model}`"
                )))
            }
        });
        Self(FnEngine::new(NAME, services, run))
    }
}

impl Default for Synthetic {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Synthetic {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn services(&self) -> Vec<Service> {
        self.0.services()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        self.0.recipe(claim)
    }
}

fn service(kind: TaskKind, overrides: &[String]) -> Service {
    let own = match kind {
        TaskKind::Image => "synthetic-image",
        TaskKind::Llm => "synthetic-llm",
        TaskKind::AudioStt => "synthetic-stt",
        TaskKind::AudioTts => "synthetic-tts",
        TaskKind::Video => "synthetic-video",
        TaskKind::Mesh => "synthetic-mesh",
    };
    let mut models = vec![NAME.into(), own.into()];
    models.extend_from_slice(overrides);
    Service { kind, engine: NAME.into(), models: Models::Listed(models) }
}

fn run(claim: &Claim) -> Result<Output, EngineError> {
    let seed = Seed::of(claim);
    match &claim.task {
        Task::Image(task) => picture::draw(task, &seed),
        Task::Video(task) => film::shoot(task, &seed),
        Task::AudioTts(task) => speech::speak(task, &seed),
        Task::Mesh(_) => mesh::model(&seed),
        Task::Llm(task) => Ok(json(text::chat(task, &claim.model, &seed))),
        Task::AudioStt(task) => Ok(json(text::transcript(task, &seed))),
    }
}

fn json(value: Value) -> Output {
    Output::Json(Arc::new(value))
}

fn bytes(ext: &str, bytes: Vec<u8>) -> Output {
    Output::Bytes { ext: ext.into(), payload: Payload::from(bytes) }
}

/// An error that no other attempt can mend, worded as the wire's own are.
fn refused(parameter: &str, problem: impl core::fmt::Display) -> EngineError {
    EngineError::permanent(format!("parameter `{parameter}`: {problem}"))
}
