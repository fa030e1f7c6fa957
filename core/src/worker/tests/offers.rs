//! Section 5: how an offer is answered.

use alloc::{borrow::ToOwned, format, string::ToString};

use serde_json::{Value, json};

use super::rig::*;
use crate::worker::{Action, Command, JobOutcome, Observation};

fn with(mut offer: Value, key: &str, value: Value) -> Value {
    offer["claim"][key] = value;
    offer
}

fn without(mut offer: Value, key: &str) -> Value {
    offer["claim"].as_object_mut().unwrap().remove(key);
    offer
}

fn unknown_kind(job: &str) -> Value {
    offer(job, json!({ "kind": "hologram", "size": 3 }))
}

fn unknown_model(job: &str) -> Value {
    with(image(job), "model", json!("flux1-dev"))
}

fn invalid(job: &str) -> Value {
    offer(job, json!({ "kind": "image", "prompt": "a cat", "width": 0 }))
}

fn too_large(job: &str) -> Value {
    with(image(job), "vramGbEstimate", json!(12.5))
}

/// One offer for each way in which an offer can be answered.
fn of_all_sorts() -> [Value; 5] {
    [image("j-2"), unknown_kind("j-2"), unknown_model("j-2"), invalid("j-2"), too_large("j-2")]
}

#[test]
fn a_paused_worker_rejects_every_offer_as_paused() {
    for offer in of_all_sorts() {
        let mut rig = Rig::serving();
        rig.command(Command::Pause);
        assert_eq!(rig.answer_to(&offer), "reject paused", "{offer}");
        let mut rig = running("j-1");
        rig.command(Command::Pause);
        assert_eq!(rig.answer_to(&offer), "reject paused", "{offer}");
    }
}

#[test]
fn a_draining_worker_rejects_every_offer_as_paused() {
    for offer in of_all_sorts() {
        let mut rig = running("j-1");
        rig.command(Command::Drain);
        assert_eq!(rig.answer_to(&offer), "reject paused", "{offer}");
    }
}

#[test]
fn a_worker_that_resumes_takes_jobs_again() {
    let mut rig = Rig::serving();
    rig.command(Command::Pause);
    rig.command(Command::Resume);
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
}

#[test]
fn while_a_job_runs_any_other_offer_is_busy() {
    for offer in of_all_sorts() {
        let mut rig = running("j-1");
        assert_eq!(rig.answer_to(&offer), "reject busy", "{offer}");
        rig.run_ends(bytes());
        rig.answered(status(200));
        assert!(rig.completed("j-1"));
    }
}

#[test]
fn what_this_worker_cannot_serve_is_rejected_without_a_code() {
    let mut rig = Rig::serving();
    for offer in [
        unknown_kind("j-1"),
        unknown_model("j-1"),
        // What can't be served here may be valid, or fit, elsewhere.
        with(invalid("j-1"), "model", json!("flux1-dev")),
        with(too_large("j-1"), "model", json!("flux1-dev")),
        with(invalid("j-1"), "modelSource", json!({ "engine": "sd-cpp" })),
    ] {
        assert_eq!(rig.answer_to(&offer), "reject", "{offer}");
    }
    assert_eq!(rig.worker.counters().runs, 0);
    assert!(rig.outcomes().is_empty());
}

#[test]
fn a_rejection_says_what_cannot_be_served() {
    for (offer, part) in [(unknown_kind("j-1"), "hologram"), (unknown_model("j-1"), "flux1-dev")] {
        let mut rig = Rig::serving();
        rig.frame(&offer);
        let reject = rig.frames().pop().unwrap();
        let reason = reject["reason"].as_str().unwrap();
        assert!(reason.contains(part) && reason.contains("cannot serve"), "{reason}");
        assert_eq!(reject.get("code"), None);
    }
}

#[test]
fn an_engine_that_the_offer_names_is_never_substituted() {
    for engine in ["sd-cpp", "llama-cpp", "Synthetic", ""] {
        let mut rig = Rig::serving();
        let source = json!({ "engine": engine, "files": [], "cliDefaults": { "steps": 20 } });
        assert_eq!(rig.answer_to(&with(image("j-1"), "modelSource", source)), "reject", "{engine:?}");
        assert_eq!(rig.worker.counters().runs, 0);
    }
    let mut rig = Rig::serving();
    let source = json!({ "engine": "synthetic", "files": [] });
    assert_eq!(rig.answer_to(&with(image("j-1"), "modelSource", source)), "accept");
}

