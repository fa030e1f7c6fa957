//! An engine whose runs take long, fail, panic, hang, and sometimes work.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use serde_json::json;

use super::{ledger::ProcessId, machine::takes, state::World};
use crate::{
    engine::{Effect, Engine, EngineError, Happened, Models, Output, Payload, Recipe, Service},
    wire::{Claim, TaskKind},
};

/// How long a run takes that never ends.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

pub(super) struct SimEngine {
    pub(super) world: World,
    pub(super) machine: usize,
    pub(super) process: ProcessId,
}

impl Engine for SimEngine {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn services(&self) -> Vec<Service> {
        let listed = |kind| Service {
            kind,
            engine: "synthetic".into(),
            models: Models::Listed(vec!["synthetic".into()]),
        };
        [TaskKind::Image, TaskKind::Llm].into_iter().map(listed).collect()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let prompt = claim.task.prompt().to_owned();
        let mut world = self.world.lock();
        let now = world.now;
        world.say(format_args!("box {}: runs {prompt:?}", self.machine));
        world.ledger.runs(self.process, &prompt, now);
        let span = {
            let most = world.scenario.run_time;
            world.dice.between(Duration::from_micros(1), most)
        };
        let bad_runs = world.scenario.bad_runs;
        let end = if world.goes_wrong(bad_runs) {
            world.dice.pick(&[End::Transient, End::Permanent, End::Panic, End::Hang])
        } else {
            End::Result
        };
        let is_thread = world.dice.below(2) == 0;
        drop(world);
        let owner = Owner { world: self.world.clone(), machine: self.machine, process: self.process, prompt };
        let is_json = claim.task.kind().result_is_json();
        let run = Run { owner: owner.clone(), is_json, span, end };
        Box::new(SimRecipe { owner, run: Some(run), is_thread })
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Result,
    Transient,
    Permanent,
    Panic,
    Hang,
}

struct SimRecipe {
    owner: Owner,
    run: Option<Run>,
    is_thread: bool,
}

impl Recipe for SimRecipe {
    fn next(&mut self, happened: Happened) -> Effect {
        let outcome = match (happened, self.run.take()) {
            (Happened::Started, Some(run)) if self.is_thread => {
                return Effect::Compute(Box::new(move || {
                    takes(run.span());
                    run.end()
                }));
            }
            (Happened::Started, Some(run)) => {
                let span = run.span();
                self.run = Some(run);
                return Effect::Pause(span);
            }
            (Happened::Computed(outcome), _) => outcome,
            (_, Some(run)) => run.end(),
            (_, None) => Err(EngineError::transient("ended twice")),
        };
        Effect::Done(outcome.map(|output| self.owner.had(output)))
    }
}

/// Whose run it is.
#[derive(Clone)]
struct Owner {
    world: World,
    machine: usize,
    process: ProcessId,
    prompt: String,
}

impl Owner {
    /// A result is there; now and then it lies in a file, as a large one would.
    fn had(&self, output: Output) -> Output {
        let mut world = self.world.lock();
        let now = world.now;
        world.say(format_args!("box {}: has the result of {:?}", self.machine, self.prompt));
        world.ledger.had(self.process, &self.prompt, now);
        let Output::Bytes { ext, payload } = output else { return output };
        let is_large = world.dice.below(3) == 0;
        let file = is_large.then(|| world.write_file(self.machine, self.prompt.clone(), 5_000_000).ok());
        Output::Bytes { ext, payload: file.flatten().map_or(payload, Payload::File) }
    }
}

struct Run {
    owner: Owner,
    is_json: bool,
    span: Duration,
    end: End,
}

impl Run {
    fn span(&self) -> Duration {
        if matches!(self.end, End::Hang) { FOR_EVER } else { self.span }
    }

    fn end(self) -> Result<Output, EngineError> {
        let Owner { world, prompt, .. } = self.owner;
        let mut world = world.lock();
        match self.end {
            End::Result | End::Hang => {}
            End::Transient => return Err(EngineError::transient("out of memory")),
            End::Permanent => {
                world.ledger.impossible(&prompt);
                return Err(EngineError::permanent("not a picture"));
            }
            End::Panic => {
                drop(world);
                // Without the hook that would print it.
                resume_unwind(Box::new("index out of bounds"));
            }
        }
        if self.is_json {
            return Ok(Output::Json(Arc::new(json!({ "of": prompt }))));
        }
        Ok(Output::Bytes { ext: "webp".into(), payload: prompt.into_bytes().into() })
    }
}
