//! One job of a command: its inputs, its run, its result.

use alloc::{borrow::ToOwned, boxed::Box, format, string::String, sync::Arc, vec::Vec};

use super::{
    entry::Entry,
    result,
    template::{Role, Segment, Template, parameters, value},
};
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Output, Recipe},
        format::Format,
        gather::{Gather, Wanted},
        input::InputPolicy,
        program::{Words, argument_text, how_ended, last_words_of},
        refusal::interrupted,
        server::{MAX_JSON, confidential},
    },
    machine::{Argument, Keep, Part, Process, Program, Ran, Source},
    wire::{Claim, Secret, Task, media::is_plain_ext},
};

/// The recipe.
pub(super) struct Job {
    entry: Arc<Entry>,
    claim: Arc<Claim>,
    /// What gives access to its inputs.
    secrets: Vec<Secret>,
    /// Its inputs, by the parameter that each is for, with the extension that its address has.
    inputs: Vec<(&'static str, Option<String>)>,
    stage: Stage,
}

enum Stage {
    Gathering(Box<Gather>),
    Running,
}

/// What a task brings besides its parameters.
fn brought(task: &Task) -> Vec<(&'static str, &str)> {
    match task {
        Task::Image(task) => {
            [("input", &task.init_image_url), ("mask", &task.mask_url), ("reference", &task.ref_image_url)]
                .into_iter()
                .filter_map(|(name, address)| Some((name, address.as_deref()?)))
                .collect()
        }
        Task::Llm(task) => task.images.iter().map(|address| ("input", address.as_str())).collect(),
        Task::AudioStt(task) => Vec::from([("input", task.input_url.as_str())]),
        Task::Video(task) => task.init_image_url.iter().map(|address| ("input", address.as_str())).collect(),
        Task::Mesh(task) => Vec::from([("input", task.image_url.as_str())]),
        Task::AudioTts(_) => Vec::new(),
    }
}

impl Job {
    pub(super) fn new(entry: Arc<Entry>, claim: Arc<Claim>, policy: InputPolicy) -> Self {
        let brought = brought(&claim.task);
        let secrets = brought.iter().flat_map(|(_, address)| confidential(address)).collect();
        let is_sound = matches!(claim.task, Task::AudioStt(_));
        let wanted = |address: &str| if is_sound { Wanted::sound(address) } else { Wanted::picture(address) };
        let inputs = brought
            .iter()
            .map(|(name, address)| (*name, address_ext(address).map(ToOwned::to_owned)))
            .collect();
        let gather = Gather::new(policy, brought.iter().map(|(_, address)| wanted(address)).collect());
        Self { entry, claim, secrets, inputs, stage: Stage::Gathering(Box::new(gather)) }
    }

    /// What the task wants and the command has no place for: leaving it out would make something else.
    fn unserved(&self) -> Option<String> {
        let model = &self.claim.model;
        for (at, (name, _)) in self.inputs.iter().enumerate() {
            if !self.entry.has(name) {
                return Some(format!(
                    "the command for {model} cannot serve a task with a file for {{{name}}}"
                ));
            }
            if self.inputs[..at].iter().any(|(other, _)| other == name) {
                return Some(format!("the command for {model} cannot serve a task with several pictures"));
            }
        }
        let is_missing = |name: &str| !self.entry.has(name);
        if matches!(&self.claim.task, Task::Llm(task) if task.messages.len() > 1) && is_missing("messages") {
            return Some(format!(
                "the command for {model} cannot serve a chat of several messages: it has no place for {{messages}}"
            ));
        }
        let has = |name: &str| value(name, &self.claim, self.ext()).is_some_and(|value| !value.is_empty());
        let left_out = parameters(self.claim.task.kind())
            .find(|parameter| parameter.counts && has(parameter.name) && is_missing(parameter.name))?;
        Some(format!(
            "the command for {model} cannot serve a task with {0}: it has no place for {{{0}}}",
            left_out.name
        ))
    }

    fn words(&self) -> Words<'_> {
        Words { program: &self.entry.config.program, secrets: &self.secrets }
    }

    /// The extension of what is made.
    fn ext(&self) -> &str {
        let declared = self.entry.config.ext.as_deref();
        declared
            .or(self.claim.task.ext())
            .filter(|ext| is_plain_ext(ext))
            .unwrap_or(if self.claim.task.kind().result_is_json() { "json" } else { "bin" })
    }

    fn process(&self, gathered: Vec<Vec<u8>>) -> Result<Process, EngineError> {
        let mut files = Vec::new();
        let mut inputs = Vec::new();
        for ((name, ext), bytes) in self.inputs.iter().zip(gathered) {
            let file = format!("{name}.{}", self.ext_of_input(ext.as_deref(), &bytes)?);
            files.push((*name, file.clone()));
            inputs.push((file, bytes));
        }
        let output = format!("output.{}", self.ext());
        let filling = Filling { job: self, files: &files, output: &output };
        let config = &self.entry.config;
        let is_json = self.claim.task.kind().result_is_json();
        Ok(Process {
            program: Program {
                program: config.program.clone(),
                arguments: filling.arguments()?,
                environment: Vec::new(),
                inherits: config.inherits.clone(),
            },
            stdin: self
                .entry
                .stdin
                .as_ref()
                .map(|template| filling.text(template))
                .unwrap_or_default()
                .into(),
            source: if self.entry.makes_file() { Source::File(output.clone()) } else { Source::Stdout },
            keep: if is_json { Keep::Memory } else { Keep::File },
            limit: if is_json { MAX_JSON as u64 } else { config.max_bytes },
            wants_memory: config.wants_memory,
            inputs,
        })
    }

