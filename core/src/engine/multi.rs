//! Several engines as one: each job goes to the first that serves its kind and model.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};

use super::{
    contract::{Effect, Engine, EngineError, Happened, Missing, Recipe, Service, Survey, serves},
    refusal::Refusal,
    surveyed::Surveyed,
};
use crate::wire::Claim;

/// The engine that is made of others.
///
/// A job that names its engine (`modelSource.engine`) goes to that one or to none (section 7).
#[derive(Clone, Default)]
pub struct Multi {
    engines: Vec<Arc<dyn Engine>>,
}

impl Multi {
    /// The name of this engine.
    pub const NAME: &str = "multi";

    /// The engine made of `engines`, of which the first that serves a job gets it.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines }
    }

    /// The first that serves a job.
    fn engine_for(&self, claim: &Claim) -> Option<&Arc<dyn Engine>> {
        let (kind, engine) = (claim.task.kind(), claim.engine());
        self.engines.iter().find(|member| serves(&member.services(), kind, &claim.model, engine))
    }

    /// The same engines, of which each serves what `survey` found under its name. Engines of one name are told apart by
    /// nothing: the first of them gets it all.
    #[must_use]
    pub fn surveyed(&self, survey: &Survey) -> Self {
        let mut left = survey.services.clone();
        let engines = self.engines.iter().map(|engine| {
            let services = left.extract_if(.., |service| service.engine == engine.name()).collect();
            let survey = Survey { services, missing: Vec::new() };
            Arc::new(Surveyed::new(Arc::clone(engine), survey)) as Arc<dyn Engine>
        });
        Self { engines: engines.collect() }
    }
}

impl Engine for Multi {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn services(&self) -> Vec<Service> {
        self.engines.iter().flat_map(Engine::services).collect()
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        let kind = claim.task.kind();
        match self.engine_for(claim) {
            Some(engine) => engine.recipe(claim),
            None => Box::new(Refusal::new(EngineError::permanent(format_args!(
                "this worker cannot serve {kind} with the model {}",
                super::server::presentable(&claim.model, &[])
            )))),
        }
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        self.engine_for(claim).is_some_and(|engine| engine.loads_model(claim))
    }

    fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
        Some(Box::new(Surveying {
            left: self.engines.iter().cloned().collect(),
            current: None,
            found: Survey::default(),
        }))
    }
}

/// Surveys one engine after the other.
struct Surveying {
    left: VecDeque<Arc<dyn Engine>>,
    current: Option<Asked>,
    found: Survey,
}

/// An engine, and its survey that is under way.
type Asked = (Arc<dyn Engine>, Box<dyn Recipe<Survey>>);

impl Surveying {
    fn begin_next(&mut self) -> Effect<Survey> {
        while let Some(engine) = self.left.pop_front() {
            match engine.survey() {
                None => self.found.services.extend(engine.services()),
                Some(mut recipe) => {
                    // One that is over at once needs no next turn, and the loop no recursion.
                    match recipe.next(Happened::Started) {
                        Effect::Done(outcome) => self.take(&*engine, outcome),
                        effect => {
                            self.current = Some((engine, recipe));
                            return effect;
                        }
                    }
                }
            }
        }
        Effect::Done(Ok(core::mem::take(&mut self.found)))
    }

    fn take(&mut self, engine: &dyn Engine, outcome: Result<Survey, EngineError>) {
        match outcome {
            Ok(survey) => {
                self.found.services.extend(survey.services);
                self.found.missing.extend(survey.missing);
            }
            // What can't be found out can't be served, and takes nothing from the others.
            Err(error) => self.found.missing.push(Missing {
                engine: engine.name().into(),
                what: "an answer to what it can serve".into(),
                how: error.message,
            }),
        }
    }
}

