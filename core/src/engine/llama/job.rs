//! One chat, from its files to its answer.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use serde_json::Value;

use super::{LlamaCpp, files::Files};
use crate::{
    engine::{
        chat::{self, Fetched, Pictures, completion},
        contract::{Effect, EngineError, Happened, Output, Recipe},
        program::Words,
        refusal::interrupted,
        server::{Answered, Call, Dialogue, MAX_JSON, Server},
    },
    http::{HttpAnswer, HttpBody, HttpRequest, Reach},
    machine::{Argument, FileHad, Part, Program, ProgramFailure, ServerWanted, Serving},
    wire::{Claim, CliDefaults, Secret, task::LlmTask},
};

/// The context where the offer names none, in tokens.
const CONTEXT: u32 = 8192;
/// More layers than any model has: all go to the GPU, where there is one.
const ALL_LAYERS: &str = "999";
/// How long a server may load its model: a large one from a slow disk.
const LOADING: Duration = Duration::from_secs(20 * 60);
/// How long to wait before the first look whether it has, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);
/// How long a server that loads may take to say so.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that broke is waited for to turn out as the server's end.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// The recipe.
pub(super) struct Job {
    engine: LlamaCpp,
    claim: Arc<Claim>,
    task: LlmTask,
    /// What gives access to the pictures, and the key of the server.
    secrets: Vec<Secret>,
    pictures: Vec<Fetched>,
    files: Files,
    had: Vec<FileHad>,
    /// Whether the server has lost its port to somebody else.
    is_relaunched: bool,
    stage: Stage,
}

enum Stage {
    Gathering(Pictures),
    Having,
    /// The server was wanted.
    Serving(Loading),
    Looking {
        loading: Loading,
        serving: Serving,
    },
    Waiting(Loading),
    /// It has loaded, and the request is made.
    Writing(Dialogue),
    Asking {
        call: Call,
        dialogue: Dialogue,
    },
    /// The connection broke: has the server ended?
    Doubting(EngineError),
    /// It has not, and goes before the job fails with this.
    Dismissing(EngineError),
}

/// How long a server has been loading, at most.
#[derive(Clone, Copy, Default)]
struct Loading {
    waited: Duration,
    /// What the questions may have taken that were not answered. Answers come at once.
    asked: Duration,
}

impl Job {
    pub(super) fn new(engine: LlamaCpp, claim: Arc<Claim>, mut task: LlmTask) -> Self {
        if let Some(source) = &claim.model_source {
            add_defaults(&mut task, &source.cli_defaults);
        }
        let pictures = Pictures::of(&mut task, engine.inputs);
        let secrets = pictures.addresses().flat_map(crate::engine::server::confidential).collect();
        Self {
            engine,
            claim,
            task,
            secrets,
            pictures: Vec::new(),
            files: Files { wanted: Vec::new(), weights: 0, projector: None },
            had: Vec::new(),
            is_relaunched: false,
            stage: Stage::Gathering(pictures),
        }
    }