    fn ext_of_input<'a>(&self, named: Option<&'a str>, bytes: &[u8]) -> Result<&'a str, EngineError> {
        let format = Format::of(bytes);
        if matches!(self.claim.task, Task::AudioStt(_)) {
            if format.is_some_and(|format| format.is_picture() || format == Format::Glb) {
                return Err(EngineError::permanent("the input is not sound"));
            }
            // Programs know more formats than can be told here: then the address says which.
            return Ok(format.map(Format::ext).or(named).unwrap_or("bin"));
        }
        match format.filter(|format| format.is_picture()) {
            Some(format) => Ok(format.ext()),
            None => Err(EngineError::permanent("an input isn't a picture")),
        }
    }

    fn ran(&self, ran: Ran) -> Result<Output, EngineError> {
        let Ran { ended, made } = ran;
        let words = last_words_of(&ended.stderr);
        if !ended.is_success() {
            let is_hopeless =
                ended.code.is_some_and(|code| self.entry.config.permanent_exit_codes.contains(&code));
            let how = how_ended(&ended);
            return Err(if is_hopeless {
                self.words().hopeless(how, &words)
            } else {
                self.words().trouble(how, &words)
            });
        }
        let Some(made) = made else {
            return Err(self.words().trouble("ended well and made no file", &words));
        };
        result::read(made, &self.claim, self.ext()).map_err(|what| self.words().trouble(what, &words))
    }
}

/// The extension at the end of an address's path.
fn address_ext(address: &str) -> Option<&str> {
    let path = address.split(['?', '#']).next()?;
    let (_, ext) = path.rsplit_once('/')?.1.rsplit_once('.')?;
    is_plain_ext(ext).then_some(ext)
}

/// Puts a job's values into templates.
struct Filling<'a> {
    job: &'a Job,
    files: &'a [(&'static str, String)],
    output: &'a str,
}

impl Filling<'_> {
    fn value(&self, name: &str) -> Option<String> {
        value(name, &self.job.claim, self.job.ext())
    }

    fn file(&self, name: &str, role: Role) -> Option<&str> {
        match role {
            Role::Output => Some(self.output),
            _ => self.files.iter().find(|(other, _)| *other == name).map(|(_, file)| file.as_str()),
        }
    }

    /// A text, with nothing for what is absent; files are their names.
    fn text(&self, template: &Template) -> String {
        let parts = template.0.iter().map(|segment| match segment {
            Segment::Text(text) => text.clone(),
            Segment::Of(parameter) => match parameter.role {
                Role::Input | Role::Output => {
                    self.file(parameter.name, parameter.role).unwrap_or_default().to_owned()
                }
                _ => self.value(parameter.name).unwrap_or_default(),
            },
        });
        parts.collect()
    }

    fn arguments(&self) -> Result<Vec<Argument>, EngineError> {
        let mut arguments = Vec::new();
        let mut only_values_follow = false;
        for group in &self.job.entry.groups {
            let mut filled = Vec::new();
            for template in group {
                let Some(argument) = self.argument(template, only_values_follow)? else {
                    filled.clear();
                    break;
                };
                only_values_follow |= argument == Argument::from("--");
                filled.push(argument);
            }
            arguments.append(&mut filled);
        }
        Ok(arguments)
    }

    /// An argument; none when something in it is absent from the task.
    fn argument(&self, template: &Template, is_value: bool) -> Result<Option<Argument>, EngineError> {
        let mut parts: Vec<Part> = Vec::new();
        for segment in &template.0 {
            let part = match segment {
                Segment::Text(text) => Part::Text(text.clone()),
                Segment::Of(parameter) => match parameter.role {
                    Role::Input | Role::Output => match self.file(parameter.name, parameter.role) {
                        Some(file) => Part::Scratch(file.to_owned()),
                        None => return Ok(None),
                    },
                    role => match self.value(parameter.name) {
                        Some(text) => {
                            let begins = parts.iter().all(|part| *part == Part::Text(String::new()));
                            Part::Text(Self::safe(parameter.name, text, role, is_value || !begins)?)
                        }
                        None => return Ok(None),
                    },
                },
            };
            parts.push(part);
        }
        if parts.is_empty() {
            // An empty argument is one that was meant.
            parts.push(Part::Text(String::new()));
        }
        Ok(Some(Argument(parts)))
    }

    /// A value that can be taken for no flag, and that an argument can carry.
    fn safe(name: &str, text: String, role: Role, is_value: bool) -> Result<String, EngineError> {
        let text = argument_text(name, text)?;
        if is_value || !text.starts_with('-') {
            return Ok(text);
        }
        match role {
            // For people a space is nothing.
            Role::Prose => Ok(format!(" {text}")),
            Role::Plain => Ok(text),
            _ => Err(EngineError::permanent(format!("{name} begins with `-`, and can't be an argument"))),
        }
    }
}

impl Recipe for Job {
    fn next(&mut self, happened: Happened) -> Effect {
        if let Some(what) = self.unserved() {
            return Effect::Done(Err(EngineError::permanent(crate::engine::server::presentable(&what, &[]))));
        }
        match (&mut self.stage, happened) {
            (Stage::Gathering(gather), happened) => gather.next(happened).and_then(|outcome| {
                match outcome.and_then(|gathered| self.process(gathered)) {
                    Ok(process) => {
                        self.stage = Stage::Running;
                        Effect::Run(process)
                    }
                    Err(error) => Effect::Done(Err(error)),
                }
            }),
            (Stage::Running, Happened::Ran(Ok(ran))) => Effect::Done(self.ran(ran)),
            (Stage::Running, Happened::Ran(Err(failure))) => Effect::Done(Err(self.words().failed(&failure))),
            (Stage::Running, _) => Effect::Done(Err(interrupted())),
        }
    }
}
