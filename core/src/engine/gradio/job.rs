//! One picture, from the first question to its bytes.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::{
    app::{App, Discovery},
    events::Events,
    inputs,
    output::{self, Located},
};
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Recipe},
        picture::{self, Made},
        server::{Answered, Call, Dialogue, MAX_BASE64, MAX_BYTES, last_words},
    },
    http::{HttpBody, HttpRequest},
    wire::{Claim, Task, address::segment},
};

/// What stays as it is in the path of a file.
const FILE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');
/// The largest answer to a call: an id, or an error.
const MAX_CALLED: usize = 64 * 1024;
/// What an error of an app says when the app was told to keep it to itself.
const NO_REASON: &str = "it gives no reason (an app launched with show_error=True does)";

/// The recipe.
pub(super) struct Job {
    dialogue: Arc<Dialogue>,
    claim: Arc<Claim>,
    stage: Stage,
}

enum Stage {
    Discovering(Discovery),
    Predicting(Call),
    Calling { call: Call, app: App, path: String },
    Listening { call: Call, app: App },
    Fetching(Call),
}

impl Job {
    pub(super) fn new(dialogue: Dialogue, claim: Arc<Claim>) -> Self {
        let dialogue = Arc::new(dialogue);
        let stage = Stage::Discovering(Discovery::new(Arc::clone(&dialogue)));
        Self { dialogue, claim, stage }
    }

    fn discovered(&mut self, app: App) -> Effect {
        let Task::Image(task) = &self.claim.task else {
            return self.not_served(self.claim.task.kind().name());
        };
        let (path, data) = match &app {
            App::Predict => ("run/predict".to_owned(), inputs::plain(&self.claim, task)),
            App::Calls { call, inputs, .. } => (call.clone(), inputs::arrange(inputs, &self.claim, task)),
        };
        let body = HttpBody::json(&json!({ "data": data }));
        let limit = if app == App::Predict { MAX_BASE64 } else { MAX_CALLED };
        let (call, effect) = Call::begin(self.dialogue.post(&path, body, limit));
        self.stage = match app {
            App::Predict => Stage::Predicting(call),
            app @ App::Calls { .. } => Stage::Calling { call, app, path },
        };
        effect
    }

    fn not_served(&self, what: &str) -> Effect {
        Effect::Done(Err(self.dialogue.hopeless(format_args!("the gradio engine cannot serve {what}"), "")))
    }

    fn accepted(&self, outcome: Answered, limit: usize) -> Result<Vec<u8>, EngineError> {
        self.dialogue.accepted(&format!("{} (image)", self.claim.model), outcome, limit)
    }

    fn called(&self, path: &str, outcome: Answered) -> Result<HttpRequest, EngineError> {
        #[derive(Deserialize)]
        struct Called {
            event_id: String,
        }
        let body = self.accepted(outcome, MAX_CALLED)?;
        match serde_json::from_slice(&body) {
            Ok(Called { event_id }) if !event_id.is_empty() && event_id.len() <= 256 => {
                let path = format!("{path}/{}", segment(&event_id));
                Ok(self.dialogue.patient(self.dialogue.get(&path, MAX_BASE64)))
            }
            _ => Err(self.dialogue.not_wanted("the id of an event", &body)),
        }
    }

    fn heard(&self, outcome: Answered) -> Result<Option<Located>, EngineError> {
        let body = self.accepted(outcome, MAX_BASE64)?;
        let mut end = None;
        Events::default().feed(&body, |event| {
            if end.is_none() && matches!(event.name.as_str(), "complete" | "error") {
                end = Some(event);
            }
        });
        match end {
            Some(event) if event.name == "complete" => output::find(&event.data)
                .map_err(|_| self.dialogue.not_wanted("a list of outputs", &event.data)),
            Some(event) => {
                let words = last_words(&event.data);
                let words = if words.is_empty() { NO_REASON } else { &words };
                Err(self.dialogue.trouble("the Gradio app failed", words))
            }
            None if body.is_empty() => Err(self.dialogue.not_wanted("a stream of events", &body)),
            None => Err(self.dialogue.trouble("the Gradio app's events end before there is a picture", "")),
        }
    }

