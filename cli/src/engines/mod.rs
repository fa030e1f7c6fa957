//! From a configuration to the engines that it names, and what they can serve on this machine.
//!
//! A configuration whose engine can't be served never runs on another one: it is an error that says what to do.

mod names;
mod pace;
mod survey;

use std::{env, fs, path::Path, sync::Arc, time::Duration};

use studio_worker_core::{
    engine::{
        Engine, Missing, Multi, Server,
        command::{Command, Entry},
        gradio::Gradio,
        input::InputPolicy,
        llama::LlamaCpp,
        openai::OpenAi,
        sd::{Loader, SdCpp},
        synthetic::Synthetic,
    },
    wire::Secret,
};

pub use names::EngineNameError;
pub(crate) use names::{SERVED, check_member, check_name};
pub use pace::Pace;

use crate::{
    Error,
    config::{Config, ConfigFile},
    secrets,
};
use pace::Paced;

/// Where `sd-cli` is, as the published programs are told.
const SD_CLI: &str = "STUDIO_WORKER_SD_CLI";

/// Why there are no engines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A name that can't be served.
    #[error("key `{key}`: {problem}")]
    Name {
        /// The key that names it.
        key: &'static str,
        /// What is wrong with it.
        problem: EngineNameError,
    },
    /// An engine that can't do without a key.
    #[error("key `{key}`: the engine \"{engine}\" wants it: {how}")]
    Wants {
        /// The key that is missing or can't be used.
        key: &'static str,
        /// Whose it is.
        engine: &'static str,
        /// What to give.
        how: String,
    },
}

/// The engines that a configuration names.
pub struct Engines {
    members: Vec<Arc<dyn Engine>>,
    /// What the configuration would have to say for more of them.
    lacking: Vec<Missing>,
}

/// The configuration in `file`, if a worker could start with it as it is now.
pub(crate) fn usable(file: &ConfigFile) -> Result<Config, Error> {
    let config = file.load()?;
    file.authorities()?;
    build(&config, &Pace::of(&config))
        .map_err(|problem| Error::Engine { path: file.path().to_owned(), problem })?;
    Ok(config)
}

