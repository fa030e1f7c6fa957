//! From a document to a configuration.

use std::path::{Path, PathBuf};

use studio_worker_core::{
    engine::Server,
    wire::{ApiBase, Finite, Secret},
    worker::Identity,
};
use toml_edit::{Item, Value};

use super::{Config, ConfigError, SECRET_KEYS, commands, document::Document};
use crate::{engines, logging, update};

/// Every key that is known, in the order in which they are printed.
pub(super) const KEYS: [&str; 39] = [
    "api_base_url",
    "ca_file",
    "worker_id",
    "auth_token",
    "vram_threshold_gb",
    "auto_start",
    "auto_enabled",
    "engine",
    "engines",
    "gradio_endpoint_url",
    "openai_base_url",
    "openai_api_key_file",
    "llama_server",
    "llama_idle_secs",
    "sd_cli",
    "job_limit_secs",
    "allow_private_inputs",
    "supported_models_override",
    "synthetic_delay_ms",
    "auto_update_enabled",
    "auto_update_interval_secs",
    "auto_update_feed",
    "auto_update_prerelease",
    "auto_update_public_key",
    "auto_update_trial_secs",
    "models_root",
    "ws_reconnect_attempts",
    "install_id",
    "label",
    "registration_request_id",
    "registration_secret",
    "registration_rejected",
    "memory_max_gb",
    "start_minimised",
    "only_when_idle",
    "local_api_port",
    "stream_port",
    "local_api_token",
    // A list of tables, so last.
    commands::KEY,
];

/// Reads every key that is there.
pub(super) fn config(document: &Document, path: &Path) -> Result<Config, ConfigError> {
    let fields = Fields { document, path };
    let error = |key: &'static str, problem: String| fields.error(key, problem);
    let mut config = Config::defaults().map_err(|problem| error("api_base_url", problem.to_string()))?;
    config.api_base_url = fields.text("api_base_url")?;
    if let Some(url) = &config.api_base_url {
        config.api_base =
            ApiBase::parse(url).map_err(|problem| error("api_base_url", problem.to_string()))?;
    }
    config.ca_file = fields.file("ca_file")?;
    config.identity = fields.identity()?;
    config.label = fields.filled("label")?;
    fields.set(&mut config.vram_threshold_gb, "vram_threshold_gb", Fields::gigabytes)?;
    fields.set(&mut config.auto_start, "auto_start", Fields::switch)?;
    fields.set(&mut config.auto_enabled, "auto_enabled", Fields::switch)?;
    fields.set(&mut config.engine, "engine", Fields::text)?;
    fields.set(&mut config.engines, "engines", Fields::texts)?;
    engines::check_name(&config.engine).map_err(|problem| error("engine", problem.to_string()))?;
    for name in &config.engines {
        engines::check_member(name).map_err(|problem| error("engines", problem.to_string()))?;
    }
    // Whether it can be used matters where it is used: a published program may have left anything here.
    config.gradio_endpoint_url = fields.filled("gradio_endpoint_url")?;
    config.openai_base_url = fields.server("openai_base_url")?;
    config.openai_api_key_file = fields.file("openai_api_key_file")?;
    if let Some(program) = fields.filled("llama_server")? {
        config.llama_server = from_home(&program).to_string_lossy().into_owned();
    }
    fields.set(&mut config.llama_idle_secs, "llama_idle_secs", Fields::whole)?;
    config.sd_cli = fields.filled("sd_cli")?.map(|path| from_home(&path));
    fields.set(&mut config.job_limit_secs, "job_limit_secs", Fields::whole)?;
    if config.job_limit_secs == 0 {
        return Err(error("job_limit_secs", "no job can be done in 0 seconds".into()));
    }
    fields.set(&mut config.allow_private_inputs, "allow_private_inputs", Fields::switch)?;
    config.commands = commands::read(&fields)?;
    fields.set(&mut config.supported_models_override, "supported_models_override", Fields::texts)?;
    fields.set(&mut config.synthetic_delay_ms, "synthetic_delay_ms", Fields::whole)?;
    fields.set(&mut config.auto_update_enabled, "auto_update_enabled", Fields::switch)?;
    fields.set(&mut config.auto_update_interval_secs, "auto_update_interval_secs", Fields::whole)?;
    fields.set(&mut config.auto_update_feed, "auto_update_feed", Fields::text)?;
    fields.set(&mut config.auto_update_prerelease, "auto_update_prerelease", Fields::switch)?;
    config.auto_update_public_key = fields.filled("auto_update_public_key")?;
    if let Some(problem) =
        config.auto_update_public_key.as_deref().and_then(|key| update::check_key(key).err())
    {
        return Err(error("auto_update_public_key", problem));
    }
    fields.set(&mut config.auto_update_trial_secs, "auto_update_trial_secs", Fields::whole)?;
    config.models_root = fields.filled("models_root")?.map(|root| from_home(&root));
    config.ws_reconnect_attempts = fields.whole("ws_reconnect_attempts")?;
    fields.set(&mut config.memory_max_gb, "memory_max_gb", Fields::whole)?;
    fields.set(&mut config.start_minimised, "start_minimised", Fields::switch)?;
    fields.set(&mut config.only_when_idle, "only_when_idle", Fields::switch)?;
    config.local_api_port = fields.whole("local_api_port")?;
    config.stream_port = fields.whole("stream_port")?;
    config.local_api_token = fields.secret("local_api_token", logging::learn)?;
    Ok(config)
}

