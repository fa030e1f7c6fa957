//! A job as somebody asks for it.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::io::Refusal;
use crate::wire::{ClaimProblem, Finite, JobId, ModelSource, Task, address};

/// A job that is to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its id, if the caller wants to choose: 1 to 200 bytes without control characters, and neither
    /// `.` nor `..`. Else one is made.
    pub id: Option<JobId>,
    /// Whose job it is.
    pub game_id: String,
    /// What the result is for.
    pub asset_name: String,
    /// The model that must make it.
    pub model: String,
    /// What to do.
    pub task: Task,
    /// Where the model comes from and which engine must run it (0.4).
    pub model_source: Option<ModelSource>,
    /// Memory that it will want, in GB.
    pub vram_gb_estimate: Finite,
}

impl NewJob {
    const FIELDS: [&'static str; 7] =
        ["id", "gameId", "assetName", "model", "task", "modelSource", "vramGbEstimate"];

    /// A job with nothing but what it must have.
    pub fn new(model: impl Into<String>, task: Task) -> Self {
        Self {
            id: None,
            game_id: String::new(),
            asset_name: String::new(),
            model: model.into(),
            task,
            model_source: None,
            vram_gb_estimate: Finite::ZERO,
        }
    }

    /// Reads a job as people and scripts send it: an object with `model` and `task` (section 5), and optionally
    /// `id`, `gameId`, `assetName`, `modelSource`, `vramGbEstimate`. What can't be read or isn't known is a 400
    /// that names the field, since a typo must not become a default.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let object: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(400, alloc::format!("the body is not a JSON object ({error})")))?;
        if let Some(unknown) = object.keys().find(|name| !Self::FIELDS.contains(&name.as_str())) {
            return Err(Refusal::field(
                unknown.clone(),
                alloc::format!("`{unknown}` is not a field of a job"),
            ));
        }
        let task = match object.get("task") {
            None | Some(Value::Null) => return Err(Refusal::field("task", "`task` is required")),
            Some(task) => Task::from_json(task).map_err(|problem| match &problem {
                ClaimProblem::Parameter { name, .. } if name != "task" => {
                    Refusal::field(alloc::format!("task.{name}"), problem.to_string())
                }
                ClaimProblem::UnknownKind { .. } => Refusal::field("task.kind", problem.to_string()),
                ClaimProblem::Parameter { .. } => Refusal::field("task", problem.to_string()),
            })?,
        };
        let Some(model) = optional::<String>(&object, "model")? else {
            return Err(Refusal::field("model", "`model` is required"));
        };
        let job = Self {
            id: optional(&object, "id")?,
            game_id: optional(&object, "gameId")?.unwrap_or_default(),
            asset_name: optional(&object, "assetName")?.unwrap_or_default(),
            model,
            task,
            model_source: optional(&object, "modelSource")?,
            vram_gb_estimate: optional(&object, "vramGbEstimate")?.unwrap_or_default(),
        };
        job.check().map(|()| job)
    }

    /// Whether it is within its bounds.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let short = |name: &str, text: &str, most: usize| {
            if text.len() > most || text.chars().any(char::is_control) {
                let error = alloc::format!("`{name}` has at most {most} bytes and no control characters");
                return Err(Refusal::field(name, error));
            }
            Ok(())
        };
        if let Some(id) = &self.id {
            short("id", id.as_str(), 200)?;
            if id.as_str().is_empty() {
                return Err(Refusal::field("id", "`id` must not be empty; leave it out to get one"));
            }
            if !address::is_segment(id.as_str()) {
                return Err(Refusal::field("id", "`id` must not be `.` or `..`, which no address can carry"));
            }
        }
        short("gameId", &self.game_id, 500)?;
        short("assetName", &self.asset_name, 500)?;
        short("model", &self.model, 500)?;
        if self.model.is_empty() {
            return Err(Refusal::field("model", "`model` must not be empty"));
        }
        if self.vram_gb_estimate < Finite::ZERO {
            return Err(Refusal::field("vramGbEstimate", "`vramGbEstimate` must be at least 0"));
        }
        if self.model_source.as_ref().is_some_and(|source| source.engine.is_empty()) {
            return Err(Refusal::field("modelSource.engine", "`modelSource.engine` is required"));
        }
        Ok(())
    }
}

fn optional<T: for<'de> Deserialize<'de>>(
    object: &Map<String, Value>,
    name: &str,
) -> Result<Option<T>, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|error| Refusal::field(name.to_owned(), alloc::format!("`{name}`: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_job_is_refused_with_the_field_that_is_to_blame() {
        let task = r#""task":{"kind":"image","prompt":"a"}"#;
        for (body, field) in [
            (alloc::format!("{{{task}}}"), Some("model")),
            (r#"{"model":"","task":{"kind":"image","prompt":"a"}}"#.into(), Some("model")),
            (alloc::format!(r#"{{"model":7,{task}}}"#), Some("model")),
            (r#"{"model":"m"}"#.into(), Some("task")),
            (r#"{"model":"m","task":[]}"#.into(), Some("task")),
            (r#"{"model":"m","task":{"kind":"hologram"}}"#.into(), Some("task.kind")),
            (r#"{"model":"m","task":{"kind":"image","prompt":"a","width":0}}"#.into(), Some("task.width")),
            (alloc::format!(r#"{{"model":"m","id":"",{task}}}"#), Some("id")),
            (alloc::format!(r#"{{"model":"m","id":"a\nb",{task}}}"#), Some("id")),
            (alloc::format!(r#"{{"model":"m","id":"..",{task}}}"#), Some("id")),
            (alloc::format!(r#"{{"model":"m","vramGbEstimate":-1,{task}}}"#), Some("vramGbEstimate")),
            (alloc::format!(r#"{{"model":"m","modelSource":{{}},{task}}}"#), Some("modelSource.engine")),
            (alloc::format!(r#"{{"model":"m","modle":"x",{task}}}"#), Some("modle")),
            ("[]".into(), None),
            (String::new(), None),
        ] {
            let refusal = NewJob::parse(body.as_bytes()).unwrap_err();
            assert_eq!((refusal.status, refusal.field.as_deref()), (400, field), "{body}");
        }
    }

    #[test]
    fn a_good_job_is_read_whole() {
        let job = NewJob::parse(
            br#"{"id":"j/1","gameId":"g","assetName":"a","model":"m","vramGbEstimate":2.5,
                "task":{"kind":"mesh","imageUrl":"https://h/x.png"},"modelSource":{"engine":"torch"}}"#,
        )
        .unwrap();
        assert_eq!((job.id, job.model_source.unwrap().engine), (Some("j/1".into()), "torch".to_owned()));
        assert_eq!(job.vram_gb_estimate.get().to_string(), "2.5");
    }
}
