//! What a server offers of a file, as its answer says.

use alloc::{borrow::ToOwned as _, format, string::String};
use core::time::Duration;

use super::Part;
use crate::http::FileHead;

/// The longest word for a file's state that is remembered, in bytes.
const MAX_VALIDATOR: usize = 256;

/// What comes if the body is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Offered {
    /// Where it begins, in bytes.
    pub(super) from: u64,
    /// How large the file is.
    pub(super) total: Option<u64>,
    /// What the file is called in its present state.
    pub(super) validator: Option<String>,
}

/// Why nothing is taken of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Untaken {
    /// There is no more than the part.
    Complete,
    /// The part is of another file.
    Other,
    /// There is no such file.
    Gone(u16),
    /// The answer is of no use.
    Refused(String),
    /// It may be there later: after this time, if the server says so.
    Later(u16, Option<Duration>),
}

impl Offered {
    /// Reads the answer to a request for what is missing of `part`.
    pub(super) fn read(head: &FileHead, part: &Part) -> Result<Self, Untaken> {
        let is_success = (200..300).contains(&head.status);
        let encoding = head.content_encoding.as_deref().unwrap_or("identity");
        if is_success && !encoding.eq_ignore_ascii_case("identity") {
            return Err(Untaken::Refused("its server sends it compressed".into()));
        }
        match head.status {
            200 => {
                let total = head.content_length.as_deref().and_then(number);
                Ok(Self { from: 0, total, validator: validator(head) })
            }
            206 => Self::rest(head, part),
            416 if part.bytes > 0 => match head.content_range.as_deref().and_then(Range::read) {
                Some(Range { bytes: None, total: Some(total) }) if total == part.bytes => {
                    Err(Untaken::Complete)
                }
                _ => Err(Untaken::Other),
            },
            status @ (404 | 410) => Err(Untaken::Gone(status)),
            status @ (408 | 425 | 429 | 500..=599) => {
                let after = head.retry_after.as_deref().and_then(number).map(Duration::from_secs);
                Err(Untaken::Later(status, after))
            }
            status => Err(Untaken::Refused(format!("its server answers {status}"))),
        }
    }

    fn rest(head: &FileHead, part: &Part) -> Result<Self, Untaken> {
        let range = head.content_range.as_deref().and_then(Range::read);
        let Some(Range { bytes: Some((first, last)), total }) = range else {
            return Err(Untaken::Refused("its server does not say which part it sends".into()));
        };
        let validator = validator(head);
        let differ = |before: bool, now: bool, equal: bool| before && now && !equal;
        let is_other = first != part.bytes
            || total.is_some_and(|total| last >= total)
            || differ(part.total.is_some(), total.is_some(), part.total == total)
            || differ(part.validator.is_some(), validator.is_some(), part.validator == validator);
        if is_other {
            return Err(Untaken::Other);
        }
        let total = total.or(part.total);
        Ok(Self { from: first, total, validator: validator.or_else(|| part.validator.clone()) })
    }
}

