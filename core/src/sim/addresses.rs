//! Fuzz body: addresses (section 1).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use percent_encoding::percent_decode_str;
use url::Url;

use super::told;
use crate::wire::{ApiBase, address};

/// Reads the first text of `data` as an `api_base_url` and makes every address of it with the ids that follow.
///
/// What a base says is what it reads; it keeps scheme, host, port and path of what was given and nothing else.
/// Each address is taken apart by a URL parser as an HTTP client does: it leads to the same host, below the base, with
/// exactly the segments of section 1, each of which decodes to its id. An id that no address can carry is known as one.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn addresses(data: &[u8]) {
    let [text, worker, job] = told::texts(data);
    let base = match ApiBase::parse(&text) {
        Ok(base) => base,
        Err(error) => {
            assert!(error.to_string().contains("`api_base_url`"), "the key isn't named: {error}");
            return;
        }
    };
    check_base(&base, &text);
    let secure = if base.is_secure() { "s" } else { "" };
    check(&base, &base.register_request(), &["workers", "register-request"]);
    if address::is_segment(&worker) {
        check(&base, &base.registration(&worker), &["workers", "register-requests", &worker]);
        let connect = base.connect(&worker);
        let http = connect.strip_prefix(&format!("ws{secure}://"));
        let http = http.map(|rest| format!("http{secure}://{rest}"));
        assert!(http.is_some(), "{connect} is not the scheme of a session");
        check(&base, &http.unwrap_or_default(), &["workers", &worker, "connect"]);
        if address::is_segment(&job) {
            check(&base, &base.complete(&worker, &job), &["workers", &worker, "jobs", &job, "complete"]);
        }
    }
    for id in [&worker, &job] {
        let alone = Url::parse(&format!("http://h/a/{}/b", address::segment(id)));
        let carried = alone.is_ok_and(|url| segments(&url) == ["a", id, "b"]);
        assert_eq!(carried && !id.is_empty(), address::is_segment(id), "{id:?}");
    }
}

/// What a base keeps of what was given.
fn check_base(base: &ApiBase, text: &str) {
    let shown = base.to_string();
    assert_eq!(ApiBase::parse(&shown).as_ref(), Ok(base), "a base says what it reads");
    let (Ok(given), Ok(kept)) = (Url::parse(text.trim()), Url::parse(&shown)) else {
        panic!("{text:?} was read as {shown}, and one of them is no URL");
    };
    assert_eq!(kept.scheme(), if base.is_secure() { "https" } else { "http" });
    assert_eq!(matches!(given.scheme(), "https" | "wss"), base.is_secure());
    assert_eq!(given.host(), kept.host());
    assert_eq!(given.port_or_known_default(), kept.port_or_known_default());
    assert_eq!((kept.query(), kept.fragment()), (None, None));
    assert_eq!((kept.username(), kept.password()), ("", None));
    let path = given.path().trim_end_matches('/');
    assert_eq!(
        kept.path().strip_suffix("/graphics/api"),
        Some(path.strip_suffix("/graphics/api").unwrap_or(path))
    );
}

/// Whether `url`, as a client reads it, is `wanted` below `base`.
fn check(base: &ApiBase, url: &str, wanted: &[&str]) {
    let (Ok(base), Ok(read)) = (Url::parse(&base.to_string()), Url::parse(url)) else {
        panic!("{url} is no URL");
    };
    assert_eq!(read.origin(), base.origin(), "another host");
    assert_eq!((read.query(), read.fragment()), (None, None));
    let (base, read) = (segments(&base), segments(&read));
    assert_eq!(read.strip_prefix(base.as_slice()), Some(&*owned(wanted)), "{url}");
}

fn segments(url: &Url) -> Vec<String> {
    let segments = url.path_segments().into_iter().flatten();
    segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
