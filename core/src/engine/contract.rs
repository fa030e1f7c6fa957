//! The types that engines, the worker and the driver share.

use alloc::{
    boxed::Box,
    collections::BTreeSet,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::{fmt, pin::Pin, time::Duration};

use serde_json::Value;

use crate::{
    http::{HttpAnswer, HttpFailure, HttpRequest},
    machine::{FileHad, FileWanted, Process, ProgramFailure, Ran, ServerWanted, Serving},
    wire::{Capabilities, Claim, TaskKind},
};

/// Results in memory that are larger than this, in bytes, are moved to a private file (section 6).
pub const SPILL_ABOVE: u64 = 64 * 1024 * 1024;

/// Something that runs jobs.
pub trait Engine: Send + Sync + 'static {
    /// The name for the configuration and the capabilities: `synthetic`, `gradio`, …
    fn name(&self) -> &str;

    /// What can be served now (section 4). Asked at start and whenever the configuration changes.
    fn services(&self) -> Vec<Service>;

    /// How to run this job. It is asked only for jobs that its services cover; a job that turns out to be
    /// impossible ends with an error from its recipe.
    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe>;

    /// Finds out what can be served now, where that takes a question; none where [`Engine::services`] knows it.
    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        None
    }

    /// Whether this job loads a model into this machine's memory. Asked for those of engines that may
    /// ([`Settings::measured_engines`](crate::worker::Settings::measured_engines)) only.
    fn loads_model(&self, _claim: &Claim) -> bool {
        true
    }
}

impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn services(&self) -> Vec<Service> {
        (**self).services()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        (**self).recipe(claim)
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        (**self).survey()
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        (**self).loads_model(claim)
    }
}

/// What an engine found out about what it can serve now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// What it serves.
    pub services: Vec<Service>,
    /// What it lacks for more.
    pub missing: Vec<Missing>,
}

/// Something that an engine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The engine.
    pub engine: String,
    /// What is not there, in a few words: "llama-server", "an app at 127.0.0.1:7860".
    pub what: String,
    /// How a person gets it, as a sentence.
    pub how: String,
}

/// One kind of task that an engine serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The kind.
    pub kind: TaskKind,
    /// The engine as `modelSource.engine` names it.
    pub engine: String,
    /// Which models.
    pub models: Models,
}

/// Which models an engine serves for a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Models {
    /// These, whether or not the offer says where they come from.
    Listed(Vec<String>),
    /// Any whose files the offer names; none without.
    Sourced,
}

impl Service {
    /// Whether it covers a job (section 5). One that names its engine never runs on another one: made-up pictures must
    /// never pass for real ones.
    pub fn covers(&self, kind: TaskKind, model: &str, engine: Option<&str>) -> bool {
        self.kind == kind
            && engine.is_none_or(|engine| engine == self.engine)
            && match &self.models {
                Models::Listed(models) => models.iter().any(|listed| listed == model),
                Models::Sourced => engine.is_some(),
            }
    }
}

/// Whether one of `services` covers a job: see [`Service::covers`].
pub fn serves(services: &[Service], kind: TaskKind, model: &str, engine: Option<&str>) -> bool {
    services.iter().any(|service| service.covers(kind, model, engine))
}

/// Says in `capabilities` what `services` cover (section 4): kinds, models, and the engines where the worker is of a
/// generation that names them.
pub fn advertise(services: &[Service], capabilities: &mut Capabilities) {
    capabilities.set_models(services.iter().map(|service| {
        let models = match &service.models {
            Models::Listed(models) => models.clone(),
            // They come with their offers, and can't be listed.
            Models::Sourced => Vec::new(),
        };
        (service.kind, models)
    }));
    if capabilities.model_engines.is_some() {
        let engines: BTreeSet<_> = services.iter().map(|service| service.engine.clone()).collect();
        capabilities.model_engines = Some(engines.into_iter().collect());
    }
}

/// How one job is run: asked with what happened, it says what to do next.
///
/// The first call gets [`Happened::Started`]; each later one gets the outcome of the effect before. After
/// [`Effect::Done`] it is not called again. What comes of it is a job's result, or what a survey of an engine
/// found out.
pub trait Recipe<T = Output>: Send {
    /// The next effect.
    fn next(&mut self, happened: Happened) -> Effect<T>;
}

/// What a recipe wants done.
pub enum Effect<T = Output> {
    /// Run this closure on a thread of its own; it may block and take long.
    Compute(Box<dyn FnOnce() -> Result<Output, EngineError> + Send>),
    /// Wait for this future, which must not block. When the run is cancelled it is dropped.
    Await(Pin<Box<dyn Future<Output = Result<Output, EngineError>> + Send>>),
    /// Exchange one HTTP request.
    Exchange(HttpRequest),
    /// Have a file on this machine, downloaded if need be.
    Have(FileWanted),
    /// Run a program to its end.
    Run(Process),
    /// Have a server run: the one that was asked for last, if it is the same and still runs. Ask again to find out
    /// whether it has ended meanwhile.
    Serve(ServerWanted),
    /// End the server that runs, which may hang, and wait until it is gone: the next job is to get another one.
    Dismiss,
    /// Find programs, by path or by a name in `PATH`.
    Find(Vec<String>),
    /// Wait.
    Pause(Duration),
    /// It is over.
    Done(Result<T, EngineError>),
}

