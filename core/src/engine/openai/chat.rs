//! `llm`: a chat completion.

use alloc::{borrow::ToOwned, collections::VecDeque, format, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::interrupted;
use crate::{
    engine::{
        completion::completion,
        contract::{Effect, EngineError, Happened, Output, Recipe},
        format::Format,
        input::{Fetch, InputPolicy, Source},
        server::{Answered, Call, Dialogue, MAX_JSON},
    },
    http::HttpBody,
    wire::task::LlmTask,
};

/// How many pictures a chat may have.
const MAX_PICTURES: usize = 16;
/// The largest of them, in bytes.
const MAX_PICTURE: usize = 25 * 1024 * 1024;
/// All of them together: they go out in one request, as text.
const MAX_PICTURES_BYTES: usize = 64 * 1024 * 1024;
/// How long one may take to be fetched.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(60);

/// Fetches the pictures, one after the other, and asks.
pub(super) struct Chat {
    dialogue: Dialogue,
    policy: InputPolicy,
    model: String,
    task: LlmTask,
    wanted: VecDeque<String>,
    /// As `data:` URLs, since a server may not reach, or not want to reach, where they lie.
    pictures: Vec<String>,
    bytes: usize,
    stage: Stage,
}

enum Stage {
    Gathering,
    Fetching(Fetch),
    Asking(Call),
}

impl Chat {
    pub(super) fn new(mut dialogue: Dialogue, policy: InputPolicy, model: &str, mut task: LlmTask) -> Self {
        let wanted: VecDeque<_> = core::mem::take(&mut task.images).into();
        for address in &wanted {
            dialogue.conceal(address);
        }
        Self {
            dialogue,
            policy,
            model: model.to_owned(),
            task,
            wanted,
            pictures: Vec::new(),
            bytes: 0,
            stage: Stage::Gathering,
        }
    }

    /// Takes what needs no fetching, and begins to fetch the next one; asks when all are there.
    fn gather(&mut self) -> Result<Effect, EngineError> {
        if self.wanted.len() + self.pictures.len() > MAX_PICTURES {
            return Err(EngineError::permanent(format_args!(
                "a chat can have {MAX_PICTURES} pictures, and this one has {}",
                self.wanted.len() + self.pictures.len()
            )));
        }
        while let Some(address) = self.wanted.pop_front() {
            match self.policy.source(&address, MAX_PICTURE)? {
                Source::Data(bytes) => self.take(&bytes)?,
                Source::Fetch { url, reach } => {
                    let fetch = Fetch::new(self.policy, url, reach, MAX_PICTURE, PICTURE_TIMEOUT);
                    let effect = fetch.begin();
                    self.stage = Stage::Fetching(fetch);
                    return Ok(effect);
                }
            }
        }
        let body = HttpBody::json(&self.body());
        let request = self.dialogue.post("v1/chat/completions", body, MAX_JSON);
        let (call, effect) = Call::begin(request);
        self.stage = Stage::Asking(call);
        Ok(effect)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let number = self.pictures.len() + 1;
        let format = Format::of(bytes).filter(|format| format.is_picture());
        let Some(format) = format else {
            return Err(EngineError::permanent(format_args!("picture {number} of the chat isn't a picture")));
        };
        self.bytes += bytes.len();
        if self.bytes > MAX_PICTURES_BYTES {
            let mib = MAX_PICTURES_BYTES / (1024 * 1024);
            return Err(EngineError::permanent(format_args!(
                "the pictures of the chat are larger than {mib} MiB together"
            )));
        }
        let mut address = format!("data:{};base64,", format.mime());
        STANDARD.encode_string(bytes, &mut address);
        self.pictures.push(address);
        Ok(())
    }

    fn fetched(&mut self, outcome: Result<Vec<u8>, EngineError>) -> Effect {
        let gathered = outcome.map_err(|error| self.dialogue.discreet(&error)).and_then(|bytes| {
            self.take(&bytes)?;
            self.gather()
        });
        gathered.unwrap_or_else(|error| Effect::Done(Err(error)))
    }

    fn body(&mut self) -> Value {
        let task = &self.task;
        let mut messages: Vec<Value> = Vec::new();
        if let Some(system) = &task.system {
            messages.push(json!({ "role": "system", "content": system }));
        }
        let last_user = task.messages.iter().rposition(|message| message.role == "user");
        for (at, message) in task.messages.iter().enumerate() {
            let content = if Some(at) == last_user && !self.pictures.is_empty() {
                with_pictures(core::mem::take(&mut self.pictures), Some(&message.content))
            } else {
                message.content.clone().into()
            };
            messages.push(json!({ "role": message.role, "content": content }));
        }
        if !self.pictures.is_empty() {
            let content = with_pictures(core::mem::take(&mut self.pictures), None);
            messages.push(json!({ "role": "user", "content": content }));
        }
        let mut body = Map::new();
        body.insert("model".to_owned(), self.model.clone().into());
        body.insert("messages".to_owned(), messages.into());
        body.insert("max_tokens".to_owned(), task.max_tokens.into());
        // Below 0 is greedy too, and not every server knows that.
        let temperature = task.temperature.max(crate::wire::Finite::ZERO);
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

    fn read(&self, outcome: Answered) -> Result<Output, EngineError> {
        let body = self.dialogue.accepted(&format!("{} (llm)", self.model), outcome, MAX_JSON)?;
        match completion(&body, &self.model) {
            Some(completion) => Ok(Output::Json(Arc::new(completion))),
            None => Err(self.dialogue.not_wanted("a chat completion", &body)),
        }
    }
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

impl Recipe for Chat {
    fn next(&mut self, happened: Happened) -> Effect {
        match (&mut self.stage, happened) {
            (Stage::Gathering, Happened::Started) => {
                self.gather().unwrap_or_else(|error| Effect::Done(Err(error)))
            }
            (Stage::Gathering, _) => Effect::Done(Err(interrupted())),
            (Stage::Fetching(fetch), happened) => {
                fetch.next(happened).and_then(|outcome| self.fetched(outcome))
            }
            (Stage::Asking(call), happened) => {
                call.next(happened).and_then(|outcome| Effect::Done(self.read(outcome)))
            }
        }
    }
}
