//! The programs of the engine `command`: a list of tables.

use serde::de::{Deserialize as _, IntoDeserializer as _};
use studio_worker_core::engine::command::{Entry, EntryConfig};
use toml_edit::{Item, Table, Value};

use super::{
    ConfigError,
    read::{Fields, from_home},
};

pub(super) const KEY: &str = "commands";

/// Reads `[[commands]]`, or the same as a list of inline tables.
pub(super) fn read(fields: &Fields<'_>) -> Result<Vec<Entry>, ConfigError> {
    let Some(item) = fields.document.get(KEY) else { return Ok(Vec::new()) };
    let tables: Vec<Table> = match item {
        Item::ArrayOfTables(tables) => tables.iter().cloned().collect(),
        Item::Value(Value::Array(array)) if array.iter().all(Value::is_inline_table) => {
            array.iter().filter_map(Value::as_inline_table).map(|table| table.clone().into_table()).collect()
        }
        item => return Err(fields.wrong(KEY, "a list of tables: each begins with [[commands]]", item)),
    };
    let mut entries = Vec::new();
    for (at, table) in tables.into_iter().enumerate() {
        let number = at + 1;
        let value = Value::InlineTable(table.into_inline_table());
        let mut entry = EntryConfig::deserialize(value.into_deserializer()).map_err(|error| {
            let problem = error.message().lines().collect::<Vec<_>>().join(" ");
            fields.error(KEY, format!("command {number}: {problem}"))
        })?;
        if entry.program.starts_with('~') {
            entry.program = from_home(&entry.program).to_string_lossy().into_owned();
        }
        let entry = Entry::new(entry);
        entries.push(entry.map_err(|problem| fields.error(KEY, format!("command {number}: {problem}")))?);
    }
    Ok(entries)
}
