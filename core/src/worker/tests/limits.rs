//! The time limit of a run, and an engine that does not stop.

use serde_json::json;

use super::rig::*;
use crate::worker::{Exit, Options, states::JobState};

fn limited() -> Rig {
    let mut options = Options::new(settings(registered()), "studio-worker/1.0.0");
    options.run_limit = secs(100);
    let mut rig = Rig::with(options);
    rig.open();
    rig.frame(&image("j-1"));
    rig.flush();
    rig.seen.clear();
    rig
}

#[test]
fn a_run_that_passes_its_time_limit_is_stopped_and_failed_as_retryable() {
    let mut rig = limited();
    rig.pass(secs(99));
    assert_eq!(rig.cancelled_runs(), 0);
    rig.pass(secs(1));
    assert_eq!(rig.cancelled_runs(), 1);
    let frames = rig.frames();
    let fail = frames.iter().find(|frame| frame["type"] == "fail").unwrap();
    assert_eq!((&fail["jobId"], &fail["retryable"]), (&json!("j-1"), &json!(true)));
    assert!(fail["error"].as_str().unwrap().contains("time limit"));
    rig.ack("failAck", "j-1");
    assert!(rig.failure("j-1").contains("time limit"));
}

#[test]
fn the_slot_is_kept_until_the_run_has_really_ended() {
    let mut rig = limited();
    rig.pass(secs(100));
    rig.ack("failAck", "j-1");
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    assert_eq!(rig.answer_to(&image("j-1")), "reject busy");
    rig.pass(secs(59));
    rig.run_ends(file("late"));
    assert_eq!(rig.discarded(), ["late"]);
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.pass(secs(90));
    assert_eq!(rig.exit(), None);
}

#[test]
fn an_engine_that_does_not_stop_within_60_s_ends_the_program() {
    let mut rig = limited();
    rig.pass(secs(100));
    rig.ack("failAck", "j-1");
    rig.pass(secs(59));
    assert_eq!(rig.closed_with(), [] as [u16; 0]);
    rig.pass(secs(1));
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    let exit = rig.exit().unwrap();
    assert_eq!((exit.code(), exit), (1, Exit::EngineStuck));
}

#[test]
fn the_limit_of_a_run_counts_from_its_start_whatever_becomes_of_its_claim() {
    let mut rig = limited();
    rig.pass(secs(50));
    rig.reopen();
    rig.frame(&image("j-1"));
    rig.pass(secs(45));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Running));
    rig.pass(secs(10));
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn a_cancelled_run_that_never_ends_runs_into_the_limit_too() {
    let mut rig = limited();
    rig.reopen();
    rig.pass(secs(60));
    assert_eq!(rig.state_of("j-1"), None);
    rig.pass(secs(100));
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::EngineStuck));
}
