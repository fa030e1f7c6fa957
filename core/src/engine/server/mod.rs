//! What engines that ask a server over HTTP have in common: where it is, how it is asked, and what is made of
//! an answer that is none.

mod call;
mod dialogue;
mod said;

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};
use core::{fmt, time::Duration};

use url::Url;

pub(super) use call::Call;
pub(super) use dialogue::{Answered, Dialogue, MAX_BASE64, MAX_BYTES, MAX_JSON, shallow};
pub(super) use said::{confidential, last_words, presentable};

use crate::wire::Secret;

/// A server that does an engine's work, as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Ends with `/`; no query, fragment, user name or password.
    base: Url,
    /// Sent as `Authorization: Bearer`, to this server alone.
    key: Option<Secret>,
    /// How long one job's answer may take.
    timeout: Duration,
    /// What it is called, where its address says nothing to a person.
    name: Option<&'static str>,
}

/// Why an address of a server can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not a URL.
    #[error("this is not a URL ({0}): give one like http://127.0.0.1:8080")]
    NotAUrl(String),
    /// Neither `http` nor `https`, or without a host.
    #[error("this is no address of a server: give one like http://127.0.0.1:8080")]
    NotHttp,
    /// A user name or password, which would end up in logs.
    #[error("there is a user name or password in it: remove it, and give a key where one is wanted")]
    Credentials,
    /// A key that no header can carry.
    #[error("the API key has characters that no header can carry: is it one line of letters and digits?")]
    Key,
}

impl Server {
    /// How long a job's answer may take unless told otherwise: as long as a run.
    pub const JOB_TIMEOUT: Duration = Duration::from_secs(30 * 60);

    /// The server at `address`, `http` or `https`. A query and a fragment are dropped; a path is kept.
    pub fn new(address: &str) -> Result<Self, ServerError> {
        let mut base = Url::parse(address.trim()).map_err(|error| ServerError::NotAUrl(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(ServerError::NotHttp);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(ServerError::Credentials);
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned() + "/";
        base.set_path(&path);
        Ok(Self { base, key: None, timeout: Self::JOB_TIMEOUT, name: None })
    }

    /// The same, with an API key.
    pub fn with_key(self, key: Secret) -> Result<Self, ServerError> {
        let is_plain = |byte: u8| byte.is_ascii_graphic();
        if key.reveal().is_empty() || !key.reveal().bytes().all(is_plain) {
            return Err(ServerError::Key);
        }
        Ok(Self { key: Some(key), ..self })
    }

    /// The same, with another bound for a job's answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same, called `name` wherever a person reads of it.
    #[must_use]
    pub(super) fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The same without `suffix` at the end of its path, where an operator may have given it or not.
    #[must_use]
    pub(super) fn without_suffix(mut self, suffix: &str) -> Self {
        if let Some(path) = self.base.path().strip_suffix(suffix) {
            let path = path.to_owned();
            self.base.set_path(&path);
        }
        self
    }

    /// The address of `path`, which is relative and percent-encoded. It never leads to another host.
    fn url(&self, path: &str) -> String {
        let mut url = self.base.to_string();
        url.push_str(path.trim_start_matches('/'));
        url
    }

    /// Where `text`, absolute or relative, leads, if that is this server.
    fn resolve(&self, text: &str) -> Option<String> {
        let mut url = self.base.join(text).ok()?;
        url.set_fragment(None);
        // Not by the origin: that of a `blob:` URL is the one within it.
        let whose = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
        let own = whose(&url) == whose(&self.base) && url.username().is_empty() && url.password().is_none();
        own.then(|| url.to_string())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.unwrap_or(self.base.as_str().trim_end_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        for (address, base) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            (" http://127.0.0.1:8080/v1/ ", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
            ("https://box.example/llm/v1?x=1#y", "https://box.example/llm"),
            ("https://box.example/v1beta", "https://box.example/v1beta"),
        ] {
            assert_eq!(Server::new(address).unwrap().without_suffix("v1/").to_string(), base, "{address}");
        }
        let server = Server::new("http://box/a//").unwrap();
        assert_eq!(server.url("/v1/models"), "http://box/a/v1/models");
    }

    #[test]
    fn bad_addresses_and_keys_are_named_errors() {
        assert_eq!(Server::new("ftp://box"), Err(ServerError::NotHttp));
        assert_eq!(Server::new("data:,x"), Err(ServerError::NotHttp));
        assert_eq!(Server::new("http://u:p@box"), Err(ServerError::Credentials));
        assert!(matches!(Server::new("box:99999x"), Err(ServerError::NotHttp)));
        assert!(matches!(Server::new("127.0.0.1"), Err(ServerError::NotAUrl(_))));
        for key in ["", "two words", "line\nbreak", "schlüssel"] {
            let server = Server::new("http://box").unwrap();
            assert_eq!(server.with_key(key.into()), Err(ServerError::Key), "{key:?}");
        }
    }

    #[test]
    fn what_a_server_names_leads_to_itself_or_nowhere() {
        let server = Server::new("http://box:7860/app").unwrap();
        for (text, leads) in [
            ("file=/tmp/a.webp", Some("http://box:7860/app/file=/tmp/a.webp")),
            ("/file=/tmp/a.webp", Some("http://box:7860/file=/tmp/a.webp")),
            ("http://box:7860/x?y=1", Some("http://box:7860/x?y=1")),
            ("http://BOX:7860/x", Some("http://box:7860/x")),
            ("//other/x", None),
            ("http://box/x", None),
            ("https://box:7860/x", None),
            ("http://box:7860@other/x", None),
            ("http://user@box:7860/x", None),
            ("\\\\other\\x", None),
            ("data:image/png;base64,AAAA", None),
            ("file:///etc/passwd", None),
            ("blob:http://box:7860/x", None),
        ] {
            assert_eq!(server.resolve(text).as_deref(), leads, "{text}");
        }
    }
}
