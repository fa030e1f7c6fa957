//! Section 6: results and failures that go out in a frame, and what confirms them.

use serde_json::json;

use super::{jobs::*, rig::*};
use crate::{
    engine::EngineError,
    worker::{Action, Input, JobOutcome, RunId, states::JobState},
};

fn failed(retryable: bool) -> Rig {
    let mut rig = running("j-1");
    let error =
        if retryable { EngineError::transient("no memory") } else { EngineError::permanent("no cat") };
    rig.run_ends(Err(error));
    rig.flush();
    rig.seen.clear();
    rig
}

#[test]
fn a_result_goes_out_once_for_an_accept() {
    let mut rig = sent("j-1");
    rig.pass(secs(29));
    assert!(!rig.said().contains(&"completeJson".into()));
}

#[test]
fn an_ack_for_another_job_confirms_nothing() {
    let mut rig = sent("j-1");
    let before = rig.worker.counters().stale_inputs;
    rig.ack("completeAck", "j-0");
    rig.ack("failAck", "j-0");
    assert_eq!(rig.worker.counters().stale_inputs, before + 2);
    assert!(rig.outcomes().is_empty());
    rig.ack("completeAck", "j-1");
    assert!(rig.completed("j-1"));
}

#[test]
fn an_ack_before_the_result_confirms_nothing() {
    let mut rig = running("j-1");
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Running));
    let mut rig = uploading("j-1");
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Delivering));
}

#[test]
fn a_failure_says_whether_another_attempt_can_help() {
    for retryable in [false, true] {
        let mut rig = running("j-1");
        let error = EngineError { message: "the engine's words".into(), retryable };
        rig.run_ends(Err(error));
        let wanted =
            json!({ "type": "fail", "jobId": "j-1", "error": "the engine's words", "retryable": retryable });
        assert_eq!(rig.frames(), [wanted]);
        assert!(rig.outcomes().is_empty());
        rig.ack("failAck", "j-1");
        assert_eq!(rig.failure("j-1"), "the engine's words");
    }
}

#[test]
fn what_an_engine_says_at_length_is_cut() {
    let mut rig = running("j-1");
    rig.run_ends(Err(EngineError { message: "é".repeat(100_000), retryable: true }));
    let fail = rig.frames().pop().unwrap();
    assert_eq!(fail["error"].as_str().unwrap().chars().count(), EngineError::MAX_CHARS);
}

#[test]
fn a_next_offer_confirms_a_result() {
    let mut rig = sent("j-1");
    assert_eq!(rig.answer_to(&llm("j-2")), "accept");
    assert!(rig.completed("j-1"));
    // The ack that comes after all does no harm.
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.state_of("j-2"), Some(JobState::Running));
}

#[test]
fn a_next_offer_that_is_declined_confirms_a_result_too() {
    let mut rig = sent("j-1");
    rig.command(crate::worker::Command::Pause);
    assert_eq!(rig.answer_to(&llm("j-2")), "reject paused");
    assert!(rig.completed("j-1"));
}

#[test]
fn a_next_offer_confirms_a_failure() {
    for retryable in [false, true] {
        let mut rig = failed(retryable);
        assert_eq!(rig.answer_to(&image("j-2")), "accept");
        assert!(matches!(rig.outcome("j-1"), Some(JobOutcome::Failed { .. })));
    }
}

#[test]
fn another_task_under_the_same_id_is_a_next_offer() {
    let mut rig = sent("j-1");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert!(rig.completed("j-1"));
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn a_job_whose_retryable_failure_was_noted_is_run_anew() {
    let mut rig = failed(true);
    // It is offered again without an ack: the studio has put it back into its queue.
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn a_result_that_the_studio_lost_is_delivered_again_without_a_run() {
    let mut rig = sent("j-1");
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    assert_eq!(rig.runs_of("j-1"), 1);
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.outcomes(), [("j-1".into(), JobOutcome::Completed)]);
}

#[test]
fn thirty_seconds_without_an_ack_close_the_session_and_hold_the_result() {
    let mut rig = sent("j-1");
    rig.pass(secs(29));
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(1));
    assert_eq!(rig.closed_with(), [1000]);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    rig.closed(1000);
    rig.open();
    rig.seen.clear();
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn an_ack_in_time_lets_the_session_go_on() {
    let mut rig = sent("j-1");
    rig.pass(secs(29));
    rig.ack("completeAck", "j-1");
    rig.pass(secs(120));
    assert!(rig.closed_with().is_empty());
}

#[test]
fn heartbeats_name_a_job_until_its_end_was_sent() {
    let mut rig = Rig::serving();
    rig.frame(&llm("j-1"));
    rig.flush();
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (true, Some("j-1")));
    rig.run_ends(answer());
    rig.flush();
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (true, None));
}

