//! The dialogue of one job with its server.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use serde_json::Value;

use super::{Server, last_words, said};
use crate::{
    engine::contract::EngineError,
    http::{HttpAnswer, HttpBody, HttpRequest},
    wire::Secret,
};

/// The largest result that is JSON, in bytes: it goes out in one frame, which a studio may cap.
pub(in crate::engine) const MAX_JSON: usize = 8 * 1024 * 1024;
/// The largest result that is bytes.
pub(in crate::engine) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The largest answer that carries such bytes as base64 in JSON.
pub(in crate::engine) const MAX_BASE64: usize = MAX_BYTES / 3 * 4 + 64 * 1024;
/// How deep JSON may be nested to be a result. Readers stop at 128, and a frame adds to it.
const MAX_DEPTH: usize = 64;

/// What comes of a [`Call`](super::Call).
pub(in crate::engine) type Answered = Result<HttpAnswer, EngineError>;

/// Makes requests, and errors out of answers, for one job.
#[derive(Clone)]
pub(in crate::engine) struct Dialogue {
    server: Server,
    /// What no error may say: the key, and what gives access to a job's inputs.
    secrets: Vec<Secret>,
}

impl Dialogue {
    pub(in crate::engine) fn new(server: &Server) -> Self {
        Self { server: server.clone(), secrets: server.key.iter().cloned().collect() }
    }

    /// No error will have the query of this address in it.
    pub(in crate::engine) fn conceal(&mut self, address: &str) {
        self.secrets.extend(said::confidential(address));
    }

    /// No error will have this in it.
    pub(in crate::engine) fn conceal_secret(&mut self, secret: &Secret) {
        self.secrets.push(secret.clone());
    }

    /// Asks for `path`, relative to the server's address; of the answer `limit` bytes count.
    pub(in crate::engine) fn get(&self, path: &str, limit: usize) -> HttpRequest {
        self.at(self.server.url(path), limit)
    }

    /// The same for an address that the server named; `None` when it isn't the server's own.
    pub(in crate::engine) fn get_named(&self, address: &str, limit: usize) -> Option<HttpRequest> {
        Some(self.at(self.server.resolve(address)?, limit))
    }

    /// Posts a job, whose answer may take long.
    pub(in crate::engine) fn post(&self, path: &str, body: HttpBody, limit: usize) -> HttpRequest {
        HttpRequest {
            body: Some(body),
            method: crate::http::Method::Post,
            ..self.patient(self.get(path, limit))
        }
    }

    /// The same request, whose answer may take as long as a job.
    pub(in crate::engine) fn patient(&self, request: HttpRequest) -> HttpRequest {
        HttpRequest { timeout: self.server.timeout, ..request }
    }

    fn at(&self, url: String, limit: usize) -> HttpRequest {
        HttpRequest {
            bearer: self.server.key.clone(),
            // One more than counts shows that there is more.
            answer_limit: limit.saturating_add(1),
            ..HttpRequest::get(url)
        }
    }

    /// Another attempt can help. The words are the server's own, if it said any.
    pub(in crate::engine) fn trouble(&self, what: impl fmt::Display, words: &str) -> EngineError {
        EngineError::transient(self.text(what, words))
    }

    /// Another attempt can't help.
    pub(in crate::engine) fn hopeless(&self, what: impl fmt::Display, words: &str) -> EngineError {
        EngineError::permanent(self.text(what, words))
    }

    /// An error of another, with nothing in it that none of ours may say.
    pub(in crate::engine) fn discreet(&self, error: &EngineError) -> EngineError {
        EngineError { message: said::presentable(&error.message, &self.secrets), retryable: error.retryable }
    }

    fn text(&self, what: impl fmt::Display, words: &str) -> String {
        let words = said::presentable(words, &self.secrets);
        let what = said::presentable(&format!("{what}"), &self.secrets);
        if words.is_empty() { what } else { format!("{what}: {words}") }
    }

    fn no_answer(&self, error: &EngineError) -> EngineError {
        self.trouble(format_args!("no answer from {}: does it run there?", self.server), &error.message)
    }

    /// The body of an answer by which a job goes on. What was asked for is `what`: "flux (image)", say.
    pub(in crate::engine) fn accepted(
        &self,
        what: &str,
        outcome: Answered,
        limit: usize,
    ) -> Result<Vec<u8>, EngineError> {
        let answer = outcome.map_err(|error| self.no_answer(&error))?;
        if !answer.is_success() {
            return Err(self.refused(what, &answer));
        }
        if answer.body.len() > limit {
            let mib = limit / (1024 * 1024);
            return Err(
                self.hopeless(format_args!("the answer of {} is larger than {mib} MiB", self.server), "")
            );
        }
        Ok(answer.body)
    }

    fn refused(&self, what: &str, answer: &HttpAnswer) -> EngineError {
        let HttpAnswer { status, body, .. } = answer;
        let words = last_words(body);
        let server = &self.server;
        match status {
            300..=399 => {
                let to = answer.location.as_deref().unwrap_or("");
                let hint =
                    "a redirect is not followed, since the API key would go with it: name where it leads";
                self.trouble(format_args!("{server} answers {status} to {what}: {hint}"), to)
            }
            401 | 403 => {
                self.trouble(format_args!("{server} answers {status} to {what}: check its API key"), &words)
            }
            404 | 405 | 501 => self.hopeless(
                format_args!(
                    "{server} cannot serve {what}: it answers {status}, so it has no such model or API"
                ),
                &words,
            ),
            408 | 409 | 425 | 429 | 500.. => {
                self.trouble(format_args!("{server} answers {status} to {what}"), &words)
            }
            _ => self.hopeless(format_args!("{server} refuses {what} with {status}"), &words),
        }
    }

    /// A success that is not what was wanted.
    pub(in crate::engine) fn not_wanted(&self, wanted: &str, body: &[u8]) -> EngineError {
        let server = &self.server;
        if body.is_empty() {
            return self
                .trouble(format_args!("{server} answers with nothing, where {wanted} was wanted"), "");
        }
        let start = String::from_utf8_lossy(&body[..body.len().min(256)]);
        if said::is_html(&start) {
            let what = format_args!(
                "{server} answers with a web page, where {wanted} was wanted: is this the API's address?"
            );
            return self.trouble(what, &last_words(body));
        }
        self.trouble(format_args!("{server} answers with something that is not {wanted}"), &last_words(body))
    }
}

/// Whether JSON can be read again by whoever gets it in a frame.
pub(in crate::engine) fn shallow(value: &Value) -> bool {
    fn within(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| within(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| within(field, left - 1)),
            _ => true,
        }
    }
    within(value, MAX_DEPTH)
}
