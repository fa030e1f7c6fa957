//! `image`: a picture from a text.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use data_url::forgiving_base64;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess},
};
use serde_json::{Map, Value, json};

use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Recipe},
        picture::{self, Made},
        server::{Answered, Call, Dialogue, MAX_BASE64, MAX_BYTES, last_words},
    },
    http::HttpBody,
    wire::task::ImageTask,
};

/// The path that is asked.
const PATH: &str = "v1/images/generations";
/// What asks for base64; models that know nothing else refuse the question.
const RESPONSE_FORMAT: &str = "response_format";

/// Asks, and fetches what was made if it is not in the answer.
pub(super) struct Picture {
    dialogue: Dialogue,
    model: String,
    ext: String,
    body: Map<String, Value>,
    /// What the task wants and this API has no place for.
    unserved: Option<&'static str>,
    stage: Stage,
}

enum Stage {
    Asking(Call),
    Fetching(Call),
}

impl Picture {
    pub(super) fn new(dialogue: Dialogue, model: &str, task: &ImageTask) -> Self {
        let mut body = Map::new();
        body.insert("model".to_owned(), model.into());
        body.insert("prompt".to_owned(), task.prompt.clone().into());
        body.insert("n".to_owned(), 1.into());
        body.insert("size".to_owned(), format!("{}x{}", task.width, task.height).into());
        body.insert(RESPONSE_FORMAT.to_owned(), "b64_json".into());
        let optional = [
            ("seed", task.seed.map(Value::from)),
            ("negative_prompt", task.negative_prompt.clone().map(Value::from)),
            ("steps", (task.steps != ImageTask::STEPS_UNSET).then(|| task.steps.into())),
            ("cfg_scale", task.cfg_scale.map(|scale| json!(scale))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        }
        let stage = Stage::Asking(Call::new(dialogue.post(PATH, HttpBody::json(&body), MAX_BASE64)));
        let unserved = picture::beyond_a_text(task);
        Self { dialogue, model: model.to_owned(), ext: task.ext.clone(), body, unserved, stage }
    }

    fn answered(&mut self, outcome: Answered) -> Effect {
        if let Ok(answer) = &outcome
            && matches!(answer.status, 400 | 422)
            && last_words(&answer.body).contains(RESPONSE_FORMAT)
            && self.body.remove(RESPONSE_FORMAT).is_some()
        {
            let (call, effect) =
                Call::begin(self.dialogue.post(PATH, HttpBody::json(&self.body), MAX_BASE64));
            self.stage = Stage::Asking(call);
            return effect;
        }
        let made = match self.made(outcome) {
            Ok(made) => made,
            Err(error) => return Effect::Done(Err(error)),
        };
        match made {
            Made::Bytes(bytes) => Effect::Done(self.read(bytes)),
            Made::At(address) => match self.dialogue.get_named(&address, MAX_BYTES) {
                Some(request) => {
                    let (call, effect) = Call::begin(request);
                    self.stage = Stage::Fetching(call);
                    effect
                }
                None => Effect::Done(Err(picture::elsewhere(&self.dialogue, &address))),
            },
        }
    }

    fn made(&self, outcome: Answered) -> Result<Made, EngineError> {
        let body = self.dialogue.accepted(&format!("{} (image)", self.model), outcome, MAX_BASE64)?;
        let not_wanted = || self.dialogue.not_wanted("a picture", &body);
        let answer: Images = serde_json::from_slice(&body).map_err(|_| not_wanted())?;
        match answer.data {
            Some(Image { b64_json: Some(text), .. }) if !text.starts_with("data:") => {
                forgiving_base64::decode_to_vec(text.as_bytes()).map(Made::Bytes).map_err(|_| not_wanted())
            }
            Some(Image { b64_json: Some(address), .. } | Image { url: Some(address), .. }) => {
                picture::from_address(&self.dialogue, address)
            }
            _ => Err(not_wanted()),
        }
    }

    fn read(&self, bytes: Vec<u8>) -> Result<Output, EngineError> {
        picture::output(&self.dialogue, bytes, &self.ext)
    }
}

#[derive(Deserialize)]
struct Images {
    #[serde(default, deserialize_with = "first")]
    data: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(default)]
    b64_json: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// The first of a list. The rest is read over: a list that never ends costs no memory.
fn first<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Image>, D::Error> {
    struct First;
    impl<'de> de::Visitor<'de> for First {
        type Value = Option<Image>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a list of pictures")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let first = items.next_element()?;
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    deserializer.deserialize_seq(First)
}

impl Recipe for Picture {
    fn next(&mut self, happened: Happened) -> Effect {
        if let Some(what) = self.unserved {
            let what = format_args!("the openai engine cannot serve {what}");
            return Effect::Done(Err(EngineError::permanent(what)));
        }
        match &mut self.stage {
            Stage::Asking(call) => call.next(happened).and_then(|outcome| self.answered(outcome)),
            Stage::Fetching(call) => call.next(happened).and_then(|outcome| {
                let body = self.dialogue.accepted("the picture that it made", outcome, MAX_BYTES);
                Effect::Done(body.and_then(|bytes| self.read(bytes)))
            }),
        }
    }
}
