//! A task as it stands on the wire: both spellings, defaults and bounds.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    AudioSttTask, AudioTtsTask, ImageTask, LlmTask, MeshTask, Message, Task, TaskKind, VideoTask, to_snake,
};
use crate::wire::{claim::ClaimProblem, lenient::objects_or_null, media, number::Finite};

/// Every parameter of every kind, flat, so that a task is read in one pass wherever its `kind` stands.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawTask {
    kind: Option<String>,
    prompt: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    steps: Option<u32>,
    seed: Option<u64>,
    ext: Option<String>,
    #[serde(alias = "negative_prompt")]
    negative_prompt: Option<String>,
    #[serde(alias = "init_image_url")]
    init_image_url: Option<String>,
    #[serde(alias = "mask_url")]
    mask_url: Option<String>,
    #[serde(alias = "ref_image_url")]
    ref_image_url: Option<String>,
    denoise: Option<Finite>,
    #[serde(alias = "cfg_scale")]
    cfg_scale: Option<Finite>,
    #[serde(alias = "sampling_method")]
    sampling_method: Option<String>,
    #[serde(deserialize_with = "objects_or_null")]
    messages: Option<Vec<Message>>,
    #[serde(alias = "max_tokens")]
    max_tokens: Option<u32>,
    temperature: Option<Finite>,
    system: Option<String>,
    #[serde(alias = "top_p")]
    top_p: Option<Finite>,
    stop: Option<Value>,
    #[serde(alias = "json_schema")]
    json_schema: Option<Value>,
    reasoning: Option<Value>,
    #[serde(alias = "chat_template_kwargs")]
    chat_template_kwargs: Option<Value>,
    images: Option<Vec<String>>,
    #[serde(alias = "input_url")]
    input_url: Option<String>,
    language: Option<String>,
    translate: Option<bool>,
    vad: Option<Value>,
    timestamps: Option<Value>,
    text: Option<String>,
    voice: Option<String>,
    speed: Option<Finite>,
    seconds: Option<Finite>,
    fps: Option<Finite>,
    #[serde(alias = "image_url")]
    image_url: Option<String>,
}

const IMAGE: &[&str] = &[
    "prompt",
    "width",
    "height",
    "steps",
    "seed",
    "ext",
    "negative_prompt",
    "init_image_url",
    "mask_url",
    "ref_image_url",
    "denoise",
    "cfg_scale",
    "sampling_method",
];
const LLM: &[&str] = &[
    "messages",
    "max_tokens",
    "temperature",
    "system",
    "top_p",
    "stop",
    "json_schema",
    "reasoning",
    "chat_template_kwargs",
    "images",
];
const STT: &[&str] = &["input_url", "language", "translate", "prompt", "vad", "timestamps"];
const TTS: &[&str] = &["text", "voice", "ext", "speed", "language"];
const VIDEO: &[&str] =
    &["prompt", "seconds", "width", "height", "ext", "negative_prompt", "init_image_url", "fps"];
const MESH: &[&str] = &["image_url", "seed", "ext"];

pub(super) fn parameters_of(kind: TaskKind) -> &'static [&'static str] {
    match kind {
        TaskKind::Image => IMAGE,
        TaskKind::Llm => LLM,
        TaskKind::AudioStt => STT,
        TaskKind::AudioTts => TTS,
        TaskKind::Video => VIDEO,
        TaskKind::Mesh => MESH,
    }
}

impl RawTask {
    /// Reads a task whose parts may be unreadable: only the parameters of its kind count, and the first that
    /// can't be read is named.
    pub(crate) fn from_object(object: &Map<String, Value>) -> Result<Self, ClaimProblem> {
        let name = object
            .get("kind")
            .and_then(Value::as_str)
            .ok_or_else(|| ClaimProblem::parameter("kind", "a text is wanted"))?;
        let Some(kind) = TaskKind::parse(name) else {
            return Err(ClaimProblem::UnknownKind { kind: name.to_owned() });
        };
        let mut wanted = Map::new();
        wanted.insert("kind".to_owned(), Value::from(name));
        for (name, value) in object {
            // Both spellings of a parameter may be there; the last one counts. A mix of them is no spelling.
            let written = name;
            let name = to_snake(written);
            let spelled = *written == name || !written.contains('_');
            if !spelled || !parameters_of(kind).contains(&name.as_str()) {
                continue;
            }
            let alone = Map::from_iter([(name.clone(), value.clone())]);
            if let Err(error) = serde_json::from_value::<Self>(Value::Object(alone)) {
                return Err(ClaimProblem::parameter(&name, error));
            }
            wanted.insert(name, value.clone());
        }
        serde_json::from_value(Value::Object(wanted)).map_err(|error| ClaimProblem::parameter("task", error))
    }