    fn words(&self) -> Words<'_> {
        Words { program: &self.engine.program, secrets: &self.secrets }
    }

    fn gathered(&mut self, pictures: Vec<Fetched>) -> Effect {
        let files =
            Files::of(&self.engine.models_root, self.engine.inputs, &self.claim, !pictures.is_empty());
        match files {
            Ok(files) => {
                self.files = files;
                self.pictures = pictures;
                self.stage = Stage::Having;
                self.have_next()
            }
            Err(error) => fail(error),
        }
    }

    fn have_next(&mut self) -> Effect {
        match self.files.wanted.get(self.had.len()) {
            Some(file) => Effect::Have(file.clone()),
            None => self.serve(Loading::default()),
        }
    }

    fn serve(&mut self, loading: Loading) -> Effect {
        self.stage = Stage::Serving(loading);
        Effect::Serve(self.wanted())
    }

    fn wanted(&self) -> ServerWanted {
        let path =
            |at: usize| Argument::from(self.had.get(at).map(|had| had.path.clone()).unwrap_or_default());
        let defaults = self.claim.model_source.as_ref().map(|source| &source.cli_defaults);
        let context = defaults.and_then(|defaults| defaults.context_size).filter(|context| *context > 0);
        // The server takes an `int`, and no more than the model was trained with.
        let context = context.unwrap_or(CONTEXT).min(i32::MAX.unsigned_abs());
        let mut arguments: Vec<Argument> = Vec::from([
            "--host".into(),
            "127.0.0.1".into(),
            "--port".into(),
            Part::Port.into(),
            "--model".into(),
            path(self.files.weights),
            "--ctx-size".into(),
            format!("{context}").into(),
            "--n-gpu-layers".into(),
            ALL_LAYERS.into(),
            // One job at a time, which has the whole context.
            "--parallel".into(),
            "1".into(),
            // Builds before it became the default cut what doesn't fit.
            "--no-context-shift".into(),
            "--jinja".into(),
        ]);
        if let Some(projector) = self.files.projector {
            arguments.extend(["--mmproj".into(), path(projector)]);
        }
        ServerWanted {
            program: Program {
                program: self.engine.program.clone(),
                arguments,
                // Others can read arguments.
                environment: Vec::from([("LLAMA_API_KEY".to_owned(), Part::Key.into())]),
                inherits: Vec::new(),
            },
            loads: self.had.iter().map(|had| had.content.clone()).collect(),
            idle: self.engine.idle,
        }
    }

    fn served(&mut self, loading: Loading, outcome: Result<Serving, ProgramFailure>) -> Effect {
        let serving = match outcome {
            Ok(serving) => serving,
            Err(failure) if !self.is_relaunched && is_of_port(&failure) => {
                self.is_relaunched = true;
                return self.serve(loading);
            }
            Err(failure) => return fail(self.words().failed(&failure)),
        };
        if !self.secrets.contains(&serving.key) {
            self.secrets.push(serving.key.clone());
        }
        let request = HttpRequest {
            timeout: HEALTH_TIMEOUT,
            reach: Reach::Loopback,
            ..HttpRequest::get(format!("{}/health", serving.base.trim_end_matches('/')))
        };
        self.stage = Stage::Looking { loading, serving };
        Effect::Exchange(request)
    }

    fn looked(&mut self, loading: Loading, serving: &Serving, answer: Option<&HttpAnswer>) -> Effect {
        let Loading { waited, asked } = loading;
        let asked = if answer.is_some() { asked } else { asked + HEALTH_TIMEOUT };
        let what = match answer.map(|answer| answer.status) {
            Some(200) => return self.ask(serving),
            // It loads its model, or doesn't listen yet.
            Some(503) | None if waited + asked < LOADING => {
                let wait = waited.clamp(FIRST_LOOK, LAST_LOOK);
                self.stage = Stage::Waiting(Loading { waited: waited + wait, asked });
                return Effect::Pause(wait);
            }
            Some(503) | None => {
                format!("has not loaded the model within {} minutes", LOADING.as_secs() / 60)
            }
            Some(status) => format!("answers {status} to whether it has loaded the model"),
        };
        let error = self.words().trouble(what, "");
        self.dismiss(error)
    }

    /// Fails, and leaves no server behind that is of no use.
    fn dismiss(&mut self, error: EngineError) -> Effect {
        self.stage = Stage::Dismissing(error);
        Effect::Dismiss
    }

    fn ask(&mut self, serving: &Serving) -> Effect {
        let server = Server::new(&serving.base).and_then(|server| server.with_key(serving.key.clone()));
        let server = match server {
            Ok(server) => server.named(LlamaCpp::PROGRAM),
            Err(error) => return fail(self.words().trouble("can't be asked", &format!("{error}"))),
        };
        let mut dialogue = Dialogue::new(&server);
        for secret in &self.secrets {
            dialogue.conceal_secret(secret);
        }
        self.stage = Stage::Writing(dialogue);
        chat::write(&self.claim.model, &self.task, core::mem::take(&mut self.pictures))
    }

    fn post(&mut self, dialogue: Dialogue, body: HttpBody) -> Effect {
        let request = dialogue.post(chat::PATH, body, MAX_JSON);
        let (call, effect) = Call::begin(HttpRequest { reach: Reach::Loopback, ..request });
        self.stage = Stage::Asking { call, dialogue };
        effect
    }

    fn answered(&mut self, outcome: Answered) -> Effect {
        let Stage::Asking { dialogue, .. } = &self.stage else { return fail(interrupted()) };
        let broke = outcome.is_err();
        let read =
            dialogue.accepted(&format!("{} (llm)", self.claim.model), outcome, MAX_JSON).and_then(|body| {
                match completion(&body, &self.claim.model) {
                    Some(completion) => Ok(Output::Json(Arc::new(completion))),
                    None => Err(dialogue.not_wanted("a chat completion", &body)),
                }
            });
        match read {
            Err(error) if broke => {
                self.stage = Stage::Doubting(error);
                Effect::Pause(LAST_BREATH)
            }
            read => Effect::Done(read),
        }
    }
}

