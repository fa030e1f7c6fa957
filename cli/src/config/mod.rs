//! The configuration: what is in `config.toml` (section 7), where it lies, and how it changes.
//!
//! Reading is strict: a file with something wrong in it is an error that names the file, the line and the key,
//! and changes nothing. Writing is a merge: only the keys that this program changes are written, at their
//! places, and everything else in the file stays as it is, byte for byte.

mod commands;
mod document;
mod error;
mod file;
mod read;
mod show;
#[cfg(any(feature = "sim", test))]
pub(crate) mod sim;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;

use studio_worker_core::{
    engine::command::Entry,
    wire::{AddressError, ApiBase, Finite, Secret},
    worker::{Identity, Settings},
};

pub use document::Edit;
pub use error::ConfigError;
pub use file::ConfigFile;
pub(crate) use file::{create_dirs, parent, resolve};
pub use show::masked;
pub use store::ConfigStore;
pub use watch::{Seen, Watcher};

/// The studio of a configuration that names none.
pub const DEFAULT_API_BASE_URL: &str = "https://studio.minis.gg";
/// Where releases are looked for when the configuration doesn't say.
pub const DEFAULT_UPDATE_FEED: &str = "https://api.github.com/repos/webbertakken/studio-worker/releases";
/// The engine of a configuration that names none, as those of 0.4 do: every engine that this machine serves.
pub const DEFAULT_ENGINE: &str = "multi";

/// The keys whose values are credentials. They are never printed.
pub const SECRET_KEYS: [&str; 3] = ["auth_token", "registration_secret", "local_api_token"];

/// What `config.toml` says, with the defaults of section 7 where it says nothing. Fields are named as its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// As it is written, or none: then [`DEFAULT_API_BASE_URL`] counts.
    pub api_base_url: Option<String>,
    /// `api_base_url`, read.
    pub api_base: ApiBase,
    /// `install_id`, `registration_*`, `worker_id` and `auth_token`.
    pub identity: Identity,
    /// The operator's name for this machine.
    pub label: Option<String>,
    /// The largest estimate that is accepted, in GB; at least 0.
    pub vram_threshold_gb: Finite,
    /// Whether the worker starts with the machine.
    pub auto_start: bool,
    /// Whether jobs are wanted.
    pub auto_enabled: bool,
    /// What runs the jobs; see [`engines`](crate::engines).
    pub engine: String,
    /// What the engine `multi` combines.
    pub engines: Vec<String>,
    /// The address of the engine `gradio`.
    pub gradio_endpoint_url: Option<String>,
    /// The address of the engine `openai`.
    pub openai_base_url: Option<String>,
    /// The file whose first line is the key of the engine `openai`; the environment is looked at first.
    pub openai_api_key_file: Option<PathBuf>,
    /// The programs of the engine `command`.
    pub commands: Vec<Entry>,
    /// The program of the engine `llama-cpp`: a path, or a name to look for in `PATH`.
    pub llama_server: String,
    /// How long a model of the engine `llama-cpp` stays loaded without a job, in seconds.
    pub llama_idle_secs: u32,
    /// The program of the engine `sd-cpp`; none: it is looked for.
    pub sd_cli: Option<PathBuf>,
    /// How long the engine may take for one job, in seconds; downloads don't count.
    pub job_limit_secs: u32,
    /// Whether inputs of jobs may be fetched from private addresses.
    pub allow_private_inputs: bool,
    /// Models to offer beside those that the engine knows.
    pub supported_models_override: Vec<String>,
    /// How long each job of the synthetic engine waits before it is made, in milliseconds.
    pub synthetic_delay_ms: u32,
    /// Whether the program updates itself.
    pub auto_update_enabled: bool,
    /// How often it looks for an update, in seconds.
    pub auto_update_interval_secs: u64,
    /// Where it looks.
    pub auto_update_feed: String,
    /// Whether it takes pre-releases.
    pub auto_update_prerelease: bool,
    /// The minisign key that releases must be signed with; none: their hashes are enough.
    pub auto_update_public_key: Option<String>,
    /// How long a new version has to reach its welcome, and must live, in seconds.
    pub auto_update_trial_secs: u32,
    /// Where model files are; a leading `~/` is the home directory.
    pub models_root: Option<PathBuf>,
    /// Failures in a row after which the worker ends; none or 0: never.
    pub ws_reconnect_attempts: Option<u32>,
    /// The most memory that the worker's processes may use together, in GB (0.4).
    pub memory_max_gb: u32,
    /// Whether the window starts hidden (0.4).
    pub start_minimised: bool,
    /// Whether jobs are wanted only while nobody uses the machine (0.4).
    pub only_when_idle: bool,
    /// The port of the local API (0.4).
    pub local_api_port: Option<u16>,
    /// The port of the speech listener (0.4).
    pub stream_port: Option<u16>,
    /// What clients of the local API must present (0.4).
    pub local_api_token: Option<Secret>,
}

impl Config {
    /// What an empty configuration means. The only thing that can go wrong is the default address.
    fn defaults() -> Result<Self, AddressError> {
        Ok(Self {
            api_base_url: None,
            api_base: ApiBase::parse(DEFAULT_API_BASE_URL)?,
            identity: Identity::default(),
            label: None,
            vram_threshold_gb: Finite::from(Settings::DEFAULT_THRESHOLD_GB),
            auto_start: true,
            auto_enabled: true,
            engine: DEFAULT_ENGINE.into(),
            engines: Vec::new(),
            gradio_endpoint_url: None,
            openai_base_url: None,
            openai_api_key_file: None,
            commands: Vec::new(),
            llama_server: "llama-server".into(),
            llama_idle_secs: 600,
            sd_cli: None,
            job_limit_secs: 1_800,
            allow_private_inputs: false,
            supported_models_override: Vec::new(),
            synthetic_delay_ms: 0,
            auto_update_enabled: true,
            auto_update_interval_secs: 1_800,
            auto_update_feed: DEFAULT_UPDATE_FEED.into(),
            auto_update_prerelease: false,
            auto_update_public_key: None,
            auto_update_trial_secs: 300,
            models_root: None,
            ws_reconnect_attempts: None,
            memory_max_gb: 32,
            start_minimised: true,
            only_when_idle: false,
            local_api_port: None,
            stream_port: None,
            local_api_token: None,
        })
    }

    /// Reads the text of a configuration; `path` is for errors.
    pub fn parse(text: &str, path: &std::path::Path) -> Result<Self, ConfigError> {
        let document = document::Document::parse(text).map_err(|syntax| syntax.at(path))?;
        read::config(&document, path)
    }

    /// The address as a person wrote it, or the default.
    pub fn api_base_url(&self) -> &str {
        self.api_base_url.as_deref().unwrap_or(DEFAULT_API_BASE_URL)
    }

    /// Every credential in it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let Identity { auth_token, registration_secret, .. } = &self.identity;
        [auth_token, registration_secret, &self.local_api_token].into_iter().flatten()
    }
}

/// A number of GB as the published programs print it: `12`, `12.5`, and `0.1` for the
/// `0.10000000149011612` that they store, since they keep 32 bits.
pub fn gigabytes(gb: Finite) -> String {
    #[allow(clippy::cast_possible_truncation)] // whether it was one is what the comparison asks
    let single = gb.get() as f32;
    if f64::from(single).to_bits() == gb.get().to_bits() { single.to_string() } else { gb.to_string() }
}