/// A `Content-Range` header (RFC 9110, section 14.4).
struct Range {
    /// The first byte and the last.
    bytes: Option<(u64, u64)>,
    total: Option<u64>,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let bytes = match range {
            "*" => None,
            range => {
                let (first, last) = range.split_once('-')?;
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(())?;
                Some((first, last))
            }
        };
        let total = if total == "*" { None } else { Some(number(total)?) };
        unit.eq_ignore_ascii_case("bytes").then_some(Self { bytes, total })
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // A sign is no digit.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What the file is called in its present state, as far as `If-Range` can ask for that (RFC 9110, section 13.1.5).
fn validator(head: &FileHead) -> Option<String> {
    let is_strong = |tag: &&str| tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"');
    let tag = head.etag.as_deref().map(str::trim).filter(is_strong);
    tag.or(head.last_modified.as_deref().map(str::trim))
        .filter(|validator| !validator.is_empty() && validator.len() <= MAX_VALIDATOR)
        .filter(|validator| validator.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, length: Option<&str>, range: Option<&str>, etag: Option<&str>) -> FileHead {
        FileHead {
            status,
            content_length: length.map(str::to_owned),
            content_range: range.map(str::to_owned),
            etag: etag.map(str::to_owned),
            ..FileHead::default()
        }
    }

    #[test]
    fn what_is_offered_is_read() {
        let offered = |head: &FileHead, bytes, validator: Option<&str>, total| {
            let validator = validator.map(str::to_owned);
            Offered::read(head, &Part { bytes, validator, total, ..Part::default() })
        };
        let ok = |from, total, validator: Option<&str>| {
            Ok(Offered { from, total, validator: validator.map(str::to_owned) })
        };
        let whole = head(200, Some("10"), None, Some("\"a\""));
        assert_eq!(offered(&whole, 0, None, None), ok(0, Some(10), Some("\"a\"")));
        assert_eq!(offered(&whole, 4, None, None), ok(0, Some(10), Some("\"a\"")));
        assert_eq!(offered(&head(200, None, None, Some("W/\"a\"")), 0, None, None), ok(0, None, None));
        assert_eq!(offered(&head(200, Some("+1"), None, None), 0, None, None), ok(0, None, None));

        let rest = head(206, None, Some("bytes 4-9/10"), Some("\"a\""));
        assert_eq!(offered(&rest, 4, Some("\"a\""), Some(10)), ok(4, Some(10), Some("\"a\"")));
        assert_eq!(offered(&rest, 4, None, None), ok(4, Some(10), Some("\"a\"")));
        assert_eq!(
            offered(&head(206, None, Some("bytes 4-9/*"), None), 4, Some("b"), Some(10)),
            ok(4, Some(10), Some("b"))
        );
        for (bytes, validator, total) in [(5, None, None), (4, Some("\"b\""), None), (4, None, Some(11))] {
            assert_eq!(offered(&rest, bytes, validator, total), Err(Untaken::Other));
        }
        for range in ["bytes 4-10/10", "bytes 5-9/10"] {
            assert_eq!(
                offered(&head(206, None, Some(range), None), 4, None, None),
                Err(Untaken::Other),
                "{range}"
            );
        }
        for range in ["", "bytes 4", "bytes 9-4/10", "items 4-9/10", "bytes */10", "bytes -4-9/10"] {
            let read = offered(&head(206, None, Some(range), None), 4, None, None);
            assert!(matches!(read, Err(Untaken::Refused(_))), "{range}");
        }
        let none = |total: &str| head(416, None, Some(total), None);
        assert_eq!(offered(&none("bytes */4"), 4, None, None), Err(Untaken::Complete));
        assert_eq!(offered(&none("bytes */5"), 4, None, None), Err(Untaken::Other));
        assert!(matches!(offered(&none("bytes */0"), 0, None, None), Err(Untaken::Refused(_))));
        assert_eq!(offered(&head(404, None, None, None), 0, None, None), Err(Untaken::Gone(404)));
        let later = FileHead { retry_after: Some("7".into()), ..head(503, None, None, None) };
        assert_eq!(offered(&later, 0, None, None), Err(Untaken::Later(503, Some(Duration::from_secs(7)))));
        let compressed = FileHead { content_encoding: Some("gzip".into()), ..whole };
        assert!(matches!(offered(&compressed, 0, None, None), Err(Untaken::Refused(_))));
    }

    #[test]
    fn a_date_stands_for_a_file_that_has_no_strong_name() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let dated = |etag: Option<&str>| {
            validator(&FileHead { last_modified: Some(date.into()), ..head(200, None, None, etag) })
        };
        assert_eq!(dated(None).as_deref(), Some(date));
        assert_eq!(dated(Some("W/\"a\"")).as_deref(), Some(date));
        assert_eq!(dated(Some("\"a\"")).as_deref(), Some("\"a\""));
        assert_eq!(dated(Some("\"a\u{7f}\"")), None);
    }
}
