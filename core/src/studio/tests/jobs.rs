//! Section 6: attempts, rejects, failures, cancelling.

use std::time::Duration;

use super::rig::{Rig, image, llm, new, old};
use crate::{
    studio::{Action, Answer, Input, JobOutput, JobState, NewJob, Options, Record},
    wire::{JobId, StudioFrame},
};

#[test]
fn a_job_goes_from_the_queue_to_its_result_and_each_step_is_stored_first() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let job = rig.queue(llm("flux"));
    let (saved, sent) = rig.positions(JobState::Offered, |frame| matches!(frame, StudioFrame::Offer(_)));
    assert!(saved < sent);
    rig.about(conn, "accept", &job);
    assert_eq!(rig.state(&job), (JobState::Running, 0));
    rig.about(conn, "completeJson", &job);
    let (saved, sent) =
        rig.positions(JobState::Completed, |frame| matches!(frame, StudioFrame::CompleteAck { .. }));
    assert!(saved < sent);
    let done = rig.job(&job);
    assert_eq!(done.worker_id, Some(member.id));
    assert!(done.finished_at.is_some() && done.started_at.is_some());
    let Some(JobOutput::Json { result, prompt }) = done.output else { panic!() };
    assert_eq!((result["x"].as_u64(), &*prompt), (Some(1), "hi"));
    assert!(rig.studio.job(&job).is_none(), "what is over lives in the storage");
}

#[test]
fn one_offer_is_in_flight_and_the_next_follows_the_acknowledgement() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let (a, b) = (rig.queue(llm("flux")), rig.queue(llm("flux")));
    assert_eq!(rig.heard(conn), ["welcome".to_owned(), format!("offer {a}")]);
    rig.about(conn, "accept", &a);
    rig.heartbeat(conn, &old());
    assert_eq!(rig.heard(conn), ["heartbeatAck"]);
    rig.about(conn, "completeJson", &a);
    assert_eq!(rig.heard(conn), ["completeAck".to_owned(), format!("offer {b}")]);
}

#[test]
fn a_result_before_its_accept_is_taken_and_the_late_accept_is_no_violation() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let job = rig.queue(llm("flux"));
    rig.about(conn, "completeJson", &job);
    assert_eq!(rig.state(&job), (JobState::Completed, 0));
    rig.about(conn, "accept", &job);
    assert_eq!(rig.studio.counters().violations, 0);
    rig.about(conn, "accept", &job);
    assert_eq!(rig.studio.counters().violations, 1, "but only one accept was on its way");
}

#[test]
fn a_failure_that_can_be_retried_uses_up_three_attempts() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    for attempt in 1..=2 {
        rig.about(conn, "accept", &job);
        rig.about(conn, "fail", &job);
        assert_eq!(rig.state(&job), (JobState::Offered, attempt), "offered again right away");
    }
    rig.about(conn, "accept", &job);
    rig.take();
    rig.about(conn, "fail", &job);
    assert_eq!(rig.heard(conn), ["failAck"]);
    assert_eq!(rig.state(&job), (JobState::Failed, 3));
    assert_eq!(rig.job(&job).error.as_deref(), Some("boom"));
}

#[test]
fn a_failure_that_can_not_be_retried_ends_the_job() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.about(conn, "accept", &job);
    rig.about(conn, "ruin", &job);
    assert_eq!(rig.state(&job), (JobState::Failed, 1));
}

#[test]
fn a_closed_socket_counts_an_attempt_and_the_third_fails_the_job() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let job = rig.queue(image("flux"));
    for attempt in 1..=3 {
        let conn = rig.connect(&member, &old());
        rig.about(conn, "accept", &job);
        rig.input(Input::Closed { conn });
        let state = if attempt < 3 { JobState::Queued } else { JobState::Failed };
        assert_eq!(rig.state(&job), (state, attempt));
    }
    assert!(rig.job(&job).error.unwrap().contains("ended"));
}

#[test]
fn a_reject_for_now_counts_nothing_and_is_not_offered_again_at_once() {
    for code in ["busy", "paused", "insufficient_memory"] {
        let mut rig = Rig::new();
        let (_, conn) = rig.worker("i", &old());
        let job = rig.queue(image("flux"));
        rig.take();
        rig.about(conn, code, &job);
        rig.heartbeat(conn, &old());
        assert_eq!(rig.heard(conn), ["heartbeatAck"], "{code}: an unchanged heartbeat changes nothing");
        assert_eq!(rig.state(&job), (JobState::Queued, 0));
        rig.sleep(Duration::from_millis(14_999));
        assert!(rig.heard(conn).is_empty());
        rig.sleep(Duration::from_millis(1));
        assert_eq!(rig.heard(conn), [format!("offer {job}")]);
    }
}

#[test]
fn a_heartbeat_with_news_brings_a_rejected_job_back_at_once() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.about(conn, "paused", &job);
    rig.take();
    let mut paused = old();
    paused["autoEnabled"] = false.into();
    rig.heartbeat(conn, &paused);
    rig.sleep(Duration::from_secs(20));
    assert_eq!(rig.heard(conn), ["heartbeatAck"], "paused: nothing is offered");
    rig.heartbeat(conn, &old());
    assert_eq!(rig.heard(conn), ["heartbeatAck".to_owned(), format!("offer {job}")]);
}

