//! Commands as an operator writes them, checked.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use serde::{Deserialize, Serialize};

use super::template::{Parameter, Role, Segment, Template};
use crate::wire::{TaskKind, media::is_plain_ext};

/// A command as it stands in the configuration.
///
/// ```toml
/// [[commands]]
/// kind = "audio_tts"
/// models = ["espeak-ng"]
/// program = "espeak-ng"
/// args = ["-w", "{output}", ["-v", "{language}"], "--", "{text}"]
/// ext = "wav"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryConfig {
    /// The kind of task that it does.
    pub kind: TaskKind,
    /// The models that it stands for; one at least.
    pub models: Vec<String>,
    /// A path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<Args>,
    /// What it reads from stdin. `{input}` and `{output}` are names in its working folder here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The format that it makes, as an extension, where it makes only one: whatever was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext: Option<String>,
    /// Names of variables that it gets although they look like credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<String>,
    /// Exit codes that mean that another attempt can't help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permanent_exit_codes: Vec<i32>,
    /// The largest result, in bytes. (Results that are JSON have a bound of their own.)
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    /// Whether it wants the GPU to itself.
    #[serde(default)]
    pub wants_memory: bool,
}

impl EntryConfig {
    /// The largest result, unless the configuration says otherwise: 4 GiB.
    pub const MAX_BYTES: u64 = 4 << 30;
}

fn default_max_bytes() -> u64 {
    EntryConfig::MAX_BYTES
}

/// One argument, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Args {
    /// One. It is left out when something in it is absent from the task.
    One(String),
    /// A flag and its value, say. All are left out when something in one of them is absent from the task.
    Together(Vec<String>),
}

/// What is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` of the command {program}: {problem}")]
pub struct EntryError {
    /// The program of the command that is to blame.
    pub program: String,
    /// Which of its keys.
    pub key: String,
    /// What is wrong, as a sentence.
    pub problem: String,
}

/// A command that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) config: EntryConfig,
    /// Groups of arguments that stand or fall together.
    pub(super) groups: Vec<Vec<Template>>,
    pub(super) stdin: Option<Template>,
}

impl Entry {
    /// Whether it wants the GPU to itself.
    pub fn wants_memory(&self) -> bool {
        self.config.wants_memory
    }

    /// Checks a command.
    ///
    /// # Errors
    /// What is wrong with it, and with which of its keys.
    pub fn new(config: EntryConfig) -> Result<Self, EntryError> {
        let program = config.program.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        let wrong = |key: &str, problem: &dyn fmt::Display| EntryError {
            program: program.clone(),
            key: key.to_owned(),
            problem: problem.to_string(),
        };
        let says_nothing = |text: &str| text.trim().is_empty() || text.contains('\0');
        if says_nothing(&config.program) {
            return Err(wrong("program", &"name the program that is to be run"));
        }
        if config.models.is_empty() || config.models.iter().any(|model| says_nothing(model)) {
            return Err(wrong("models", &"name the models that it stands for"));
        }
        if config.ext.as_deref().is_some_and(|ext| !is_plain_ext(ext)) {
            return Err(wrong("ext", &"an extension is 1 to 16 letters and digits, without a dot"));
        }
        if config.max_bytes == 0 {
            return Err(wrong("max_bytes", &"nothing could be made: it must be above 0"));
        }
        if config.inherits.iter().any(|name| says_nothing(name) || name.contains('=')) {
            return Err(wrong("inherits", &"these are names of variables, without values"));
        }
        let mut groups: Vec<Vec<Template>> = Vec::new();
        for (at, args) in config.args.iter().enumerate() {
            let texts = match args {
                Args::One(text) => core::slice::from_ref(text),
                Args::Together(texts) => texts.as_slice(),
            };
            let mut group = Vec::new();
            for text in texts {
                if text.contains('\0') {
                    return Err(wrong(&format!("args[{at}]"), &"an argument has no zero byte in it"));
                }
                let template = Template::read(text, config.kind);
                group.push(template.map_err(|problem| wrong(&format!("args[{at}]"), &problem))?);
            }
            if let (Some(name), Some(flag)) = (lonely(&group), groups.last().and_then(|group| flag(group))) {
                // Left out alone, it would leave a flag that takes the next argument for its value.
                let problem = format!(
                    "a task may have no {name}, and {flag} would be left alone: write [\"{flag}\", \"{{{name}}}\"]"
                );
                return Err(wrong(&format!("args[{at}]"), &problem));
            }
            groups.push(group);
        }
        let stdin = config.stdin.as_deref().map(|text| Template::read(text, config.kind)).transpose();
        let stdin = stdin.map_err(|problem| wrong("stdin", &problem))?;
        Ok(Self { config, groups, stdin })
    }

    /// Whether a parameter has a place in it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters().any(|parameter| parameter.name == name)
    }

    /// Whether it names the file that it is to make. Else what it makes is what it writes to stdout.
    pub(super) fn makes_file(&self) -> bool {
        self.parameters().any(|parameter| parameter.role == Role::Output)
    }

    fn parameters(&self) -> impl Iterator<Item = Parameter> + '_ {
        self.groups.iter().flatten().chain(&self.stdin).flat_map(Template::parameters)
    }
}

/// The parameter that a group is, if it is nothing but one that a task may not have.
fn lonely(group: &[Template]) -> Option<&'static str> {
    match group {
        [Template(segments)] => match segments.as_slice() {
            [Segment::Of(parameter)] if !parameter.always => Some(parameter.name),
            _ => None,
        },
        _ => None,
    }
}

/// The flag that a group is, if it is nothing but one.
fn flag(group: &[Template]) -> Option<&str> {
    match group {
        [Template(segments)] => match segments.as_slice() {
            [Segment::Text(text)] if text.starts_with('-') && text != "--" => Some(text),
            _ => None,
        },
        _ => None,
    }
}
