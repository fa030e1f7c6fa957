//! Any server that speaks OpenAI's API: llama.cpp's `llama-server`, vLLM, Ollama, LM Studio, `LocalAI` …
//!
//! | kind | asked | answered |
//! | --- | --- | --- |
//! | `llm` | `/v1/chat/completions` | `chat.completion` |
//! | `image` | `/v1/images/generations` | `b64_json`, or a `url` on the same server |
//! | `audio_tts` | `/v1/audio/speech` | bytes |
//! | `audio_stt` | `/v1/audio/transcriptions`, or `translations` | `verbose_json` |
//!
//! What it serves comes from `/v1/models`, by its survey.

mod chat;
mod form;
mod models;
mod picture;
mod speech;
mod transcript;

#[cfg(test)]
mod tests;

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::{
    contract::{Engine, EngineError, Recipe, Service, Survey},
    input::InputPolicy,
    refusal::{Refusal, interrupted},
    server::{Dialogue, Server},
};
use crate::wire::{Claim, Task};

/// The engine of an OpenAI-compatible server.
#[derive(Debug, Clone)]
pub struct OpenAi {
    server: Server,
    services: Vec<Service>,
    inputs: InputPolicy,
}

impl OpenAi {
    /// The name of this engine.
    pub const NAME: &str = "openai";

    /// The engine of the server at `server`, whose address may end with `/v1` or not. It serves `services`,
    /// as its survey finds out; none before.
    pub fn new(server: Server, services: Vec<Service>, inputs: InputPolicy) -> Self {
        Self { server: server.without_suffix(API_PATH), services, inputs }
    }
}

/// What an operator may have given as the end of the address.
const API_PATH: &str = "v1/";

impl Engine for OpenAi {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let dialogue = Dialogue::new(&self.server);
        match &claim.task {
            Task::Llm(task) => Box::new(chat::Chat::new(dialogue, self.inputs, &claim.model, task.clone())),
            Task::Image(task) => Box::new(picture::Picture::new(dialogue, &claim.model, task)),
            Task::AudioTts(task) => Box::new(speech::Speech::new(dialogue, &claim.model, task)),
            Task::AudioStt(task) => {
                Box::new(transcript::Transcript::new(dialogue, self.inputs, &claim.model, task.clone()))
            }
            task @ (Task::Video(_) | Task::Mesh(_)) => Box::new(Refusal::new(EngineError::permanent(
                format_args!("the openai engine cannot serve {}", task.kind()),
            ))),
        }
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        Some(Box::new(models::Surveying::new(&self.server)))
    }
}
