//! Changes leave everything else as it is.

use proptest::prelude::*;

use super::super::{Edit, document::Document};

fn merged(text: &str, edits: &[Edit]) -> Result<String, &'static str> {
    Document::parse(text).ok().unwrap().merge(edits)
}

#[test]
fn only_what_changes_is_written() {
    let set = |key, value: &str| Edit::set(key, value);
    let off = Edit::set("auto_enabled", false);
    for (text, edit, wanted) in [
        // A value is replaced where it is, with what stands around it.
        ("auto_enabled = true\n", off.clone(), "auto_enabled = false\n"),
        ("  auto_enabled=true# why\n", off.clone(), "  auto_enabled=false# why\n"),
        (
            "\"auto_enabled\"\t= true  # why\nx = 1\n",
            off.clone(),
            "\"auto_enabled\"\t= false  # why\nx = 1\n",
        ),
        ("label = \"\"\"two\nlines\"\"\" # why\n", set("label", "one"), "label = \"one\" # why\n"),
        ("label = 'a'", set("label", "b \"quoted\" \\"), "label = 'b \"quoted\" \\'"),
        // What says the same stays as it was written.
        ("label = 'a' # why\n", set("label", "a"), "label = 'a' # why\n"),
        // A new key goes to the end, or in front of the tables.
        ("a = 1 # why\n\n# end\n", set("label", "b"), "a = 1 # why\n\n# end\nlabel = \"b\"\n"),
        ("a = 1", set("label", "b"), "a = 1\nlabel = \"b\"\n"),
        ("# only a comment", set("label", "b"), "# only a comment\nlabel = \"b\"\n"),
        (
            "a = 1 # why\n# of t\n[t]\nlabel = 2\n",
            set("label", "b"),
            "a = 1 # why\nlabel = \"b\"\n# of t\n[t]\nlabel = 2\n",
        ),
        ("a = [\n  1,\n] # why\n[[t]]\n", set("label", "b"), "a = [\n  1,\n] # why\nlabel = \"b\"\n[[t]]\n"),
        ("a.b = 1\n[a.c]\nd = 2\n", set("label", "b"), "a.b = 1\nlabel = \"b\"\n[a.c]\nd = 2\n"),
        ("# of t\n[t]\n", set("label", "b"), "label = \"b\"\n# of t\n[t]\n"),
        ("[t.u]\nx = 1\n", set("label", "b"), "label = \"b\"\n[t.u]\nx = 1\n"),
        // A key is removed with its line.
        ("a = 1\nlabel = 'x' # why\nb = 2\n", Edit::remove("label"), "a = 1\nb = 2\n"),
        ("a = 1\nlabel = '''\nx\n'''\n[t]\nlabel = 1\n", Edit::remove("label"), "a = 1\n[t]\nlabel = 1\n"),
        ("a = 1\nlabel = 'x'", Edit::remove("label"), "a = 1\n"),
        ("a = 1\n", Edit::remove("label"), "a = 1\n"),
        // Line ends stay what they are.
        ("a = 1\r\nlabel = 'x'\r\n", set("label", "y"), "a = 1\r\nlabel = 'y'\r\n"),
        ("a = 1\r\n[t]\r\nx = 1\r\n", set("label", "y"), "a = 1\r\nlabel = \"y\"\r\n[t]\r\nx = 1\r\n"),
        ("\u{feff}label = 'x'\n", set("label", "y"), "\u{feff}label = 'y'\n"),
        ("\u{feff}[t]\n", set("label", "y"), "\u{feff}label = \"y\"\n[t]\n"),
        ("\u{feff}label = 'x'\nx = 1\n", Edit::remove("label"), "\u{feff}x = 1\n"),
    ] {
        let edited = merged(text, std::slice::from_ref(&edit)).unwrap();
        // How a text is quoted is TOML's business.
        assert_eq!(edited.replace('\'', "\""), wanted.replace('\'', "\""), "{text:?} {edit:?}");
    }
}

#[test]
fn several_changes_at_once() {
    let text = "worker_id = 'w'\n# mine\nlabel = 'x'\nauth_token = 't'\n[t]\n";
    let edits = [
        Edit::remove("worker_id"),
        Edit::remove("auth_token"),
        Edit::set("install_id", "i"),
        Edit::set("label", "y"),
        Edit::set("registration_secret", "s"),
    ];
    let wanted = "# mine\nlabel = \"y\"\ninstall_id = \"i\"\nregistration_secret = \"s\"\n[t]\n";
    assert_eq!(merged(text, &edits).unwrap(), wanted);
}

#[test]
fn what_is_not_one_plain_value_is_left_alone() {
    for text in ["[label]\nx = 1\n", "label.x = 1\n", "[[label]]\n"] {
        assert_eq!(merged(text, &[Edit::set("label", "y")]), Err("label"), "{text}");
        assert_eq!(merged(text, &[Edit::remove("label")]), Err("label"), "{text}");
    }
    // Lists and tables in one value can be replaced, too.
    assert_eq!(merged("label = [\n 1 ]\n", &[Edit::set("label", "y")]).unwrap(), "label = \"y\"\n");
}

/// Lines that belong to somebody else.
fn foreign() -> impl Strategy<Value = Vec<String>> {
    let line = prop_oneof![
        Just(String::new()),
        "[ \t]{0,3}# [a-z=\\[\\]\"' ü]{0,20}",
        "key_[a-z]{4,8} *= *[0-9]{1,5} *(# [a-z ]{0,8})?",
        "key_[a-z]{4,8} = \"[a-z ü#=]{0,9}\"",
        "key_[a-z]{4,8} = \\[ [0-9], [0-9] \\]",
        "key_[a-z]{4,8}\\.[a-z]{1,3} = true",
    ];
    proptest::collection::vec(line, 0..12)
}

proptest! {
    /// Whatever else is in the file stays, byte for byte and in its order.
    #[test]
    fn foreign_lines_stay(
        mut lines in foreign(),
        tables in proptest::collection::vec("\\[key_[a-z]{6,9}\\]", 0..3),
        before in proptest::option::of("[a-zü\"\\\\#=\n ]{0,12}"),
        at in 0_usize..12,
        after in proptest::option::of("[a-zü\"\\\\#=\n\t ]{0,12}"),
        token in "[ -~]{0,20}",
        newline in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let own = before.map(|value| format!("label = {}", toml_edit::Value::from(value).decorated("", "")));
        lines.extend(tables);
        let at = at.min(lines.iter().position(|line| line.starts_with('[')).unwrap_or(lines.len()));
        let mut whole = lines.clone();
        if let Some(own) = own {
            whole.insert(at, own);
        }
        let text: String = whole.iter().map(|line| line.clone() + newline).collect();
        // Two lines with the same key, or a table that a dotted key has made, are no TOML.
        let Ok(document) = Document::parse(&text) else { return Ok(()) };
        let edits = [
            Edit { key: "label", value: after.clone().map(Into::into) },
            Edit::set("auth_token", token.as_str()),
        ];
        let edited = document.merge(&edits).unwrap();
        let read = Document::parse(&edited).ok().unwrap();
        prop_assert_eq!(read.get("label").and_then(|item| item.as_str()), after.as_deref());
        prop_assert_eq!(read.get("auth_token").and_then(|item| item.as_str()), Some(token.as_str()));
        // Take out our own again, and what is left is what was there.
        let without = read.merge(&[Edit::remove("label"), Edit::remove("auth_token")]).unwrap();
        let foreign: String = lines.iter().map(|line| line.clone() + newline).collect();
        prop_assert_eq!(without, foreign);
    }
}