#[test]
fn what_is_invalid_for_everyone_is_accepted_and_failed_with_the_parameter_named() {
    for (offer, name) in [
        (invalid("j-1"), "width"),
        (with(invalid("j-1"), "vramGbEstimate", json!(99)), "width"),
        (offer("j-1", json!({ "kind": "image", "prompt": "a", "steps": "many" })), "steps"),
        (offer("j-1", json!({ "kind": "image" })), "prompt"),
        (offer("j-1", json!({ "kind": "llm", "messages": [] })), "messages"),
        (offer("j-1", json!({ "kind": "llm", "messages": [{ "role": "user" }] })), "messages"),
        (offer("j-1", json!({ "kind": "audio_stt" })), "input_url"),
        (offer("j-1", json!({ "kind": "audio_tts" })), "text"),
        (offer("j-1", json!({ "kind": "video", "prompt": "a", "seconds": -1 })), "seconds"),
        (offer("j-1", json!({ "kind": "mesh", "imageUrl": 7 })), "image_url"),
        (offer("j-1", json!("image")), "task"),
        (offer("j-1", json!({ "prompt": "a" })), "kind"),
        (without(image("j-1"), "model"), "model"),
        (with(image("j-1"), "model", json!("")), "model"),
    ] {
        let mut rig = Rig::serving();
        rig.frame(&offer);
        let frames = rig.frames();
        assert_eq!(frames.len(), 2, "{offer}: {frames:?}");
        assert_eq!(frames[0], json!({ "type": "accept", "jobId": "j-1" }));
        assert_eq!((&frames[1]["type"], &frames[1]["retryable"]), (&json!("fail"), &json!(false)));
        let error = frames[1]["error"].as_str().unwrap();
        assert!(error.contains(&format!("`{name}`")), "{offer}: {error}");
        assert_eq!(rig.worker.counters().runs, 0);
        rig.ack("failAck", "j-1");
        assert!(rig.failure("j-1").contains(name));
        assert_eq!(rig.answer_to(&image("j-2")), "accept");
    }
}

#[test]
fn what_decides_nothing_and_cannot_be_read_costs_no_job() {
    for key in ["gameId", "assetName", "prompt", "ext", "vramGbEstimate", "newField"] {
        let mut rig = Rig::serving();
        assert_eq!(rig.answer_to(&with(image("j-1"), key, json!([1]))), "accept", "{key}");
    }
}

#[test]
fn a_job_above_the_threshold_does_not_fit_into_memory() {
    let mut rig = Rig::serving();
    assert_eq!(rig.answer_to(&too_large("j-1")), "reject insufficient_memory");
    rig.command(Command::SetThreshold(12.5));
    assert_eq!(rig.answer_to(&too_large("j-1")), "accept");
}

#[test]
fn a_job_of_exactly_the_threshold_fits() {
    let mut rig = Rig::serving();
    assert_eq!(rig.answer_to(&with(image("j-1"), "vramGbEstimate", json!(12))), "accept");
}

#[test]
fn an_offer_without_a_task_is_an_image_of_512_pixels() {
    let mut rig = Rig::serving();
    let offer = with(with(without(image("j-1"), "task"), "prompt", json!("a dog")), "ext", json!("png"));
    assert_eq!(rig.answer_to(&offer), "accept");
    let claim = rig.history.iter().find_map(|action| match action {
        Action::DispatchJob { claim, .. } => Some(claim.clone()),
        _ => None,
    });
    let crate::wire::Task::Image(task) = &claim.unwrap().task else { panic!("no image") };
    assert_eq!((task.width, task.height, task.steps), (512, 512, 20));
    assert_eq!((&*task.prompt, &*task.ext), ("a dog", "png"));
}