    fn predicted(&self, outcome: Answered) -> Result<Option<Located>, EngineError> {
        let body = self.accepted(outcome, MAX_BASE64)?;
        output::find_in_answer(&body).map_err(|_| self.dialogue.not_wanted("a list of outputs", &body))
    }

    fn located(&mut self, app: &App, located: Result<Option<Located>, EngineError>) -> Effect {
        let request = located.and_then(|located| match located {
            Some(located) => self.request_for(app, located),
            None => Err(self.dialogue.trouble("there is no picture in what the Gradio app returned", "")),
        });
        match request {
            Ok(Next::Fetch(request)) => {
                let (call, effect) = Call::begin(request);
                self.stage = Stage::Fetching(call);
                effect
            }
            Ok(Next::Have(bytes)) => Effect::Done(self.output(bytes)),
            Err(error) => Effect::Done(Err(error)),
        }
    }

    fn request_for(&self, app: &App, located: Located) -> Result<Next, EngineError> {
        let Located { url, path } = located;
        let mut refused = None;
        if let Some(url) = url {
            match picture::from_address(&self.dialogue, url)? {
                Made::Bytes(bytes) => return Ok(Next::Have(bytes)),
                Made::At(address) => match self.dialogue.get_named(&address, MAX_BYTES) {
                    Some(request) => return Ok(Next::Fetch(request)),
                    None => refused = Some(address),
                },
            }
        }
        // An app behind a proxy may not know its own address; the file is to be had at the one that we know.
        match (path, refused) {
            (Some(path), _) if !path.contains("://") => {
                let path = utf8_percent_encode(&path, FILE);
                Ok(Next::Fetch(self.dialogue.get(&format!("{}file={path}", app.prefix()), MAX_BYTES)))
            }
            (_, Some(address)) => Err(picture::elsewhere(&self.dialogue, &address)),
            _ => {
                Err(self.dialogue.trouble("the Gradio app returned a picture without saying where it is", ""))
            }
        }
    }

    fn output(&self, bytes: Vec<u8>) -> Result<Output, EngineError> {
        picture::output(&self.dialogue, bytes, self.claim.task.ext().unwrap_or(""))
    }

    fn unserved(&self) -> Option<&'static str> {
        match &self.claim.task {
            Task::Image(task) => picture::beyond_a_text(task),
            task => Some(task.kind().name()),
        }
    }
}

enum Next {
    Fetch(HttpRequest),
    Have(Vec<u8>),
}

impl Recipe for Job {
    fn next(&mut self, happened: Happened) -> Effect {
        if let Some(what) = self.unserved() {
            return self.not_served(what);
        }
        match &mut self.stage {
            Stage::Discovering(discovery) => discovery.next(happened).and_then(|outcome| match outcome {
                Ok(app) => self.discovered(app),
                Err(error) => Effect::Done(Err(error)),
            }),
            Stage::Predicting(call) => call.next(happened).and_then(|outcome| {
                let located = self.predicted(outcome);
                self.located(&App::Predict, located)
            }),
            Stage::Calling { call, app, path } => {
                let effect = call.next(happened);
                let (app, path) = (app.clone(), path.clone());
                effect.and_then(|outcome| match self.called(&path, outcome) {
                    Ok(request) => {
                        let (call, effect) = Call::begin(request);
                        self.stage = Stage::Listening { call, app };
                        effect
                    }
                    Err(error) => Effect::Done(Err(error)),
                })
            }
            Stage::Listening { call, app } => {
                let effect = call.next(happened);
                let app = app.clone();
                effect.and_then(|outcome| {
                    let located = self.heard(outcome);
                    self.located(&app, located)
                })
            }
            Stage::Fetching(call) => call.next(happened).and_then(|outcome| {
                let body = self.dialogue.accepted("the picture that it made", outcome, MAX_BYTES);
                Effect::Done(body.and_then(|bytes| self.output(bytes)))
            }),
        }
    }
}
