//! HTTP exchanges, small and large, and how they go wrong.

use std::time::Duration;

use super::{
    net::{http_answer, segment_of},
    promise::Promise,
    state::State,
};
use crate::{
    drive::Progress,
    engine::Payload,
    http::{HttpAnswer, HttpFailure, HttpRequest, Method},
    studio::{self, Answer, CallId},
    worker::Upload,
};

pub(super) type Outcome = Promise<Result<HttpAnswer, HttpFailure>>;

/// How an exchange goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The request never gets there.
    Lost,
    /// It gets there, and its answer doesn't come back.
    AnswerLost,
    /// Something in between answers for the studio, before it or after it.
    AnswersFor(u16),
    AnswersAfter(u16),
    /// It is never answered.
    Silence,
    /// Something in between tries again by itself, and hands on the first or the second answer.
    Twice,
    /// The connection breaks somewhere in the body, or stops moving there.
    Cut,
    Stall,
}

/// Answers after which an exchange is tried again, and others.
const PASSING: [u16; 5] = [500, 502, 503, 429, 408];
const STATUSES: [u16; 10] = [500, 502, 503, 429, 408, 401, 403, 413, 302, 404];

impl State {
    fn goes_wrong_how(&mut self, is_upload: bool) -> Option<Wrong> {
        if !self.goes_wrong(self.scenario.bad_exchanges) {
            return None;
        }
        // What says that the registration is unknown or refused is for the tests of the registration.
        let status = if is_upload { self.dice.pick(&STATUSES) } else { self.dice.pick(&PASSING) };
        let passing = self.dice.pick(&PASSING);
        Some(match self.dice.below(if is_upload { 8 } else { 6 }) {
            0 => Wrong::Lost,
            1 => Wrong::AnswerLost,
            2 => Wrong::AnswersFor(status),
            // A refusal of what was taken would make a worker say that the job failed, which is out of place then.
            3 => Wrong::AnswersAfter(passing),
            4 => Wrong::Silence,
            5 => Wrong::Twice,
            6 => Wrong::Cut,
            _ => Wrong::Stall,
        })
    }

    /// A registration, or the question for its decision.
    pub(super) fn exchange(&mut self, machine: usize, request: HttpRequest, promise: Outcome) {
        let wrong = self.goes_wrong_how(false);
        self.say(format_args!("box {machine}: {:?} {} {wrong:?}", request.method, request.url));
        let (there, back) = (self.delay(), self.delay());
        self.after(there, move |state| {
            let answer = match wrong {
                Some(Wrong::Lost | Wrong::AnswersFor(_) | Wrong::Silence) => None,
                Some(Wrong::Twice) => {
                    let first = state.serve(machine, &request);
                    let second = state.serve(machine, &request);
                    if state.dice.below(2) == 0 { first } else { second }
                }
                _ => state.serve(machine, &request),
            };
            state.after(back, move |state| state.answer(wrong, answer.as_ref(), promise));
        });
    }

    fn serve(&mut self, machine: usize, request: &HttpRequest) -> Option<Answer> {
        let bearer = request.bearer.clone();
        match request.method {
            Method::Post => {
                let body = request.body.as_ref().map(|body| body.bytes.clone()).unwrap_or_default();
                self.ask(|call| studio::Input::Register { call, peer: format!("10.0.0.{machine}"), body })
            }
            Method::Get => {
                let request_id = segment_of(&request.url, "/register-requests/", "\0");
                self.ask(|call| studio::Input::Poll { call, request_id, bearer })
            }
        }
    }

    /// Brings the answer, or what comes in its place. `None` is a studio that is down.
    fn answer(&mut self, wrong: Option<Wrong>, answer: Option<&Answer>, promise: Outcome) {
        let outcome = match (wrong, answer) {
            (Some(Wrong::AnswersFor(status) | Wrong::AnswersAfter(status)), _) => Ok(HttpAnswer {
                status,
                retry_after: (self.dice.below(3) == 0)
                    .then(|| self.dice.pick(&["2", "soon", "-1"]).to_owned()),
                body: b"<html>something went wrong</html>".to_vec(),
                ..HttpAnswer::default()
            }),
            (Some(Wrong::Silence), _) => {
                // Until the worker has had enough.
                return self.after(Duration::from_secs(7_200), |_| drop(promise));
            }
            (Some(Wrong::Lost | Wrong::AnswerLost | Wrong::Cut), _) => Err(HttpFailure("broken pipe".into())),
            (_, None) => Err(HttpFailure("connection refused".into())),
            (_, Some(answer)) => Ok(http_answer(answer)),
        };
        promise.keep(outcome);
    }

