//! Fuzz body: engine recipes that a hostile server and a hostile machine answer.

#![allow(clippy::panic, reason = "a broken promise is a finding")]

mod machine;
mod offers;
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

use self::{
    machine::{CHILD, Seen},
    server::Hostile,
};
use crate::{
    engine::{
        Effect, Engine, EngineError, Happened, Models, Multi, Output, Payload, Recipe, Server, Survey,
        command::Command, format::Format, gradio::Gradio, input::InputPolicy, llama::LlamaCpp,
        openai::OpenAi, sd::SdCpp,
    },
    http::{HttpRequest, Reach},
    wire::{Claim, Finite, Secret, Task, TaskForm, TaskKind, media::is_plain_ext},
};

/// Where the server is.
const SERVER: &str = "http://engine.test:8080/app";
/// The key that it wants.
const KEY: &str = "sk-0123456789abcdef";
/// What gives access to an input.
const SIGNATURE: &str = "c2lnbmF0dXJl%2Bof-an-input";
/// Where the inputs are.
const INPUTS: &str = "https://files.test/in/sound.mp3";

/// More effects than any job needs, whatever it is answered; and more than one needs whose server loads its model.
const MAX_EFFECTS: usize = 200;
const MAX_EFFECTS_LOADING: usize = 2_500;
/// The longest that a recipe may wait at a time.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The longest that it may wait for an answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The most of an answer that it may want, in bytes.
const MAX_ANSWER: usize = 96 * 1024 * 1024;
/// The largest result that is bytes, and the largest that is JSON.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const MAX_JSON: usize = 16 * 1024 * 1024;

/// Plays one job, or one survey, against a server and a machine whose answers `data` chooses. The first byte is the job;
/// each answer then takes its bytes in turn, and where there are none left all answer as they should. Jobs of engines that
/// run programs take their texts and files from the bytes first.
///
/// # Panics
/// When a promise of the recipes is broken: they end within a bounded number of effects, ask only the server that
/// was configured, the one that they started and the addresses of the inputs, carry the key to its server alone and a
/// secret into no error, keep files in the models' root alone, give a program no flag that a job chose, and give a result
/// of the right kind and size, whose extension is true.
pub fn engines(data: &[u8]) {
    let (job, answers) = data.split_first().map_or((0, data), |(job, answers)| (*job, answers));
    let policy = InputPolicy { allow_private: job & 0x40 != 0 };
    let mut played = Played {
        hostile: Hostile::new(answers),
        policy,
        secrets: Vec::new(),
        seen: Seen::default(),
        flags: &[],
    };
    let which = usize::from(job & 0x3f) % (SURVEYED + SURVEYS);
    if which < SERVED {
        let server = played.server(job);
        let Some(task) = task(which) else { return };
        let engine: Box<dyn Engine> = match which {
            0..OPENAI_JOBS => Box::new(OpenAi::new(server, Vec::new(), policy)),
            _ => Box::new(Gradio::new(server, models())),
        };
        played.job(&*engine, claim(task));
        return;
    }
    let (engine, claim): (Box<dyn Engine>, _) = match which - SERVED {
        kind @ 0..KINDS => {
            let (engine, claim) = offers::command(&mut played.hostile, policy, TaskKind::ALL[kind]);
            played.flags = &offers::FLAGS;
            (Box::new(engine), claim)
        }
        other @ 6..8 => {
            let (engine, claim) = offers::llama(&mut played.hostile, policy, other == 7);
            (Box::new(engine), claim)
        }
        other @ 8..10 => {
            let (engine, claim) = offers::sd(&mut played.hostile, policy, other == 9);
            (Box::new(engine), claim)
        }
        other => {
            let engine: Box<dyn Engine> = match other {
                10 => Box::new(OpenAi::new(played.server(job), Vec::new(), policy)),
                11 => Box::new(Gradio::new(played.server(job), models())),
                _ => Box::new(Multi::new(alloc::vec![
                    Arc::new(offers::command(&mut played.hostile, policy, TaskKind::Video).0)
                        as Arc<dyn Engine>,
                    Arc::new(offers::llama(&mut played.hostile, policy, false).0),
                    Arc::new(offers::sd(&mut played.hostile, policy, false).0),
                ])),
            };
            let Some(mut survey) = engine.survey() else { return };
            let survey = played.play(&mut *survey).unwrap_or_else(|error| panic!("a survey fails: {error}"));
            check_survey(survey, &played.secrets);
            return;
        }
    };
    if let Some(claim) = claim {
        played.job(&*engine, claim);
    }
}

