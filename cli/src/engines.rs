//! From the names of engines in a configuration to an engine.
//!
//! A configuration whose engine can't be served never runs on another one: it is an error that says what to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use studio_worker_core::{
    engine::{Effect, Engine, Happened, Recipe, Service, synthetic::Synthetic},
    wire::Claim,
};

use crate::config::Config;

/// Combines others.
const MULTI: &str = "multi";
/// Those that this program serves.
const SERVED: [&str; 1] = ["synthetic"];
/// Those that configurations of the published programs name, or ours will.
const NAMED: [&str; 10] = [
    "gradio",
    "llama",
    "whisper",
    "image-candle",
    "video",
    "tts",
    "openai",
    "command",
    "llama-cpp",
    "sd-cpp",
];
/// After which a job that waits looks whether it still has to.
const LONGEST_STEP: Duration = Duration::from_millis(200);

/// Why there is no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineNameError {
    /// A name that nobody has heard of.
    #[error("\"{name}\" is not an engine: there are \"multi\", \"synthetic\", {}", NAMED.map(|name| format!("{name:?}")).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// `multi` in the list of those that it combines.
    #[error("\"multi\" combines the engines that are listed here, and can't be one of them")]
    Nested,
    /// It exists elsewhere.
    #[error(
        "key `{key}`: this version of studio-worker can't serve the engine \"{name}\" yet: name \"synthetic\" for made-up results, or keep using the program that served it"
    )]
    NotYet {
        /// The key that names it.
        key: &'static str,
        /// Its name.
        name: String,
    },
}

/// Whether `engine` can have this value.
pub(crate) fn check_name(name: &str) -> Result<(), EngineNameError> {
    if name == MULTI { Ok(()) } else { known(name) }
}

/// Whether `engines` can have this member.
pub(crate) fn check_member(name: &str) -> Result<(), EngineNameError> {
    if name == MULTI { Err(EngineNameError::Nested) } else { known(name) }
}

fn known(name: &str) -> Result<(), EngineNameError> {
    if SERVED.contains(&name) || NAMED.contains(&name) {
        Ok(())
    } else {
        Err(EngineNameError::Unknown { name: name.to_owned() })
    }
}

/// How long each job of the synthetic engine waits before it is made. Clones are one and the same, also for jobs
/// that wait already.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<AtomicU32>);

impl Pace {
    /// As `config` has it.
    pub fn of(config: &Config) -> Self {
        let pace = Self::default();
        pace.follow(config);
        pace
    }

    /// As `config` has it, from now on.
    pub fn follow(&self, config: &Config) {
        self.0.store(config.synthetic_delay_ms, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).into())
    }
}

/// An engine whose jobs wait before they are made.
struct Paced<E> {
    engine: E,
    pace: Pace,
}

impl<E: Engine> Engine for Paced<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn services(&self) -> Vec<Service> {
        self.engine.services()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        log::debug!("the {} engine begins the job {}", self.name(), claim.job_id);
        let recipe = self.engine.recipe(claim);
        Box::new(PacedRecipe { recipe, pace: self.pace.clone(), waited: Some(Duration::ZERO) })
    }
}

struct PacedRecipe {
    recipe: Box<dyn Recipe>,
    pace: Pace,
    /// How long it has waited; none once it goes on.
    waited: Option<Duration>,
}

impl Recipe for PacedRecipe {
    fn next(&mut self, happened: Happened) -> Effect {
        let Some(waited) = &mut self.waited else { return self.recipe.next(happened) };
        let rest = self.pace.delay().saturating_sub(*waited);
        if rest.is_zero() {
            self.waited = None;
            return self.recipe.next(Happened::Started);
        }
        // In short steps, since the pace may change meanwhile.
        let step = rest.min(LONGEST_STEP);
        *waited += step;
        Effect::Pause(step)
    }
}

/// The engine that `config` names, at that pace. `multi` without `engines` is every engine that this machine can serve.
pub fn build(config: &Config, pace: &Pace) -> Result<Arc<dyn Engine>, EngineNameError> {
    let (key, names) = match (config.engine.as_str(), config.engines.as_slice()) {
        (MULTI, []) => ("engine", SERVED.map(str::to_owned).to_vec()),
        (MULTI, engines) => ("engines", engines.to_vec()),
        (engine, _) => ("engine", vec![engine.to_owned()]),
    };
    if let Some(name) = names.into_iter().find(|name| !SERVED.contains(&name.as_str())) {
        return Err(EngineNameError::NotYet { key, name });
    }
    // As long as one engine is served, whatever combination was named is that one.
    let engine = Synthetic::with_models(&config.supported_models_override);
    Ok(Arc::new(Paced { engine, pace: pace.clone() }))
}

/// Whether `old` and `new` make the same engine.
pub(crate) fn same(old: &Config, new: &Config) -> bool {
    let parts = |config: &Config| {
        (
            config.engine.clone(),
            config.engines.clone(),
            config.supported_models_override.clone(),
            config.gradio_endpoint_url.clone(),
            config.models_root.clone(),
        )
    };
    parts(old) == parts(new)
}

#[cfg(test)]
mod tests {
    use studio_worker_core::wire::{Finite, Task};

    use super::*;

    /// How long a recipe waits before it has something made; after so many steps the pace is changed.
    fn waits(pace: &Pace, steps: usize, changed: u32) -> Duration {
        let engine = Paced { engine: Synthetic::new(), pace: pace.clone() };
        let task = serde_json::json!({ "kind": "llm", "messages": [{ "role": "user", "content": "p" }] });
        let claim = Claim {
            job_id: "j-1".into(),
            game_id: String::new(),
            asset_name: String::new(),
            model: "synthetic".into(),
            vram_gb_estimate: Finite::ZERO,
            task: Task::from_json(&task).unwrap(),
            model_source: None,
        };
        let mut recipe = engine.recipe(&Arc::new(claim));
        let (mut waited, mut happened) = (Duration::ZERO, Happened::Started);
        for step in 0.. {
            if step == steps {
                pace.0.store(changed, Ordering::Relaxed);
            }
            match recipe.next(happened) {
                Effect::Pause(span) => waited += span,
                Effect::Compute(_) => break,
                other => panic!("{other:?}"),
            }
            happened = Happened::Paused;
        }
        waited
    }

    #[test]
    fn a_job_waits_as_long_as_the_pace_says_by_then() {
        let pace = Pace::default();
        assert_eq!(waits(&pace, 0, 0), Duration::ZERO);
        assert_eq!(waits(&pace, 0, 1_234), Duration::from_millis(1_234));
        assert_eq!(waits(&pace, 3, 0), 3 * LONGEST_STEP);
        pace.0.store(5_000, Ordering::Relaxed);
        assert_eq!(waits(&pace, 3, 1_000), Duration::from_secs(1));
    }
}
