//! Where the picture is that an app says it made.

use alloc::{borrow::ToOwned, string::String};
use core::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What an output names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Located {
    /// A `data:` URL, or an address, absolute or relative.
    pub(super) url: Option<String>,
    /// The name of a file on the app's own disk.
    pub(super) path: Option<String>,
}

impl Located {
    fn found(self) -> Option<Self> {
        (self.url.is_some() || self.path.is_some()).then_some(self)
    }
}

/// Finds the first picture in the outputs of a call, however they are wrapped: a text, an object, a gallery of
/// objects. Outputs can be of any size, so nothing but what is found is kept.
pub(super) fn find(outputs: &[u8]) -> serde_json::Result<Option<Located>> {
    let mut deserializer = serde_json::Deserializer::from_slice(outputs);
    let found = Look { any_text: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// The same in the answer of Gradio 3: `{"data": [output]}`.
pub(super) fn find_in_answer(answer: &[u8]) -> serde_json::Result<Option<Located>> {
    struct Answer;
    impl<'de> Visitor<'de> for Answer {
        type Value = Option<Located>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with `data`")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = fields.next_key::<String>()? {
                if name == "data" {
                    found = Some(fields.next_value_seed(Look { any_text: false })?);
                } else {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            found.ok_or_else(|| de::Error::missing_field("data"))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(answer);
    let found = deserializer.deserialize_map(Answer)?;
    deserializer.end()?;
    Ok(found)
}

/// Looks for a picture in one JSON value.
#[derive(Clone, Copy)]
struct Look {
    /// The field says that a text in it is an address; elsewhere it must look like one.
    any_text: bool,
}

fn is_address(text: &str) -> bool {
    text.starts_with("data:image/")
        || text.starts_with("http://")
        || text.starts_with("https://")
        || (text.starts_with(['/', '.']) || text.starts_with("file")) && !text.contains(char::is_whitespace)
}

impl<'de> DeserializeSeed<'de> for Look {
    type Value = Option<Located>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look {
    type Value = Option<Located>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let is_one = !text.is_empty() && (self.any_text || is_address(text));
        Ok(is_one.then(|| Located { url: Some(text.to_owned()), path: None }))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let look = Self { any_text: false };
        let mut found = None;
        while found.is_none() {
            match items.next_element_seed(look)? {
                Some(item) => found = item,
                None => return Ok(None),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut own = Located::default();
        let mut within = None;
        while let Some(name) = fields.next_key::<String>()? {
            let text = Self { any_text: true };
            match name.as_str() {
                // `data` is Gradio 3's, as is `name`.
                "url" | "data" => {
                    let url = fields.next_value_seed(text)?.and_then(|located| located.url);
                    own.url = own.url.or(url);
                }
                "path" | "name" => {
                    let path = fields.next_value_seed(text)?.and_then(|located| located.url);
                    own.path = own.path.or(path);
                }
                // A picture with its caption, and a component that is updated.
                "image" | "value" if within.is_none() => {
                    within = fields.next_value_seed(Self { any_text: false })?;
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(own.found().or(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "it stands for what was found")]
    fn at(url: Option<&str>, path: Option<&str>) -> Option<Located> {
        Some(Located { url: url.map(Into::into), path: path.map(Into::into) })
    }

    #[test]
    fn pictures_are_found_however_they_are_wrapped() {
        let data = "data:image/png;base64,AAAA";
        for (outputs, found) in [
            (r#"["data:image/png;base64,AAAA"]"#, at(Some(data), None)),
            (r#"[null, 7, "a cat", "/file=a.png"]"#, at(Some("/file=a.png"), None)),
            (r#"["https://a/b.png", "/c.png"]"#, at(Some("https://a/b.png"), None)),
            (
                r#"[{"path": "/t/a.webp", "url": "http://a/b", "orig_name": "x"}, 42]"#,
                at(Some("http://a/b"), Some("/t/a.webp")),
            ),
            (r#"[{"path": "/t/a.webp", "url": null}]"#, at(None, Some("/t/a.webp"))),
            (r#"[{"name": "/t/a.png", "data": null, "is_file": true}]"#, at(None, Some("/t/a.png"))),
            (
                r#"[[{"image": {"path": "/t/a.webp"}, "caption": "/x"}, {"image": {"path": "/b"}}]]"#,
                at(None, Some("/t/a.webp")),
            ),
            (r#"[{"__type__": "update", "value": {"url": "/a"}}]"#, at(Some("/a"), None)),
            (r#"{"url": "/a"}"#, at(Some("/a"), None)),
            (r#"[{"url": {"url": "/x"}, "path": 7}]"#, at(Some("/x"), None)),
            (r#"["", {}, [], {"url": ""}, true, -1, 1.5, 99999999999999999999]"#, None),
            ("null", None),
        ] {
            assert_eq!(find(outputs.as_bytes()).unwrap(), found, "{outputs}");
        }
        for outputs in ["", "[", r#"["/a""#, r#"["/a"] x"#, "\u{0}"] {
            assert!(find(outputs.as_bytes()).is_err(), "{outputs}");
        }
        assert!(find("[".repeat(100_000).as_bytes()).is_err(), "too deep to be read");
    }

    #[test]
    fn an_answer_of_gradio_3_has_its_outputs_in_data() {
        let found = find_in_answer(br#"{"data": ["/file=a.png"], "duration": 1.5}"#);
        assert_eq!(found.unwrap(), at(Some("/file=a.png"), None));
        for answer in [r#"{"error": "x"}"#, "[]", "null", r#"{"data": ["/a"]"#] {
            assert!(find_in_answer(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
