//! Chat completions and transcripts: texts that say that nobody thought or listened, and which run it was.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value, json};

use super::seed::Seed;
use crate::wire::{
    Finite,
    task::{AudioSttTask, LlmTask, strip_query},
};

/// How much of a prompt is quoted, in characters.
const QUOTED: usize = 200;
/// How deep a schema is followed: one that calls for more can't be met by any text that a person reads.
const MAX_DEPTH: u32 = 32;
/// The longest list that is made up.
const MAX_ITEMS: u64 = 128;

/// A chat in the shape of OpenAI's `chat.completion`. A token is a word.
pub(super) fn chat(task: &LlmTask, model: &str, seed: &Seed) -> Value {
    let digits = seed.digits();
    let prompt = task.messages.last().map_or("", |message| &message.content);
    let answer = format!(
        "[{digits}] This is a synthetic answer, made without a model. You said: \u{201c}{}\u{201d}",
        quoted(prompt)
    );
    let (content, cut) = match task.json_schema.as_ref().map(schema_of) {
        Some(schema) => (fitting(schema, &format!("synthetic {digits}"), 0).to_string(), false),
        None => first_words(&answer, task.max_tokens),
    };
    let asked: usize = task.messages.iter().map(|message| words(&message.content)).sum();
    let asked = asked + task.system.as_deref().map_or(0, words);
    let answered = words(&content);
    json!({
        "id": format!("chatcmpl-{digits}"),
        "object": "chat.completion",
        // No clock: the same task gives the same answer.
        "created": 0,
        "model": model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content },
            "finish_reason": if cut { "length" } else { "stop" },
        }],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        },
    })
}

/// A transcript in the shape of Whisper's verbose JSON. A signed address keeps its signature to itself.
pub(super) fn transcript(task: &AudioSttTask, seed: &Seed) -> Value {
    let mut address = task.input_url.clone();
    if address.starts_with("data:") {
        address = "a data URL".into();
    }
    strip_query(&mut address);
    let sentences = [
        format!("[{}] This is a synthetic transcript.", seed.digits()),
        format!("Nobody listened to {}.", quoted(&address)),
    ];
    let mut choices = seed.choices();
    let mut now = 0;
    let segments: Vec<Value> = (0_u32..)
        .zip(&sentences)
        .map(|(id, text)| {
            let start = now;
            now += choices.whole(15, 40);
            json!({ "id": id, "start": tenths(start), "end": tenths(now), "text": text })
        })
        .collect();
    json!({
        "task": if task.translate == Some(true) { "translate" } else { "transcribe" },
        "text": sentences.join(" "),
        "language": task.language.as_deref().unwrap_or("en"),
        "duration": tenths(now),
        "segments": segments,
    })
}

fn tenths(count: u32) -> f64 {
    f64::from(count) / 10.0
}

fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// At most `most` words of `text`, and whether that is less than all.
fn first_words(text: &str, most: u32) -> (String, bool) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if words(text) <= most {
        return (text.to_string(), false);
    }
    let kept: Vec<&str> = text.split_whitespace().take(most).collect();
    (kept.join(" "), true)
}

/// The schema itself, which OpenAI's `response_format` wraps in `schema` or `json_schema`.
fn schema_of(mut wrapped: &Value) -> &Value {
    for name in ["json_schema", "schema"] {
        match wrapped.get(name) {
            Some(inner) if inner.is_object() => wrapped = inner,
            _ => {}
        }
    }
    wrapped
}

/// A value that fits a simple schema; where a text is free, it is `text`.
fn fitting(schema: &Value, text: &str, depth: u32) -> Value {
    if depth >= MAX_DEPTH {
        return Value::Null;
    }
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    for choices in ["enum", "anyOf", "oneOf"] {
        if let Some(first) = schema.get(choices).and_then(Value::as_array).and_then(|choices| choices.first())
        {
            return if choices == "enum" { first.clone() } else { fitting(first, text, depth + 1) };
        }
    }
    let named = match schema.get("type") {
        Some(Value::Array(types)) => types.first(),
        named => named,
    };
    let named = named.and_then(Value::as_str).unwrap_or(match schema {
        schema if schema.get("items").is_some() => "array",
        schema if schema.get("properties").or_else(|| schema.get("required")).is_some() => "object",
        _ => "string",
    });
    match named {
        "object" => object(schema, text, depth),
        "array" => {
            let fewest = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
            let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let item = fitting(schema.get("items").unwrap_or(&Value::Null), text, depth + 1);
            // Lists of lists of lists grow fast: the deeper, the shorter.
            let longest = (MAX_ITEMS >> (2 * depth).min(63)).max(1);
            (0..fewest.clamp(1, longest).min(most)).map(|_| item.clone()).collect()
        }
        "integer" | "number" => number(schema),
        "boolean" => Value::Bool(true),
        "null" => Value::Null,
        _ => string(schema, text),
    }
}

fn object(schema: &Value, text: &str, depth: u32) -> Value {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten().filter_map(Value::as_str);
    let mut object = Map::new();
    for (name, property) in properties {
        object.insert(name.clone(), fitting(property, text, depth + 1));
    }
    for name in required.filter(|name| !properties.contains_key(*name)) {
        object.insert(name.into(), text.into());
    }
    Value::Object(object)
}

/// The number nearest to 1 that the schema's bounds allow.
fn number(schema: &Value) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let low = bound("minimum").or(bound("exclusiveMinimum").map(|low| low + 1.0));
    let high = bound("maximum").or(bound("exclusiveMaximum").map(|high| high - 1.0));
    let value = 1.0_f64.max(low.unwrap_or(f64::MIN)).min(high.unwrap_or(f64::MAX));
    let whole = schema.get("type").is_some_and(|named| named == "integer");
    json!(Finite::new(if whole { value.ceil() } else { value }))
}

fn string(schema: &Value, text: &str) -> Value {
    let bound = |name: &str| {
        schema.get(name).and_then(Value::as_u64).map(|bound| usize::try_from(bound).unwrap_or(usize::MAX))
    };
    let mut fitting: String = text.chars().take(bound("maxLength").unwrap_or(usize::MAX)).collect();
    let missing = bound("minLength").unwrap_or(0).min(10_000).saturating_sub(fitting.chars().count());
    fitting.extend(core::iter::repeat_n('.', missing));
    fitting.into()
}