    /// A result's bytes.
    pub(super) fn upload(&mut self, machine: usize, upload: Upload, progress: Progress, promise: Outcome) {
        let mut wrong = self.goes_wrong_how(true);
        let job = segment_of(&upload.url, "/jobs/", "/complete");
        if matches!(wrong, Some(Wrong::AnswersFor(_))) && self.ledger.is_over(&job) {
            // As below: a refusal of what was taken would make a worker say that the job failed.
            wrong = Some(Wrong::AnswersFor(503));
        }
        self.say(format_args!("box {machine}: upload of {job} {wrong:?}"));
        if let Some(Wrong::AnswersFor(status) | Wrong::AnswersAfter(status)) = wrong {
            self.ledger.answered_for(&job, status);
        }
        let there = self.delay();
        self.after(there, move |state| {
            if promise.is_given_up() {
                return;
            }
            if let Some(Wrong::Lost | Wrong::AnswersFor(_) | Wrong::Silence) = wrong {
                return state.answer(wrong, None, promise);
            }
            let flight = Flight { machine, upload, progress, promise, wrong, moved: 0 };
            state.begin(flight);
        });
    }

    fn begin(&mut self, flight: Flight) {
        let answer = self.begin_call(&flight.upload);
        match answer {
            (Some(Answer::Proceed), call) => self.move_on(flight, call),
            (answer, _) => {
                let back = self.delay();
                let Flight { promise, wrong, .. } = flight;
                self.after(back, move |state| state.answer(wrong, answer.as_ref(), promise));
            }
        }
    }

    fn begin_call(&mut self, upload: &Upload) -> (Option<Answer>, CallId) {
        let worker_id = segment_of(&upload.url, "/workers/", "/jobs/");
        let job_id = segment_of(&upload.url, "/jobs/", "/complete").into();
        let bearer = Some(upload.bearer.clone());
        let mut id = CallId(0);
        let answer = self.ask(|call| {
            id = call;
            studio::Input::UploadBegins { call, worker_id, job_id, bearer }
        });
        (answer, id)
    }

    /// The body moves, piece by piece.
    fn move_on(&mut self, mut flight: Flight, call: CallId) {
        let length = flight.upload.envelope.length(flight.upload.payload.len());
        if flight.promise.is_given_up() || !self.desk.receives(call) {
            // The worker gave it up, or the studio's program is another one by now.
            self.tell(studio::Input::UploadBreaks { call });
            return flight.promise.keep(Err(HttpFailure("connection reset by peer".into())));
        }
        let left = length - flight.moved;
        if left == 0 {
            return self.finish(flight, call);
        }
        // In a few pieces, and on a slow link in more: bytes move all the time.
        let piece = left.min(length.div_ceil(4)).min(10 * self.scenario.bandwidth).max(1);
        let stops = self.dice.below(4) == 0 || left == piece;
        match flight.wrong {
            Some(Wrong::Cut) if stops => {
                self.tell(studio::Input::UploadBreaks { call });
                return flight.promise.keep(Err(HttpFailure("connection reset by peer".into())));
            }
            Some(Wrong::Stall) if stops => {
                // No byte moves; the worker has a bound for that, and the studio's server one too.
                return self.after(Duration::from_secs(90), move |state| {
                    state.tell(studio::Input::UploadBreaks { call });
                    drop(flight);
                });
            }
            _ => {}
        }
        let takes = Duration::from_micros(1_000_000 * piece / self.scenario.bandwidth.max(1));
        self.after(takes, move |state| {
            flight.moved += piece;
            flight.progress.advance(piece);
            state.move_on(flight, call);
        });
    }

    fn finish(&mut self, flight: Flight, call: CallId) {
        let Flight { machine, upload, promise, wrong, .. } = flight;
        let mut answer = self.end_call(machine, call, &upload);
        if wrong == Some(Wrong::Twice)
            && let (Some(Answer::Proceed), call) = self.begin_call(&upload)
        {
            let second = self.end_call(machine, call, &upload);
            if self.dice.below(2) == 0 {
                answer = second;
            }
        }
        let back = self.delay();
        self.after(back, move |state| state.answer(wrong, answer.as_ref(), promise));
    }

    fn end_call(&mut self, machine: usize, call: CallId, upload: &Upload) -> Option<Answer> {
        let file = format!("upload-{}", call.0);
        let body = match &upload.payload {
            Payload::Memory(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Payload::File(file) => self.machines[machine].files.get(&file.path).cloned().unwrap_or_default(),
        };
        self.desk.files.insert(file.clone(), body);
        let upload =
            studio::Upload { file, bytes: upload.payload.len(), ext: "webp".into(), prompt: String::new() };
        self.answer_of(call, studio::Input::UploadEnds { call, upload })
    }
}

/// An upload whose body moves.
struct Flight {
    machine: usize,
    upload: Upload,
    progress: Progress,
    promise: Outcome,
    wrong: Option<Wrong>,
    moved: u64,
}
