//! Recorded exchanges: plays a recipe against what is expected of it and answered to it.

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

use super::contract::{Effect, Engine, EngineError, Happened, Output, Payload, Recipe};
use crate::{
    http::{HttpAnswer, HttpFailure, HttpRequest, Method},
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

/// What came of a recipe, and what it did until then.
pub(super) struct Played<T> {
    pub(super) outcome: Result<T, EngineError>,
    pub(super) asked: Vec<HttpRequest>,
    pub(super) pauses: Vec<Duration>,
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
pub(super) fn play<T: core::fmt::Debug>(
    mut recipe: Box<dyn Recipe<T>>,
    steps: Vec<(&str, Answer)>,
) -> Played<T> {
    let mut steps = steps.into_iter();
    let (mut asked, mut pauses) = (Vec::new(), Vec::new());
    let mut happened = Happened::Started;
    loop {
        happened = match recipe.next(happened) {
            Effect::Exchange(request) => {
                let method = if request.method == Method::Get { "GET" } else { "POST" };
                let line = format!("{method} {}", request.url);
                let (wanted, answer) = steps.next().unwrap_or_else(|| panic!("nothing more than {line}"));
                assert_eq!(line, wanted);
                let answer = answer.map(|mut answer| {
                    answer.body.truncate(request.answer_limit);
                    answer
                });
                asked.push(request);
                Happened::Exchanged(answer)
            }
            Effect::Pause(span) => {
                pauses.push(span);
                Happened::Paused
            }
            Effect::Compute(_) | Effect::Await(_) => panic!("nothing is to be computed"),
            other @ (Effect::Have(_) | Effect::Run(_) | Effect::Serve(_) | Effect::Find(_)) => {
                panic!("nothing of this machine is to be used: {other:?}")
            }
            Effect::Done(outcome) => {
                let left: Vec<_> = steps.map(|(wanted, _)| wanted.to_string()).collect();
                assert!(left.is_empty(), "it is over before {left:?}");
                return Played { outcome, asked, pauses };
            }
        };
    }
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