impl Recipe<Survey> for Surveying {
    fn next(&mut self, happened: Happened) -> Effect<Survey> {
        let Some((engine, mut recipe)) = self.current.take() else { return self.begin_next() };
        match recipe.next(happened) {
            Effect::Done(outcome) => {
                self.take(&*engine, outcome);
                self.begin_next()
            }
            effect => {
                self.current = Some((engine, recipe));
                effect
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use serde_json::json;

    use super::*;
    use crate::{
        engine::{
            FnEngine, Models, Output,
            transcript::{claim, play, run},
        },
        wire::{ModelSource, TaskKind},
    };

    fn service(engine: &str, models: Models) -> Service {
        Service { kind: TaskKind::Llm, engine: engine.into(), models }
    }

    fn listed(model: &str) -> Models {
        Models::Listed(vec![model.into()])
    }

    /// An engine that answers with its name.
    fn engine(name: &'static str, services: Vec<Service>) -> Arc<dyn Engine> {
        Arc::new(FnEngine::new(name, services, move |_| Ok(Output::Json(Arc::new(name.into())))))
    }

    /// Who gets the job, by the closure that it becomes.
    fn who(engine: &Multi, model: &str, source: Option<&str>) -> Result<Output, EngineError> {
        let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] });
        let mut claim = claim(&task);
        claim.model = model.into();
        claim.model_source =
            source.map(|engine| ModelSource { engine: engine.into(), ..ModelSource::default() });
        match engine.recipe(&Arc::new(claim)).next(Happened::Started) {
            Effect::Compute(work) => work(),
            Effect::Done(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn json_of(name: &str) -> Output {
        Output::Json(Arc::new(name.into()))
    }

    #[test]
    fn the_first_engine_that_serves_a_job_gets_it_and_a_named_one_is_never_substituted() {
        let multi = Multi::new(vec![
            engine("first", vec![service("first", listed("m-1"))]),
            engine("second", vec![service("second", listed("m-1")), service("second", listed("m-2"))]),
            engine("third", vec![service("third", Models::Sourced)]),
        ]);
        assert_eq!((multi.name(), multi.services().len()), ("multi", 4));
        for (model, source, gets) in [
            ("m-1", None, "first"),
            ("m-2", None, "second"),
            ("m-1", Some("second"), "second"),
            ("anything", Some("third"), "third"),
        ] {
            assert_eq!(who(&multi, model, source), Ok(json_of(gets)), "{model} {source:?}");
        }
        for (model, source) in [("m-3", None), ("m-2", Some("first")), ("m-1", Some("fourth"))] {
            let error = who(&multi, model, source).unwrap_err();
            assert!(error.message.contains("cannot serve"), "{error}");
            assert!(!error.retryable, "{error}");
        }
        let nothing = Multi::default();
        let task = json!({ "kind": "image", "prompt": "a cat" });
        run(&nothing, &task, vec![]).fails(false, "this worker cannot serve image with the model m-1");
    }

    struct Asking(&'static str, Option<Result<Survey, EngineError>>);

    impl Engine for Asking {
        fn name(&self) -> &str {
            self.0
        }

        fn services(&self) -> Vec<Service> {
            vec![]
        }

        fn recipe(&self, _: &Arc<Claim>) -> Box<dyn Recipe> {
            let name = self.0;
            Box::new(Refusal::new(EngineError::transient(name)))
        }

        fn survey(&self) -> Option<Box<dyn Recipe<Survey>>> {
            struct Pauses(Option<Result<Survey, EngineError>>);
            impl Recipe<Survey> for Pauses {
                fn next(&mut self, happened: Happened) -> Effect<Survey> {
                    match happened {
                        Happened::Started => Effect::Pause(core::time::Duration::from_secs(1)),
                        _ => Effect::Done(self.0.take().unwrap()),
                    }
                }
            }
            Some(Box::new(Pauses(self.1.clone())))
        }
    }

    #[test]
    fn a_survey_asks_each_engine_and_no_failure_takes_from_the_others() {
        let missing = Missing { engine: "asks".into(), what: "a part".into(), how: "Get it.".into() };
        let found = Survey { services: vec![service("asks", listed("m-1"))], missing: vec![missing.clone()] };
        let multi = Multi::new(vec![
            Arc::new(Asking("broken", Some(Err(EngineError::transient("no answer"))))),
            engine("knows", vec![service("knows", listed("m-2"))]),
            Arc::new(Asking("asks", Some(Ok(found)))),
        ]);
        let played = play(multi.survey().unwrap(), vec![]);
        assert_eq!(played.pauses.len(), 2);
        let survey = played.outcome.unwrap();
        assert_eq!(survey.services, [service("knows", listed("m-2")), service("asks", listed("m-1"))]);
        let broken = Missing {
            engine: "broken".into(),
            what: "an answer to what it can serve".into(),
            how: "no answer".into(),
        };
        assert_eq!(survey.missing, [broken, missing]);

        let surveyed = multi.surveyed(&survey);
        assert_eq!(surveyed.services(), survey.services);
        assert_eq!(who(&surveyed, "m-2", None), Ok(json_of("knows")));
        assert_eq!(who(&surveyed, "m-1", None).unwrap_err().message, "asks".to_string());
        assert_eq!(play(surveyed.survey().unwrap(), vec![]).outcome.unwrap(), survey);
    }
}