/// Whether a server ended because somebody else listens on its port, which was free when it was chosen.
fn is_of_port(failure: &ProgramFailure) -> bool {
    let ProgramFailure::Ended { ended, .. } = failure else { return false };
    let said = String::from_utf8_lossy(&ended.stderr).to_ascii_lowercase();
    ["couldn't bind", "failed to bind", "address already in use"].iter().any(|words| said.contains(words))
}

/// What the model wants where the task does not say.
fn add_defaults(task: &mut LlmTask, defaults: &CliDefaults) {
    let Some(Value::Object(defaults)) = &defaults.chat_template_kwargs else { return };
    let own = task.chat_template_kwargs.get_or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Value::Object(own) = own {
        for (name, value) in defaults {
            own.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn fail(error: EngineError) -> Effect {
    Effect::Done(Err(error))
}

impl Recipe for Job {
    fn next(&mut self, happened: Happened) -> Effect {
        match (&mut self.stage, happened) {
            (Stage::Gathering(pictures), happened) => {
                pictures.next(happened).and_then(|outcome| match outcome {
                    Ok(pictures) => self.gathered(pictures),
                    Err(error) => fail(EngineError {
                        message: crate::engine::server::presentable(&error.message, &self.secrets),
                        ..error
                    }),
                })
            }
            (Stage::Having, Happened::Had(Ok(file))) => {
                self.had.push(file);
                self.have_next()
            }
            (Stage::Having, Happened::Had(Err(error))) => fail(error),
            (Stage::Serving(loading), Happened::Serving(outcome)) => {
                let loading = *loading;
                self.served(loading, outcome)
            }
            (Stage::Looking { loading, serving }, Happened::Exchanged(outcome)) => {
                let (loading, serving) = (*loading, serving.clone());
                self.looked(loading, &serving, outcome.ok().as_ref())
            }
            (Stage::Waiting(loading), Happened::Paused) => {
                let loading = *loading;
                self.serve(loading)
            }
            (Stage::Writing(dialogue), happened) => match chat::written(happened) {
                Ok(body) => {
                    let dialogue = dialogue.clone();
                    self.post(dialogue, body)
                }
                Err(error) => fail(error),
            },
            (Stage::Asking { call, .. }, happened) => {
                call.next(happened).and_then(|outcome| self.answered(outcome))
            }
            (Stage::Doubting(_), Happened::Paused) => Effect::Serve(self.wanted()),
            (Stage::Doubting(error), Happened::Serving(Ok(_))) => {
                let error = error.clone();
                self.dismiss(error)
            }
            (Stage::Doubting(_), Happened::Serving(Err(failure))) => fail(self.words().failed(&failure)),
            (Stage::Dismissing(error), Happened::Dismissed) => fail(error.clone()),
            _ => fail(interrupted()),
        }
    }
}
