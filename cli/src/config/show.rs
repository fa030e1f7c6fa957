//! The configuration as it may be seen.

use std::path::Path;

use toml_edit::{DocumentMut, Item, TableLike, Value};

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
    let mut shown = DocumentMut::new();
    for key in read::KEYS {
        let item = document.get(key).cloned().or_else(|| default(config, key).map(Item::Value));
        if let Some(item) = item {
            shown.insert(key, plain(item));
        }
    }
    let unknown: Vec<_> = document.keys().filter(|key| !read::KEYS.contains(key)).collect();
    for key in unknown {
        if let Some(item) = document.get(key) {
            shown.insert(key, plain(item.clone()));
        }
    }
    mask(shown.as_table_mut());
    // Also where a person has copied one to another place, such as a label.
    Ok(config.secrets().fold(shown.to_string(), |text, secret| secret.scrub(text)))
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

/// Without the comments and spaces that it has in the file.
fn plain(mut item: Item) -> Item {
    if let Item::Value(value) = &mut item {
        value.decor_mut().clear();
    }
    item
}

/// Masks every credential, also in tables that this program doesn't know.
fn mask(table: &mut dyn TableLike) {
    for (key, item) in table.iter_mut() {
        if read::is_secret(key.get()) {
            *item = toml_edit::value(MASK);
        } else if let Some(table) = item.as_table_like_mut() {
            mask(table);
        } else if let Some(tables) = item.as_array_of_tables_mut() {
            tables.iter_mut().for_each(|table| mask(table));
        } else if let Some(array) = item.as_array_mut() {
            array.iter_mut().filter_map(Value::as_inline_table_mut).for_each(|table| mask(table));
        }
    }
}
