//! One HTTP exchange: what the worker and the engines ask of a runtime, and what it answers.

use alloc::{format, string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::wire::Secret;

pub mod proxy;

/// One HTTP request. Its body is small enough to be in memory, and a redirect is an answer like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: String,
    /// Sent as `Authorization: Bearer`; never to another host.
    pub bearer: Option<Secret>,
    /// The body, if there is one.
    pub body: Option<HttpBody>,
    /// How much of the answer's body is read, in bytes; what comes behind it is left unread.
    pub answer_limit: usize,
    /// The bound for the whole exchange.
    pub timeout: Duration,
    /// Which addresses the host may have.
    pub reach: Reach,
}

impl HttpRequest {
    /// How long a small exchange may take (section 1).
    pub const SMALL_TIMEOUT: Duration = Duration::from_secs(60);

    /// A `GET` of something small, with no credential.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Method::Get,
            url: url.into(),
            bearer: None,
            body: None,
            answer_limit: HttpAnswer::SMALL_BODY,
            timeout: Self::SMALL_TIMEOUT,
            reach: Reach::Any,
        }
    }

    /// A `POST` of `body` that is answered with something small.
    pub fn post(url: impl Into<String>, body: HttpBody) -> Self {
        Self { method: Method::Post, body: Some(body), ..Self::get(url) }
    }
}

/// The method of an [`HttpRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

/// The body of an [`HttpRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct HttpBody {
    /// The value of the `Content-Type` header.
    pub content_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl HttpBody {
    /// JSON.
    pub fn json(value: &impl serde::Serialize) -> Self {
        // What is sent is made of texts, numbers and JSON: this can't fail.
        Self { content_type: "application/json".into(), bytes: serde_json::to_vec(value).unwrap_or_default() }
    }
}

impl fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpBody({}, {} bytes)", self.content_type, self.bytes.len())
    }
}

/// Which addresses a request may go to. A runtime checks those that the host's name resolves to, and connects
/// to none that is not admitted: a name is no proof of where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any: the host is one that the operator named.
    Any,
    /// This machine alone.
    Loopback,
    /// The internet alone: no loopback, private, link-local or otherwise special address.
    Public,
}

impl Reach {
    /// Whether a connection to `address` may be made.
    pub fn admits(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Any => true,
            Self::Loopback => address.is_loopback(),
            Self::Public => match address {
                IpAddr::V4(address) => is_public_v4(address),
                IpAddr::V6(address) => is_public_v6(address),
            },
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // Protocol assignments and the three nets of documentation; carriers' own, and benchmarks.
    let special = matches!((a, b, c), (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113))
        || matches!((a, b), (100, 64..=127) | (198, 18..=19))
        // This network; loopback; multicast and reserved.
        || matches!(a, 0 | 127 | 224..)
        || address.is_private()
        || address.is_link_local();
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // What translates to IPv4 is as public as what it stands for: NAT64 and 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, and documentation.
        [0x2001, ..0x200 | 0xdb8, ..] | [0x3fff, ..0x1000, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// An HTTP answer, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The `Date` header.
    pub date: Option<String>,
    /// The `Location` header.
    pub location: Option<String>,
    /// The body, at most [`HttpRequest::answer_limit`] bytes of it.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// How much of a small answer's body is read, in bytes.
    pub const SMALL_BODY: usize = 64 * 1024;

    /// Whether the status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Asks for a file, or for what is missing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// Where it is.
    pub url: String,
    /// How much of it is here already, in bytes: the rest is asked for.
    pub from: u64,
    /// What that is a part of, as its server named it. If the file is another one now, all of it comes.
    pub if_range: Option<String>,
    /// Which addresses the host may have.
    pub reach: Reach,
}

impl FileRequest {
    /// What it says in headers beside `Host` and `User-Agent`.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        // Bytes are counted and hashed as they are.
        let mut headers = Vec::from([("Accept-Encoding", "identity".into())]);
        if self.from > 0 {
            headers.push(("Range", format!("bytes={}-", self.from)));
            headers.extend(self.if_range.clone().map(|file| ("If-Range", file)));
        }
        headers
    }
}

/// What a server answers to a [`FileRequest`], before the bytes come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileHead {
    /// The status.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<String>,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The `Content-Length` header: how much comes now.
    pub content_length: Option<String>,
    /// The `Content-Range` header: which bytes they are, and of how many.
    pub content_range: Option<String>,
    /// The `Content-Encoding` header.
    pub content_encoding: Option<String>,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    pub last_modified: Option<String>,
}

impl FileHead {
    /// Reads one from an answer's status and headers.
    pub fn read(status: u16, header: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            status,
            location: header("Location"),
            retry_after: header("Retry-After"),
            content_length: header("Content-Length"),
            content_range: header("Content-Range"),
            content_encoding: header("Content-Encoding"),
            etag: header("ETag"),
            last_modified: header("Last-Modified"),
        }
    }
}

/// Why an exchange had no answer, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpFailure(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_public() {
        for address in [
            "8.8.8.8",
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(Reach::Public.admits(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "2002:7f00:1::",
            "3fff::1",
            "::7f00:1",
        ] {
            assert!(!Reach::Public.admits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for (address, admitted) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(Reach::Loopback.admits(address.parse().unwrap()), admitted, "{address}");
        }
        assert!(Reach::Any.admits("10.0.0.1".parse().unwrap()));
    }
}
