//! Fuzz body: the `Retry-After` header (section 2).

use core::time::Duration;
use std::time::SystemTime;

use super::told;
use crate::{
    time::Wall,
    wire::retry_after::{self, MAX_RETRY_AFTER},
};

/// Reads the texts of `data` as a `Retry-After` and a `Date` header.
///
/// A wait is never longer than the bound. Digits are seconds, whatever `Date` says. Dates that the crate `httpdate` reads,
/// too, mean the same there; those that it writes itself can be read, in each of the three formats of HTTP. A date waits for
/// nothing that has no `Date`, and the wait is the same on every clock, since none is asked.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn retry_after(data: &[u8]) {
    let [header, dated] = told::texts(data);
    let wait = retry_after::parse(&header, Some(&dated));
    let alone = retry_after::parse(&header, None);
    assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER), "{wait:?} is beyond the bound");
    let text = header.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.trim_start_matches('0');
        let seconds = if seconds.len() > 4 { u64::MAX } else { seconds.parse().unwrap_or(0) };
        assert_eq!(wait, Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER)), "{text:?}");
        assert_eq!(alone, wait, "seconds need no `Date`");
        return;
    }
    assert_eq!(alone, None, "{text:?} was measured against nothing");
    check_date(&header);
    check_date(&dated);
    if let (Some(until), Some(from)) = (Wall::parse_http_date(&header), Wall::parse_http_date(&dated)) {
        assert_eq!(wait, Some(until.since(from).min(MAX_RETRY_AFTER)));
    } else {
        assert_eq!(wait, None);
    }
}

fn check_date(text: &str) {
    let ours = Wall::parse_http_date(text).map(Wall::as_millis);
    let theirs = httpdate::parse_http_date(text.trim()).ok().and_then(millis);
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        assert_eq!(ours, theirs, "{text:?}");
    }
    // What it writes, it writes with the right day of the week. The last day of all is beyond ours.
    if let Some(theirs) = theirs.filter(|theirs| *theirs <= jiff::Timestamp::MAX.as_millisecond())
        && let Ok(since) = u64::try_from(theirs)
    {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(since);
        assert_eq!(Wall::parse_http_date(&httpdate::fmt_http_date(at)).map(Wall::as_millis), Some(theirs));
    }
}

fn millis(at: SystemTime) -> Option<i64> {
    i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}
