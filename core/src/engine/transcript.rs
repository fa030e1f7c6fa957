//! Recorded exchanges: plays a recipe against what is expected of it and answered to it, by servers and by this machine.

#![allow(
    clippy::unnecessary_wraps,
    reason = "an answer is what a recipe gets, and an outcome what it ends with"
)]

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

use serde_json::Value;

use super::contract::{Effect, Engine, EngineError, Happened, Output, Payload, Recipe, SpilledFile};
use crate::{
    http::{HttpAnswer, HttpFailure, HttpRequest, Method},
    machine::{
        Argument, Ended, FileHad, FileWanted, Made, Part, Process, Program, ProgramFailure, Ran,
        ServerWanted, Serving,
    },
    wire::{Claim, Finite, Task},
};

/// What is answered to a request.
pub(super) type Answer = Result<HttpAnswer, HttpFailure>;

/// A file that is a picture, as far as one looks.
pub(super) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
/// The same in base64.
pub(super) const PNG_BASE64: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAA=";
/// A file that is sound, as far as one looks.
pub(super) const WAV: &[u8] = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0";

/// What a recipe is expected to do next, and what happens to it.
#[derive(Debug)]
pub(super) enum Step {
    /// A request, by its method and address.
    Exchange(String, Answer),
    /// A file, by where it is to be.
    Have(&'static str, Result<(), EngineError>),
    /// The same with what is in it.
    HaveThis(&'static str, &'static str),
    /// A program, by how it is called.
    Run(&'static str, Result<Ran, ProgramFailure>),
    /// A server.
    Serve(Result<Serving, ProgramFailure>),
    /// The server's end.
    Dismiss,
    /// Programs that are looked for.
    Find(Vec<Option<String>>),
}

/// What came of a recipe, and what it did until then.
pub(super) struct Played<T> {
    pub(super) outcome: Result<T, EngineError>,
    pub(super) asked: Vec<HttpRequest>,
    pub(super) pauses: Vec<Duration>,
    pub(super) had: Vec<FileWanted>,
    pub(super) ran: Vec<Process>,
    pub(super) served: Vec<ServerWanted>,
    pub(super) sought: Vec<Vec<String>>,
}

impl<T> Played<T> {
    /// The JSON body of a request.
    pub(super) fn json(&self, at: usize) -> Value {
        let body = self.asked[at].body.as_ref().unwrap();
        assert_eq!(body.content_type, "application/json");
        serde_json::from_slice(&body.bytes).unwrap()
    }

    /// The body of a request, as a text.
    pub(super) fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.asked[at].body.as_ref().unwrap().bytes).into_owned()
    }
}

impl<T: core::fmt::Debug> Played<T> {
    /// Its error, whose text is `message`.
    #[track_caller]
    pub(super) fn fails(&self, retryable: bool, message: &str) {
        let error = self.outcome.as_ref().unwrap_err();
        assert_eq!((error.message.as_str(), error.retryable), (message, retryable));
    }
}

/// Plays `recipe`. Each of `steps` is a request's method and address, and the answer to it; all must come, in
/// this order, and nothing else.
#[track_caller]
pub(super) fn play<T: core::fmt::Debug>(recipe: Box<dyn Recipe<T>>, steps: Vec<(&str, Answer)>) -> Played<T> {
    let steps = steps.into_iter().map(|(line, answer)| Step::Exchange(line.to_string(), answer));
    play_steps(recipe, steps.collect())
}

/// The same with a machine: all of `steps` must come, in this order, and nothing else but pauses.
#[track_caller]
pub(super) fn play_steps<T: core::fmt::Debug>(mut recipe: Box<dyn Recipe<T>>, steps: Vec<Step>) -> Played<T> {
    let mut steps = steps.into_iter();
    let mut played = Played {
        outcome: Err(EngineError::transient("it is not over")),
        asked: Vec::new(),
        pauses: Vec::new(),
        had: Vec::new(),
        ran: Vec::new(),
        served: Vec::new(),
        sought: Vec::new(),
    };
    let mut happened = Happened::Started;
    loop {
        let effect = match recipe.next(happened) {
            Effect::Pause(span) => {
                played.pauses.push(span);
                happened = Happened::Paused;
                continue;
            }
            Effect::Compute(work) => {
                happened = Happened::Computed(work());
                continue;
            }
            Effect::Done(outcome) => {
                let left: Vec<_> = steps.collect();
                assert!(left.is_empty(), "it is over ({outcome:?}) before {left:?}");
                played.outcome = outcome;
                return played;
            }
            effect => effect,
        };
        let step = steps.next().unwrap_or_else(|| panic!("nothing more than {effect:?}"));
        happened = match (effect, step) {
            (Effect::Exchange(request), Step::Exchange(wanted, answer)) => {
                let method = if request.method == Method::Get { "GET" } else { "POST" };
                assert_eq!(format!("{method} {}", request.url), wanted);
                let answer = answer.map(|mut answer| {
                    answer.body.truncate(request.answer_limit);
                    answer
                });
                played.asked.push(request);
                Happened::Exchanged(answer)
            }
            (Effect::Have(file), Step::Have(path, had)) => {
                assert_eq!(file.path, path);
                played.had.push(file.clone());
                Happened::Had(had.map(|()| FileHad { path: file.path, bytes: 1, content: String::new() }))
            }
            (Effect::Have(file), Step::HaveThis(path, content)) => {
                assert_eq!(file.path, path);
                played.had.push(file.clone());
                Happened::Had(Ok(FileHad { path: file.path, bytes: 1, content: content.into() }))
            }
            (Effect::Run(process), Step::Run(called, ran)) => {
                assert_eq!(shown(&process.program), called);
                played.ran.push(process);
                Happened::Ran(ran)
            }
            (Effect::Serve(server), Step::Serve(serving)) => {
                played.served.push(server);
                Happened::Serving(serving)
            }
            (Effect::Dismiss, Step::Dismiss) => Happened::Dismissed,
            (Effect::Find(programs), Step::Find(found)) => {
                played.sought.push(programs);
                Happened::Found(found)
            }
            (effect, step) => panic!("{effect:?}, where {step:?} was expected"),
        };
    }
}

