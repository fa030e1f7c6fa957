//! Texts of others, for a person to read.

use alloc::string::String;
use core::fmt::Write as _;

/// `text` on one line, with a space for each character that would steer a terminal or make the text look like another:
/// control characters, directions, and what can't be seen. Whoever chose a text must not choose what a person believes.
///
/// ```
/// use studio_worker_core::text::plain;
///
/// assert_eq!(plain("no\u{1b}[2J\nroot: yes".into()), "no [2J root: yes");
/// ```
pub fn plain(text: String) -> String {
    // Most texts are of ASCII alone, and plain.
    let is_plain = if text.is_ascii() {
        !text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        !text.contains(is_odd)
    };
    if is_plain { text } else { text.replace(is_odd, " ") }
}

/// The same for a JSON document: what it would steer a terminal with is written as `\uXXXX`, so that it means what it meant.
///
/// ```
/// use studio_worker_core::text::plain_json;
///
/// assert_eq!(plain_json("{\n  \"a\": \"b\u{9b}2J\u{202e}\"\n}".into()), "{\n  \"a\": \"b\\u009b2J\\u202e\"\n}");
/// ```
pub fn plain_json(json: String) -> String {
    // Those of ASCII, but for this one, are escaped by every writer already; what is left lays the document out.
    let is_raw = |c: char| is_odd(c) && (c >= '\u{7f}');
    if !json.contains(is_raw) {
        return json;
    }
    let mut plain = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_raw(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a text can't fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Whether a character is one of those.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_steers_no_terminal_and_looks_like_itself() {
        for (text, shown) in [
            ("a red fox, ärger, 狐", "a red fox, ärger, 狐"),
            ("\u{1b}]0;title\u{7}x", " ]0;title x"),
            ("a\r\nb\tc\u{0}", "a  b c "),
            ("\u{9b}31m", " 31m"),
            ("\u{202e}gpj.exe\u{2066}\u{feff}", " gpj.exe  "),
            ("a\u{2028}b\u{200d}", "a b "),
            ("a\u{61c}b\u{ad}c\u{180e}\u{fff9}\u{e0041}", "a b c   "),
        ] {
            assert_eq!(plain(text.into()), shown);
        }
    }

    #[test]
    fn a_document_steers_no_terminal_and_means_what_it_meant() {
        for text in [
            "a red fox, ärger, 狐, \u{1f98a}",
            "\u{1b}[2J\r\n\t\u{0}\"\\u",
            "\u{7f}\u{9b}31m\u{85}\u{ad}",
            "\u{61c}\u{200b}\u{2028}\u{202e}\u{2060}\u{feff}\u{e0041}",
        ] {
            let value = serde_json::json!({ text: [text] });
            let shown = plain_json(alloc::format!("{value:#}"));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            assert!(!shown.replace('\n', "").contains(is_odd), "{shown}");
            assert_eq!(shown.contains('狐'), text.contains('狐'));
        }
    }
}
