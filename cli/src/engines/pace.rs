//! Made-up jobs that take their time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use studio_worker_core::{
    engine::{Effect, Engine, Happened, Recipe, Service},
    wire::Claim,
};

use crate::config::Config;

/// After which a job that waits looks whether it still has to.
const LONGEST_STEP: Duration = Duration::from_millis(200);

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
pub(super) struct Paced<E> {
    pub(super) engine: E,
    pub(super) pace: Pace,
}

impl<E: Engine> Engine for Paced<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn services(&self) -> Vec<Service> {
        self.engine.services()
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        self.engine.loads_model(claim)
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

#[cfg(test)]
mod tests {
    use studio_worker_core::{
        engine::synthetic::Synthetic,
        wire::{Finite, Task},
    };

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
