//! One job without a studio: to see that an engine works.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::{Either, select};
use serde_json::{Map, Value, json};
use studio_worker_core::{
    engine::{Effect, Engine, EngineError, Happened, Models, Output, Payload, Recipe, Service, serves},
    machine::Transfer,
    wire::{Claim, ClaimProblem, Finite, ModelSource, Task, TaskForm, TaskKind, media},
};

use crate::runtimes::Runtime;

/// What a job is to be made of.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The model; none: the first that is served for the kind.
    pub model: Option<String>,
    /// Where the model comes from.
    pub source: Option<ModelSource>,
    /// Parameters of the task by name, in the form of either generation.
    pub parameters: BTreeMap<String, String>,
}

/// Why a job could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No engine serves the kind.
    #[error("no engine serves {0} here: `studio-worker engines` says what is missing")]
    NotServed(TaskKind),
    /// No engine serves the model.
    #[error("no engine serves {kind} with the model \"{model}\" here: there is {}", listed(served))]
    NoSuchModel {
        /// The kind.
        kind: TaskKind,
        /// The model.
        model: String,
        /// Models that are served.
        served: Vec<String>,
    },
    /// A parameter can't be used.
    #[error(transparent)]
    Parameter(#[from] ClaimProblem),
    /// A parameter that such tasks don't have.
    #[error("{kind} jobs have no parameter `{name}`")]
    NoSuchParameter {
        /// The kind.
        kind: TaskKind,
        /// The name.
        name: String,
    },
    /// An input that is a file.
    #[error("the input {} can't be read: {source}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine did not do it.
    #[error("{0}")]
    Failed(EngineError),
    /// The engine took too long.
    #[error("the engine took longer than {} s: `job_limit_secs` in the configuration sets the limit", .0.as_secs())]
    TooLong(Duration),
    /// What it made can't be written.
    #[error("the result can't be written to {}: {source}", path.display())]
    Output {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn listed(models: &[String]) -> String {
    if models.is_empty() {
        return "none but those whose offers say where their files are (--model-source)".into();
    }
    models.iter().map(|model| format!("\"{model}\"")).collect::<Vec<_>>().join(", ")
}

/// What a job of `kind` asks for when nobody says anything else; an input must be given where one is needed.
pub fn example(kind: TaskKind) -> Value {
    let mut task = match kind {
        TaskKind::Image => json!({ "prompt": "a lighthouse on a cliff at dusk", "ext": "png" }),
        TaskKind::Llm => {
            json!({ "messages": [{ "role": "user", "content": "Describe a lighthouse in two sentences." }] })
        }
        TaskKind::AudioTts => json!({ "text": "The lamp is lit, and the sea is calm tonight." }),
        TaskKind::AudioStt | TaskKind::Mesh => json!({}),
        TaskKind::Video => {
            json!({ "prompt": "waves against the cliff", "seconds": 2.0, "width": 384, "height": 256 })
        }
    };
    task["kind"] = kind.name().into();
    task
}

/// Parameters whose values are texts, whatever they look like.
const TEXTS: [&str; 8] =
    ["prompt", "negative_prompt", "text", "voice", "language", "ext", "system", "sampling_method"];
/// Parameters that name an input: an address, or a file on this machine.
const INPUTS: [&str; 5] = ["input_url", "init_image_url", "mask_url", "ref_image_url", "image_url"];

/// The task of `kind` with these parameters.
pub fn task(kind: TaskKind, parameters: &BTreeMap<String, String>) -> Result<Task, TrialError> {
    let mut task = example(kind);
    let Some(object) = task.as_object_mut() else { return Err(TrialError::NotServed(kind)) };
    for (name, text) in parameters {
        let plain = snake(name);
        if kind == TaskKind::Llm && plain == "prompt" {
            object.insert("messages".into(), json!([{ "role": "user", "content": text }]));
        } else if INPUTS.contains(&plain.as_str()) {
            object.insert(plain, input(text)?.into());
        } else if plain == "images" {
            let images = text.split_whitespace().map(input).collect::<Result<Vec<_>, _>>()?;
            object.insert(plain, images.into());
        } else {
            object.insert(plain.clone(), value(&plain, text));
        }
    }
    let task = Task::from_json(&task)?;
    // A misspelt name must not pass for a parameter that changes nothing.
    let known = [TaskForm::Snake, TaskForm::Camel].map(|form| task.to_json(form));
    let has =
        |name: &String| known.iter().any(|task| task.as_object().is_some_and(|task| task.contains_key(name)));
    let is_alias = |name: &&String| kind == TaskKind::Llm && name.as_str() == "prompt";
    match parameters.keys().find(|name| !has(name) && !is_alias(name)) {
        Some(name) => Err(TrialError::NoSuchParameter { kind, name: name.clone() }),
        None => Ok(task),
    }
}

/// A value as it is written on a command line: JSON where it is any, else a text.
fn value(name: &str, text: &str) -> Value {
    if TEXTS.contains(&name) {
        return text.into();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// An address as it is; a file as a `data:` URL.
fn input(text: &str) -> Result<String, TrialError> {
    if ["http:", "https:", "data:"].iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(text.into());
    }
    let path = Path::new(text);
    let bytes = fs::read(path).map_err(|source| TrialError::Input { path: path.to_owned(), source })?;
    Ok(data_url(&bytes, path.extension().and_then(|ext| ext.to_str()).unwrap_or_default()))
}

/// Bytes as a `data:` URL.
pub(crate) fn data_url(bytes: &[u8], ext: &str) -> String {
    format!("data:{};base64,{}", media::mime_of(ext), STANDARD.encode(bytes))
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake.replace('-', "_")
}

/// The first model that is listed for a kind.
pub fn first_model(services: &[Service], kind: TaskKind) -> Option<&str> {
    services.iter().filter(|service| service.kind == kind).find_map(|service| match &service.models {
        Models::Listed(models) => models.first().map(String::as_str),
        Models::Sourced => None,
    })
}

/// The job of `kind` that is wanted, as it would be offered.
pub fn claim(engine: &dyn Engine, kind: TaskKind, wanted: Wanted) -> Result<Claim, TrialError> {
    let services = engine.services();
    if !services.iter().any(|service| service.kind == kind) {
        return Err(TrialError::NotServed(kind));
    }
    let served = || {
        let of_kind = services.iter().filter(|service| service.kind == kind);
        let models = of_kind.filter_map(|service| match &service.models {
            Models::Listed(models) => Some(models.clone()),
            Models::Sourced => None,
        });
        models.flatten().collect()
    };
    let no_such = |model: &str| TrialError::NoSuchModel { kind, model: model.into(), served: served() };
    let model = match wanted.model {
        Some(model) => model,
        None => first_model(&services, kind).ok_or_else(|| no_such(""))?.to_owned(),
    };
    let source = wanted.source;
    if !serves(&services, kind, &model, source.as_ref().map(|source| source.engine.as_str())) {
        return Err(no_such(&model));
    }
    Ok(Claim {
        job_id: "try".into(),
        game_id: String::new(),
        asset_name: String::new(),
        model,
        vram_gb_estimate: Finite::ZERO,
        task: task(kind, &wanted.parameters)?,
        model_source: source,
    })
}

/// What was made, and how long that took.
#[derive(Debug)]
pub struct Tried {
    /// The model that made it.
    pub model: String,
    /// It.
    pub output: Output,
    /// From the job's start to its end.
    pub took: Duration,
}

/// Runs a job, as a worker would, for at most `limit`; the time of downloads doesn't count, as long as they move.
pub fn run(
    engine: &dyn Engine,
    claim: Claim,
    limit: Duration,
    on: Runtime,
    on_transfer: impl Fn(Transfer) + Send + Sync + 'static,
) -> Result<Tried, crate::Error> {
    let start = Instant::now();
    let model = claim.model.clone();
    let moved = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&moved);
    let running = on.carry_out_showing(engine.recipe(&Arc::new(claim)), move |transfer| {
        seen.store(true, Ordering::Relaxed);
        on_transfer(transfer);
    });
    let limited = on.carry_out(Box::new(Limit { left: limit, step: Duration::ZERO, moved }));
    match on.block_on(select(running, limited))? {
        Either::Left((Ok(output), _)) => Ok(Tried { model, output, took: start.elapsed() }),
        Either::Left((Err(error), _)) => Err(TrialError::Failed(error).into()),
        Either::Right(_) => Err(TrialError::TooLong(limit).into()),
    }
}

/// Is over after a while in which nothing was downloaded.
struct Limit {
    left: Duration,
    step: Duration,
    /// Whether bytes have moved since the last look.
    moved: Arc<AtomicBool>,
}

impl Limit {
    const STEP: Duration = Duration::from_secs(1);
}

impl Recipe for Limit {
    fn next(&mut self, _: Happened) -> Effect {
        if !self.moved.swap(false, Ordering::Relaxed) {
            self.left = self.left.saturating_sub(self.step);
        }
        self.step = self.left.min(Self::STEP);
        if self.step.is_zero() {
            return Effect::Done(Err(EngineError::transient("the time is over")));
        }
        Effect::Pause(self.step)
    }
}

/// Writes what was made: to `wanted`, or to a new file in the current folder. Gives back where it is and its size in bytes.
pub fn save(output: Output, kind: TaskKind, wanted: Option<PathBuf>) -> Result<(PathBuf, u64), TrialError> {
    let ext = match &output {
        Output::Json(_) => "json",
        Output::Bytes { ext, .. } => ext,
    };
    let path = wanted.unwrap_or_else(|| new_name(kind, ext));
    let failed = |source| TrialError::Output { path: path.clone(), source };
    let bytes = match output {
        Output::Json(value) => {
            let text = format!("{value:#}\n");
            fs::write(&path, &text).map_err(failed)?;
            text.len() as u64
        }
        Output::Bytes { payload: Payload::Memory(bytes), .. } => {
            fs::write(&path, &*bytes).map_err(failed)?;
            bytes.len() as u64
        }
        Output::Bytes { payload: Payload::File(file), .. } => {
            // It may be on another disk.
            let moved = fs::rename(&*file.path, &path).or_else(|_| {
                fs::copy(&*file.path, &path)?;
                fs::remove_file(&*file.path)
            });
            moved.map_err(failed)?;
            file.bytes
        }
    };
    Ok((path, bytes))
}

/// The first `try-KIND-N.EXT` that isn't there yet.
fn new_name(kind: TaskKind, ext: &str) -> PathBuf {
    let name = |n: u32| PathBuf::from(format!("try-{kind}-{n}.{ext}"));
    (1..=u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}

/// The text of a JSON result that a person wants to read: what was said, or what was heard.
pub fn text_of(result: &Value) -> Option<&str> {
    result["choices"][0]["message"]["content"].as_str().or_else(|| result["text"].as_str())
}

/// Parameters as they are given on a command line: `name=value`.
pub fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.into())),
        _ => Err("it must be NAME=VALUE, such as width=512".into()),
    }
}

