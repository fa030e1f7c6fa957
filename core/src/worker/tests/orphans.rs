//! Section 6: a job that runs when the socket drops.

use alloc::format;

use super::{jobs::*, rig::*};
use crate::{
    engine::EngineError,
    worker::{Action, Command, states::JobState},
};

#[test]
fn an_orphan_goes_on_running_and_is_delivered_after_its_offer() {
    let mut rig = orphaned("j-1");
    assert_eq!(rig.cancelled_runs(), 0);
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Running));
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn an_orphan_that_ends_before_its_offer_is_delivered_at_it() {
    let mut rig = running("j-1");
    rig.break_connection();
    rig.run_ends(bytes());
    rig.open();
    rig.pass(secs(120));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!((rig.runs_of("j-1"), rig.uploads()), (1, 1));
}

#[test]
fn a_socket_that_drops_right_behind_the_accept_costs_no_second_run() {
    let mut rig = Rig::serving();
    rig.frame(&image("j-1"));
    rig.break_connection();
    rig.open();
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert_eq!((rig.runs_of("j-1"), rig.completed("j-1")), (1, true));
}

#[test]
fn an_orphan_outlives_any_number_of_drops() {
    let mut rig = orphaned("j-1");
    for _ in 0..5 {
        rig.pass(secs(50));
        rig.reopen();
    }
    rig.frame(&image("j-1"));
    rig.reopen();
    rig.frame(&image("j-1"));
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert_eq!((rig.runs_of("j-1"), rig.completed("j-1")), (1, true));
}

#[test]
fn heartbeats_name_an_orphan_only_when_it_is_claimed_again() {
    let mut rig = orphaned("j-1");
    rig.pass(secs(10));
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.frame(&image("j-1"));
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (true, Some("j-1")));
}

#[test]
fn other_offers_are_busy_while_an_orphan_runs() {
    let mut rig = orphaned("j-1");
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    assert_eq!(rig.answer_to(&llm("j-3")), "reject busy");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Orphaned));
}

#[test]
fn an_orphan_is_cancelled_60_s_after_a_welcome_without_its_offer() {
    let mut rig = running("j-1");
    rig.break_connection();
    let conn = rig.connecting();
    rig.input(crate::worker::Input::Connected { conn });
    rig.pass(secs(10));
    rig.welcome();
    rig.flush();
    rig.pass(secs(59));
    assert_eq!((rig.cancelled_runs(), rig.state_of("j-1")), (0, Some(JobState::Orphaned)));
    rig.pass(secs(1));
    assert_eq!((rig.cancelled_runs(), rig.state_of("j-1")), (1, None));
    assert!(rig.failure("j-1").contains("60 s"));
}

#[test]
fn an_orphan_that_was_offered_in_time_is_not_cancelled_later() {
    let mut rig = orphaned("j-1");
    rig.pass(secs(59));
    rig.frame(&image("j-1"));
    rig.pass(secs(600));
    assert_eq!(rig.cancelled_runs(), 0);
}

#[test]
fn an_orphan_is_cancelled_at_the_third_other_offer() {
    let mut rig = orphaned("j-1");
    for n in 2..=3 {
        rig.frame(&image(&format!("j-{n}")));
        assert_eq!(rig.cancelled_runs(), 0);
    }
    assert_eq!(rig.answer_to(&image("j-4")), "reject busy");
    assert_eq!((rig.cancelled_runs(), rig.state_of("j-1")), (1, None));
}

#[test]
fn offers_that_were_passed_over_are_counted_from_the_orphans_own_offer() {
    let mut rig = orphaned("j-1");
    rig.frame(&image("j-2"));
    rig.frame(&image("j-3"));
    rig.frame(&image("j-1"));
    rig.frame(&image("j-4"));
    rig.reopen();
    rig.frame(&image("j-5"));
    rig.frame(&image("j-6"));
    assert_eq!(rig.cancelled_runs(), 0);
    rig.frame(&image("j-7"));
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn the_slot_of_a_cancelled_run_is_busy_until_it_has_really_ended() {
    let mut rig = orphaned("j-1");
    rig.pass(secs(60));
    assert_eq!(rig.cancelled_runs(), 1);
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    assert_eq!(rig.answer_to(&image("j-1")), "reject busy", "its result is thrown away already");
    rig.run_ends(file("late"));
    assert_eq!(rig.discarded(), ["late"]);
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
    assert_eq!(rig.runs_of("j-2"), 1);
}

#[test]
fn another_task_under_its_id_cancels_an_orphan() {
    let mut rig = orphaned("j-1");
    assert_eq!(rig.answer_to(&llm("j-1")), "reject busy");
    assert_eq!((rig.cancelled_runs(), rig.state_of("j-1")), (1, None));
    rig.run_ends(Err(EngineError::transient("cancelled")));
    assert_eq!(rig.answer_to(&llm("j-1")), "accept");
}

#[test]
fn an_orphan_that_can_not_be_read_any_more_is_another_job() {
    let mut rig = orphaned("j-1");
    assert_eq!(
        rig.answer_to(&offer("j-1", serde_json::json!({ "kind": "image", "width": 0 }))),
        "reject busy"
    );
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn an_orphan_whose_engine_fails_for_now_is_over() {
    let mut rig = orphaned("j-1");
    rig.run_ends(Err(EngineError::transient("no memory")));
    assert_eq!(rig.failure("j-1"), "no memory");
    rig.pass(secs(61));
    assert_eq!(rig.cancelled_runs(), 0);
}

#[test]
fn an_orphan_that_passes_the_time_limit_is_stopped_and_recorded() {
    let mut rig = running("j-1");
    rig.break_connection();
    // The studio stays away.
    rig.pass_in_silence(secs(1_800));
    assert_eq!(rig.cancelled_runs(), 1);
    assert!(rig.failure("j-1").contains("time limit"));
}

#[test]
fn a_paused_worker_waits_for_its_orphan_and_takes_it_alone() {
    let mut rig = running("j-1");
    rig.command(Command::Pause);
    rig.reopen();
    assert_eq!(rig.last_heartbeat(), (true, None));
    assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (false, Some("j-1")));
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_paused_worker_waits_for_its_unconfirmed_job_for_60_s() {
    let mut rig = sent("j-1");
    rig.command(Command::Pause);
    rig.reopen();
    rig.pass(secs(59));
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.pass(secs(1));
    assert_eq!(rig.last_heartbeat(), (false, None));
    assert_eq!(rig.answer_to(&llm("j-1")), "reject paused");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held), "it may be wanted once the worker is resumed");
    rig.reopen();
    assert_eq!(rig.last_heartbeat(), (false, None), "a new session is no new chance");
    rig.command(Command::Resume);
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
}

