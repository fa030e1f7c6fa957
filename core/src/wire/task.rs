//! Tasks: what a job asks for (section 5).
//!
//! Generation 0.2 writes the parameter names in `snake_case`, 0.4 in `camelCase`; both are read, in any mix.

mod raw;
#[cfg(test)]
mod tests;

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{claim::ClaimProblem, number::Finite};
pub(crate) use raw::RawTask;

/// The kinds of task that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// A picture from a text.
    Image,
    /// A chat completion.
    Llm,
    /// Speech to text.
    AudioStt,
    /// Text to speech.
    AudioTts,
    /// A short film from a text.
    Video,
    /// A 3D model from a picture (0.4).
    Mesh,
}

impl TaskKind {
    /// All kinds, in the order of the protocol document.
    pub const ALL: [Self; 6] =
        [Self::Image, Self::Llm, Self::AudioStt, Self::AudioTts, Self::Video, Self::Mesh];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Llm => "llm",
            Self::AudioStt => "audio_stt",
            Self::AudioTts => "audio_tts",
            Self::Video => "video",
            Self::Mesh => "mesh",
        }
    }

    /// The kind with that name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the result is JSON that goes out in a frame, rather than bytes that are uploaded.
    pub const fn result_is_json(self) -> bool {
        matches!(self, Self::Llm | Self::AudioStt)
    }
}

impl core::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a job asks for, with every default filled in and every parameter within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// See [`TaskKind::Image`].
    Image(ImageTask),
    /// See [`TaskKind::Llm`].
    Llm(LlmTask),
    /// See [`TaskKind::AudioStt`].
    AudioStt(AudioSttTask),
    /// See [`TaskKind::AudioTts`].
    AudioTts(AudioTtsTask),
    /// See [`TaskKind::Video`].
    Video(VideoTask),
    /// See [`TaskKind::Mesh`].
    Mesh(MeshTask),
}

/// Parameters of an image task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageTask {
    /// What the picture shows.
    pub prompt: String,
    /// Pixels, 1 to 16,384.
    pub width: u32,
    /// Pixels, 1 to 16,384.
    pub height: u32,
    /// Diffusion steps, 1 to 1,000; 20 means unset (the model's default applies).
    pub steps: u32,
    /// Makes the picture repeatable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The file format wanted, as a plain extension.
    pub ext: String,
    /// What the picture must not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image_url: Option<String>,
    /// Where the start picture may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_url: Option<String>,
    /// A picture to take the subject from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_image_url: Option<String>,
    /// How far to go from the start picture, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denoise: Option<Finite>,
    /// Guidance scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cfg_scale: Option<Finite>,
    /// Sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_method: Option<String>,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or whatever the model knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Parameters of a chat completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmTask {
    /// The chat so far; at least one message.
    pub messages: Vec<Message>,
    /// The most tokens to answer with, at least 1.
    pub max_tokens: u32,
    /// Sampling temperature; 0 or less is greedy.
    pub temperature: Finite,
    /// Becomes message 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Nucleus sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Finite>,
    /// Stop texts: one or a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Value>,
    /// The form that the answer must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// Whether and how the model thinks first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Value>,
    /// Passed to the chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template_kwargs: Option<Value>,
    /// Pictures, as URLs or `data:` URLs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

/// Parameters of a transcription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioSttTask {
    /// Where the sound is.
    pub input_url: String,
    /// The language spoken, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether to translate to English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate: Option<bool>,
    /// Words to expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Voice activity detection: whether, or its settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vad: Option<Value>,
    /// Which timestamps to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<Value>,
}

/// Parameters of speech synthesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioTtsTask {
    /// What to say.
    pub text: String,
    /// Whose voice.
    pub voice: String,
    /// The file format wanted, as a plain extension.
    pub ext: String,
    /// 1 is the voice's own speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Finite>,
    /// The language to speak, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Parameters of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoTask {
    /// What the film shows.
    pub prompt: String,
    /// Its length, above 0 and at most 3,600.
    pub seconds: Finite,
    /// Pixels, 1 to 16,384.
    pub width: u32,
    /// Pixels, 1 to 16,384.
    pub height: u32,
    /// The file format wanted, as a plain extension.
    pub ext: String,
    /// What the film must not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image_url: Option<String>,
    /// Frames a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<Finite>,
}

/// Parameters of a 3D model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTask {
    /// The picture to make it from.
    pub image_url: String,
    /// Makes the model repeatable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The file format wanted, as a plain extension.
    pub ext: String,
}

/// How parameter names are spelled when a task is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskForm {
    /// `input_url`: what a worker of generation 0.2 reads.
    Snake,
    /// `inputUrl`: what a worker of generation 0.4 reads.
    Camel,
}

