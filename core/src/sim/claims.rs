//! Fuzz body: claims and tasks of both generations (section 5).

mod model;

use alloc::{borrow::ToOwned, format, string::ToString};

use serde_json::{Value, json};

use super::told;
use crate::{
    time::Wall,
    wire::{Claim, ClaimProblem, FrameError, Offer, StudioFrame, Task, TaskForm},
    worker::{CurrentJob, PROMPT_PREVIEW_CHARS, truncate_prompt},
};
use model::Model;

/// Reads the first text of `data` as a claim, and the second as another one.
///
/// What comes of a claim is what a model says that reads section 5's tables parameter by parameter: whose job it is,
/// whether it can be read, every value and default, or else a parameter that really is to blame. What was read means the
/// same in both spellings. A job is the same as itself, also when its URLs are signed afresh, and two claims are of the
/// same job both ways or not at all. Previews for people are cut.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn claims(data: &[u8]) {
    let [first, second] = told::texts(data);
    let (first, second) = (check(&first), check(&second));
    if let (Some(first), Some(second)) = (first, second) {
        assert_eq!(first.same_job(&second), second.same_job(&first), "one is the other's job");
        assert!(first.job_id == second.job_id || !first.same_job(&second), "two ids, one job");
    }
}

fn offered(claim: &str) -> Result<StudioFrame, FrameError> {
    StudioFrame::parse(&format!(r#"{{"type":"offer","claim":{claim}}}"#))
}

/// Reads one claim and holds it against the model; gives it back if it can be read.
fn check(text: &str) -> Option<Claim> {
    let value: Value = serde_json::from_str(text).ok()?;
    let model = Model::of(&value);
    let offer = match (offered(text), &model.job_id) {
        (Err(FrameError::OfferWithoutJob), None) => return None,
        (Ok(StudioFrame::Offer(offer)), Some(id)) if offer.job_id().as_str() == id => offer,
        (read, id) => panic!("{read:?} is read where the job is {id:?}"),
    };
    match offer {
        Offer::Unreadable { problem, .. } => {
            match &problem {
                ClaimProblem::UnknownKind { kind } => assert_eq!(Some(kind), model.unknown_kind.as_ref()),
                ClaimProblem::Parameter { name, .. } => {
                    assert!(model.wrong.contains(name), "`{name}` is not to blame, but {:?}", model.wrong);
                }
            }
            assert!(!problem.to_string().is_empty());
            None
        }
        Offer::Readable(claim) => {
            assert!(model.wrong.is_empty(), "{:?} was let through", model.wrong);
            assert_eq!(model.unknown_kind, None);
            check_readable(&claim, &model, &value);
            Some(*claim)
        }
    }
}

fn check_readable(claim: &Claim, model: &Model, value: &Value) {
    let written = claim.to_json(TaskForm::Camel);
    for (name, wanted) in &model.fields {
        assert_eq!(written.get(name), Some(wanted), "`{name}`");
    }
    assert_eq!(written.get("modelSource"), model.source.as_ref());
    for form in [TaskForm::Camel, TaskForm::Snake] {
        let written = claim.to_json(form);
        let again = offered(&written.to_string());
        assert_eq!(again, Ok(StudioFrame::Offer(Offer::Readable(claim.clone().into()))), "{form:?}");
        assert_eq!(Task::from_json(&written["task"]).as_ref(), Ok(&claim.task), "{form:?}");
    }
    assert!(claim.same_job(claim), "it is its own job");
    let mut signed = value.clone();
    sign(&mut signed);
    match offered(&signed.to_string()) {
        Ok(StudioFrame::Offer(Offer::Readable(signed))) => {
            assert!(claim.same_job(&signed) && signed.same_job(claim), "a fresh signature makes another job");
        }
        other => panic!("a signature can't be read: {other:?}"),
    }
    for text in [claim.task.prompt(), claim.model.as_str()] {
        let preview = truncate_prompt(text);
        match preview.strip_suffix('…').filter(|_| text != preview) {
            None => assert_eq!(preview, text),
            Some(start) => {
                assert_eq!((start.chars().count(), text.starts_with(start)), (PROMPT_PREVIEW_CHARS, true));
            }
        }
    }
    let seen = CurrentJob::of(claim, Wall::default());
    assert_eq!(
        (seen.kind, seen.job_id, seen.prompt),
        (claim.task.kind(), claim.job_id.clone(), truncate_prompt(claim.task.prompt()))
    );
}

/// Gives every URL of the claim a fresh signature.
fn sign(claim: &mut Value) {
    let sign = |url: &mut Value| {
        if let Some(text) = url.as_str().filter(|text| !text.starts_with("data:")) {
            let plain = text.split('?').next().unwrap_or_default();
            // A URL that must be there stays there.
            if !plain.is_empty() {
                *url = json!(format!("{plain}?sig=2#x"));
            }
        }
    };
    if let Some(task) = claim.get_mut("task").and_then(Value::as_object_mut) {
        for (name, value) in task {
            if name.to_owned().to_ascii_lowercase().ends_with("url") {
                sign(value);
            } else if let ("images", Some(images)) = (&**name, value.as_array_mut()) {
                images.iter_mut().for_each(sign);
            }
        }
    }
    if let Some(Value::Array(files)) = claim.pointer_mut("/modelSource/files") {
        files.iter_mut().filter_map(|file| file.get_mut("url")).for_each(sign);
    }
}