#[test]
fn a_busy_worker_is_asked_for_nothing_but_the_job_that_it_lost() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let lost = rig.queue(image("flux"));
    rig.about(conn, "accept", &lost);
    rig.input(Input::Closed { conn });
    // Somebody else has the lost job while the worker comes back, still at work on it.
    let (_, other) = rig.worker("other", &old());
    let (a, _b) = (rig.queue(image("flux")), rig.queue(image("flux")));
    let conn = rig.connect(&member, &old());
    assert_eq!(rig.heard(conn), ["welcome".to_owned(), format!("offer {a}")]);
    rig.about(conn, "busy", &a);
    assert!(rig.heard(conn).is_empty(), "not the next one either");
    rig.input(Input::Closed { conn: other });
    assert_eq!(rig.heard(conn), [format!("offer {lost}")]);
}

#[test]
fn too_large_a_job_leaves_the_worker_free_for_others() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    let (large, small) = (rig.queue(image("flux")), rig.queue(image("flux")));
    rig.take();
    rig.about(conn, "insufficient_memory", &large);
    assert_eq!(rig.heard(conn), [format!("offer {small}")]);
}

#[test]
fn a_plain_reject_counts_one_and_goes_elsewhere() {
    for code in ["reject", "code_of_a_newer_worker"] {
        let mut rig = Rig::new();
        let (first, conn) = rig.worker("a", &old());
        let job = rig.queue(image("flux"));
        rig.about(conn, code, &job);
        rig.sleep(Duration::from_secs(20));
        assert_eq!(rig.state(&job), (JobState::Queued, 1));
        assert!(rig.job(&job).refused_by.contains(&first.id));
        let (_, other) = rig.worker("b", &old());
        assert_eq!(rig.heard(other), ["welcome".to_owned(), format!("offer {job}")]);
    }
}

#[test]
fn three_plain_rejects_fail_a_job() {
    let mut rig = Rig::new();
    let job = rig.queue(image("flux"));
    for install in ["a", "b", "c"] {
        let (_, conn) = rig.worker(install, &old());
        rig.about(conn, "reject", &job);
    }
    assert_eq!(rig.state(&job), (JobState::Failed, 3));
    assert!(rig.job(&job).error.unwrap().starts_with("rejected by w-"));
}

#[test]
fn a_queued_job_is_cancelled_at_once() {
    let mut rig = Rig::new();
    let job = rig.queue(image("flux"));
    let job_id = job.clone();
    let answer = rig.call(|call| Input::CancelJob { call, job_id });
    assert_eq!((answer.status(), answer.body()["state"].as_str()), (200, Some("cancelled")));
    let job_id = job.clone();
    assert_eq!(rig.call(|call| Input::CancelJob { call, job_id }).status(), 404);
    let (_, conn) = rig.worker("i", &old());
    assert_eq!(rig.heard(conn), ["welcome"]);
}

#[test]
fn a_held_job_is_cancelled_when_the_worker_is_done_with_it() {
    for (frame, ack) in [("completeJson", "completeAck"), ("fail", "failAck")] {
        let mut rig = Rig::new();
        let (_, conn) = rig.worker("i", &new());
        let job = rig.queue(llm("synthetic"));
        let job_id = job.clone();
        let answer = rig.call(|call| Input::CancelJob { call, job_id });
        assert_eq!(answer.body()["state"], "cancelling");
        rig.about(conn, "accept", &job);
        rig.take();
        rig.about(conn, frame, &job);
        assert_eq!(rig.heard(conn), [ack]);
        let done = rig.job(&job);
        assert_eq!((done.state, done.output), (JobState::Cancelled, None));
    }
}

#[test]
fn a_job_keeps_the_id_that_was_chosen_and_it_is_taken_while_the_job_lives() {
    let mut rig = Rig::new();
    let chosen = || NewJob { id: Some("mine/1".into()), ..image("flux") };
    assert_eq!(rig.queue(chosen()), JobId::from("mine/1"));
    let answer = rig.call(|call| Input::QueueJob { call, job: Box::new(chosen()) });
    assert_eq!((answer.status(), answer.body()["field"].as_str()), (409, Some("id")));
    assert!(rig.queue(image("flux")).as_str().starts_with("job-"));
}

#[test]
fn the_queue_is_bounded() {
    let mut rig = Rig::with(Options { max_jobs: 1, ..Options::default() });
    rig.queue(image("flux"));
    let answer = rig.call(|call| Input::QueueJob { call, job: Box::new(image("flux")) });
    assert_eq!(answer.status(), 503);
}

#[test]
fn a_queued_job_is_stored_before_it_is_confirmed() {
    let mut rig = Rig::new();
    rig.queue(image("flux"));
    assert!(matches!(
        &rig.take()[..],
        [Action::Save(Record::Job(_)), Action::Answer { answer: Answer::Job(_), .. }]
    ));
}
