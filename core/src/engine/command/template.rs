//! Templates: texts with `{placeholders}` in them, and the parameters of a task that these stand for.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use crate::wire::{
    Claim, Task, TaskKind,
    task::{AudioTtsTask, ImageTask},
};

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    /// What stands between the braces.
    pub(super) name: &'static str,
    /// Whether every task has it.
    pub(super) always: bool,
    /// Whether a task that has it wants something else made than one that has it not, so that no command may ignore it.
    pub(super) counts: bool,
    pub(super) role: Role,
}

/// What a parameter is, which decides how it may stand in an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A text for people, which may begin with anything.
    Prose,
    /// A name, which a job chooses.
    Name,
    /// A number, or a word of ours: it can be taken for nothing else.
    Plain,
    /// A file that the job brings, in the scratch folder.
    Input,
    /// The file that the program is to make, in the scratch folder.
    Output,
}

const fn always(name: &'static str, role: Role) -> Parameter {
    Parameter { name, always: true, counts: false, role }
}

const fn sometimes(name: &'static str, role: Role) -> Parameter {
    Parameter { name, always: false, counts: false, role }
}

const fn wanted(name: &'static str, role: Role) -> Parameter {
    Parameter { name, always: false, counts: true, role }
}

/// What there is for every kind.
const COMMON: [Parameter; 2] = [always("model", Role::Name), always("output", Role::Output)];

const IMAGE: [Parameter; 13] = [
    always("prompt", Role::Prose),
    always("width", Role::Plain),
    always("height", Role::Plain),
    always("ext", Role::Plain),
    wanted("negative_prompt", Role::Prose),
    sometimes("steps", Role::Plain),
    sometimes("seed", Role::Plain),
    sometimes("cfg_scale", Role::Plain),
    sometimes("denoise", Role::Plain),
    sometimes("sampling_method", Role::Name),
    wanted("input", Role::Input),
    wanted("mask", Role::Input),
    wanted("reference", Role::Input),
];

const LLM: [Parameter; 9] = [
    always("prompt", Role::Prose),
    always("messages", Role::Prose),
    always("max_tokens", Role::Plain),
    always("temperature", Role::Plain),
    wanted("system", Role::Prose),
    sometimes("top_p", Role::Plain),
    wanted("stop", Role::Prose),
    wanted("json_schema", Role::Prose),
    wanted("input", Role::Input),
];

const AUDIO_STT: [Parameter; 4] = [
    always("input", Role::Input),
    sometimes("language", Role::Name),
    sometimes("prompt", Role::Prose),
    wanted("translate", Role::Plain),
];

const AUDIO_TTS: [Parameter; 5] = [
    always("text", Role::Prose),
    always("ext", Role::Plain),
    wanted("voice", Role::Name),
    sometimes("speed", Role::Plain),
    wanted("language", Role::Name),
];

const VIDEO: [Parameter; 8] = [
    always("prompt", Role::Prose),
    always("seconds", Role::Plain),
    always("width", Role::Plain),
    always("height", Role::Plain),
    always("ext", Role::Plain),
    wanted("negative_prompt", Role::Prose),
    sometimes("fps", Role::Plain),
    wanted("input", Role::Input),
];

const MESH: [Parameter; 3] =
    [always("input", Role::Input), always("ext", Role::Plain), sometimes("seed", Role::Plain)];

/// What there is for a kind.
pub(super) fn parameters(kind: TaskKind) -> impl Iterator<Item = Parameter> {
    let own: &[Parameter] = match kind {
        TaskKind::Image => &IMAGE,
        TaskKind::Llm => &LLM,
        TaskKind::AudioStt => &AUDIO_STT,
        TaskKind::AudioTts => &AUDIO_TTS,
        TaskKind::Video => &VIDEO,
        TaskKind::Mesh => &MESH,
    };
    own.iter().chain(&COMMON).copied()
}

/// A text with placeholders in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Segment>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Text(String),
    Of(Parameter),
}

impl Template {
    /// Reads a template for tasks of `kind`. The error says what is wrong.
    pub(super) fn read(text: &str, kind: TaskKind) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some(inner) = from.strip_prefix('{') else {
                return Err("a `}` stands alone: write `}}` for one that is meant".to_owned());
            };
            let Some((name, after)) = inner.split_once('}') else {
                return Err("a `{` is not closed: write `{{` for one that is meant".to_owned());
            };
            let Some(parameter) = parameters(kind).find(|parameter| parameter.name == name) else {
                let known: Vec<_> = parameters(kind).map(|known| format!("{{{}}}", known.name)).collect();
                let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(format!("there is no {{{name}}} for {kind}: there are {}", known.join(", ")));
            };
            if !plain.is_empty() {
                segments.push(Segment::Text(core::mem::take(&mut plain)));
            }
            segments.push(Segment::Of(parameter));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            segments.push(Segment::Text(plain));
        }
        Ok(Self(segments))
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = Parameter> + '_ {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Of(parameter) => Some(*parameter),
            Segment::Text(_) => None,
        })
    }
}

