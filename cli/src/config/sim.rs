//! Fuzz body: configuration files (section 7).

#![allow(clippy::panic, reason = "a broken promise is a finding")]

use std::path::Path;

use toml_edit::{Item, Value};

use super::{
    Config, ConfigError, Edit,
    document::{Document, line_of},
    file, read, show,
};

/// Between the texts of one input: a byte that is in no UTF-8 text.
const BETWEEN: u8 = 0xff;
/// Where an input has this byte, which is in no UTF-8 text either, the file has [`PLANTED`].
const PLANT: u8 = 0xfe;
/// A credential that nothing but chance would have in a text.
const PLANTED: &str = "sk-planted-5d41402abc4b2a76b9719d911017c592";
/// Where the file is said to be.
const PATH: &str = "/etc/a b/config.toml";

/// Reads the last text of `data` as a configuration, and merges changes into it that the two in front of it say.
///
/// Any bytes are a configuration, or an error of one line that names the file and a line that is there, and the key if it is
/// about one. No error shows a credential, or anything of a line that is no TOML; neither does what is printed of a
/// configuration. After a merge the file says what was to be said; what else is in it is there as before, byte for byte; a
/// second merge changes nothing.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn config(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == BETWEEN);
    let mut next = || parts.next().unwrap_or_default();
    let (label, token) = (String::from_utf8_lossy(next()), String::from_utf8_lossy(next()));
    let bytes: Vec<_> = next()
        .iter()
        .flat_map(|byte| if *byte == PLANT { PLANTED.as_bytes() } else { std::slice::from_ref(byte) })
        .copied()
        .collect();
    let path = Path::new(PATH);
    let lines = line_of(&bytes, bytes.len());
    let text = match file::text_of(bytes, path) {
        Ok(text) => text,
        Err(error) => return check_error(&error, lines, true),
    };
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(syntax) => return check_error(&syntax.at(path), lines, true),
    };
    let guarded = hidden(&document) == text.matches(PLANTED).count();
    match Config::parse(&text, path) {
        Ok(config) => check_shown(&text, &config, guarded),
        Err(error) => check_error(&error, lines, guarded),
    }
    for key in document.keys() {
        assert!((1..=lines).contains(&document.line_of(key)), "no such line");
    }
    check_merge(&text, &document, &label, &token);
}

/// An error says where it is, in one line, and shows no credential where it must not.
fn check_error(error: &ConfigError, lines: usize, guarded: bool) {
    let said = error.to_string();
    assert!(said.contains(PATH), "the file isn't named: {said}");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(!guarded || !said.contains(PLANTED), "a credential is in {said}");
    match error {
        ConfigError::Damaged { line, .. }
        | ConfigError::Syntax { line, .. }
        | ConfigError::Value { line, .. } => {
            assert!(
                (1..=lines).contains(line) && said.contains(&format!("line {line}")),
                "no such line: {said}"
            );
        }
        ConfigError::NotAFile { .. } => {}
        other => panic!("not an error of a text: {other}"),
    }
    if let ConfigError::Value { key, .. } | ConfigError::Syntax { key: Some(key), .. } = error {
        assert!(
            read::KEYS.contains(key) && said.contains(&format!("`{key}`")),
            "the key isn't named: {said}"
        );
    }
}

/// How often the planted text is the value of a key that is known to be secret.
fn hidden(document: &Document) -> usize {
    let is_it = |key: &&str| document.get(key).and_then(Item::as_str).is_some_and(|text| text == PLANTED);
    super::SECRET_KEYS.iter().filter(|key| is_it(key)).count()
}

/// What is printed of a configuration is TOML without a credential.
fn check_shown(text: &str, config: &Config, guarded: bool) {
    let shown = show::masked_text(text, Path::new(PATH), config);
    let shown = shown.unwrap_or_else(|error| panic!("what was read can't be shown: {error}"));
    assert!(Document::parse(&shown).is_ok(), "what is shown is no TOML: {shown}");
    if guarded && text.contains(PLANTED) {
        assert!(!shown.contains(PLANTED), "a credential is shown: {shown}");
        assert!(!format!("{config:?}").contains(PLANTED), "a credential is printed");
    }
}

fn check_merge(text: &str, document: &Document, label: &str, token: &str) {
    let set = |key, value: &str| if value.is_empty() { Edit::remove(key) } else { Edit::set(key, value) };
    let edits = [
        set("label", label),
        set("auth_token", token),
        Edit::set("auto_enabled", label.len().is_multiple_of(2)),
    ];
    let Ok(merged) = document.merge(&edits) else {
        // Only where one of them isn't one plain value.
        let odd = |edit: &Edit| document.get(edit.key).is_some_and(|item| !item.is_value());
        return assert!(edits.iter().any(odd), "a change that can't be made: {edits:?}");
    };
    let Ok(read) = Document::parse(&merged) else { panic!("what was merged is no TOML: {merged}") };
    for edit in &edits {
        let (now, wanted) = (read.get(edit.key).and_then(Item::as_value), &edit.value);
        let same = match (now, wanted) {
            (Some(Value::String(now)), Some(Value::String(wanted))) => now.value() == wanted.value(),
            (Some(Value::Boolean(now)), Some(Value::Boolean(wanted))) => now.value() == wanted.value(),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{edit:?} was not made: {merged}");
    }
    assert_eq!(read.merge(&edits).as_deref(), Ok(&*merged), "a second merge changes something");

    let away = edits.map(|edit| Edit::remove(edit.key));
    let (Ok(before), Ok(after)) = (document.merge(&away), read.merge(&away)) else {
        panic!("what can be changed can't be removed: {text}")
    };
    // A file that did not end its last line does so once a line follows.
    let ended = |text: &str| text.trim_end_matches(['\r', '\n']).to_owned();
    assert_eq!(ended(&before), ended(&after), "something else in the file changed");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_corpus_replays() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config");
        let mut count = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            config(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no corpus");
    }
}