/// The `modelSource` in the JSON of a file.
pub fn model_source(path: &Path) -> Result<ModelSource, TrialError> {
    let failed = |source| TrialError::Input { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    let object: Map<String, Value> = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    serde_json::from_value(Value::Object(object)).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: TaskKind, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        task(kind, &parameters).map(|task| task.to_json(TaskForm::Snake)).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_are_what_they_look_like_and_texts_stay_texts() {
        let task =
            of(TaskKind::Image, &[("prompt", "123"), ("width", "640"), ("cfgScale", "1.5"), ("seed", "7")]);
        let task = task.unwrap();
        assert_eq!(task["prompt"], "123");
        assert_eq!(
            (&task["width"], &task["cfg_scale"], &task["seed"]),
            (&json!(640), &json!(1.5), &json!(7))
        );
        let task = of(TaskKind::Llm, &[("prompt", "hello"), ("stop", "[\"x\"]")]).unwrap();
        assert_eq!(task["messages"], json!([{ "role": "user", "content": "hello" }]));
        assert_eq!(task["stop"], json!(["x"]));
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        assert_eq!(
            of(TaskKind::Image, &[("widht", "1")]).unwrap_err(),
            "image jobs have no parameter `widht`"
        );
        assert!(of(TaskKind::Image, &[("width", "wide")]).unwrap_err().contains("`width`"));
        assert!(of(TaskKind::AudioStt, &[]).unwrap_err().contains("`input_url`"));
        let missing = of(TaskKind::AudioStt, &[("inputUrl", "/nowhere/speech.wav")]).unwrap_err();
        assert!(missing.starts_with("the input /nowhere/speech.wav can't be read"), "{missing}");
        assert_eq!(parameter("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(parameter("=b").is_err() && parameter("a").is_err());
    }

    #[test]
    fn the_time_of_a_download_does_not_count() {
        let moved = Arc::new(AtomicBool::new(false));
        let limit = Duration::from_millis(2_500);
        let mut limit = Limit { left: limit, step: Duration::ZERO, moved: Arc::clone(&moved) };
        let mut pauses = Vec::new();
        let mut happened = Happened::Started;
        while let Effect::Pause(span) = limit.next(happened) {
            pauses.push(span.as_millis());
            // In the second of them, and in two more.
            moved.store((2..=4).contains(&pauses.len()), Ordering::Relaxed);
            happened = Happened::Paused;
        }
        assert_eq!(pauses, [1_000, 1_000, 1_000, 1_000, 1_000, 500]);
    }

    #[test]
    fn a_file_is_an_input() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.wav");
        fs::write(&file, b"RIFF").unwrap();
        let task = of(TaskKind::AudioStt, &[("input_url", file.to_str().unwrap())]).unwrap();
        assert_eq!(task["input_url"], "data:audio/wav;base64,UklGRg==");
    }
}