/// The engines that `config` names, of which the synthetic one has that pace. `multi` without `engines` is every engine that
/// is configured.
pub fn build(config: &Config, pace: &Pace) -> Result<Engines, SetupError> {
    let (key, names) = match (config.engine.as_str(), config.engines.as_slice()) {
        (Multi::NAME, []) => (None, SERVED.map(str::to_owned).to_vec()),
        (Multi::NAME, engines) => (Some("engines"), engines.to_vec()),
        (engine, _) => (Some("engine"), vec![engine.to_owned()]),
    };
    let mut engines = Engines { members: Vec::new(), lacking: Vec::new() };
    let mut seen = Vec::new();
    for name in &names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        if let Some(key) = key {
            names::served(name).map_err(|problem| SetupError::Name { key, problem })?;
        }
        match (member(name, &names, config, pace), key) {
            (Ok(engine), _) => engines.members.push(engine),
            // One that nobody named and nobody set up.
            (Err(SetupError::Wants { key, engine, how }), None) => {
                let what = format!("the key `{key}`");
                engines.lacking.push(Missing { engine: engine.into(), what, how: sentence(&how) });
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(engines)
}

/// The same words as a sentence.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// One engine. Those beside it are `names`.
fn member(name: &str, names: &[String], config: &Config, pace: &Pace) -> Result<Arc<dyn Engine>, SetupError> {
    let inputs = InputPolicy { allow_private: config.allow_private_inputs };
    let timeout = Duration::from_secs(config.job_limit_secs.into());
    let server = |key, engine, address: Option<&String>, example: &str| {
        let wants = |how| SetupError::Wants { key, engine, how };
        let address =
            address.ok_or_else(|| wants(format!("give the server's address, like \"{example}\"")))?;
        let server = Server::new(address).map_err(|problem| wants(problem.to_string()))?;
        Ok(server.with_timeout(timeout))
    };
    Ok(match name {
        Command::NAME => {
            if config.commands.is_empty() {
                let how = "name a program, as the comments in a new configuration and the README show".into();
                return Err(SetupError::Wants { key: "commands", engine: Command::NAME, how });
            }
            Arc::new(Command::new(config.commands.clone(), inputs))
        }
        OpenAi::NAME => {
            let address = config.openai_base_url.as_ref();
            let mut server = server("openai_base_url", OpenAi::NAME, address, "http://127.0.0.1:8080")?;
            if let Some(key) = openai_key(config)? {
                let wants = |how| SetupError::Wants { key: "openai_api_key_file", engine: OpenAi::NAME, how };
                server = server.with_key(key).map_err(|problem| wants(problem.to_string()))?;
            }
            Arc::new(OpenAi::new(server, Vec::new(), inputs))
        }
        Gradio::NAME => {
            let address = config.gradio_endpoint_url.as_ref();
            let server = server("gradio_endpoint_url", Gradio::NAME, address, "http://127.0.0.1:7860")?;
            let models = config.supported_models_override.clone();
            if models.is_empty() {
                let how = "list what the app draws with, like [\"flux1-dev\"]".into();
                return Err(SetupError::Wants {
                    key: "supported_models_override",
                    engine: Gradio::NAME,
                    how,
                });
            }
            Arc::new(Gradio::new(server, models))
        }
        LlamaCpp::NAME => {
            let root = models_root(config)?;
            let local = files_in(&Path::new(&root).join(LlamaCpp::FOLDER));
            let engine = LlamaCpp::new(&root, inputs)
                .with_program(&config.llama_server)
                .with_idle(Duration::from_secs(config.llama_idle_secs.into()))
                .with_local(local.iter().map(String::as_str));
            Arc::new(engine)
        }
        SdCpp::NAME => {
            let root = models_root(config)?;
            Arc::new(SdCpp::new(&root, sd_candidates(config, &root), inputs).with_loader(loader()))
        }
        _ => {
            // Made-up pictures must not stand in for those of the app that the models are of.
            let drawn = names.iter().any(|name| name == Gradio::NAME) && config.gradio_endpoint_url.is_some();
            let models = if drawn { &[][..] } else { &config.supported_models_override };
            Arc::new(Paced { engine: Synthetic::with_models(models), pace: pace.clone() })
        }
    })
}

/// The key of the engine `openai`, from where credentials are, or its file.
fn openai_key(config: &Config) -> Result<Option<Secret>, SetupError> {
    secrets::OPENAI_API_KEY.find_or_in(config.openai_api_key_file.as_deref()).map_err(|problem| {
        SetupError::Wants { key: "openai_api_key_file", engine: OpenAi::NAME, how: problem.to_string() }
    })
}

/// Where model files are kept: an absolute path.
fn models_root(config: &Config) -> Result<String, SetupError> {
    let root = config.models_root.clone().or_else(|| {
        let dirs = directories::ProjectDirs::from("gg", "minis", "minis-studio-worker");
        dirs.map(|dirs| dirs.data_local_dir().join("models"))
    });
    let root = root.and_then(|root| std::path::absolute(root).ok()?.into_os_string().into_string().ok());
    root.ok_or_else(|| SetupError::Wants {
        key: "models_root",
        engine: LlamaCpp::NAME,
        how: "name a folder for model files by its whole path".into(),
    })
}

/// The names of the files in a folder; none when it isn't there.
fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Where `sd-cli` may be, in the order in which it is looked for.
fn sd_candidates(config: &Config, models_root: &str) -> Vec<String> {
    let configured = config.sd_cli.as_ref().map(|path| path.to_string_lossy().into_owned());
    let named = configured.or_else(|| env::var(SD_CLI).ok().filter(|path| !path.trim().is_empty()));
    let own =
        Path::new(models_root).join("bin").join(format!("{}{}", SdCpp::PROGRAM, env::consts::EXE_SUFFIX));
    // One that was named is the one that is meant.
    named.map_or_else(
        || vec![own.to_string_lossy().into_owned(), SdCpp::PROGRAM.to_owned()],
        |named| vec![named],
    )
}

/// How this system finds the library beside a program.
fn loader() -> Loader {
    if cfg!(target_os = "macos") {
        Loader::macos(env::var("DYLD_LIBRARY_PATH").ok())
    } else {
        Loader::linux(env::var("LD_LIBRARY_PATH").ok())
    }
}

/// The engines whose jobs load a model into this machine's memory: they are admitted when there is room for it.
pub(crate) fn measured(config: &Config) -> Vec<String> {
    let mut engines = vec![LlamaCpp::NAME.to_owned(), SdCpp::NAME.to_owned()];
    if config.commands.iter().any(Entry::wants_memory) {
        engines.push(Command::NAME.to_owned());
    }
    engines
}

/// Whether `old` and `new` make the same engines.
pub(crate) fn same(old: &Config, new: &Config) -> bool {
    let parts = |config: &Config| {
        (
            (config.engine.clone(), config.engines.clone(), config.supported_models_override.clone()),
            (
                config.gradio_endpoint_url.clone(),
                config.openai_base_url.clone(),
                config.openai_api_key_file.clone(),
            ),
            (config.commands.clone(), config.models_root.clone(), config.sd_cli.clone()),
            (config.llama_server.clone(), config.llama_idle_secs),
            (config.job_limit_secs, config.allow_private_inputs),
        )
    };
    parts(old) == parts(new)
}
