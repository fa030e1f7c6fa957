//! Addresses (section 1).

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use crate::http::Reach;

/// What is appended to an `api_base_url` that does not end with it.
const API_PATH: &str = "/graphics/api";

/// Everything but the unreserved characters of RFC 3986: an id is one path segment, whatever is in it.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a studio's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiBase {
    /// `scheme://authority`, the scheme being `http` or `https`.
    origin: String,
    /// The path, without a trailing `/`.
    path: String,
    secure: bool,
}

/// Why an `api_base_url` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("`api_base_url` is not a URL ({problem}): give one like https://studio.example")]
    NotAUrl {
        /// What is wrong with it.
        problem: String,
    },
    /// A scheme that no studio speaks.
    #[error("`api_base_url` has the scheme `{scheme}`: http, https, ws and wss are spoken")]
    Scheme {
        /// What was there.
        scheme: String,
    },
    /// Nobody to talk to.
    #[error("`api_base_url` names no host: give one like https://studio.example")]
    NoHost,
    /// A user name or password, which would end up in logs.
    #[error("`api_base_url` has a user name or password in it: remove it")]
    Credentials,
}

impl ApiBase {
    /// Reads an `api_base_url`: trailing `/`, query and fragment are dropped; `/graphics/api` is appended
    /// unless the path already ends with it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text.trim()).map_err(|error| match error {
            url::ParseError::EmptyHost => AddressError::NoHost,
            error => AddressError::NotAUrl { problem: error.to_string() },
        })?;
        let secure = match url.scheme() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            scheme => return Err(AddressError::Scheme { scheme: scheme.to_owned() }),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::NoHost)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let mut path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with(API_PATH) {
            path.push_str(API_PATH);
        }
        let scheme = if secure { "https" } else { "http" };
        Ok(Self { origin: format!("{scheme}://{host}{port}"), path, secure })
    }

    /// Where a worker asks to be registered.
    pub fn register_request(&self) -> String {
        self.http("/workers/register-request")
    }

    /// Where the decision on a request is asked for.
    pub fn registration(&self, request_id: &str) -> String {
        self.http(&format!("/workers/register-requests/{}", segment(request_id)))
    }

    /// Where a worker's session is opened.
    pub fn connect(&self, worker_id: &str) -> String {
        let http = self.http(&format!("/workers/{}/connect", segment(worker_id)));
        format!("ws{}", http.strip_prefix("http").unwrap_or(&http))
    }

    /// Where a job's bytes are delivered.
    pub fn complete(&self, worker_id: &str, job_id: &str) -> String {
        self.http(&format!("/workers/{}/jobs/{}/complete", segment(worker_id), segment(job_id)))
    }

    /// The host, a name or an address without brackets, and the port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let authority = self.origin.split_once("://").map_or(&*self.origin, |(_, authority)| authority);
        let (host, port) = match authority.rsplit_once(':') {
            // What ends with a bracket is an address of IPv6.
            Some((host, port)) if !authority.ends_with(']') => (host, port.parse().ok()),
            _ => (authority, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host, port.unwrap_or(if self.secure { 443 } else { 80 }))
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it leads to this machine, so that nobody is on the way.
    pub fn is_own(&self) -> bool {
        match Url::parse(&self.origin).ok().as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                name == "localhost" || name.ends_with(".localhost")
            }
            Some(Host::Ipv4(address)) => Reach::Loopback.admits(address.into()),
            Some(Host::Ipv6(address)) => Reach::Loopback.admits(address.into()),
            None => false,
        }
    }

    fn http(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.path)
    }
}

impl core::fmt::Display for ApiBase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// `text` percent-encoded as one path segment. Of a text that is none ([`is_segment`]) it makes the nearest that there is.
pub fn segment(text: &str) -> String {
    match text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        text => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// Whether `text` can be one segment of a path: it isn't empty, which routers skip, and neither `.` nor `..`, which URL
/// parsers take for the way that they are also where they are percent-encoded. A job or a worker with such an id can't be
/// addressed.
pub fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_normalised() {
        for (text, base) in [
            ("https://studio.minis.gg", "https://studio.minis.gg/graphics/api"),
            ("https://studio.minis.gg/", "https://studio.minis.gg/graphics/api"),
            ("https://studio.minis.gg/graphics/api", "https://studio.minis.gg/graphics/api"),
            ("https://studio.minis.gg/graphics/api//", "https://studio.minis.gg/graphics/api"),
            ("http://127.0.0.1:8080/x?y=1#z", "http://127.0.0.1:8080/x/graphics/api"),
            ("ws://host", "http://host/graphics/api"),
            ("wss://host:444/a/", "https://host:444/a/graphics/api"),
            ("http://[::1]:99", "http://[::1]:99/graphics/api"),
            (" http://host ", "http://host/graphics/api"),
        ] {
            assert_eq!(ApiBase::parse(text).unwrap().to_string(), base, "{text}");
        }
    }

    #[test]
    fn host_and_port_are_known() {
        for (text, host, port) in [
            ("https://studio.test", "studio.test", 443),
            ("ws://studio.test/x", "studio.test", 80),
            ("http://studio.test:8700", "studio.test", 8700),
            ("https://[2001:db8::1]", "2001:db8::1", 443),
            ("https://[::1]:99", "::1", 99),
        ] {
            assert_eq!(ApiBase::parse(text).unwrap().host_and_port(), (host, port), "{text}");
        }
    }

    #[test]
    fn bad_bases_are_named_errors() {
        assert_eq!(ApiBase::parse("ftp://host"), Err(AddressError::Scheme { scheme: "ftp".into() }));
        assert_eq!(ApiBase::parse("http://"), Err(AddressError::NoHost));
        assert_eq!(ApiBase::parse("https://u:p@host"), Err(AddressError::Credentials));
        for text in ["", "studio.minis.gg", "http://ho st", "/graphics/api", "http://host:99999"] {
            let error = ApiBase::parse(text).unwrap_err();
            assert!(error.to_string().contains("api_base_url"), "{text}: {error}");
        }
    }

    #[test]
    fn ids_are_one_segment_each() {
        let base = ApiBase::parse("http://h").unwrap();
        assert_eq!(
            base.complete("w/1", "a b%?#ü"),
            "http://h/graphics/api/workers/w%2F1/jobs/a%20b%25%3F%23%C3%BC/complete"
        );
        assert_eq!(base.connect("w-1"), "ws://h/graphics/api/workers/w-1/connect");
        assert_eq!(
            ApiBase::parse("https://h").unwrap().connect(".."),
            "wss://h/graphics/api/workers/%2E%2E/connect"
        );
        assert_eq!(base.registration("rr-1"), "http://h/graphics/api/workers/register-requests/rr-1");
        assert_eq!(base.register_request(), "http://h/graphics/api/workers/register-request");
    }

    #[test]
    fn ids_that_no_address_can_carry_are_known() {
        for id in ["", ".", ".."] {
            assert!(!is_segment(id), "{id:?}");
            let url = Url::parse(&ApiBase::parse("http://h").unwrap().complete("w", id)).unwrap();
            let segments = url.path_segments().unwrap().filter(|segment| !segment.is_empty());
            assert!(segments.count() < 7, "{id:?} leads to {url}");
        }
        for id in ["...", "j", "/", "%2E", ".. ", " "] {
            assert!(is_segment(id), "{id:?}");
        }
    }
}
