//! What a command made, as a job's result.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use crate::{
    engine::{
        chat::completion,
        contract::{Output, Payload},
        format::Format,
        server::shallow,
    },
    machine::Made,
    wire::{Claim, Task, TaskKind},
};

/// Reads what was made for `claim`. The error says what it is instead, after the program's name.
pub(super) fn read(made: Made, claim: &Claim, ext: &str) -> Result<Output, String> {
    match &claim.task {
        Task::Llm(_) => text_of(made).and_then(|text| chat(&text, claim)),
        Task::AudioStt(task) => text_of(made).and_then(|text| transcript(&text, task.language.as_deref())),
        task => bytes(made, task.kind(), ext),
    }
}

fn text_of(made: Made) -> Result<String, String> {
    match made {
        Made::Memory(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Made::File { .. } => Err("made a file where a text was wanted".to_owned()),
    }
}

/// A completion, or a text that is the answer.
fn chat(text: &str, claim: &Claim) -> Result<Output, String> {
    if let Some(completion) = completion(text.as_bytes(), &claim.model) {
        return Ok(Output::Json(Arc::new(completion)));
    }
    let text = text.trim();
    if text.is_empty() {
        return Err("answered nothing".to_owned());
    }
    let answer = json!({
        "id": "chatcmpl-".to_owned() + claim.job_id.as_str(),
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": "stop",
        }],
    });
    completion(answer.to_string().as_bytes(), &claim.model)
        .map(|completion| Output::Json(Arc::new(completion)))
        .ok_or_else(|| "answered something that is no answer".to_owned())
}

/// A transcript in Whisper's shape, or its text alone.
fn transcript(text: &str, language: Option<&str>) -> Result<Output, String> {
    let text = text.trim();
    let transcript = if text.starts_with('{') {
        let value: Option<Value> = serde_json::from_str(text).ok();
        value
            .filter(|value| value.get("text").is_some_and(Value::is_string) && shallow(value))
            .ok_or_else(|| "wrote JSON that is no transcript: a `text` is wanted in it".to_owned())?
    } else {
        let mut transcript = Map::new();
        transcript.insert("text".to_owned(), text.into());
        if let Some(language) = language {
            transcript.insert("language".to_owned(), language.into());
        }
        transcript.into()
    };
    Ok(Output::Json(Arc::new(transcript)))
}

fn bytes(made: Made, kind: TaskKind, ext: &str) -> Result<Output, String> {
    let (payload, format) = match made {
        Made::Memory(bytes) => {
            let format = Format::of(&bytes);
            (Payload::from(bytes), format)
        }
        Made::File { file, head } => (Payload::File(file), Format::of(&head)),
    };
    if payload.is_empty() {
        return Err("ended well and made nothing".to_owned());
    }
    let ext = match format {
        Some(format) if suits(format, kind) => format.ext_as_asked(ext).to_owned(),
        Some(format) => {
            return Err(alloc::format!("made {}, which is no result of {kind}", format.ext()));
        }
        // Said to be something that could be told, and is not.
        None if Format::by_ext(ext).is_some() => {
            return Err(alloc::format!("made something that is not {ext}"));
        }
        None => ext.to_ascii_lowercase(),
    };
    Ok(Output::Bytes { ext, payload })
}

/// Whether a format can be the result of a kind.
fn suits(format: Format, kind: TaskKind) -> bool {
    match kind {
        TaskKind::Image => format.is_picture(),
        TaskKind::AudioTts => format.is_sound() || matches!(format, Format::Mp4 | Format::Webm),
        TaskKind::Video => matches!(format, Format::Mp4 | Format::Webm | Format::Gif | Format::Webp),
        TaskKind::Mesh => format == Format::Glb,
        TaskKind::Llm | TaskKind::AudioStt => false,
    }
}