#[test]
fn a_paused_worker_says_so_again_once_its_job_is_delivered() {
    let mut rig = sent("j-1");
    rig.command(Command::Pause);
    rig.reopen();
    rig.frame(&llm("j-1"));
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.last_heartbeat(), (false, None));
}

#[test]
fn observers_see_an_orphan_as_the_job_in_hand() {
    let rig = orphaned("j-1");
    let newest = rig.history.iter().rev().find_map(|action| match action {
        Action::Observe(crate::worker::Observation::CurrentJob(job)) => Some(job.is_some()),
        _ => None,
    });
    assert_eq!(newest, Some(true));
}

#[test]
fn a_paused_worker_says_so_again_once_its_orphan_has_failed() {
    let mut rig = running("j-1");
    rig.command(Command::Pause);
    rig.reopen();
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.run_ends(Err(EngineError::transient("no memory")));
    assert_eq!(rig.last_heartbeat(), (false, None));
}

#[test]
fn a_paused_worker_wants_a_job_back_whose_claim_is_lost_within_a_session() {
    let mut rig = uploading("j-1");
    rig.command(Command::Pause);
    assert_eq!(rig.last_heartbeat(), (false, Some("j-1")));
    rig.answered(status(409));
    assert_eq!(rig.last_heartbeat(), (true, None));
    // Whether the claim is over is in doubt until there is an offer, or another session.
    rig.pass(secs(30));
    rig.closed(1000);
    rig.open();
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.pass(secs(60));
    assert_eq!(rig.last_heartbeat(), (false, None));
}

#[test]
fn each_lost_claim_has_60_s_of_its_own() {
    let mut rig = held(&llm("j-1"), answer());
    rig.frame(&image("j-2"));
    rig.command(Command::Pause);
    rig.pass(secs(60));
    assert_eq!(rig.last_heartbeat(), (false, Some("j-2")));
    rig.reopen();
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.pass(secs(59));
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
}

#[test]
fn nothing_is_waited_for_once_a_job_is_over() {
    let mut orphan = orphaned("j-1");
    orphan.frame(&image("j-1"));
    let mut held = uploading("j-1");
    held.reopen();
    held.answered(status(200));
    let mut confirmed = sent("j-1");
    confirmed.ack("completeAck", "j-1");
    let mut next = sent("j-1");
    next.frame(&llm("j-2"));
    for mut rig in [orphan, held, confirmed, next] {
        for _ in 0..300 {
            let (until, reason) = rig.wait();
            assert!(!["offer of an orphan", "held result", "acknowledgement"].contains(&reason), "{reason}");
            rig.pass(until.since(rig.now.mono));
        }
    }
}

#[test]
fn a_paused_worker_takes_its_running_job_again() {
    let mut rig = running("j-1");
    rig.command(Command::Pause);
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.runs_of("j-1"), 1);
}

#[test]
fn a_pause_after_a_resume_is_a_new_chance() {
    let mut rig = held(&llm("j-1"), answer());
    rig.command(Command::Pause);
    rig.pass(secs(60));
    assert_eq!(rig.last_heartbeat(), (false, None));
    rig.command(Command::Resume);
    rig.command(Command::Pause);
    assert_eq!(rig.last_heartbeat(), (true, None));
    rig.command(Command::Resume);
    rig.pass(secs(50));
    rig.command(Command::Pause);
    rig.pass(secs(59));
    assert_eq!(rig.last_heartbeat(), (true, None), "60 s from the newest pause");
}