/// How a program is called, in one line: `(name)` is a file in the scratch folder.
pub(super) fn shown(program: &Program) -> String {
    let shown = |argument: &Argument| {
        let parts = argument.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Scratch(name) => format!("({name})"),
            Part::Port => "(port)".into(),
            Part::Key => "(key)".into(),
        });
        let text: String = parts.collect();
        if text.is_empty() || text.contains(' ') { format!("'{text}'") } else { text }
    };
    let variables = program.environment.iter().map(|(name, value)| format!("{name}={}", shown(value)));
    let called = core::iter::once(program.program.clone()).chain(program.arguments.iter().map(shown));
    variables.chain(called).collect::<Vec<_>>().join(" ")
}

/// A program that ended well and made this.
pub(super) fn made(bytes: &[u8]) -> Result<Ran, ProgramFailure> {
    Ok(Ran { ended: Ended { code: Some(0), ..Ended::default() }, made: Some(Made::Memory(bytes.to_vec())) })
}

/// A program that ended well and made a file, which begins like this.
pub(super) fn made_file(head: &[u8]) -> Result<Ran, ProgramFailure> {
    let file = SpilledFile { path: "/tmp/made".into(), bytes: head.len() as u64 };
    Ok(Ran {
        ended: Ended { code: Some(0), ..Ended::default() },
        made: Some(Made::File { file, head: head.to_vec() }),
    })
}

/// A program that ended with this code and these words, and made nothing.
pub(super) fn ended(code: i32, stderr: &str) -> Result<Ran, ProgramFailure> {
    Ok(Ran { ended: Ended { code: Some(code), signal: None, stderr: stderr.into() }, made: None })
}

/// A result that is the file that a program made.
pub(super) fn file(ext: &str, head: &[u8]) -> Result<Output, EngineError> {
    let file = SpilledFile { path: "/tmp/made".into(), bytes: head.len() as u64 };
    Ok(Output::Bytes { ext: ext.into(), payload: Payload::File(file) })
}

/// Plays the job of `task`, on the model `m-1`.
#[track_caller]
pub(super) fn run(engine: &dyn Engine, task: &Value, steps: Vec<(&str, Answer)>) -> Played<Output> {
    play(engine.recipe(&Arc::new(claim(task))), steps)
}

/// The job of `task`, on the model `m-1`.
pub(super) fn claim(task: &Value) -> Claim {
    Claim {
        job_id: "job-1".into(),
        game_id: "game".into(),
        asset_name: "asset".into(),
        model: "m-1".into(),
        vram_gb_estimate: Finite::ZERO,
        task: Task::from_json(task).unwrap(),
        model_source: None,
    }
}

pub(super) fn ok(body: impl AsRef<[u8]>) -> Answer {
    status(200, body)
}

pub(super) fn json(body: &Value) -> Answer {
    ok(body.to_string())
}

pub(super) fn status(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Ok(HttpAnswer { status, body: body.as_ref().to_vec(), ..HttpAnswer::default() })
}

pub(super) fn redirect(status: u16, location: &str) -> Answer {
    Ok(HttpAnswer { status, location: Some(location.into()), ..HttpAnswer::default() })
}

pub(super) fn broken(why: &str) -> Answer {
    Err(HttpFailure(why.into()))
}

/// A result that is bytes.
pub(super) fn bytes(ext: &str, bytes: &[u8]) -> Result<Output, EngineError> {
    Ok(Output::Bytes { ext: ext.into(), payload: Payload::from(bytes.to_vec()) })
}

/// A result that is JSON.
pub(super) fn result(value: Value) -> Result<Output, EngineError> {
    Ok(Output::Json(Arc::new(value)))
}