/// Jobs of the first engine, and of both that ask a server.
const OPENAI_JOBS: usize = 7;
const SERVED: usize = OPENAI_JOBS + 3;
/// One command of each kind, and two jobs for each engine of model files.
const KINDS: usize = TaskKind::ALL.len();
const SURVEYED: usize = SERVED + KINDS + 4;
const SURVEYS: usize = 3;

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
    seen: Seen,
    /// Flags of the command, if it is one.
    flags: &'static [&'static str],
}

impl Played<'_> {
    /// The server that the operator named, which may want a key.
    fn server(&mut self, job: u8) -> Server {
        let server = Server::new(SERVER).unwrap_or_else(|error| panic!("{error}"));
        if job & 0x80 != 0 {
            return server;
        }
        self.secrets.push(KEY);
        server.with_key(Secret::from(KEY)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn job(&mut self, engine: &dyn Engine, claim: Claim) {
        if claim.task.to_json(TaskForm::Camel).to_string().contains(SIGNATURE) {
            self.secrets.push(SIGNATURE);
        }
        let claim = Arc::new(claim);
        let outcome = self.play(&mut *engine.recipe(&claim));
        check_output(&claim, outcome, self.seen.head.as_deref());
    }

    fn play<T>(&mut self, recipe: &mut dyn Recipe<T>) -> Result<T, EngineError> {
        let mut happened = Happened::Started;
        for effects in 0..MAX_EFFECTS_LOADING {
            assert!(effects < MAX_EFFECTS || self.seen.serves, "the recipe never ends");
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
                Effect::Have(file) => Happened::Had(Seen::have(&mut self.hostile, &file)),
                Effect::Run(process) => Happened::Ran(self.seen.run(&mut self.hostile, &process, self.flags)),
                Effect::Serve(server) => {
                    let serving = self.seen.serve(&mut self.hostile, &server);
                    if serving.is_ok() && !self.secrets.contains(&KEY) {
                        // Nobody can have said it before.
                        self.secrets.push(KEY);
                    }
                    Happened::Serving(serving)
                }
                Effect::Dismiss => {
                    assert!(self.seen.serves, "there is nothing to end");
                    Happened::Dismissed
                }
                Effect::Find(programs) => Happened::Found(Seen::find(&mut self.hostile, &programs)),
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
        let of = |base: &str| Url::parse(base).is_ok_and(|base| base.origin() == url.origin());
        if of(CHILD) && self.seen.serves && request.reach == Reach::Loopback {
            assert_eq!(request.bearer.is_some(), request.body.is_some(), "the key goes with what is asked");
            return;
        }
        if of(SERVER) && request.reach == Reach::Any {
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

fn check_output(claim: &Claim, outcome: Result<Output, EngineError>, head: Option<&[u8]>) {
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
            assert!(is_plain_ext(&ext), "{ext}");
            let length = usize::try_from(payload.len()).unwrap_or(usize::MAX);
            assert!((1..=MAX_BYTES).contains(&length), "{length} bytes");
            let format = match &payload {
                Payload::Memory(bytes) => Format::of(bytes),
                Payload::File(_) => Format::of(head.unwrap_or_default()),
            };
            let Some(format) = format else {
                // A command may make what nobody here knows; then it says so by its name.
                assert!(head.is_some() && Format::by_ext(&ext).is_none(), "{ext} is of no format");
                return;
            };
            assert_eq!(format.ext_as_asked(&ext), ext, "the bytes are {format:?}");
            let suits = match kind {
                TaskKind::Image => format.is_picture(),
                TaskKind::AudioTts => format.is_sound() || matches!(format, Format::Mp4 | Format::Webm),
                TaskKind::Mesh => format == Format::Glb,
                _ => !format.is_sound(),
            };
            assert!(suits, "{format:?} for {kind}");
        }
    }
}

fn check_survey(survey: Survey, secrets: &[&str]) {
    for service in survey.services {
        let of_files = matches!(service.engine.as_str(), LlamaCpp::NAME | SdCpp::NAME);
        let known =
            of_files || matches!(service.engine.as_str(), OpenAi::NAME | Gradio::NAME | Command::NAME);
        assert!(known, "{}", service.engine);
        let Models::Listed(models) = service.models else {
            assert!(of_files, "a server's models are listed");
            continue;
        };
        assert!(!models.is_empty() && models.len() <= 500, "{} models", models.len());
        for model in models {
            assert!((1..=200).contains(&model.len()) && !model.contains(char::is_control), "{model:?}");
        }
    }
    for missing in survey.missing {
        for text in [missing.engine, missing.what, missing.how] {
            check_error(&EngineError { message: text, retryable: true }, secrets);
        }
    }
}
