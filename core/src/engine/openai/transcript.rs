//! `audio_stt`: a text from speech.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use serde_json::Value;

use super::{form::form, interrupted};
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Recipe},
        format::Format,
        input::{Fetch, InputPolicy, Source},
        server::{Answered, Call, Dialogue, MAX_JSON, last_words, shallow},
    },
    http::HttpRequest,
    wire::{media, task::AudioSttTask},
};

/// The largest sound that is transcribed, in bytes: an hour of speech as MP3, half an hour as WAV.
const MAX_SOUND: usize = 64 * 1024 * 1024;
/// How long it may take to be fetched.
const SOUND_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The form of answer that has times in it. Some models know only `json`, and refuse the question.
const VERBOSE: &str = "verbose_json";

/// Fetches the sound, and asks.
pub(super) struct Transcript {
    dialogue: Dialogue,
    policy: InputPolicy,
    model: String,
    task: AudioSttTask,
    stage: Stage,
}

enum Stage {
    Beginning,
    Fetching(Fetch),
    /// With the sound, as long as it may be wanted again.
    Asking(Call, Option<Vec<u8>>),
}

impl Transcript {
    pub(super) fn new(mut dialogue: Dialogue, policy: InputPolicy, model: &str, task: AudioSttTask) -> Self {
        dialogue.conceal(&task.input_url);
        Self { dialogue, policy, model: model.to_owned(), task, stage: Stage::Beginning }
    }

    fn begin(&mut self) -> Effect {
        match self.policy.source(&self.task.input_url, MAX_SOUND) {
            Ok(Source::Data(sound)) => self.ask(sound),
            Ok(Source::Fetch { url, reach }) => {
                let fetch = Fetch::new(self.policy, url, reach, MAX_SOUND, SOUND_TIMEOUT);
                let effect = fetch.begin();
                self.stage = Stage::Fetching(fetch);
                effect
            }
            Err(error) => Effect::Done(Err(error)),
        }
    }

    fn ask(&mut self, sound: Vec<u8>) -> Effect {
        let (call, effect) = Call::begin(self.request(VERBOSE, &sound));
        self.stage = Stage::Asking(call, Some(sound));
        effect
    }

    fn request(&self, response_format: &str, sound: &[u8]) -> HttpRequest {
        let task = &self.task;
        let mut fields: Vec<(&str, &str)> =
            Vec::from([("model", self.model.as_str()), ("response_format", response_format)]);
        let translate = task.translate == Some(true);
        if let Some(language) = task.language.as_deref().filter(|_| !translate) {
            fields.push(("language", language));
        }
        if let Some(prompt) = &task.prompt {
            fields.push(("prompt", prompt));
        }
        if response_format == VERBOSE {
            fields
                .extend(granularities(task.timestamps.as_ref()).map(|of| ("timestamp_granularities[]", of)));
        }
        match &task.vad {
            Some(Value::Bool(true) | Value::Object(_)) => fields.push(("vad_filter", "true")),
            Some(Value::Bool(false)) => fields.push(("vad_filter", "false")),
            _ => {}
        }
        // Where the bytes don't say what they are, their name may: servers go by it.
        let ext = Format::of(sound).map(Format::ext).or_else(|| ext_of(&task.input_url)).unwrap_or("bin");
        let path = if translate { "v1/audio/translations" } else { "v1/audio/transcriptions" };
        self.dialogue.post(path, form(&fields, &format!("audio.{ext}"), media::mime_of(ext), sound), MAX_JSON)
    }

    fn answered(&mut self, outcome: Answered) -> Effect {
        if let Ok(answer) = &outcome
            && matches!(answer.status, 400 | 422)
            && let Stage::Asking(_, sound) = &mut self.stage
            && ["response_format", VERBOSE].iter().any(|word| last_words(&answer.body).contains(word))
            && let Some(sound) = sound.take()
        {
            let (call, effect) = Call::begin(self.request("json", &sound));
            self.stage = Stage::Asking(call, None);
            return effect;
        }
        Effect::Done(self.read(outcome))
    }

    fn read(&self, outcome: Answered) -> Result<Output, EngineError> {
        let body = self.dialogue.accepted(&format!("{} (audio_stt)", self.model), outcome, MAX_JSON)?;
        let transcript: Option<Value> = serde_json::from_slice(&body).ok();
        match transcript.filter(|value| value.get("text").is_some_and(Value::is_string) && shallow(value)) {
            Some(transcript) => Ok(Output::Json(Arc::new(transcript))),
            None => Err(self.dialogue.not_wanted("a transcript", &body)),
        }
    }
}

/// Which times are wanted: `word`, `segment`, a list of them, or whether any.
fn granularities(timestamps: Option<&Value>) -> impl Iterator<Item = &'static str> {
    let wanted = |of: &str| match timestamps {
        Some(Value::String(one)) => one == of,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(of)),
        Some(Value::Bool(true)) => of == "segment",
        _ => false,
    };
    let wanted = ["word", "segment"].map(|of| wanted(of).then_some(of));
    wanted.into_iter().flatten()
}

/// The extension at the end of an address's path.
fn ext_of(address: &str) -> Option<&str> {
    let path = address.split(['?', '#']).next()?;
    let (_, ext) = path.rsplit_once('/')?.1.rsplit_once('.')?;
    media::is_plain_ext(ext).then_some(ext)
}

impl Recipe for Transcript {
    fn next(&mut self, happened: Happened) -> Effect {
        match (&mut self.stage, happened) {
            (Stage::Beginning, Happened::Started) => self.begin(),
            (Stage::Beginning, _) => Effect::Done(Err(interrupted())),
            (Stage::Fetching(fetch), happened) => fetch.next(happened).and_then(|outcome| match outcome {
                Ok(sound) => self.ask(sound),
                Err(error) => Effect::Done(Err(self.dialogue.discreet(&error))),
            }),
            (Stage::Asking(call, _), happened) => {
                call.next(happened).and_then(|outcome| self.answered(outcome))
            }
        }
    }
}
