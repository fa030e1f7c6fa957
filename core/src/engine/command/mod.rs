//! Any program: a table of the configuration says which does what.
//!
//! Arguments are templates; there is no shell between. A program's result is the file that it was told to make
//! (`{output}`), else what it writes to stdout.
//!
//! | kind | placeholders | result |
//! | --- | --- | --- |
//! | `image` | `{prompt}` `{width}` `{height}` `{ext}` `{negative_prompt}`! `{steps}`? `{seed}`? `{cfg_scale}`? `{denoise}`? `{sampling_method}`? `{input}`! `{mask}`! `{reference}`! | a picture |
//! | `llm` | `{prompt}` `{messages}` `{max_tokens}` `{temperature}` `{system}`! `{top_p}`? `{stop}`! `{json_schema}`! `{input}`! | a text, or a `chat.completion` |
//! | `audio_stt` | `{input}` `{language}`? `{prompt}`? `{translate}`! | a text, or a transcript in Whisper's shape |
//! | `audio_tts` | `{text}` `{ext}` `{voice}`! `{speed}`? `{language}`! | sound |
//! | `video` | `{prompt}` `{seconds}` `{width}` `{height}` `{ext}` `{negative_prompt}`! `{fps}`? `{input}`! | a film |
//! | `mesh` | `{input}` `{ext}` `{seed}`? | a GLB |
//!
//! A task may have none of those with `?` or `!`. One that has something with `!` wants something else made than one that
//! has not: it is refused by a command without a place for it. So is one that brings a file, or several messages where
//! there is a place for the last (`{prompt}`) and none for all (`{messages}`). What remains only tunes how it is made: a
//! command may ignore it.
//!
//! `{model}` and `{output}` are there for all; `{messages}`, `{stop}` and `{json_schema}` are JSON; `{{` and `}}` are
//! braces. `{input}`, `{mask}` and `{reference}` are files with what the task's addresses lead to, and `{output}` ends
//! with the extension that was asked for. `{translate}` is the word `translate`, where a translation is wanted.
//!
//! An argument with something in it that a task doesn't have is left out, and so is the whole list when arguments stand
//! in one: `["--seed", "{seed}"]`.
//!
//! A text that begins with `-` gets a space in front, so that no program takes it for a flag, and a name that does is
//! refused. After an argument `--` neither is done: the program knows by itself.

mod entry;
mod job;
mod result;
mod template;

#[cfg(test)]
mod tests;

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    collections::BTreeSet,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

pub use entry::{Args, Entry, EntryConfig, EntryError};

use super::{
    contract::{Effect, Engine, EngineError, Happened, Missing, Models, Recipe, Service, Survey},
    input::InputPolicy,
    refusal::{Refusal, interrupted},
    server::presentable,
};
use crate::wire::Claim;

/// The engine of the configuration's commands.
#[derive(Debug, Clone)]
pub struct Command {
    entries: Vec<Arc<Entry>>,
    inputs: InputPolicy,
}

impl Command {
    /// The name of this engine.
    pub const NAME: &str = "command";

    /// The engine of `entries`, of which the first that is for a job's kind and model runs it.
    pub fn new(entries: Vec<Entry>, inputs: InputPolicy) -> Self {
        Self { entries: entries.into_iter().map(Arc::new).collect(), inputs }
    }

    /// The first that is for a job's kind and model.
    fn entry_for(&self, claim: &Claim) -> Option<&Arc<Entry>> {
        let kind = claim.task.kind();
        self.entries
            .iter()
            .find(|entry| entry.config.kind == kind && entry.config.models.contains(&claim.model))
    }

    fn services_of<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<Service> {
        let service = |entry: &Arc<Entry>| Service {
            kind: entry.config.kind,
            engine: Self::NAME.to_owned(),
            models: Models::Listed(entry.config.models.clone()),
        };
        entries.map(service).collect()
    }
}

impl Engine for Command {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        Self::services_of(self.entries.iter())
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let kind = claim.task.kind();
        match self.entry_for(claim) {
            Some(entry) => Box::new(job::Job::new(Arc::clone(entry), Arc::clone(claim), self.inputs)),
            None => Box::new(Refusal::new(EngineError::permanent(format_args!(
                "the command engine cannot serve {kind} with the model {}",
                presentable(&claim.model, &[])
            )))),
        }
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        self.entry_for(claim).is_some_and(|entry| entry.wants_memory())
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        let programs: BTreeSet<&String> = self.entries.iter().map(|entry| &entry.config.program).collect();
        let programs = programs.into_iter().cloned().collect();
        Some(Box::new(Surveying { entries: self.entries.clone(), programs }))
    }
}

/// Finds out which programs are there.
struct Surveying {
    entries: Vec<Arc<Entry>>,
    programs: Vec<String>,
}

impl Surveying {
    fn survey(&self, found: &[Option<String>]) -> Survey {
        let is_there = |program: &String| {
            self.programs.iter().zip(found).any(|(name, found)| name == program && found.is_some())
        };
        let missing = self.programs.iter().filter(|program| !is_there(program));
        Survey {
            services: Command::services_of(
                self.entries.iter().filter(|entry| is_there(&entry.config.program)),
            ),
            missing: missing
                .map(|program| Missing {
                    engine: Command::NAME.to_owned(),
                    what: presentable(program, &[]),
                    how: "Install it, or correct `program` of its commands in the configuration.".to_string(),
                })
                .collect(),
        }
    }
}

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        match happened {
            Happened::Started => Effect::Find(self.programs.clone()),
            Happened::Found(found) => Effect::Done(Ok(self.survey(&found))),
            _ => Effect::Done(Err(interrupted())),
        }
    }
}