impl<T> Effect<T> {
    /// The same effect of a larger recipe, which goes on with `next` when this part of it is over.
    pub(super) fn and_then<U>(self, next: impl FnOnce(Result<T, EngineError>) -> Effect<U>) -> Effect<U> {
        match self {
            Self::Compute(work) => Effect::Compute(work),
            Self::Await(work) => Effect::Await(work),
            Self::Exchange(request) => Effect::Exchange(request),
            Self::Have(file) => Effect::Have(file),
            Self::Run(process) => Effect::Run(process),
            Self::Serve(server) => Effect::Serve(server),
            Self::Dismiss => Effect::Dismiss,
            Self::Find(programs) => Effect::Find(programs),
            Self::Pause(span) => Effect::Pause(span),
            Self::Done(outcome) => next(outcome),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Effect<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compute(_) => f.write_str("Compute(…)"),
            Self::Await(_) => f.write_str("Await(…)"),
            Self::Exchange(request) => f.debug_tuple("Exchange").field(request).finish(),
            Self::Have(file) => f.debug_tuple("Have").field(file).finish(),
            Self::Run(process) => f.debug_tuple("Run").field(process).finish(),
            Self::Serve(server) => f.debug_tuple("Serve").field(server).finish(),
            Self::Dismiss => f.write_str("Dismiss"),
            Self::Find(programs) => f.debug_tuple("Find").field(programs).finish(),
            Self::Pause(span) => f.debug_tuple("Pause").field(span).finish(),
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
        }
    }
}

/// What happened to a recipe's last effect.
#[derive(Debug)]
pub enum Happened {
    /// Nothing yet: the run starts.
    Started,
    /// The closure returned or the future was ready; or it panicked, and that became an error.
    Computed(Result<Output, EngineError>),
    /// The exchange ended.
    Exchanged(Result<HttpAnswer, HttpFailure>),
    /// The file is there, or can't be had.
    Had(Result<FileHad, EngineError>),
    /// The program ended.
    Ran(Result<Ran, ProgramFailure>),
    /// The server runs, or has ended since the run asked for it.
    Serving(Result<Serving, ProgramFailure>),
    /// No server runs any more.
    Dismissed,
    /// Where each of the programs is; none where there is none.
    Found(Vec<Option<String>>),
    /// The pause is over.
    Paused,
}

/// What an engine made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The result of a kind whose result is JSON.
    Json(Arc<Value>),
    /// The result of a kind whose result is bytes.
    Bytes {
        /// What the bytes are, as a plain extension: of what was made, not of what was asked for.
        ext: String,
        /// The bytes.
        payload: Payload,
    },
}

/// Bytes in memory or in a file. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// In memory.
    Memory(Arc<Vec<u8>>),
    /// In a file that belongs to the result and is deleted with it.
    File(SpilledFile),
}

/// A result that lies in a private file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpilledFile {
    /// Where.
    pub path: Arc<str>,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Payload {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.bytes,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(Arc::new(bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

/// Why a job could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// For a person to act on; at most 2,000 characters.
    pub message: String,
    /// Whether another attempt can help.
    pub retryable: bool,
}

impl EngineError {
    /// The longest message, in characters.
    pub const MAX_CHARS: usize = 2_000;

    /// Another attempt can't help: bad input, or something that this engine doesn't do.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { message: cut(&message.to_string()), retryable: false }
    }

    /// Another attempt can help.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self { message: cut(&message.to_string()), retryable: true }
    }

    /// The same, with a message that is no longer than it may be.
    pub(crate) fn bounded(self) -> Self {
        Self { message: cut(&self.message), ..self }
    }
}

fn cut(message: &str) -> String {
    message.chars().take(EngineError::MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn an_engine_that_is_named_is_never_substituted() {
        let services = [
            Service {
                kind: TaskKind::Image,
                engine: "synthetic".into(),
                models: Models::Listed(vec!["synthetic".into()]),
            },
            Service { kind: TaskKind::Llm, engine: "llama-cpp".into(), models: Models::Sourced },
        ];
        for (kind, model, engine, served) in [
            (TaskKind::Image, "synthetic", None, true),
            (TaskKind::Image, "synthetic", Some("synthetic"), true),
            (TaskKind::Image, "synthetic", Some("sd-cpp"), false),
            (TaskKind::Image, "flux1-dev", None, false),
            (TaskKind::Image, "flux1-dev", Some("synthetic"), false),
            (TaskKind::Llm, "gemma", Some("llama-cpp"), true),
            (TaskKind::Llm, "gemma", None, false),
            (TaskKind::Video, "synthetic", None, false),
        ] {
            assert_eq!(serves(&services, kind, model, engine), served, "{kind} {model} {engine:?}");
        }
    }

    #[test]
    fn an_error_is_at_most_2000_characters() {
        assert_eq!(EngineError::transient("é".repeat(3_000)).message.chars().count(), 2_000);
    }
}
