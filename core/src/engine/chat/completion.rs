//! A chat completion, as a studio wants it (section 5).

use alloc::{borrow::ToOwned, string::String};

use serde_json::{Map, Value};

use crate::engine::server::shallow;

/// The end of what a model thinks before it answers.
const THOUGHT: &str = "</think>";

/// Reads an answer of `/v1/chat/completions`. `None` when it is no completion with something in it.
///
/// The model is named as it was offered, whatever the server calls it, and what it thought goes to
/// `reasoning_content`, where the server has left it in the text.
pub(in crate::engine) fn completion(body: &[u8], model: &str) -> Option<Value> {
    let mut completion: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let choices = completion.get_mut("choices")?.as_array_mut()?;
    if choices.is_empty() {
        return None;
    }
    for choice in choices {
        let message = choice.get_mut("message")?.as_object_mut()?;
        let has = |name: &str| message.get(name).is_some_and(|value| !value.is_null());
        match message.get("content") {
            Some(Value::String(_)) => separate_thoughts(message),
            // A call of a tool, or thoughts that used up all tokens.
            None | Some(Value::Null) if has("tool_calls") || has("reasoning_content") => {}
            _ => return None,
        }
    }
    completion.insert("object".to_owned(), "chat.completion".into());
    completion.insert("model".to_owned(), model.into());
    Some(Value::Object(completion)).filter(shallow)
}

fn separate_thoughts(message: &mut Map<String, Value>) {
    if message.get("reasoning_content").is_some_and(|thoughts| !thoughts.is_null()) {
        return;
    }
    let Some((thoughts, rest)) =
        message.get("content").and_then(Value::as_str).and_then(|content| content.split_once(THOUGHT))
    else {
        return;
    };
    let thoughts = thoughts.trim();
    let thoughts = thoughts.strip_prefix("<think>").unwrap_or(thoughts).trim().to_owned();
    let rest = rest.trim_start().to_owned();
    message.insert("content".to_owned(), rest.into());
    message.insert("reasoning_content".to_owned(), thoughts.into());
}
