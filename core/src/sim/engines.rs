//! Fuzz body: engine recipes that a hostile server answers.

#![allow(clippy::panic, reason = "a broken promise is a finding")]

mod server;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};
use url::{Host, Url};

use self::server::Hostile;
use crate::{
    engine::{
        Effect, Engine, EngineError, Happened, Models, Output, Recipe, Server, Service, format::Format,
        gradio::Gradio, input::InputPolicy, openai::OpenAi,
    },
    http::{HttpRequest, Reach},
    wire::{Claim, Finite, Secret, Task, TaskForm, TaskKind},
};

/// Where the server is.
const SERVER: &str = "http://engine.test:8080/app";
/// The key that it wants.
const KEY: &str = "sk-0123456789abcdef";
/// What gives access to an input.
const SIGNATURE: &str = "c2lnbmF0dXJl%2Bof-an-input";
/// Where the inputs are.
const INPUTS: &str = "https://files.test/in/sound.mp3";

/// More effects than any job needs, whatever it is answered.
const MAX_EFFECTS: usize = 200;
/// The longest that a recipe may wait at a time.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The longest that it may wait for an answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The most of an answer that it may want, in bytes.
const MAX_ANSWER: usize = 96 * 1024 * 1024;
/// The largest result that is bytes, and the largest that is JSON.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const MAX_JSON: usize = 16 * 1024 * 1024;

/// Plays one job, or one survey, against a server whose answers `data` chooses. The first byte is the job; each
/// answer then takes its bytes in turn, and where there are none left the server answers as it should.
///
/// # Panics
/// When a promise of the recipes is broken: they end within a bounded number of effects, ask only the server that
/// was configured and the addresses of the inputs, carry the key to that server alone and a secret into no error,
/// and give a result of the right kind and size, whose extension is true.
pub fn engines(data: &[u8]) {
    let (job, answers) = data.split_first().map_or((0, data), |(job, answers)| (*job, answers));
    let policy = InputPolicy { allow_private: job & 0x40 != 0 };
    let mut played = Played { hostile: Hostile::new(answers), policy, secrets: Vec::new() };
    let mut server = Server::new(SERVER).unwrap_or_else(|error| panic!("{error}"));
    if job & 0x80 == 0 {
        server = server.with_key(Secret::from(KEY)).unwrap_or_else(|error| panic!("{error}"));
        played.secrets.push(KEY);
    }
    let surveys: [Box<dyn Engine>; 2] = [
        Box::new(OpenAi::new(server.clone(), Vec::new(), policy)),
        Box::new(Gradio::new(server.clone(), models())),
    ];
    let which = usize::from(job & 0x3f) % (JOBS + surveys.len());
    if let Some(task) = task(which) {
        let claim = Arc::new(claim(task));
        if claim.task.to_json(TaskForm::Camel).to_string().contains(SIGNATURE) {
            played.secrets.push(SIGNATURE);
        }
        let engine: Box<dyn Engine> = match which {
            0..OPENAI_JOBS => Box::new(OpenAi::new(server, Vec::new(), played.policy)),
            _ => Box::new(Gradio::new(server, models())),
        };
        let outcome = played.play(&mut *engine.recipe(&claim));
        check_output(&claim, outcome);
    } else if let Some(mut survey) = surveys.into_iter().nth(which - JOBS).and_then(|engine| engine.survey())
    {
        check_services(played.play(&mut *survey).map(|survey| survey.services));
    }
}

/// Jobs of the first engine, and of both.
const OPENAI_JOBS: usize = 7;
const JOBS: usize = OPENAI_JOBS + 3;

fn models() -> Vec<String> {
    Vec::from(["m-1".into()])
}

fn task(which: usize) -> Option<Task> {
    let input = format!("{INPUTS}?X-Signature={SIGNATURE}&x=1");
    let task = match which {
        0 => json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }),
        1 => {
            json!({ "kind": "llm", "messages": [{ "role": "user", "content": "what is it?" }], "reasoning": true,
            "images": [format!("data:image/png;base64,{}", server::PNG_BASE64), input] })
        }
        2 | 7 => json!({ "kind": "image", "prompt": "a cat" }),
        3 => json!({ "kind": "image", "prompt": "a cat", "seed": 7, "ext": "jpeg", "negativePrompt": "dog" }),
        4 => json!({ "kind": "audio_tts", "text": "hello", "ext": "opus" }),
        5 => json!({ "kind": "audio_stt", "inputUrl": input, "timestamps": ["word"] }),
        6 => {
            json!({ "kind": "audio_stt", "inputUrl": "data:audio/wav;base64,UklGRgAAAABXQVZF", "translate": true })
        }
        8 => json!({ "kind": "image", "prompt": "a cat", "seed": u64::MAX, "steps": 4, "cfgScale": 1.5 }),
        9 => json!({ "kind": "image", "prompt": "a cat", "initImageUrl": input }),
        _ => return None,
    };
    Some(Task::from_json(&task).unwrap_or_else(|error| panic!("{error:?}")))
}

fn claim(task: Task) -> Claim {
    Claim {
        job_id: "job-1".into(),
        game_id: "game".into(),
        asset_name: "asset".into(),
        model: "m-1".into(),
        vram_gb_estimate: Finite::ZERO,
        task,
        model_source: None,
    }
}

