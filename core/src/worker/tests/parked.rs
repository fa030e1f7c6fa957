//! Section 6: the offer that comes while a result is being delivered.

use alloc::vec;

use super::rig::*;
use crate::{
    engine::EngineError,
    worker::{Command, HttpFailure, Input, JobOutcome, states::JobState},
};

/// An upload in its back-off.
fn backing_off() -> Rig {
    let mut rig = uploading("j-1");
    rig.answered(Err(HttpFailure("reset".into())));
    assert_eq!(rig.uploads(), 1);
    rig.seen.clear();
    rig
}

fn parked() -> Rig {
    let mut rig = uploading("j-1");
    assert_eq!(rig.answer_to(&image("j-2")), "nothing");
    rig
}

#[test]
fn the_next_offer_waits_for_the_answer_of_the_upload() {
    let mut rig = parked();
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
    assert_eq!(rig.runs_of("j-2"), 1);
}

#[test]
fn a_second_offer_meanwhile_is_busy() {
    let mut rig = parked();
    assert_eq!(rig.answer_to(&image("j-3")), "reject busy");
    rig.answered(status(200));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn the_next_offer_ends_the_back_off() {
    let mut rig = backing_off();
    assert_eq!(rig.answer_to(&image("j-2")), "nothing");
    assert_eq!(rig.uploads(), 2);
    rig.answered(status(200));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
    assert!(rig.completed("j-1"));
}

#[test]
fn the_409_of_the_immediate_retry_counts_as_delivered() {
    let mut rig = backing_off();
    rig.frame(&image("j-2"));
    rig.answered(status(409));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn an_upload_that_breaks_under_a_parked_offer_is_tried_once_at_once() {
    let mut rig = parked();
    rig.answered(Err(HttpFailure("reset".into())));
    assert_eq!(rig.uploads(), 2);
    rig.answered(status(409));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn a_retry_that_is_under_way_when_the_next_offer_comes_is_that_retry() {
    let mut rig = backing_off();
    while rig.uploads() < 2 {
        rig.next_timer();
    }
    rig.frame(&image("j-2"));
    assert_eq!(rig.uploads(), 2);
    rig.answered(status(409));
    assert!(rig.completed("j-1"));
}

#[test]
fn the_409_of_a_first_upload_does_not_count_as_delivered() {
    let mut rig = parked();
    rig.answered(status(409));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn a_404_of_the_immediate_retry_does_not_count_as_delivered() {
    let mut rig = backing_off();
    rig.frame(&image("j-2"));
    rig.answered(status(404));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
}

#[test]
fn an_immediate_retry_that_fails_too_does_not_keep_the_next_job_waiting() {
    let mut rig = backing_off();
    rig.frame(&image("j-2"));
    rig.answered(status(503));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn no_fail_is_sent_for_a_claim_that_the_next_offer_showed_to_be_over() {
    for code in [401, 403, 413, 422, 503] {
        for pause in [false, true] {
            let mut rig = parked();
            if pause {
                rig.command(Command::Pause);
            }
            for _ in 0..4 {
                rig.answered(status(code));
                rig.pass(secs(40));
            }
            assert!(!rig.said().contains(&"fail".into()), "{code} {pause}");
            assert_eq!(rig.state_of("j-1"), Some(JobState::Held), "{code} {pause}");
            assert_eq!(rig.state_of("j-2"), (!pause).then_some(JobState::Running));
        }
    }
}

#[test]
fn an_offer_that_is_declined_shows_that_the_claim_is_over_too() {
    let mut rig = backing_off();
    rig.command(Command::Pause);
    assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
    assert_eq!(rig.uploads(), 2, "the back-off is ended");
    rig.answered(status(409));
    assert!(rig.completed("j-1"));
}

#[test]
fn a_parked_offer_is_dropped_with_its_session() {
    let mut rig = parked();
    rig.reopen();
    rig.answered(status(200));
    assert!(rig.answers().is_empty());
    assert_eq!(rig.runs_of("j-2"), 0);
}

#[test]
fn a_parked_offer_is_rejected_on_pause_and_on_drain() {
    for command in [Command::Pause, Command::Drain] {
        let mut rig = parked();
        rig.command(command);
        assert_eq!(rig.answers(), [("reject paused".into(), "j-2".into())]);
        rig.answered(status(200));
        assert!(rig.completed("j-1"));
        assert_eq!(rig.runs_of("j-2"), 0);
    }
}

#[test]
fn a_parked_offer_is_judged_like_any_other_when_its_turn_comes() {
    let mut rig = uploading("j-1");
    let mut large = image("j-2");
    large["claim"]["vramGbEstimate"] = serde_json::json!(99);
    rig.frame(&large);
    rig.answered(status(200));
    assert_eq!(rig.answers(), [("reject insufficient_memory".into(), "j-2".into())]);
}

#[test]
fn an_upload_without_a_claim_is_not_delivered_by_a_409() {
    let mut rig = uploading("j-1");
    rig.reopen();
    rig.answered(Err(HttpFailure("reset".into())));
    rig.frame(&image("j-2"));
    rig.answered(status(409));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn the_job_itself_may_be_what_is_offered_next() {
    let mut rig = parked();
    // Not by the rules, but nothing is lost by it.
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.answered(status(200));
    assert_eq!(rig.outcome("j-1"), Some(JobOutcome::Completed));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn what_runs_after_a_held_upload_is_not_mixed_up_with_it() {
    let mut rig = uploading("j-1");
    rig.reopen();
    let first = rig.request();
    rig.frame(&image("j-2"));
    rig.input(Input::Answered { request: first, outcome: status(409) });
    rig.run_ends(bytes());
    assert_ne!(rig.request(), first);
    rig.answered(status(200));
    assert_eq!((rig.completed("j-2"), rig.state_of("j-1")), (true, Some(JobState::Held)));
}

#[test]
fn a_run_that_fails_leaves_no_offer_parked() {
    let mut rig = running("j-1");
    rig.run_ends(Err(EngineError::transient("no memory")));
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
}

#[test]
fn a_new_claim_has_three_tries_of_its_own() {
    let mut rig = uploading("j-1");
    for uploads in 2..=3 {
        rig.answered(status(401));
        while rig.uploads() < uploads {
            rig.next_timer();
        }
    }
    rig.flush();
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.answered(status(401));
    assert!(!rig.said().contains(&"fail".into()));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Delivering));
}

#[test]
fn an_offer_that_comes_again_takes_the_place_of_the_one_that_waits() {
    let mut rig = parked();
    // What is declined goes elsewhere: to accept it afterwards would be a violation.
    assert_eq!(rig.answer_to(&image("j-2")), "nothing");
    rig.answered(status(200));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
    assert_eq!(rig.runs_of("j-2"), 1);

    let mut rig = parked();
    // The id of the job that is delivered, with another task: that one runs now.
    assert_eq!(rig.answer_to(&llm("j-1")), "accept");
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    rig.run_ends(answer());
    rig.flush();
    rig.ack("completeAck", "j-1");
    assert_eq!((rig.answers(), rig.runs_of("j-2")), (vec![], 0));
}