#[test]
fn an_offer_without_a_readable_job_id_closes_the_session_with_1008() {
    for claim in [
        without(image("j"), "jobId")["claim"].clone(),
        with(image("j"), "jobId", json!(7))["claim"].clone(),
        with(image("j"), "jobId", json!(null))["claim"].clone(),
        json!(null),
        json!("j-1"),
    ] {
        let mut rig = Rig::serving();
        rig.frame(&json!({ "type": "offer", "claim": claim }));
        assert_eq!(rig.closed_with(), [1008], "{claim}");
        rig.closed(1008);
        rig.open();
    }
    let mut rig = Rig::serving();
    rig.frame(&json!({ "type": "offer" }));
    assert_eq!(rig.closed_with(), [1008]);
}

#[test]
fn the_accept_leaves_before_the_engine_starts() {
    let mut rig = Rig::serving();
    rig.frame(&image("j-1"));
    let accept = rig.seen.iter().position(|action| matches!(action, Action::Send { .. }));
    let start = rig.seen.iter().position(|action| matches!(action, Action::DispatchJob { .. }));
    assert!(accept.unwrap() < start.unwrap());
}

#[test]
fn of_two_offers_in_one_write_one_is_accepted_and_one_busy() {
    let mut rig = Rig::serving();
    rig.inputs([rig.text(&image("j-1")), rig.text(&image("j-2"))]);
    let wanted = [("accept".into(), "j-1".into()), ("reject busy".into(), "j-2".into())];
    assert_eq!(rig.answers(), wanted);
    assert_eq!(rig.worker.counters().runs, 1);
}

#[test]
fn an_offer_in_the_same_write_as_the_last_jobs_ack_is_taken() {
    let mut rig = super::jobs::sent("j-1");
    rig.inputs([rig.text(&json!({ "type": "completeAck", "jobId": "j-1" })), rig.text(&llm("j-2"))]);
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
    assert!(rig.completed("j-1"));
}

#[test]
fn a_running_job_that_is_offered_again_is_accepted_again_and_runs_once() {
    let mut rig = running("j-1");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 1);
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert_eq!(rig.outcomes(), [("j-1".into(), JobOutcome::Completed)]);
}

#[test]
fn another_task_under_the_id_of_the_running_job_is_another_job() {
    let mut rig = running("j-1");
    assert_eq!(rig.answer_to(&llm("j-1")), "reject busy");
    assert_eq!(rig.cancelled_runs(), 0);
}

#[test]
fn observers_see_the_job_in_hand_until_it_is_delivered() {
    let mut rig = Rig::serving();
    let shown = |rig: &mut Rig| {
        let newest = rig.seen.iter().rev().find_map(|action| match action {
            Action::Observe(Observation::CurrentJob(job)) => {
                Some(job.as_ref().map(|job| job.job_id.as_str().to_owned()))
            }
            _ => None,
        });
        rig.seen.clear();
        newest
    };
    rig.frame(&image("j-1"));
    assert_eq!(shown(&mut rig), Some(Some("j-1".into())));
    rig.run_ends(bytes());
    assert_eq!(shown(&mut rig), None);
    rig.answered(status(201));
    assert_eq!(shown(&mut rig), Some(None));
}

#[test]
fn ids_of_any_sort_are_answered_as_they_came() {
    for id in ["a/b?c#d%20", "ü ñ", "", " ", "\"quoted\"\n"] {
        let mut rig = Rig::serving();
        rig.frame(&llm(id));
        assert_eq!(rig.answers(), [("accept".into(), id.into())]);
    }
}

#[test]
fn what_a_studio_writes_at_length_is_answered_briefly() {
    let long = "x".repeat(1 << 20);
    for claim in [
        with(image("j-1"), "model", json!(long)),
        with(invalid("j-1"), "model", json!(long)),
        with(image("j-1"), "modelSource", json!({ "engine": long })),
        offer("j-1", json!({ "kind": long })),
        offer("j-1", json!({ "kind": "image", "prompt": "a", "steps": long })),
    ] {
        let mut rig = Rig::serving();
        rig.frame(&claim);
        for frame in rig.frames() {
            assert!(
                frame.to_string().len() < 10_000,
                "{} bytes of {}",
                frame.to_string().len(),
                frame["type"]
            );
        }
        rig.ack("failAck", "j-1");
        let long = rig.history.iter().map(|action| format!("{action:?}")).find(|text| text.len() > 20_000);
        assert_eq!(long.map(|text| text.chars().take(200).collect::<String>()), None);
    }
}
