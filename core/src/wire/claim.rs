//! Claims: a job as it is offered (section 5).

#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use serde_json::{Map, Value, json};

use super::{
    address,
    lenient::{object_or_default, object_or_null, objects},
    number::Finite,
    task::{RawTask, Task, TaskForm, strip_query},
};

/// The studio's name for a job. Any text, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for JobId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for JobId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = JobId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, id: &str) -> Result<JobId, E> {
                Ok(JobId::from(id))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A job that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job_id: JobId,
    /// Whose job it is.
    pub game_id: String,
    /// What the result is for.
    pub asset_name: String,
    /// The model that must make it.
    pub model: String,
    /// Memory that it will want, in GB.
    pub vram_gb_estimate: Finite,
    /// What to do.
    pub task: Task,
    /// Where the model comes from and which engine must run it (0.4).
    pub model_source: Option<ModelSource>,
}

/// Where a model comes from (0.4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelSource {
    /// The engine that must run it: `sd-cpp`, `llama-cpp`, `onnx`, … Never substituted by another.
    pub engine: String,
    /// The files that the engine needs.
    #[serde(deserialize_with = "objects")]
    pub files: Vec<ModelFile>,
    /// What the model wants where the task does not say.
    #[serde(deserialize_with = "object_or_default")]
    pub cli_defaults: CliDefaults,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelFile {
    /// What it is for: `diffusion-model`, `text-encoder`, `text-encoder-vision`, `vae`, `lora`, `model`,
    /// `labels`, or a role of a newer studio.
    pub role: String,
    /// Where to get it; the query may be a signature.
    pub url: String,
    /// A plain name to keep it under.
    pub filename: String,
    /// Its size in bytes, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approx_bytes: Option<u64>,
    /// SHA-256, as hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What a model wants where the task does not say (0.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CliDefaults {
    /// Guidance scale.
    pub cfg_scale: Finite,
    /// Diffusion steps.
    pub steps: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_method: Option<String>,
    /// The pipeline of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Flow shift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_shift: Option<Finite>,
    /// The most GPU memory to use, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vram_gib: Option<Finite>,
    /// Weight of the LoRA (1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_weight: Option<Finite>,
    /// See the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_cond_t: Option<bool>,
    /// Keep weights in host memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload_to_cpu: Option<bool>,
    /// Map the weights rather than read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mmap: Option<bool>,
    /// Save GPU memory at the cost of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_vram: Option<bool>,
    /// Tokens of context (8192).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_size: Option<u32>,
    /// Voxels of a mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<u32>,
    /// Triangles of a mesh (40000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimation_target: Option<u32>,
    /// Pixels of a mesh's texture (1024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texture_size: Option<u32>,
    /// Passed to the chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template_kwargs: Option<Value>,
    /// Settings for pictures in a chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Value>,
}

impl Default for CliDefaults {
    fn default() -> Self {
        Self {
            cfg_scale: Finite::from(1),
            steps: 20,
            width: 512,
            height: 512,
            sampling_method: None,
            pipeline: None,
            flow_shift: None,
            max_vram_gib: None,
            lora_weight: None,
            zero_cond_t: None,
            offload_to_cpu: None,
            mmap: None,
            low_vram: None,
            context_size: None,
            resolution: None,
            decimation_target: None,
            texture_size: None,
            chat_template_kwargs: None,
            vision: None,
        }
    }
}

/// Why an offer can't be taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    /// A kind that this worker does not know: another one may.
    #[error("cannot serve tasks of kind `{kind}`")]
    UnknownKind {
        /// The kind that was asked for.
        kind: String,
    },
    /// A parameter that no worker could take.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Its name in `snake_case`, as both generations' documentation has it.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ClaimProblem {
    pub(crate) fn parameter(name: &str, problem: impl fmt::Display) -> Self {
        Self::Parameter { name: name.to_owned(), problem: alloc::format!("{problem}") }
    }
}

/// What an `offer` frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// A job that can be read.
    Readable(Box<Claim>),
    /// A job with an id, but with something in it that can't be read or is out of range.
    Unreadable {
        /// The job.
        job_id: JobId,
        /// The model, empty when that is what can't be read.
        model: String,
        /// The task's kind as it was written, empty when that is what can't be read.
        kind: String,
        /// The engine that the job names.
        engine: Option<String>,
        /// What is wrong.
        problem: ClaimProblem,
    },
}

impl Offer {
    /// The job that is offered.
    pub fn job_id(&self) -> &JobId {
        match self {
            Self::Readable(claim) => &claim.job_id,
            Self::Unreadable { job_id, .. } => job_id,
        }
    }
}

impl Claim {
    /// Whether an offer asks for what this claim asked for: the same id with an equal task, model and
    /// `modelSource`, URLs compared without their query (section 6).
    pub fn same_job(&self, other: &Self) -> bool {
        self.job_id == other.job_id
            && self.model == other.model
            && self.task.same_work(&other.task)
            && ModelSource::are_same(self.model_source.as_ref(), other.model_source.as_ref())
    }

    /// The engine that must run the job; `None` when any that knows the model may (0.2).
    pub fn engine(&self) -> Option<&str> {
        self.model_source.as_ref().map(|source| source.engine.as_str())
    }