/// The value of a parameter that is no file; none where the task doesn't have it.
pub(super) fn value(name: &str, claim: &Claim, ext: &str) -> Option<String> {
    match name {
        "model" => return Some(claim.model.clone()),
        "ext" => return Some(ext.to_owned()),
        _ => {}
    }
    match &claim.task {
        Task::Image(task) => match name {
            "prompt" => Some(task.prompt.clone()),
            "width" => Some(task.width.to_string()),
            "height" => Some(task.height.to_string()),
            "negative_prompt" => task.negative_prompt.clone().filter(|prompt| !prompt.is_empty()),
            "steps" => (task.steps != ImageTask::STEPS_UNSET).then(|| task.steps.to_string()),
            "seed" => task.seed.map(|seed| seed.to_string()),
            "cfg_scale" => task.cfg_scale.map(|scale| scale.to_string()),
            "denoise" => task.denoise.map(|denoise| denoise.to_string()),
            "sampling_method" => task.sampling_method.clone(),
            _ => None,
        },
        Task::Llm(task) => match name {
            "prompt" => Some(claim.task.prompt().to_owned()),
            "messages" => Some(json!(task.messages).to_string()),
            "max_tokens" => Some(task.max_tokens.to_string()),
            "temperature" => Some(task.temperature.to_string()),
            "system" => task.system.clone(),
            "top_p" => task.top_p.map(|top_p| top_p.to_string()),
            "stop" => {
                let stops = |stop: &&Value| stop.as_array().is_none_or(|stops| !stops.is_empty());
                task.stop.as_ref().filter(stops).map(ToString::to_string)
            }
            "json_schema" => task.json_schema.as_ref().map(ToString::to_string),
            _ => None,
        },
        Task::AudioStt(task) => match name {
            "language" => task.language.clone(),
            "prompt" => task.prompt.clone(),
            "translate" => (task.translate == Some(true)).then(|| "translate".to_owned()),
            _ => None,
        },
        Task::AudioTts(task) => match name {
            "text" => Some(task.text.clone()),
            "voice" => (task.voice != AudioTtsTask::ANY_VOICE).then(|| task.voice.clone()),
            "speed" => task.speed.map(|speed| speed.to_string()),
            "language" => task.language.clone(),
            _ => None,
        },
        Task::Video(task) => match name {
            "prompt" => Some(task.prompt.clone()),
            "seconds" => Some(task.seconds.to_string()),
            "width" => Some(task.width.to_string()),
            "height" => Some(task.height.to_string()),
            "negative_prompt" => task.negative_prompt.clone().filter(|prompt| !prompt.is_empty()),
            "fps" => task.fps.map(|fps| fps.to_string()),
            _ => None,
        },
        Task::Mesh(task) => match name {
            "seed" => task.seed.map(|seed| seed.to_string()),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn text(text: &str) -> Segment {
        Segment::Text(text.into())
    }

    fn of(name: &str) -> Segment {
        Segment::Of(parameters(TaskKind::AudioTts).find(|parameter| parameter.name == name).unwrap())
    }

    #[test]
    fn braces_are_placeholders_and_doubled_ones_are_braces() {
        for (template, segments) in [
            ("", vec![]),
            ("-w", vec![text("-w")]),
            ("{text}", vec![of("text")]),
            ("a{text}b{ext}", vec![text("a"), of("text"), text("b"), of("ext")]),
            ("{{text}}", vec![text("{text}")]),
            ("{{{text}}}", vec![text("{"), of("text"), text("}")]),
        ] {
            assert_eq!(Template::read(template, TaskKind::AudioTts), Ok(Template(segments)), "{template}");
        }
        for (template, problem) in [
            ("{text", "a `{` is not closed: write `{{` for one that is meant"),
            ("text}", "a `}` stands alone: write `}}` for one that is meant"),
            ("{width}", {
                "there is no {width} for audio_tts: there are {text}, {ext}, {voice}, {speed}, {language}, {model}, {output}"
            }),
            ("{}", {
                "there is no {} for audio_tts: there are {text}, {ext}, {voice}, {speed}, {language}, {model}, {output}"
            }),
        ] {
            assert_eq!(Template::read(template, TaskKind::AudioTts), Err(problem.into()), "{template}");
        }
    }
}
