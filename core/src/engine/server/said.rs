//! What may be shown of what a server said.

use alloc::{
    borrow::{Cow, ToOwned},
    string::{String, ToString},
    vec::Vec,
};

use serde_json::Value;

use crate::{text::plain, wire::Secret};

/// How much of a server's words an error carries, in characters: the rest is ours.
const MAX_CHARS: usize = 1_200;
/// How much of a body is looked at for its last words, in bytes.
const LOOKED_AT: usize = 64 * 1024;

/// The last line of what a server said, as far as it can be found in its answer; may be empty.
pub(in crate::engine) fn last_words(body: &[u8]) -> String {
    if body.len() <= LOOKED_AT
        && let Ok(value) = serde_json::from_slice::<Value>(body)
    {
        return match message(&value) {
            Some(message) => last_line(message).to_owned(),
            None if value.is_null() => String::new(),
            None => last_line(&value.to_string()).to_owned(),
        };
    }
    let text = String::from_utf8_lossy(&body[body.len().saturating_sub(LOOKED_AT)..]);
    if is_html(&text) { title(&text).to_owned() } else { last_line(&text).to_owned() }
}

/// Whether a text is a page for people.
pub(super) fn is_html(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(14).collect::<String>().to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| start.starts_with(tag))
}

fn title(page: &str) -> &str {
    let of = || {
        let (_, rest) = page.split_once("<title>")?;
        Some(rest.split_once('<')?.0.trim())
    };
    of().filter(|title| !title.is_empty()).unwrap_or("(a web page)")
}

/// Where the servers that there are put what they have to say.
fn message(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.first().and_then(message),
        Value::Object(fields) => {
            ["error", "message", "detail", "msg"].iter().find_map(|name| fields.get(*name).and_then(message))
        }
        _ => None,
    }
}

fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("")
}

/// A server's words without control characters, what hides in addresses, and `secrets`; and not too long.
pub(in crate::engine) fn presentable(words: &str, secrets: &[Secret]) -> String {
    let words = plain(words.to_owned());
    // Scrubbed last, so that nothing that is cut out can bring the halves of a secret together.
    let words = Secret::scrub_all(secrets, without_queries(&words).into_owned());
    match words.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => words[..cut].trim_end().to_owned() + "…",
        None => words,
    }
}

/// `text` with `?…` for the query of every address in it, and without the user and password before a host: both
/// may be what gives access.
fn without_queries(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '|' | '\\' | '^');
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(ends).unwrap_or(after.len());
        let (address, beyond) = after.split_at(end);
        let authority = address.find(['/', '?', '#']).unwrap_or(address.len());
        let from = address[..authority].rfind('@').map_or(0, |at| at + 1);
        let bare = &address[from..];
        match bare.find(['?', '#']) {
            Some(query) => {
                shown.push_str(&bare[..query]);
                shown.push_str("?…");
            }
            None => shown.push_str(bare),
        }
        rest = beyond;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// The queries of an address, whole and part by part, as they could be said again.
pub(in crate::engine) fn confidential(address: &str) -> Vec<Secret> {
    let Some((_, query)) = address.split_once('?') else { return Vec::new() };
    let query = query.split('#').next().unwrap_or("");
    // What is as short as this is no secret, and common in other words.
    let mut secrets: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(_, value)| value)
        .chain([query])
        .filter(|value| value.len() >= 8)
        .collect();
    // The longest first: the whole is not to be broken up by its parts.
    secrets.sort_by_key(|secret| core::cmp::Reverse(secret.len()));
    let decoded = |secret: &str| percent_encoding::percent_decode_str(secret).decode_utf8_lossy().to_string();
    secrets.into_iter().flat_map(|secret| [secret.to_owned(), decoded(secret)]).map(Secret::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_found_where_servers_put_them() {
        for (body, words) in [
            (r#"{"error":{"message":"model not found","code":404}}"#, "model not found"),
            (r#"{"error":"out of memory"}"#, "out of memory"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"object":"error","message":"Traceback\n  File x\nValueError: no"}"#, "ValueError: no"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("null", ""),
            ("", ""),
            (" \r\n\n", ""),
            ("first\nlast\r\n\r\n", "last"),
            ("<!DOCTYPE html><html><head><title>502 Bad Gateway</title>", "502 Bad Gateway"),
            ("<html>", "(a web page)"),
            (r#"{"error":{"mess"#, r#"{"error":{"mess"#),
        ] {
            assert_eq!(last_words(body.as_bytes()), words, "{body}");
        }
        assert_eq!(last_words(b"\xff\xfe\nend\xff"), "end\u{fffd}");
    }

    #[test]
    fn nothing_confidential_is_presented() {
        let secrets = [Secret::from("sk-123456")];
        for (words, shown) in [
            ("the key sk-123456 is wrong", "the key … is wrong"),
            ("sk-12\u{0}3456", "sk-12 3456"),
            ("GET https://a.b/c?X-Sig=abc&d=e failed", "GET https://a.b/c?… failed"),
            ("\"https://u:p@a.b/c#frag\" and 'http://d?e'", "\"https://a.b/c?…\" and 'http://d?…'"),
            ("see ://?://?x", "see ://?…"),
            ("a?b", "a?b"),
        ] {
            assert_eq!(presentable(words, &secrets), shown, "{words}");
        }
        assert_eq!(presentable(&"é".repeat(5_000), &[]).chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn a_signature_is_confidential_alone_and_decoded() {
        let secrets = confidential("https://a/b?Sig=abcdefgh%2Fij&x=1#frag");
        for text in ["Sig=abcdefgh%2Fij&x=1", "abcdefgh%2Fij", "abcdefgh/ij"] {
            assert!(!presentable(text, &secrets).contains("abcdefgh"), "{text}");
        }
        assert!(confidential("https://a/b").is_empty());
    }
}
