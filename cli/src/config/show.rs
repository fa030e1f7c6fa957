//! The configuration as it may be seen.

use std::path::Path;

use studio_worker_core::wire::Secret;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Config, ConfigError, ConfigFile, document::Document, read};

/// What stands in place of a credential.
const MASK: &str = "…";

/// The whole configuration as TOML, as `studio-worker config` prints it: every key that has a value, be it a
/// default, then the keys that this program doesn't know. Credentials are masked.
pub fn masked(file: &ConfigFile, config: &Config) -> Result<String, ConfigError> {
    masked_text(&file.read()?, file.path(), config)
}

/// The same of a configuration's text.
pub(super) fn masked_text(text: &str, path: &Path, config: &Config) -> Result<String, ConfigError> {
    let document = Document::parse(text).map_err(|syntax| syntax.at(path))?;
    let plain = Plain(config);
    let mut shown = DocumentMut::new();
    for key in read::KEYS {
        let item = document.get(key).cloned().or_else(|| default(config, key).map(Item::Value));
        if let Some(item) = item {
            shown.insert(key, plain.under(key, &item));
        }
    }
    for key in document.keys().filter(|key| !read::KEYS.contains(key)) {
        if let Some(item) = document.get(key) {
            shown.insert(&plain.text(key), plain.under(key, item));
        }
    }
    Ok(shown.to_string())
}

/// The default of a key that every published program writes.
fn default(config: &Config, key: &str) -> Option<Value> {
    let texts = |texts: &[String]| Value::Array(texts.iter().map(String::as_str).collect());
    Some(match key {
        "api_base_url" => config.api_base_url().into(),
        "vram_threshold_gb" => config.vram_threshold_gb.get().into(),
        "auto_start" => config.auto_start.into(),
        "auto_enabled" => config.auto_enabled.into(),
        "engine" => config.engine.as_str().into(),
        "engines" => texts(&config.engines),
        "supported_models_override" => texts(&config.supported_models_override),
        "auto_update_enabled" => config.auto_update_enabled.into(),
        "auto_update_interval_secs" => i64::try_from(config.auto_update_interval_secs).ok()?.into(),
        "auto_update_feed" => config.auto_update_feed.as_str().into(),
        "auto_update_prerelease" => config.auto_update_prerelease.into(),
        _ => return None,
    })
}

/// Values as they may be seen: without the comments and spaces that they have in the file, every credential masked, also
/// in tables that this program doesn't know and where a person has copied one to another place, such as a label. Made
/// piece by piece rather than in the finished text, since a credential may be as short as a letter of a key.
struct Plain<'a>(&'a Config);

impl Plain<'_> {
    fn text(&self, text: &str) -> String {
        Secret::scrub_all(self.0.secrets(), text.to_owned())
    }

    /// What stands under `key`.
    fn under(&self, key: &str, item: &Item) -> Item {
        if read::is_secret(key) { toml_edit::value(MASK) } else { self.item(item) }
    }

    fn item(&self, item: &Item) -> Item {
        match item {
            Item::None => Item::None,
            Item::Value(value) => Item::Value(self.value(value)),
            Item::Table(table) => Item::Table(self.table(table)),
            Item::ArrayOfTables(tables) => {
                Item::ArrayOfTables(tables.iter().map(|table| self.table(table)).collect())
            }
        }
    }

    fn table(&self, table: &Table) -> Table {
        let mut plain = Table::new();
        plain.set_implicit(table.is_implicit());
        plain.set_dotted(table.is_dotted());
        for (key, item) in table {
            plain.insert(&self.text(key), self.under(key, item));
        }
        plain
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text.value()).into(),
            Value::Array(array) => array.iter().map(|value| self.value(value)).collect(),
            Value::InlineTable(table) => table
                .iter()
                .map(|(key, value)| {
                    let value = if read::is_secret(key) { MASK.into() } else { self.value(value) };
                    (self.text(key), value)
                })
                .collect(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
                let mut plain = value.clone();
                plain.decor_mut().clear();
                plain
            }
        }
    }
}
