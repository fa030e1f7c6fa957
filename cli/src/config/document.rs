//! The text of a configuration and where in it things are, so that a change touches nothing else.

use std::{fmt, ops::Range, path::Path};

use toml_edit::{Item, Table, TomlError, Value};

use super::{ConfigError, read};

/// A change of one key; `None` removes it.
#[derive(Clone)]
pub struct Edit {
    /// The key, at the top level of the file.
    pub key: &'static str,
    /// Its new value.
    pub value: Option<Value>,
}

impl Edit {
    /// Sets `key`.
    pub fn set(key: &'static str, value: impl Into<Value>) -> Self {
        Self { key, value: Some(value.into()) }
    }

    /// Removes `key`.
    pub const fn remove(key: &'static str) -> Self {
        Self { key, value: None }
    }
}

// The value may be a credential.
impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.value.is_some() { "set" } else { "remove" }, self.key)
    }
}

/// A configuration's text, parsed.
pub(super) struct Document(toml_edit::Document<String>);

/// What is not TOML, and where.
pub(super) struct Syntax {
    line: usize,
    key: Option<&'static str>,
    problem: String,
}

impl Syntax {
    pub(super) fn at(self, path: &Path) -> ConfigError {
        let Self { line, key, problem } = self;
        ConfigError::Syntax { path: path.to_owned(), line, key, problem }
    }

    fn new(text: &str, error: &TomlError) -> Self {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = line_of(text.as_bytes(), at);
        // Only names that we know: anything else on a broken line could be a piece of a credential.
        let words = text.lines().nth(line - 1).unwrap_or_default();
        let word = words.trim_start().split(|c: char| c == '=' || c.is_whitespace()).next();
        let key = read::KEYS.into_iter().find(|key| Some(*key) == word);
        let problem = error.message().lines().collect::<Vec<_>>().join(" ");
        Self { line, key, problem }
    }
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, Syntax> {
        toml_edit::Document::parse(text.to_owned()).map(Self).map_err(|error| Syntax::new(text, &error))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.root().get(key)
    }

    /// The names of everything at the top level.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.root().iter().map(|(key, _)| key)
    }

    /// The line that `key` is on, from 1.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let span = self.root().get_key_value(key).and_then(|(key, item)| key.span().or_else(|| item.span()));
        line_of(self.text().as_bytes(), span.map_or(0, |span| span.start))
    }

    /// The text with `edits` merged in; the key that could not be.
    pub(super) fn merge(&self, edits: &[Edit]) -> Result<String, &'static str> {
        let text = self.text();
        let mut pieces: Vec<(Range<usize>, String)> = Vec::new();
        let mut added = String::new();
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        for Edit { key, value } in edits {
            let place = self.place(key).map_err(|NotOneValue| *key)?;
            match (place, value) {
                (Some(place), Some(value)) if !place.says(value) => pieces.push((place.value, repr(value))),
                (Some(place), None) => {
                    pieces.push((lines_of(text, place.key.start..place.value.end), String::new()));
                }
                (None, Some(value)) => added.extend([key, " = ", &repr(value), newline]),
                _ => {}
            }
        }
        if !added.is_empty() {
            let at = self.end_of_root();
            if at > first_line_of(text) && !text[..at].ends_with('\n') {
                added.insert_str(0, newline);
            }
            pieces.push((at..at, added));
        }
        // From the end, so that what is in front keeps its place. An addition goes behind the line that it follows,
        // also when that one is removed.
        pieces.sort_by_key(|(range, _)| (range.start, range.end));
        let mut merged = text.to_owned();
        for (range, piece) in pieces.into_iter().rev() {
            merged.replace_range(range, &piece);
        }
        let check = Self::parse(&merged).ok();
        for Edit { key, value } in edits {
            let says = check.as_ref().is_some_and(|check| match (check.place(key), value) {
                (Ok(Some(place)), Some(value)) => place.says(value),
                (Ok(None), None) => true,
                _ => false,
            });
            if !says {
                return Err(key);
            }
        }
        Ok(merged)
    }

    fn text(&self) -> &str {
        self.0.raw()
    }

    fn root(&self) -> &Table {
        self.0.as_table()
    }

    /// Where `key` and its value are written; an error when it isn't one plain value.
    fn place(&self, key: &str) -> Result<Option<Place<'_>>, NotOneValue> {
        let Some((key, item)) = self.root().get_key_value(key) else { return Ok(None) };
        let Item::Value(parsed) = item else { return Err(NotOneValue) };
        let (Some(key), Some(value)) = (key.span(), parsed.span()) else { return Err(NotOneValue) };
        Ok(Some(Place { key, value, parsed }))
    }

    /// Where a new key at the top level can be written: at the end of the file, or if there are tables, behind the last
    /// key in front of them.
    fn end_of_root(&self) -> usize {
        let text = self.text();
        if !self.root().iter().any(|(_, item)| has_header(item)) {
            return text.len();
        }
        last_value_end(self.root()).map_or(first_line_of(text), |end| lines_of(text, end..end).end)
    }
}

/// A table, or a list of tables, where one value was expected.
struct NotOneValue;

/// Where a key is written.
struct Place<'a> {
    key: Range<usize>,
    value: Range<usize>,
    parsed: &'a Value,
}

impl Place<'_> {
    fn says(&self, value: &Value) -> bool {
        match (self.parsed, value) {
            (Value::String(left), Value::String(right)) => left.value() == right.value(),
            (Value::Boolean(left), Value::Boolean(right)) => left.value() == right.value(),
            (Value::Float(left), Value::Float(right)) => left.value().to_bits() == right.value().to_bits(),
            (Value::Integer(left), Value::Integer(right)) => left.value() == right.value(),
            _ => false,
        }
    }
}

/// The value as TOML writes it, without what may stand around it.
fn repr(value: &Value) -> String {
    value.clone().decorated("", "").to_string()
}

/// Whether an item of the top level is written below a `[header]`, also one of a table inside it.
fn has_header(item: &Item) -> bool {
    match item {
        Item::Table(table) if table.is_dotted() => table.iter().any(|(_, item)| has_header(item)),
        Item::Table(_) | Item::ArrayOfTables(_) => true,
        Item::None | Item::Value(_) => false,
    }
}

/// The end of the last value that belongs to the top level itself, also where it is written as `a.b = 1`.
fn last_value_end(table: &Table) -> Option<usize> {
    table
        .iter()
        .filter_map(|(_, item)| match item {
            Item::Value(value) => value.span().map(|span| span.end),
            Item::Table(table) if table.is_dotted() => last_value_end(table),
            _ => None,
        })
        .max()
}

/// Where the first line begins: a byte order mark, as some editors write it, belongs to the file and not to a line.
fn first_line_of(text: &str) -> usize {
    text.strip_prefix('\u{feff}').map_or(0, |rest| text.len() - rest.len())
}

/// The whole lines that `range` touches, with the end of the last one.
fn lines_of(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text[..range.start].rfind('\n').map_or(first_line_of(text), |at| at + 1);
    let end = text[range.end..].find('\n').map_or(text.len(), |at| range.end + at + 1);
    start..end
}

/// The line, from 1, that the byte at `at` is on.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].split(|byte| *byte == b'\n').count()
}
