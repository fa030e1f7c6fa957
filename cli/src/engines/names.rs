//! The names of engines.

use studio_worker_core::engine::{
    Multi, command::Command, gradio::Gradio, llama::LlamaCpp, openai::OpenAi, sd::SdCpp,
};

/// Those that this program has, in the order in which `multi` asks them.
pub(crate) const SERVED: [&str; 6] =
    [Command::NAME, OpenAi::NAME, Gradio::NAME, LlamaCpp::NAME, SdCpp::NAME, "synthetic"];

/// Those of the published programs, and what serves their jobs here.
const ELSEWHERE: [(&str, &str); 5] = [
    ("llama", "llama-cpp\" or \"openai"),
    ("whisper", "command\" or \"openai"),
    ("image-candle", "sd-cpp\", \"gradio\" or \"openai"),
    ("video", "command"),
    ("tts", "command\" or \"openai"),
];

/// Why a name is no engine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineNameError {
    /// A name that nobody has heard of.
    #[error("\"{name}\" is not an engine: there are \"multi\", {}", SERVED.map(|name| format!("\"{name}\"")).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// `multi` in the list of those that it combines.
    #[error("\"multi\" combines the engines that are listed here, and can't be one of them")]
    Nested,
    /// It exists in a published program.
    #[error(
        "this program can't serve the engine \"{name}\" of the published one: name \"{instead}\" (see `studio-worker engines`), or keep using the program that served it"
    )]
    Elsewhere {
        /// Its name.
        name: String,
        /// What there is here.
        instead: &'static str,
    },
}

/// Whether `engine` can have this value.
pub(crate) fn check_name(name: &str) -> Result<(), EngineNameError> {
    if name == Multi::NAME { Ok(()) } else { known(name) }
}

/// Whether `engines` can have this member.
pub(crate) fn check_member(name: &str) -> Result<(), EngineNameError> {
    if name == Multi::NAME { Err(EngineNameError::Nested) } else { known(name) }
}

fn known(name: &str) -> Result<(), EngineNameError> {
    if SERVED.contains(&name) || ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == name) {
        Ok(())
    } else {
        Err(EngineNameError::Unknown { name: name.to_owned() })
    }
}

/// What serves the jobs of an engine that only a published program has.
pub(super) fn served(name: &str) -> Result<(), EngineNameError> {
    match ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name) {
        Some((_, instead)) => Err(EngineNameError::Elsewhere { name: name.to_owned(), instead }),
        None => Ok(()),
    }
}
