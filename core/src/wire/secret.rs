//! Texts that must not be seen.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::{fmt, iter, ops::Range};

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
        Self::scrub_all([self], text)
    }

    /// The same for all of `secrets`. Where they overlap, or one is part of another, nothing of either is left, in whatever
    /// order they come: taking them out one after the other would leave the rest of a longer one.
    ///
    /// ```
    /// use studio_worker_core::wire::Secret;
    ///
    /// let secrets = [Secret::new("tok-1"), Secret::new("tok-1.signature")];
    /// assert_eq!(Secret::scrub_all(&secrets, "Bearer tok-1.signature".into()), "Bearer …");
    /// ```
    pub fn scrub_all<'a>(secrets: impl IntoIterator<Item = &'a Self>, text: String) -> String {
        // Most texts have none in them, which this finds out faster than a search for places does.
        let there = secrets.into_iter().filter(|secret| text.contains(&*secret.0));
        let mut found: Vec<Range<usize>> = there.flat_map(|secret| secret.places(&text)).collect();
        if found.is_empty() {
            return text;
        }
        found.sort_unstable_by_key(|place| place.start);
        let mut scrubbed = String::with_capacity(text.len());
        let mut end = 0;
        for place in found {
            // Those that share characters are one; those that only touch are two.
            if place.start >= end {
                scrubbed.push_str(&text[end..place.start]);
                scrubbed.push('…');
            }
            end = end.max(place.end);
        }
        scrubbed.push_str(&text[end..]);
        scrubbed
    }

    /// Where it is in `text`, also where two of it overlap.
    fn places<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let mut from = 0;
        iter::from_fn(move || {
            let first = self.0.chars().next()?;
            let start = from + text[from..].find(&*self.0)?;
            from = start + first.len_utf8();
            Some(start..start + self.0.len())
        })
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

    #[test]
    fn nothing_is_left_of_secrets_that_overlap() {
        for (secrets, text, shown) in [
            (&["s3cret", "s3cret-1"][..], "s3cret-1 s3cret-2", "… …-2"),
            (&["3cre", "s3cret", "ret-1"], "a s3cret-1 b", "a … b"),
            (&["abcd", "cdef"], "abcdef cdefabcd abcd", "… …… …"),
            (&["abcabc"], "abcabcabc", "…"),
            (&["aa", ""], "aaa baa", "… b…"),
            (&["ärä", "äß"], "ärärä äräß", "… …"),
            (&["one", "two"], "nothing of them", "nothing of them"),
            (&[], "", ""),
        ] {
            let mut secrets: Vec<_> = secrets.iter().map(|text| Secret::new(*text)).collect();
            for _ in 0..2 {
                assert_eq!(Secret::scrub_all(&secrets, text.into()), shown, "{text}");
                secrets.reverse();
            }
        }
    }
}