#[test]
fn a_result_that_was_sent_when_the_socket_dropped_is_delivered_at_the_next_offer() {
    let mut rig = sent("j-1");
    rig.reopen();
    rig.pass(secs(5));
    assert!(!rig.said().contains(&"completeJson".into()), "there is no claim to send it under");
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_permanent_failure_that_was_not_confirmed_is_said_again_without_a_run() {
    let mut rig = failed(false);
    rig.reopen();
    rig.frame(&image("j-1"));
    let frames = rig.frames();
    assert_eq!(frames[0]["type"], "accept");
    assert_eq!(frames[1], json!({ "type": "fail", "jobId": "j-1", "error": "no cat", "retryable": false }));
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_retryable_failure_that_was_not_confirmed_is_over() {
    let mut rig = failed(true);
    rig.reopen();
    assert_eq!(rig.failure("j-1"), "no memory");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn a_close_4002_is_blamed_on_the_result_that_was_not_confirmed() {
    let mut rig = sent("j-1");
    rig.closed(4002);
    rig.open();
    rig.pass(secs(60));
    assert!(!rig.said().contains(&"completeJson".into()));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    rig.closed(4002);
    assert_eq!(rig.state_of("j-1"), None, "a second 4002 drops the result");
    assert!(rig.failure("j-1").contains("violation"));
    rig.open();
    assert_eq!(rig.answer_to(&llm("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 2);
}

#[test]
fn an_error_frame_and_its_close_4002_count_once() {
    let mut rig = sent("j-1");
    rig.frame(&json!({ "type": "error", "code": "protocol_violation", "message": "no such claim" }));
    rig.closed(4002);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    rig.open();
    rig.frame(&llm("j-1"));
    rig.ack("completeAck", "j-1");
    assert!(rig.completed("j-1"));
}

#[test]
fn a_close_4002_is_not_blamed_on_a_result_that_only_waits() {
    let mut rig = held(&llm("j-1"), answer());
    for _ in 0..3 {
        rig.closed(4002);
        rig.open();
    }
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
}

#[test]
fn a_second_4002_over_its_accept_stops_the_run() {
    let mut rig = running("j-1");
    rig.closed(4002);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Orphaned));
    rig.open();
    rig.frame(&image("j-1"));
    rig.closed(4002);
    assert_eq!((rig.state_of("j-1"), rig.cancelled_runs()), (None, 1));
    rig.run_ends(file("late"));
    assert_eq!(rig.discarded(), ["late"]);
}

#[test]
fn a_result_that_is_too_large_for_the_studio_fails_at_its_next_offer() {
    let mut rig = sent("j-1");
    rig.closed(1009);
    rig.open();
    rig.seen.clear();
    rig.frame(&llm("j-1"));
    let frames = rig.frames();
    assert_eq!(frames[0]["type"], "accept");
    assert_eq!((&frames[1]["type"], &frames[1]["retryable"]), (&json!("fail"), &json!(false)));
    assert!(frames[1]["error"].as_str().unwrap().contains("too large"));
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_close_1009_without_a_result_under_way_costs_no_job() {
    let mut rig = uploading("j-1");
    rig.closed(1009);
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    let mut rig = orphaned("j-1");
    rig.closed(1009);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Orphaned));
}

#[test]
fn the_wrong_sort_of_result_fails_for_good_and_leaves_no_file() {
    let mut rig = Rig::serving();
    rig.frame(&llm("j-1"));
    rig.run_ends(file("f"));
    let fail = rig.frames().pop().unwrap();
    assert_eq!((&fail["type"], &fail["retryable"]), (&json!("fail"), &json!(false)));
    assert_eq!(rig.discarded(), ["f"]);
    let mut rig = running("j-1");
    rig.run_ends(answer());
    let fail = rig.frames().pop().unwrap();
    assert_eq!((&fail["type"], &fail["retryable"]), (&json!("fail"), &json!(false)));
}

#[test]
fn the_end_of_an_unknown_run_is_ignored_and_counted() {
    let mut rig = running("j-1");
    let before = rig.worker.counters().stale_inputs;
    rig.input(Input::RunEnded { run: RunId(999), outcome: file("stray") });
    assert_eq!(rig.worker.counters().stale_inputs, before + 1);
    assert_eq!(rig.discarded(), ["stray"]);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Running));
    rig.run_ends(bytes());
    let uploads = rig.history.iter().filter(|action| matches!(action, Action::Upload { .. }));
    assert_eq!(uploads.count(), 1);
}