    /// Fills in the defaults and holds each parameter to its bounds.
    pub(crate) fn check(self) -> Result<Task, ClaimProblem> {
        let name = self.kind.as_deref().ok_or_else(|| ClaimProblem::parameter("kind", "it is missing"))?;
        let Some(kind) = TaskKind::parse(name) else {
            return Err(ClaimProblem::UnknownKind { kind: name.to_owned() });
        };
        Ok(match kind {
            TaskKind::Image => Task::Image(ImageTask {
                prompt: required("prompt", self.prompt)?,
                width: within("width", self.width.unwrap_or(512), 1, 16_384)?,
                height: within("height", self.height.unwrap_or(512), 1, 16_384)?,
                steps: within("steps", self.steps.unwrap_or(ImageTask::STEPS_UNSET), 1, 1_000)?,
                seed: self.seed,
                ext: plain_ext(self.ext, "webp")?,
                negative_prompt: self.negative_prompt,
                init_image_url: self.init_image_url,
                mask_url: self.mask_url,
                ref_image_url: self.ref_image_url,
                denoise: self.denoise,
                cfg_scale: self.cfg_scale,
                sampling_method: self.sampling_method,
            }),
            TaskKind::Llm => Task::Llm(LlmTask {
                messages: match required("messages", self.messages)? {
                    messages if messages.is_empty() => {
                        return Err(ClaimProblem::parameter("messages", "at least one is wanted"));
                    }
                    messages => messages,
                },
                max_tokens: within("max_tokens", self.max_tokens.unwrap_or(512), 1, u32::MAX)?,
                temperature: self.temperature.or(Finite::new(0.7)).unwrap_or_default(),
                system: self.system,
                top_p: self.top_p,
                stop: self.stop,
                json_schema: self.json_schema,
                reasoning: self.reasoning,
                chat_template_kwargs: self.chat_template_kwargs,
                images: self.images.unwrap_or_default(),
            }),
            TaskKind::AudioStt => Task::AudioStt(AudioSttTask {
                input_url: filled("input_url", self.input_url)?,
                language: self.language,
                translate: self.translate,
                prompt: self.prompt,
                vad: self.vad,
                timestamps: self.timestamps,
            }),
            TaskKind::AudioTts => Task::AudioTts(AudioTtsTask {
                text: required("text", self.text)?,
                voice: self.voice.unwrap_or_else(|| AudioTtsTask::ANY_VOICE.to_owned()),
                ext: plain_ext(self.ext, "wav")?,
                speed: self.speed,
                language: self.language,
            }),
            TaskKind::Video => Task::Video(VideoTask {
                prompt: required("prompt", self.prompt)?,
                seconds: match self.seconds.unwrap_or(Finite::from(2)) {
                    seconds if seconds > Finite::ZERO && seconds <= Finite::from(3_600) => seconds,
                    seconds => {
                        let problem = format!("{seconds} is not above 0 and at most 3600");
                        return Err(ClaimProblem::parameter("seconds", problem));
                    }
                },
                width: within("width", self.width.unwrap_or(512), 1, 16_384)?,
                height: within("height", self.height.unwrap_or(512), 1, 16_384)?,
                ext: plain_ext(self.ext, "mp4")?,
                negative_prompt: self.negative_prompt,
                init_image_url: self.init_image_url,
                fps: self.fps,
            }),
            TaskKind::Mesh => Task::Mesh(MeshTask {
                image_url: filled("image_url", self.image_url)?,
                seed: self.seed,
                ext: plain_ext(self.ext, "glb")?,
            }),
        })
    }
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, ClaimProblem> {
    value.ok_or_else(|| ClaimProblem::parameter(name, "it is required and missing"))
}

fn filled(name: &str, value: Option<String>) -> Result<String, ClaimProblem> {
    required(name, value.filter(|text| !text.is_empty()))
}

fn within(name: &str, value: u32, low: u32, high: u32) -> Result<u32, ClaimProblem> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(ClaimProblem::parameter(name, format!("{value} is not within {low} to {high}")))
    }
}

fn plain_ext(ext: Option<String>, default: &str) -> Result<String, ClaimProblem> {
    match ext {
        None => Ok(default.to_owned()),
        Some(ext) if media::is_plain_ext(&ext) => Ok(ext),
        Some(_) => Err(ClaimProblem::parameter("ext", "1 to 16 letters and digits are wanted")),
    }
}
