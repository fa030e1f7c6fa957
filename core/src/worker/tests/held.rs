//! Section 6: results that are held until their job is offered again.

use alloc::{format, sync::Arc, vec};

use serde_json::{Value, json};

use super::{jobs::*, rig::*};
use crate::{
    engine::{EngineError, Output},
    worker::{Action, Command, states::JobState},
};

const MINUTE: u64 = 60;

/// A picture of that many MiB in memory.
#[allow(clippy::unnecessary_wraps, reason = "what an engine says is a `Result`")]
fn large(mib: usize) -> Result<Output, EngineError> {
    Ok(Output::Bytes { ext: "webp".into(), payload: vec![0; mib << 20].into() })
}

/// One more job whose result is held.
fn hold(rig: &mut Rig, offer: &Value, outcome: Result<Output, EngineError>) {
    rig.frame(offer);
    rig.reopen();
    rig.run_ends(outcome);
}

fn states(rig: &Rig) -> alloc::vec::Vec<&str> {
    assert!(rig.worker.jobs().all(|(_, state)| state == JobState::Held));
    rig.worker.jobs().map(|(job, _)| job.as_str()).collect()
}

#[test]
fn a_held_result_is_delivered_at_the_next_offer_without_a_run() {
    let mut rig = held(&llm("j-1"), answer());
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    rig.ack("completeAck", "j-1");
    let mut rig = held(&image("j-1"), bytes());
    assert_eq!(rig.uploads(), 0, "there is no claim to upload it under");
    rig.frame(&image("j-1"));
    assert_eq!((rig.said(), rig.uploads()), (vec!["accept".into()], 1));
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_job_whose_urls_are_signed_afresh_is_the_same_job() {
    let transcript = |url: &str| {
        let mut offer = offer("j-1", json!({ "kind": "audio_stt", "inputUrl": url }));
        offer["claim"]["modelSource"] = json!({ "engine": "synthetic", "files": [
            { "role": "model", "url": url, "filename": "m.bin", "sha256": "00" },
        ]});
        offer
    };
    let mut rig = held(&transcript("https://x/a.wav?sig=1"), answer());
    rig.frame(&transcript("https://x/a.wav?sig=2"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    let mut rig = held(&transcript("https://x/a.wav?sig=1"), answer());
    assert_eq!(rig.answer_to(&transcript("https://x/b.wav?sig=1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn names_of_games_and_estimates_do_not_make_another_job() {
    let mut rig = held(&image("j-1"), bytes());
    let mut again = image("j-1");
    again["claim"]["gameId"] = json!("other");
    again["claim"]["vramGbEstimate"] = json!(99);
    assert_eq!(rig.answer_to(&again), "accept");
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn another_task_model_or_source_is_another_job_and_drops_the_held_result() {
    let mut source = image("j-1");
    source["claim"]["modelSource"] = json!({ "engine": "synthetic", "files": [] });
    let mut task = image("j-1");
    task["claim"]["task"]["seed"] = json!(1);
    for other in [source, task] {
        let mut rig = held(&image("j-1"), file("f"));
        assert_eq!(rig.answer_to(&other), "accept");
        assert_eq!(rig.discarded(), ["f"]);
        assert_eq!(rig.runs_of("j-1"), 2);
        assert!(rig.failure("j-1").contains("another task"));
    }
    let mut rig = held(&image("j-1"), file("f"));
    let mut model = image("j-1");
    model["claim"]["model"] = json!("flux1-dev");
    assert_eq!(rig.answer_to(&model), "reject");
    assert_eq!(rig.discarded(), ["f"]);
}

#[test]
fn a_result_is_held_for_15_minutes() {
    let mut rig = held(&image("j-1"), file("f"));
    rig.pass(secs(15 * MINUTE - 1));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    rig.pass(secs(1));
    assert_eq!(rig.state_of("j-1"), None);
    assert_eq!(rig.discarded(), ["f"]);
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn a_result_that_was_never_sent_and_never_offered_again_is_recorded_as_failed() {
    let mut rig = held(&image("j-1"), bytes());
    rig.pass(secs(15 * MINUTE));
    assert!(rig.failure("j-1").contains("not offered again"));
}

#[test]
fn a_result_that_was_sent_and_never_offered_again_is_recorded_as_completed_and_logged_as_unconfirmed() {
    let mut rig = sent("j-1");
    rig.reopen();
    rig.pass(secs(15 * MINUTE));
    assert!(rig.completed("j-1"));
    assert!(rig.logged("unconfirmed"));
}

#[test]
fn a_broken_upload_that_is_never_offered_again_is_recorded_as_completed() {
    let mut rig = uploading("j-1");
    rig.break_connection();
    rig.answered(Err(crate::worker::HttpFailure("reset".into())));
    rig.open();
    // Tried again without a claim, and refused for want of one.
    while rig.uploads() < 2 {
        rig.next_timer();
    }
    rig.answered(status(409));
    rig.pass(secs(15 * MINUTE));
    assert!(rig.completed("j-1"));
    assert!(rig.logged("unconfirmed"));
}

#[test]
fn an_offer_shows_that_what_was_sent_before_did_not_arrive() {
    let mut rig = held(&image("j-1"), bytes());
    rig.frame(&image("j-1"));
    rig.answered(Err(crate::worker::HttpFailure("reset".into())));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    while rig.uploads() < 2 {
        rig.next_timer();
    }
    rig.answered(status(409));
    rig.pass(secs(15 * MINUTE));
    assert!(rig.failure("j-1").contains("not offered again"));
}

#[test]
fn a_held_failure_that_is_never_offered_again_is_recorded_as_what_it_was() {
    let mut rig = held(&image("j-1"), Err(EngineError::permanent("no cat")));
    rig.pass(secs(15 * MINUTE));
    assert_eq!(rig.failure("j-1"), "no cat");
}

#[test]
fn permanent_failures_are_held_and_retryable_ones_are_not() {
    let mut rig = held(&image("j-1"), Err(EngineError::permanent("no cat")));
    rig.frame(&image("j-1"));
    assert_eq!(rig.said(), ["accept", "fail"]);
    assert_eq!(rig.runs_of("j-1"), 1);
    let mut rig = held(&image("j-1"), Err(EngineError::transient("no memory")));
    assert_eq!(rig.failure("j-1"), "no memory");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn at_most_four_results_are_held_and_the_oldest_makes_room() {
    let mut rig = Rig::serving();
    for n in 1..=5 {
        hold(&mut rig, &image(&format!("j-{n}")), file(&format!("f-{n}")));
    }
    assert_eq!(states(&rig), ["j-2", "j-3", "j-4", "j-5"]);
    assert_eq!(rig.discarded(), ["f-1"]);
    assert!(rig.failure("j-1").contains("room"));
}

#[test]
fn the_oldest_is_what_was_held_first_and_not_what_was_accepted_first() {
    let mut rig = Rig::serving();
    hold(&mut rig, &llm("j-1"), answer());
    hold(&mut rig, &llm("j-2"), answer());
    // Offered again, delivered, not confirmed: held anew, and now the newest.
    rig.frame(&llm("j-1"));
    rig.reopen();
    for n in 3..=5 {
        hold(&mut rig, &llm(&format!("j-{n}")), answer());
    }
    assert_eq!(rig.state_of("j-2"), None);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
}

#[test]
fn a_result_that_made_room_after_it_was_sent_is_recorded_as_completed() {
    let mut rig = sent("j-1");
    rig.reopen();
    for n in 2..=5 {
        hold(&mut rig, &image(&format!("j-{n}")), bytes());
    }
    assert!(rig.completed("j-1"), "{:?}", rig.outcomes());
    assert!(rig.logged("unconfirmed"));
}

#[test]
fn held_results_take_at_most_256_mib_of_memory() {
    let mut rig = Rig::serving();
    hold(&mut rig, &image("j-1"), large(100));
    hold(&mut rig, &image("j-2"), large(100));
    hold(&mut rig, &image("j-3"), file("f"));
    assert_eq!(states(&rig), ["j-1", "j-2", "j-3"]);
    hold(&mut rig, &image("j-4"), large(57));
    assert_eq!(states(&rig), ["j-2", "j-3", "j-4"]);
}

#[test]
fn json_results_count_too() {
    let text = "x".repeat(100 << 20);
    let huge = || Ok(Output::Json(Arc::new(json!({ "text": [text] }))));
    let mut rig = Rig::serving();
    for n in 1..=3 {
        hold(&mut rig, &llm(&format!("j-{n}")), huge());
    }
    assert_eq!(states(&rig), ["j-2", "j-3"]);
}

#[test]
fn a_result_held_by_one_session_survives_the_next_ones() {
    let mut rig = held(&image("j-1"), bytes());
    for _ in 0..5 {
        rig.reopen();
    }
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn other_jobs_are_taken_while_a_result_is_held() {
    let mut rig = held(&image("j-1"), bytes());
    assert_eq!(rig.answer_to(&llm("j-2")), "accept");
    rig.run_ends(answer());
    rig.ack("completeAck", "j-2");
    assert!(rig.completed("j-2"));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
}

#[test]
fn a_held_job_that_is_offered_while_another_runs_is_busy_and_stays_held() {
    let mut rig = held(&image("j-1"), bytes());
    rig.frame(&llm("j-2"));
    assert_eq!(rig.answer_to(&image("j-1")), "reject busy");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
}

#[test]
fn a_job_that_is_delivered_is_no_longer_held_for_its_time() {
    let mut rig = held(&image("j-1"), file("f"));
    rig.frame(&image("j-1"));
    for _ in 0..20 {
        let request = rig.request();
        rig.pass(secs(50));
        let sent = rig.now.mono.as_micros();
        rig.input(crate::worker::Input::UploadProgress { request, sent });
    }
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.discarded(), ["f"]);
    assert!(!rig.history.iter().any(|action| matches!(action, Action::CancelRequest { .. })));
}

#[test]
fn what_one_studio_is_owed_never_goes_to_another() {
    let mut rig = uploading("j-1");
    let request = rig.request();
    rig.break_connection();
    let mut elsewhere = settings(registered());
    elsewhere.api_base = crate::wire::ApiBase::parse("http://elsewhere").unwrap();
    rig.command(Command::Reconfigure(elsewhere.clone().into()));
    assert!(rig.cancelled(request));
    assert_eq!(rig.worker.jobs().count(), 0);

    let mut rig = running("j-1");
    rig.break_connection();
    rig.command(Command::Reconfigure(elsewhere.into()));
    assert_eq!((rig.worker.jobs().count(), rig.cancelled_runs()), (0, 1));
    rig.open();
    assert_eq!(rig.answer_to(&image("j-1")), "reject busy");
    rig.run_ends(file("late"));
    assert_eq!(rig.discarded(), ["late"]);
}

/// A gateway may say so, and then the studio waits for the result as long as the session is open.
#[test]
fn a_claim_whose_end_is_in_doubt_is_put_right_by_a_new_session() {
    for code in [404, 409, 410] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        rig.pass(secs(29));
        assert!(rig.closed_with().is_empty(), "{code}");
        rig.pass(secs(1));
        assert_eq!(rig.closed_with(), [1000], "{code}");
        rig.closed(1000);
        rig.open();
        rig.frame(&image("j-1"));
        rig.answered(status(200));
        assert_eq!((rig.completed("j-1"), rig.runs_of("j-1")), (true, 1), "{code}");
    }
}

#[test]
fn a_next_offer_leaves_no_doubt() {
    let mut rig = uploading("j-1");
    rig.answered(status(409));
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
    rig.pass(secs(60));
    assert!(rig.closed_with().is_empty());
}
