//! Texts that must not be seen.

use alloc::{string::String, sync::Arc};
use core::fmt;

/// A credential: the auth token or the registration secret (section 2). It prints as `…`, so that no log
/// line, error or panic carries it; only [`Secret::reveal`] gives the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the header, frame or file that it belongs in.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of this secret replaced by `…`.
    pub fn scrub(&self, text: String) -> String {
        if !self.0.is_empty() && text.contains(&*self.0) { text.replace(&*self.0, "…") } else { text }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_secret_is_not_printed_and_is_scrubbed() {
        let secret = Secret::new("tok-123");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.scrub("Bearer tok-123 refused".into()), "Bearer … refused");
        assert_eq!(Secret::new("").scrub("unchanged".into()), "unchanged");
    }
}