    /// The `claim` object. Both generations' fields are there: `prompt` and `ext` for 0.2, `task` with its
    /// parameters spelled as `form` says, `modelSource` when the claim has one.
    pub fn to_json(&self, form: TaskForm) -> Value {
        let mut claim = json!({
            "jobId": self.job_id,
            "gameId": self.game_id,
            "assetName": self.asset_name,
            "model": self.model,
            "vramGbEstimate": self.vram_gb_estimate,
            "prompt": self.task.prompt(),
            "ext": self.task.ext().unwrap_or("json"),
            "task": self.task.to_json(form),
        });
        if let (Some(source), Some(object)) = (&self.model_source, claim.as_object_mut()) {
            object.insert("modelSource".to_owned(), json!(source));
        }
        claim
    }
}

impl ModelSource {
    /// Whether a model comes from the same place, URLs compared without their query (section 6).
    pub(crate) fn are_same(a: Option<&Self>, b: Option<&Self>) -> bool {
        let plain = |source: &Self| {
            let mut source = source.clone();
            source.files.iter_mut().for_each(|file| strip_query(&mut file.url));
            source
        };
        a == b || a.map(plain) == b.map(plain)
    }
}

/// A claim as it stands on the wire, read in one pass.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawClaim {
    job_id: Option<JobId>,
    game_id: Option<String>,
    asset_name: Option<String>,
    model: Option<String>,
    vram_gb_estimate: Option<Finite>,
    prompt: Option<String>,
    ext: Option<String>,
    #[serde(deserialize_with = "object_or_null")]
    task: Option<RawTask>,
    #[serde(deserialize_with = "object_or_null")]
    model_source: Option<ModelSource>,
}

impl RawClaim {
    /// Fills in the defaults; `None` when there is no job id to answer to.
    pub(crate) fn check(self) -> Option<Result<Box<Claim>, ClaimProblem>> {
        let job_id = self.job_id?;
        let task = match self.task {
            Some(task) => task.check(),
            None => Ok(Task::image(
                self.prompt.unwrap_or_default(),
                self.ext.filter(|ext| super::media::is_plain_ext(ext)).unwrap_or_else(|| "webp".to_owned()),
            )),
        };
        let Some(model) = self.model.filter(|model| !model.is_empty()) else {
            return Some(Err(ClaimProblem::parameter("model", "it is required and missing")));
        };
        if let Ok(task) = &task
            && !task.kind().result_is_json()
            && !address::is_segment(job_id.as_str())
        {
            let problem = "there is no address to deliver the result of a job with this id to";
            return Some(Err(ClaimProblem::parameter("job_id", problem)));
        }
        Some(task.map(|task| {
            Box::new(Claim {
                job_id,
                game_id: self.game_id.unwrap_or_default(),
                asset_name: self.asset_name.unwrap_or_default(),
                model,
                vram_gb_estimate: self.vram_gb_estimate.unwrap_or_default(),
                task,
                model_source: self.model_source,
            })
        }))
    }

    /// The second look at a claim that could not be read in one pass: finds out what is to blame.
    pub(crate) fn diagnose(claim: &Map<String, Value>) -> Option<Offer> {
        let job_id = JobId::from(claim.get("jobId")?.as_str()?);
        let model = claim.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = claim
            .get("task")
            .and_then(|task| task.get("kind"))
            .and_then(Value::as_str)
            .unwrap_or(if claim.get("task").is_none() { "image" } else { "" })
            .to_owned();
        let engine = claim
            .get("modelSource")
            .and_then(|source| source.get("engine"))
            .and_then(Value::as_str)
            .map(ToOwned::to_owned);
        let unreadable = |problem| Offer::Unreadable {
            job_id: job_id.clone(),
            model: model.clone(),
            kind: kind.clone(),
            engine: engine.clone(),
            problem,
        };

        let mut readable = Map::new();
        for (name, value) in claim {
            if name == "task" {
                continue;
            }
            let alone = Map::from_iter([(name.clone(), value.clone())]);
            if let Err(error) = serde_json::from_value::<Self>(Value::Object(alone)) {
                match name.as_str() {
                    // These decide nothing: a job isn't lost over them.
                    "gameId" | "assetName" | "prompt" | "ext" | "vramGbEstimate" => continue,
                    _ => return Some(unreadable(ClaimProblem::parameter(name, error))),
                }
            }
            readable.insert(name.clone(), value.clone());
        }
        let mut raw = match serde_json::from_value::<Self>(Value::Object(readable)) {
            Ok(raw) => raw,
            Err(error) => return Some(unreadable(ClaimProblem::parameter("claim", error))),
        };
        match claim.get("task") {
            None | Some(Value::Null) => {}
            Some(Value::Object(task)) => match RawTask::from_object(task) {
                Ok(task) => raw.task = Some(task),
                Err(problem) => return Some(unreadable(problem)),
            },
            Some(_) => {
                let problem = ClaimProblem::parameter("task", "an object with a `kind` is wanted");
                return Some(unreadable(problem));
            }
        }
        Some(raw.check()?.map_or_else(unreadable, Offer::Readable))
    }
}
