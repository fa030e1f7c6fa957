//! `audio_tts`: speech from a text.

use alloc::{borrow::ToOwned, format, string::String};

use serde_json::{Map, json};

use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Recipe},
        format::Format,
        server::{Answered, Call, Dialogue, MAX_BYTES},
    },
    http::HttpBody,
    wire::task::AudioTtsTask,
};

/// The voice that the API's own documentation uses: servers with other voices have it as another name for one.
const ANY_VOICE: &str = "alloy";

/// Asks once.
pub(super) struct Speech {
    dialogue: Dialogue,
    model: String,
    ext: String,
    call: Call,
}

impl Speech {
    pub(super) fn new(dialogue: Dialogue, model: &str, task: &AudioTtsTask) -> Self {
        let voice = if task.voice == AudioTtsTask::ANY_VOICE { ANY_VOICE } else { &task.voice };
        let mut body = Map::new();
        body.insert("model".to_owned(), model.into());
        body.insert("input".to_owned(), task.text.clone().into());
        body.insert("voice".to_owned(), voice.into());
        body.insert("response_format".to_owned(), spoken(&task.ext).into());
        let optional = [
            ("speed", task.speed.map(|speed| json!(speed))),
            ("language", task.language.clone().map(Into::into)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        }
        let call = Call::new(dialogue.post("v1/audio/speech", HttpBody::json(&body), MAX_BYTES));
        Self { dialogue, model: model.to_owned(), ext: task.ext.clone(), call }
    }

    fn read(&self, outcome: Answered) -> Result<Output, EngineError> {
        let bytes = self.dialogue.accepted(&format!("{} (audio_tts)", self.model), outcome, MAX_BYTES)?;
        match Format::of(&bytes).filter(|format| format.is_sound()) {
            Some(format) => {
                Ok(Output::Bytes { ext: format.ext_as_asked(&self.ext).to_owned(), payload: bytes.into() })
            }
            None => Err(self.dialogue.not_wanted("sound in a format that can be told", &bytes)),
        }
    }
}

/// What the API has for an extension: WAV for those that it doesn't have.
fn spoken(ext: &str) -> &'static str {
    const TABLE: &[(&str, &str)] =
        &[("mp3", "mp3"), ("opus", "opus"), ("ogg", "opus"), ("aac", "aac"), ("flac", "flac")];
    TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(ext)).map_or("wav", |(_, format)| format)
}

impl Recipe for Speech {
    fn next(&mut self, happened: Happened) -> Effect {
        self.call.next(happened).and_then(|outcome| Effect::Done(self.read(outcome)))
    }
}
