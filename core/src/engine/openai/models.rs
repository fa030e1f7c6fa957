//! What a server serves.

use alloc::{
    borrow::ToOwned,
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use serde::{Deserialize, de::IgnoredAny};

use super::OpenAi;
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Missing, Models, Recipe, Service, Survey},
        server::{Answered, Call, Dialogue, Server},
    },
    wire::TaskKind,
};

/// The largest list that is read, in bytes.
const MAX_LIST: usize = 1024 * 1024;
/// How many models count: all go out with each heartbeat.
const MAX_MODELS: usize = 500;
/// The longest name of a model, in bytes.
const MAX_NAME: usize = 200;

/// Asks a server which models it has. Which kind of task each is for is what the server says of it, else what its
/// name says, else `llm`; those for embeddings and the like are left out.
pub(super) struct Surveying {
    server: Server,
    dialogue: Dialogue,
    call: Call,
}

impl Surveying {
    pub(super) fn new(server: &Server) -> Self {
        let dialogue = Dialogue::new(server);
        let call = Call::new(dialogue.get("v1/models", MAX_LIST));
        Self { server: server.clone(), dialogue, call }
    }

    fn survey(&self, outcome: Answered) -> Survey {
        let (services, how) = match self.read(outcome) {
            Ok(services) if services.is_empty() => {
                (services, "it lists none: load one in it that chats, draws, speaks or listens".to_owned())
            }
            Ok(services) => return Survey { services, missing: Vec::new() },
            Err(error) => (Vec::new(), error.message),
        };
        let what = format!("a model of the server at {}", self.server);
        Survey { services, missing: Vec::from([Missing { engine: OpenAi::NAME.to_owned(), what, how }]) }
    }

    fn read(&self, outcome: Answered) -> Result<Vec<Service>, EngineError> {
        let body = self.dialogue.accepted("the list of models", outcome, MAX_LIST)?;
        let list: List =
            serde_json::from_slice(&body).map_err(|_| self.dialogue.not_wanted("a list of models", &body))?;
        let mut kinds: BTreeMap<TaskKind, BTreeSet<String>> = BTreeMap::new();
        for model in list.data.into_iter().filter(|model| is_plain(&model.id)).take(MAX_MODELS) {
            if let Purpose::Serves(kind) = model.purpose() {
                kinds.entry(kind).or_default().insert(model.id);
            }
        }
        Ok(kinds
            .into_iter()
            .map(|(kind, models)| Service {
                kind,
                engine: OpenAi::NAME.to_owned(),
                models: Models::Listed(models.into_iter().collect()),
            })
            .collect())
    }
}

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        self.call.next(happened).and_then(|outcome| Effect::Done(Ok(self.survey(outcome))))
    }
}

fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_NAME && !id.contains(char::is_control)
}

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// `automatic-speech-recognition` and `text-to-speech` of speaches.
    #[serde(default)]
    task: Lenient,
    /// `llm`, `vlm` and `embeddings` of LM Studio; `chat`, `image` and so on elsewhere.
    #[serde(default, rename = "type")]
    kind: Lenient,
}

/// A text, or something else that is none of ours.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Text(String),
    Other(IgnoredAny),
}

impl Default for Lenient {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

impl Model {
    fn purpose(&self) -> Purpose {
        for said in [&self.task, &self.kind] {
            if let Lenient::Text(said) = said
                && let Some(purpose) = by_word(&said.to_ascii_lowercase())
            {
                return purpose;
            }
        }
        by_name(&self.id.to_ascii_lowercase())
    }
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Serves(TaskKind),
    /// Embeddings and the like, which are no kind of task.
    Other,
}

/// The purpose by a word that a server has for it.
fn by_word(word: &str) -> Option<Purpose> {
    Some(match word {
        "automatic-speech-recognition" | "transcribe" | "transcription" | "stt" => {
            Purpose::Serves(TaskKind::AudioStt)
        }
        "text-to-speech" | "tts" | "speech" => Purpose::Serves(TaskKind::AudioTts),
        "text-to-image" | "image" | "image-generation" => Purpose::Serves(TaskKind::Image),
        "llm" | "vlm" | "chat" | "text-generation" | "image-text-to-text" | "language" => {
            Purpose::Serves(TaskKind::Llm)
        }
        "embedding"
        | "embeddings"
        | "rerank"
        | "moderation"
        | "feature-extraction"
        | "text-classification" => Purpose::Other,
        _ => return None,
    })
}

/// The purpose by what is in a model's name.
fn by_name(id: &str) -> Purpose {
    const WORDS: &[(Purpose, &[&str])] = &[
        (Purpose::Other, &["embed", "rerank", "moderation", "bge-", "realtime", "sora", "silero"]),
        (
            Purpose::Serves(TaskKind::AudioStt),
            &["whisper", "transcribe", "parakeet", "canary", "-asr", "-stt"],
        ),
        (Purpose::Serves(TaskKind::AudioTts), &["tts", "kokoro", "piper", "bark", "orpheus", "speech"]),
        (
            Purpose::Serves(TaskKind::Image),
            &[
                "dall-e",
                "gpt-image",
                "flux",
                "stable-diffusion",
                "stablediffusion",
                "sdxl",
                "sd-turbo",
                "sd3",
                "qwen-image",
                "z-image",
                "dreamshaper",
                "imagen",
            ],
        ),
    ];
    WORDS
        .iter()
        .find(|(_, words)| words.iter().any(|word| id.contains(word)))
        .map_or(Purpose::Serves(TaskKind::Llm), |(purpose, _)| *purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_model_is_for() {
        for (id, purpose) in [
            ("gemma-3-270m-it", Purpose::Serves(TaskKind::Llm)),
            ("gpt-4o", Purpose::Serves(TaskKind::Llm)),
            ("gpt-4o-mini-transcribe", Purpose::Serves(TaskKind::AudioStt)),
            ("gpt-4o-mini-tts", Purpose::Serves(TaskKind::AudioTts)),
            ("systran/faster-whisper-small", Purpose::Serves(TaskKind::AudioStt)),
            ("speaches-ai/kokoro-82m-v1.0-onnx", Purpose::Serves(TaskKind::AudioTts)),
            ("dall-e-3", Purpose::Serves(TaskKind::Image)),
            ("black-forest-labs/flux.1-schnell", Purpose::Serves(TaskKind::Image)),
            ("text-embedding-3-large", Purpose::Other),
            ("omni-moderation-latest", Purpose::Other),
        ] {
            assert_eq!(by_name(id), purpose, "{id}");
        }
    }
}