/// Reads who the worker is, whatever else the document says.
pub(super) fn identity(document: &Document, path: &Path) -> Result<Identity, ConfigError> {
    Fields { document, path }.identity()
}

pub(super) struct Fields<'a> {
    pub(super) document: &'a Document,
    path: &'a Path,
}

impl Fields<'_> {
    pub(super) fn error(&self, key: &'static str, problem: String) -> ConfigError {
        let line = self.document.line_of(key);
        ConfigError::Value { path: self.path.to_owned(), line, key, problem }
    }

    fn identity(&self) -> Result<Identity, ConfigError> {
        Ok(Identity {
            install_id: self.filled("install_id")?,
            registration_secret: self.secret("registration_secret", logging::learn_issued)?,
            registration_request_id: self.filled("registration_request_id")?,
            registration_rejected: self.text("registration_rejected")?,
            worker_id: self.filled("worker_id")?,
            auth_token: self.secret("auth_token", logging::learn_issued)?,
        })
    }

    /// Sets `field` when the key is there.
    fn set<T>(
        &self,
        field: &mut T,
        key: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Result<Option<T>, ConfigError>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = read(self, key)? {
            *field = value;
        }
        Ok(())
    }

    pub(super) fn wrong(&self, key: &'static str, wanted: &str, item: &Item) -> ConfigError {
        self.error(key, format!("must be {wanted}, not {}", kind(item)))
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(item) = self.document.get(key) else { return Ok(None) };
        match item.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong(key, "a text in quotes", item)),
        }
    }

    /// A text that means nothing when it is empty.
    fn filled(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        Ok(self.text(key)?.filter(|text| !text.trim().is_empty()))
    }

    /// The address of a server.
    fn server(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let address = self.filled(key)?;
        if let Some(problem) = address.as_deref().and_then(|address| Server::new(address).err()) {
            return Err(self.error(key, problem.to_string()));
        }
        Ok(address)
    }

    /// A file, which is looked for beside the configuration: where a program was started says nothing about it.
    fn file(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Ok(self.filled(key)?.map(|file| folder.join(from_home(&file))))
    }

    fn secret(&self, key: &'static str, learn: fn(&Secret)) -> Result<Option<Secret>, ConfigError> {
        let secret = self.filled(key)?.map(Secret::from);
        secret.iter().for_each(learn);
        Ok(secret)
    }

    fn switch(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(item) = self.document.get(key) else { return Ok(None) };
        item.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", item))
    }

    fn whole<T: TryFrom<i64> + Bounded>(&self, key: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(item) = self.document.get(key) else { return Ok(None) };
        let number = item.as_integer().ok_or_else(|| self.wrong(key, "a whole number", item))?;
        T::try_from(number)
            .map(Some)
            .map_err(|_| self.error(key, format!("{number} is out of range: 0 to {}", T::LARGEST)))
    }

    fn gigabytes(&self, key: &'static str) -> Result<Option<Finite>, ConfigError> {
        let Some(item) = self.document.get(key) else { return Ok(None) };
        let number = item
            .as_float()
            // Whole numbers of that size are exact.
            .or_else(|| item.as_integer().and_then(|gb| i32::try_from(gb).ok()).map(f64::from))
            .ok_or_else(|| self.wrong(key, "a number of GB", item))?;
        match Finite::new(number) {
            Some(gb) if gb >= Finite::ZERO => Ok(Some(gb)),
            _ => Err(self.error(key, format!("{number} is out of range: a finite number of GB, at least 0"))),
        }
    }

    fn texts(&self, key: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
        const WANTED: &str = "a list of texts in quotes";
        let Some(item) = self.document.get(key) else { return Ok(None) };
        let array = item.as_array().ok_or_else(|| self.wrong(key, WANTED, item))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = array.iter().map(text).collect::<Option<Vec<_>>>();
        texts
            .map(Some)
            .ok_or_else(|| self.error(key, format!("must be {WANTED}, and has something else in it")))
    }
}

/// The range of a whole number.
trait Bounded {
    const LARGEST: u64;
}

impl Bounded for u16 {
    const LARGEST: u64 = u16::MAX as u64;
}

impl Bounded for u32 {
    const LARGEST: u64 = u32::MAX as u64;
}

impl Bounded for u64 {
    const LARGEST: u64 = i64::MAX as u64;
}

/// What a value is, for a person.
fn kind(item: &Item) -> &'static str {
    match item {
        Item::Value(Value::String(_)) => "a text",
        Item::Value(Value::Integer(_)) => "a whole number",
        Item::Value(Value::Float(_)) => "a number with a fraction",
        Item::Value(Value::Boolean(_)) => "true or false",
        Item::Value(Value::Datetime(_)) => "a date",
        Item::Value(Value::Array(_)) | Item::ArrayOfTables(_) => "a list",
        Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a table",
        Item::None => "nothing",
    }
}

/// A path in which a leading `~` is the home directory.
pub(super) fn from_home(path: &str) -> PathBuf {
    let home = || directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
    let rest = if path == "~" { Some("") } else { path.strip_prefix("~/") };
    match rest.and_then(|rest| Some(home()?.join(rest))) {
        Some(path) => path,
        None => path.into(),
    }
}

/// Whether the value of `key` must not be shown. Keys that we don't know are judged by their names.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let telling =
        |part: &str| matches!(part, "token" | "secret" | "password" | "passphrase" | "key" | "credential");
    // What is public is there to be seen.
    let words = || key.split(['_', '-', '.']);
    SECRET_KEYS.contains(&&*key) || (words().any(telling) && !words().any(|word| word == "public"))
}
