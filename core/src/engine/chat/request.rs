//! The request of a chat.

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};

use serde_json::{Map, Value, json};

use super::pictures::Fetched;
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Payload},
        refusal::interrupted,
    },
    http::HttpBody,
    wire::{Finite, task::LlmTask},
};

/// Makes the body of the request for `model`: on a thread of its own, since pictures are large. See [`written`].
pub(in crate::engine) fn write<T>(model: &str, task: &LlmTask, pictures: Vec<Fetched>) -> Effect<T> {
    let (model, task) = (model.to_owned(), task.clone());
    Effect::Compute(Box::new(move || {
        let pictures = pictures.into_iter().map(|picture| picture.address()).collect();
        let HttpBody { bytes, .. } = HttpBody::json(&request(&model, &task, pictures));
        Ok(Output::Bytes { ext: "json".to_owned(), payload: bytes.into() })
    }))
}

/// The body that was made.
pub(in crate::engine) fn written(happened: Happened) -> Result<HttpBody, EngineError> {
    match happened {
        Happened::Computed(Ok(Output::Bytes { payload: Payload::Memory(bytes), .. })) => {
            Ok(HttpBody { content_type: "application/json".into(), bytes: Arc::unwrap_or_clone(bytes) })
        }
        Happened::Computed(Err(error)) => Err(error),
        _ => Err(interrupted()),
    }
}

/// What is asked of `model`: the chat, with `pictures` before the text of the user's last message.
fn request(model: &str, task: &LlmTask, mut pictures: Vec<String>) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    if let Some(system) = &task.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    let last_user = task.messages.iter().rposition(|message| message.role == "user");
    for (at, message) in task.messages.iter().enumerate() {
        let content = if Some(at) == last_user && !pictures.is_empty() {
            with_pictures(core::mem::take(&mut pictures), Some(&message.content))
        } else {
            message.content.clone().into()
        };
        messages.push(json!({ "role": message.role, "content": content }));
    }
    if !pictures.is_empty() {
        let content = with_pictures(core::mem::take(&mut pictures), None);
        messages.push(json!({ "role": "user", "content": content }));
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("messages".to_owned(), messages.into());
    body.insert("max_tokens".to_owned(), task.max_tokens.into());
    // Below 0 is greedy too, and not every server knows that.
    let temperature = task.temperature.max(Finite::ZERO);
    body.insert("temperature".to_owned(), json!(temperature));
    body.insert("stream".to_owned(), false.into());
    let mut chat_template_kwargs = task.chat_template_kwargs.clone();
    match &task.reasoning {
        Some(Value::Bool(thinks)) => {
            let kwargs = chat_template_kwargs.get_or_insert_with(|| json!({}));
            if let Some(kwargs) = kwargs.as_object_mut() {
                kwargs.entry("enable_thinking").or_insert((*thinks).into());
            }
        }
        Some(Value::String(effort)) => {
            body.insert("reasoning_effort".to_owned(), effort.clone().into());
        }
        Some(reasoning) => {
            body.insert("reasoning".to_owned(), reasoning.clone());
        }
        None => {}
    }
    let optional = [
        ("top_p", task.top_p.map(|top_p| json!(top_p))),
        ("stop", task.stop.clone()),
        ("response_format", task.json_schema.as_ref().map(response_format)),
        ("chat_template_kwargs", chat_template_kwargs),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    body.into()
}

/// The pictures, and then the text.
fn with_pictures(pictures: Vec<String>, text: Option<&str>) -> Value {
    let pictures =
        pictures.into_iter().map(|url| json!({ "type": "image_url", "image_url": { "url": url } }));
    pictures.chain(text.map(|text| json!({ "type": "text", "text": text }))).collect()
}

/// The schema alone, or already with a name, as the API wants it.
fn response_format(schema: &Value) -> Value {
    let is_named = schema.get("name").is_some_and(Value::is_string) && schema.get("schema").is_some();
    let schema =
        if is_named { schema.clone() } else { json!({ "name": "answer", "schema": schema, "strict": true }) };
    json!({ "type": "json_schema", "json_schema": schema })
}
