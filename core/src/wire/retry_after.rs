//! The `Retry-After` header (section 2).

use core::time::Duration;

use crate::time::Wall;

/// The longest wait that a peer can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long an answer asks to wait: seconds, or an HTTP date measured against the answer's own `Date` (so
/// that a wrong clock on this side does no harm). At most [`MAX_RETRY_AFTER`]; `None` for garbage, and for
/// a date without a `Date` to measure it by.
pub fn parse(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    let text = retry_after.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow are a very long wait, not garbage.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        Wall::parse_http_date(text)?.since(Wall::parse_http_date(date?)?)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_garbage() {
        let date = Some("Tue, 25 Nov 2025 07:00:00 GMT");
        for (header, date, wait) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("99999999999999999999999", None, Some(3600)),
            ("7200", None, Some(3600)),
            ("Tue, 25 Nov 2025 07:00:30 GMT", date, Some(30)),
            ("Tue, 25 Nov 2025 06:00:00 GMT", date, Some(0)),
            ("Tue, 25 Nov 2025 07:00:30 GMT", None, None),
            ("soon", date, None),
            ("-5", date, None),
            ("1.5", date, None),
            ("", date, None),
        ] {
            assert_eq!(parse(header, date), wait.map(Duration::from_secs), "{header:?}");
        }
    }
}