impl ImageTask {
    /// The number of steps that means: as the model's default has it (section 5).
    pub const STEPS_UNSET: u32 = 20;
}

impl AudioTtsTask {
    /// The voice that means: whichever the engine has (section 5).
    pub const ANY_VOICE: &str = "default";
}

impl Task {
    /// The image task that a 0.2 offer without a `task` means (section 5): 512×512, 20 steps.
    pub fn image(prompt: String, ext: String) -> Self {
        Self::Image(ImageTask {
            prompt,
            width: 512,
            height: 512,
            steps: ImageTask::STEPS_UNSET,
            seed: None,
            ext,
            negative_prompt: None,
            init_image_url: None,
            mask_url: None,
            ref_image_url: None,
            denoise: None,
            cfg_scale: None,
            sampling_method: None,
        })
    }

    /// Which kind of task it is.
    pub const fn kind(&self) -> TaskKind {
        match self {
            Self::Image(_) => TaskKind::Image,
            Self::Llm(_) => TaskKind::Llm,
            Self::AudioStt(_) => TaskKind::AudioStt,
            Self::AudioTts(_) => TaskKind::AudioTts,
            Self::Video(_) => TaskKind::Video,
            Self::Mesh(_) => TaskKind::Mesh,
        }
    }

    /// The whole prompt, as it is reported with a result (section 5).
    pub fn prompt(&self) -> &str {
        match self {
            Self::Image(task) => &task.prompt,
            Self::Llm(task) => task.messages.last().map_or("", |message| &message.content),
            Self::AudioStt(task) => &task.input_url,
            Self::AudioTts(task) => &task.text,
            Self::Video(task) => &task.prompt,
            Self::Mesh(_) => "",
        }
    }

    /// The file format asked for; `None` for kinds whose result is JSON.
    pub fn ext(&self) -> Option<&str> {
        match self {
            Self::Image(task) => Some(&task.ext),
            Self::AudioTts(task) => Some(&task.ext),
            Self::Video(task) => Some(&task.ext),
            Self::Mesh(task) => Some(&task.ext),
            Self::Llm(_) | Self::AudioStt(_) => None,
        }
    }

    /// Reads a `task` object. The error names the parameter that is to blame.
    pub fn from_json(value: &Value) -> Result<Self, ClaimProblem> {
        let object = value
            .as_object()
            .ok_or_else(|| ClaimProblem::parameter("task", "an object with a `kind` is wanted"))?;
        RawTask::from_object(object)?.check()
    }

    /// The `task` object, with its parameter names in the given form.
    pub fn to_json(&self, form: TaskForm) -> Value {
        let parameters = match self {
            Self::Image(task) => serde_json::to_value(task),
            Self::Llm(task) => serde_json::to_value(task),
            Self::AudioStt(task) => serde_json::to_value(task),
            Self::AudioTts(task) => serde_json::to_value(task),
            Self::Video(task) => serde_json::to_value(task),
            Self::Mesh(task) => serde_json::to_value(task),
        };
        let mut object = Map::new();
        object.insert("kind".to_owned(), Value::from(self.kind().name()));
        // A struct of texts, numbers and JSON always becomes an object.
        if let Ok(Value::Object(parameters)) = parameters {
            for (name, value) in parameters {
                let name = match form {
                    TaskForm::Camel => name,
                    TaskForm::Snake => to_snake(&name),
                };
                object.insert(name, value);
            }
        }
        Value::Object(object)
    }

    /// Whether two tasks ask for the same thing; URLs are compared without their query, which may carry a
    /// signature that is fresh in each offer (section 6).
    pub(crate) fn same_work(&self, other: &Self) -> bool {
        self == other || self.without_queries() == other.without_queries()
    }

    fn without_queries(&self) -> Self {
        let mut task = self.clone();
        let strip = |url: &mut Option<String>| {
            if let Some(url) = url {
                strip_query(url);
            }
        };
        match &mut task {
            Self::Image(task) => {
                strip(&mut task.init_image_url);
                strip(&mut task.mask_url);
                strip(&mut task.ref_image_url);
            }
            Self::Llm(task) => task.images.iter_mut().for_each(strip_query),
            Self::AudioStt(task) => strip_query(&mut task.input_url),
            Self::Video(task) => strip(&mut task.init_image_url),
            Self::Mesh(task) => strip_query(&mut task.image_url),
            Self::AudioTts(_) => {}
        }
        task
    }
}

/// Cuts the query off a URL; a `data:` URL has none.
pub(crate) fn strip_query(url: &mut String) {
    if !url.starts_with("data:")
        && let Some(at) = url.find('?')
    {
        url.truncate(at);
    }
}

fn to_snake(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