struct Played<'a> {
    hostile: Hostile<'a>,
    policy: InputPolicy,
    /// What no error may say.
    secrets: Vec<&'static str>,
}

impl Played<'_> {
    fn play<T>(&mut self, recipe: &mut dyn Recipe<T>) -> Result<T, EngineError> {
        let mut happened = Happened::Started;
        for _ in 0..MAX_EFFECTS {
            happened = match recipe.next(happened) {
                Effect::Exchange(request) => {
                    self.check_request(&request);
                    Happened::Exchanged(self.hostile.answer(&request))
                }
                Effect::Pause(span) => {
                    assert!(span <= MAX_PAUSE && !span.is_zero(), "a pause of {span:?}");
                    Happened::Paused
                }
                Effect::Compute(work) => Happened::Computed(work()),
                Effect::Await(_) => panic!("recipes of this crate wait for nobody's future"),
                Effect::Have(_) | Effect::Run(_) | Effect::Serve(_) | Effect::Find(_) => todo!(),
                Effect::Done(outcome) => {
                    if let Err(error) = &outcome {
                        check_error(error, &self.secrets);
                    }
                    return outcome;
                }
            };
        }
        panic!("the recipe never ends");
    }

    fn check_request(&self, request: &HttpRequest) {
        let url = Url::parse(&request.url).unwrap_or_else(|error| panic!("{}: {error}", request.url));
        assert!(request.timeout <= MAX_TIMEOUT && !request.timeout.is_zero(), "{:?}", request.timeout);
        assert!((1..=MAX_ANSWER).contains(&request.answer_limit), "{}", request.answer_limit);
        let length = request.body.as_ref().map_or(0, |body| body.bytes.len());
        assert!(length <= 2 * MAX_BYTES, "a request of {length} bytes");
        let of_server = Url::parse(SERVER).is_ok_and(|server| server.origin() == url.origin());
        if of_server && request.reach == Reach::Any {
            assert_eq!(
                request.bearer.is_some(),
                self.secrets.contains(&KEY),
                "the key goes with each request"
            );
            return;
        }
        // An input, or where one led.
        assert!(request.bearer.is_none(), "the key goes to {url}");
        assert!(request.body.is_none(), "a job goes to {url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert!(url.scheme() == "https" || self.policy.allow_private, "{url} is not encrypted");
        assert_ne!(request.reach, Reach::Loopback, "the internet leads to this machine");
        if !self.policy.allow_private {
            assert_eq!(request.reach, Reach::Public);
            let admitted = match url.host() {
                Some(Host::Ipv4(address)) => Reach::Public.admits(address.into()),
                Some(Host::Ipv6(address)) => Reach::Public.admits(address.into()),
                Some(Host::Domain(name)) => name != "localhost",
                None => false,
            };
            assert!(admitted, "{url} is private");
        }
    }
}

fn check_error(error: &EngineError, secrets: &[&str]) {
    let message = &error.message;
    assert!((1..=2_000).contains(&message.chars().count()), "{} characters", message.chars().count());
    for secret in secrets {
        assert!(!message.contains(secret), "a secret is in an error: {message}");
    }
    assert!(!message.contains(char::is_control), "{message:?}");
}

fn check_output(claim: &Claim, outcome: Result<Output, EngineError>) {
    let Ok(output) = outcome else { return };
    let kind = claim.task.kind();
    match output {
        Output::Json(value) => {
            assert!(kind.result_is_json(), "{kind} is JSON");
            let text = value.to_string();
            assert!(text.len() <= MAX_JSON, "{} bytes of JSON", text.len());
            // Read again within a frame.
            let frame = format!("{{\"result\":{text}}}");
            let read: Value = serde_json::from_str(&frame).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read["result"], *value);
            match kind {
                TaskKind::Llm => {
                    assert_eq!(value["model"], claim.model.as_str());
                    assert!(value["choices"][0]["message"].is_object(), "{value}");
                }
                _ => assert!(value["text"].is_string(), "{value}"),
            }
        }
        Output::Bytes { ext, payload } => {
            assert!(!kind.result_is_json(), "{kind} is bytes");
            let crate::engine::Payload::Memory(bytes) = payload else { panic!("a recipe makes no file") };
            assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
            let format = Format::of(&bytes).unwrap_or_else(|| panic!("{ext} is of no format"));
            assert_eq!(format.ext_as_asked(&ext), ext, "the bytes are {format:?}");
            assert!(
                if kind == TaskKind::Image { format.is_picture() } else { format.is_sound() },
                "{format:?}"
            );
        }
    }
}

fn check_services(outcome: Result<Vec<Service>, EngineError>) {
    for service in outcome.unwrap_or_default() {
        assert!(matches!(service.engine.as_str(), OpenAi::NAME | Gradio::NAME), "{}", service.engine);
        let Models::Listed(models) = service.models else { panic!("a server's models are listed") };
        assert!(!models.is_empty() && models.len() <= 500, "{} models", models.len());
        for model in models {
            assert!((1..=200).contains(&model.len()) && !model.contains(char::is_control), "{model:?}");
        }
    }
}
