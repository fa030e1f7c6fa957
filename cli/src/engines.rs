//! From the names of engines in a configuration to an engine.
//!
//! A configuration whose engine can't be served never runs on another one: it is an error that says what to do.

use std::sync::Arc;

use studio_worker_core::engine::{Engine, synthetic::Synthetic};

use crate::config::Config;

/// Combines others.
const MULTI: &str = "multi";
/// Those that this program serves.
const SERVED: [&str; 1] = ["synthetic"];
/// Those that configurations of the published programs name, or ours will.
const NAMED: [&str; 10] = [
    "gradio",
    "llama",
    "whisper",
    "image-candle",
    "video",
    "tts",
    "openai",
    "command",
    "llama-cpp",
    "sd-cpp",
];

/// Why there is no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineNameError {
    /// A name that nobody has heard of.
    #[error("\"{name}\" is not an engine: there are \"multi\", \"synthetic\", {}", NAMED.map(|name| format!("{name:?}")).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// `multi` in the list of those that it combines.
    #[error("\"multi\" combines the engines that are listed here, and can't be one of them")]
    Nested,
    /// It exists elsewhere.
    #[error(
        "key `{key}`: this version of studio-worker can't serve the engine \"{name}\" yet: name \"synthetic\" for made-up results, or keep using the program that served it"
    )]
    NotYet {
        /// The key that names it.
        key: &'static str,
        /// Its name.
        name: String,
    },
}

/// Whether `engine` can have this value.
pub(crate) fn check_name(name: &str) -> Result<(), EngineNameError> {
    if name == MULTI { Ok(()) } else { known(name) }
}

/// Whether `engines` can have this member.
pub(crate) fn check_member(name: &str) -> Result<(), EngineNameError> {
    if name == MULTI { Err(EngineNameError::Nested) } else { known(name) }
}

fn known(name: &str) -> Result<(), EngineNameError> {
    if SERVED.contains(&name) || NAMED.contains(&name) {
        Ok(())
    } else {
        Err(EngineNameError::Unknown { name: name.to_owned() })
    }
}

/// The engine that `config` names. `multi` without `engines` is every engine that this machine can serve.
pub fn build(config: &Config) -> Result<Arc<dyn Engine>, EngineNameError> {
    let (key, names) = match (config.engine.as_str(), config.engines.as_slice()) {
        (MULTI, []) => ("engine", SERVED.map(str::to_owned).to_vec()),
        (MULTI, engines) => ("engines", engines.to_vec()),
        (engine, _) => ("engine", vec![engine.to_owned()]),
    };
    if let Some(name) = names.into_iter().find(|name| !SERVED.contains(&name.as_str())) {
        return Err(EngineNameError::NotYet { key, name });
    }
    // As long as one engine is served, whatever combination was named is that one.
    Ok(Arc::new(Synthetic::with_models(&config.supported_models_override)))
}

/// Whether `old` and `new` make the same engine.
pub(crate) fn same(old: &Config, new: &Config) -> bool {
    let parts = |config: &Config| {
        (
            config.engine.clone(),
            config.engines.clone(),
            config.supported_models_override.clone(),
            config.gradio_endpoint_url.clone(),
            config.models_root.clone(),
        )
    };
    parts(old) == parts(new)
}
