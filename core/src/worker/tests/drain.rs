//! Section 6: shutdown.

use core::time::Duration;

use serde_json::json;

use super::{jobs::*, rig::*};
use crate::{
    wire::WorkerFrame,
    worker::{Action, Command, Exit, states::JobState},
};

#[test]
fn an_idle_worker_is_out_at_once_with_close_1000() {
    let mut rig = Rig::serving();
    rig.command(Command::Drain);
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    let exit = rig.exit().unwrap();
    assert_eq!((exit.code(), exit), (0, Exit::Drained));
}

/// It would cost its job an attempt if the session were closed on it.
#[test]
fn an_offer_that_is_on_its_way_is_declined_before_the_close() {
    for (command, code) in [(Command::Drain, "paused"), (Command::MakeWay, "busy")] {
        let mut rig = Rig::serving();
        rig.command_unheard(command);
        assert_eq!(rig.last_heartbeat(), (false, None));
        assert!(rig.closed_with().is_empty());
        // That of the welcome's.
        rig.frame(&json!({ "type": "heartbeatAck" }));
        assert!(rig.closed_with().is_empty());
        assert_eq!(rig.answer_to(&image("j-1")), alloc::format!("reject {code}"));
        rig.frame(&json!({ "type": "heartbeatAck" }));
        assert_eq!(rig.closed_with(), [1000], "whatever it sends from now on, it knows better");
    }
}

#[test]
fn a_studio_that_does_not_answer_keeps_no_drain_waiting() {
    for waits in [0, 100, 649] {
        let mut rig = Rig::serving();
        rig.command_unheard(Command::Drain);
        rig.pass_in_silence(Duration::from_millis(waits));
        assert!(rig.closed_with().is_empty());
        if waits == 100 {
            rig.acknowledge();
        } else {
            rig.pass_in_silence(Duration::from_millis(650 - waits));
        }
        assert_eq!(rig.closed_with(), [1000]);
        rig.pass_in_silence(Duration::from_millis(249));
        assert_eq!(rig.exit(), None);
        rig.pass_in_silence(Duration::from_millis(551));
        assert_eq!(rig.exit(), Some(Exit::Drained), "out within a second");
    }
}

/// A new session would have nothing to do, and cost the last lines and another second.
#[test]
fn a_drain_does_not_reconnect_with_changed_settings() {
    let mut changed = settings(registered());
    changed.identity.worker_id = Some("w-2".into());
    let changed = Command::Reconfigure(changed.into());
    for commands in [[changed.clone(), Command::Drain], [Command::Drain, changed]] {
        let mut rig = Rig::serving();
        for command in commands {
            rig.command_unheard(command);
        }
        assert!(rig.closed_with().is_empty());
        rig.pass_in_silence(Duration::from_millis(650));
        assert_eq!(rig.closed_with(), [1000]);
        rig.pass_in_silence(Duration::from_millis(250));
        assert_eq!(rig.exit(), Some(Exit::Drained), "out within a second");
    }
}

#[test]
fn the_close_of_a_worker_that_slept_meanwhile_has_its_moment() {
    let mut rig = Rig::serving();
    rig.command_unheard(Command::Drain);
    rig.now.mono = rig.now.mono + secs(10);
    rig.acknowledge();
    assert_eq!((rig.closed_with(), rig.exit()), (vec![1000], None));
    rig.pass_in_silence(Duration::from_millis(249));
    assert_eq!(rig.exit(), None);
    rig.pass_in_silence(Duration::from_millis(1));
    assert_eq!(rig.exit(), Some(Exit::Drained));
}

/// It was told long ago.
#[test]
fn a_worker_that_takes_no_jobs_is_out_without_another_word() {
    let mut rig = Rig::serving();
    rig.command(Command::Pause);
    rig.command_unheard(Command::Drain);
    assert_eq!(rig.closed_with(), [1000]);
    let mut off = settings(registered());
    off.capabilities.auto_enabled = false;
    let mut rig = Rig::new(off);
    rig.open();
    rig.command_unheard(Command::Drain);
    assert_eq!(rig.closed_with(), [1000], "it has said so with its hello");
}

#[test]
fn a_stop_does_not_wait_for_the_studio() {
    for drains in [false, true] {
        let mut rig = Rig::serving();
        if drains {
            rig.command_unheard(Command::Drain);
            assert!(rig.closed_with().is_empty());
        }
        rig.command_unheard(Command::Stop);
        assert_eq!(rig.last_heartbeat(), (false, None));
        assert_eq!(rig.closed_with(), [1000]);
    }
}

#[test]
fn what_is_resumed_in_time_goes_on() {
    let mut rig = Rig::serving();
    rig.command_unheard(Command::MakeWay);
    rig.command_unheard(Command::Pause);
    rig.command_unheard(Command::Resume);
    rig.pass(secs(3));
    assert!(rig.closed_with().is_empty());
    rig.command_unheard(Command::MakeWay);
    assert!(rig.closed_with().is_empty(), "it waits anew");
    rig.acknowledge();
    assert_eq!(rig.closed_with(), [1000]);
}

#[test]
fn a_running_job_is_finished_and_delivered_first() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.pass(secs(300));
    assert_eq!(rig.last_heartbeat(), (false, Some("j-1")));
    assert!(rig.closed_with().is_empty());
    rig.run_ends(bytes());
    rig.pass(secs(30));
    assert_eq!(rig.last_heartbeat(), (false, Some("j-1")), "heartbeats go on");
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Drained));
}

#[test]
fn a_drain_is_said_at_once() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    let frames = rig.frames();
    assert_eq!(frames[0], json!({ "type": "heartbeat", "autoEnabled": false, "currentJobId": "j-1" }));
}

#[test]
fn a_result_that_was_sent_is_waited_for_until_it_is_acknowledged() {
    let mut rig = sent("j-1");
    rig.command(Command::Drain);
    assert!(rig.closed_with().is_empty());
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.closed_with(), [1000]);
    assert!(rig.completed("j-1"));
}

#[test]
fn at_the_end_of_the_drain_time_the_job_is_failed_as_retryable() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.pass(secs(599));
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(1));
    let frames = rig.frames();
    let fail = frames.iter().find(|frame| frame["type"] == "fail").unwrap();
    assert_eq!((&fail["jobId"], &fail["retryable"]), (&json!("j-1"), &json!(true)));
    assert_eq!((rig.closed_with(), rig.cancelled_runs()), (alloc::vec![1000], 1));
    rig.closed(1000);
    let exit = rig.exit().unwrap();
    assert_eq!((exit.code(), exit), (0, Exit::Stopped));
    assert!(rig.failure("j-1").contains("drain time"));
}

/// Drains come from several who don't know of each other: a signal, the door, whoever watches a trial.
#[test]
fn a_second_drain_changes_nothing() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.pass(secs(300));
    rig.frames();
    for _ in 0..2 {
        rig.command(Command::Drain);
    }
    assert!(rig.frames().is_empty() && rig.closed_with().is_empty());
    assert!(!rig.logged("stopping"));
    rig.pass(secs(299));
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(1));
    assert_eq!(rig.closed_with(), [1000], "the drain time counts from the first one");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.command(Command::Stop);
    assert_eq!(rig.said(), ["fail"]);
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Stopped));
    assert!(rig.failure("j-1").contains("stopped"), "{:?}", rig.outcomes());
}

/// Else the studio would offer that very job again at once, to a worker that is about to close: another attempt gone.
#[test]
fn that_no_more_is_taken_is_said_before_the_job_is_given_back() {
    let mut rig = running("j-1");
    rig.command(Command::Stop);
    let frames = rig.frames();
    assert_eq!(frames[0], json!({ "type": "heartbeat", "autoEnabled": false, "currentJobId": "j-1" }));
    assert_eq!((&frames[1]["type"], frames.len()), (&json!("fail"), 2));
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.frames();
    rig.command(Command::Stop);
    assert_eq!(rig.frames().len(), 1, "a drain has said it");
}

/// Not for what is held either: its offer could not be answered any more.
#[test]
fn a_worker_that_stops_wants_nothing_back() {
    for commands in [&[Command::Stop][..], &[Command::Drain, Command::Stop]] {
        let mut rig = held(&llm("j-1"), answer());
        for command in commands {
            rig.command(command.clone());
        }
        assert_eq!(rig.last_heartbeat(), (false, None));
        assert_eq!(rig.closed_with(), [1000]);
        rig.closed(1000);
        assert_eq!(rig.exit(), Some(Exit::Stopped));
    }
    let mut rig = running("j-1");
    rig.reopen();
    rig.command(Command::Stop);
    assert!(rig.said().is_empty(), "it has no claim to give back");
    assert_eq!(rig.last_heartbeat(), (false, None));
}

#[test]
fn an_offer_that_waits_is_given_back_when_the_worker_stops() {
    let mut rig = uploading("j-1");
    rig.frame(&image("j-2"));
    rig.frames();
    rig.command(Command::Stop);
    let frames = rig.frames();
    assert_eq!(frames[0]["autoEnabled"], false);
    assert_eq!((&frames[1]["jobId"], &frames[1]["code"]), (&json!("j-2"), &json!("paused")));
}

#[test]
fn what_was_sent_is_not_failed_when_the_worker_stops() {
    let mut rig = sent("j-1");
    rig.command(Command::Stop);
    assert!(!rig.said().contains(&"fail".into()));
    rig.closed(1000);
    assert!(rig.completed("j-1"), "sent and not confirmed: {:?}", rig.outcomes());
    assert!(rig.logged("unconfirmed"));
}

#[test]
fn a_claim_that_the_next_offer_showed_to_be_over_is_not_failed_when_the_worker_stops() {
    let mut rig = uploading("j-1");
    rig.frame(&image("j-2"));
    rig.command(Command::Stop);
    let frames = rig.frames();
    assert!(frames.iter().all(|frame| frame["type"] != "fail"), "{frames:?}");
    assert!(frames.iter().any(|frame| frame["type"] == "reject" && frame["code"] == "paused"));
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Stopped));
}

#[test]
fn a_draining_worker_waits_for_its_orphan() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.reopen();
    assert_eq!(rig.last_heartbeat(), (true, None));
    assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.acknowledge();
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.closed_with(), [1000]);
}

#[test]
fn a_draining_worker_waits_for_its_unconfirmed_job_for_60_s() {
    let mut rig = sent("j-1");
    rig.command(Command::Drain);
    rig.reopen();
    rig.pass(secs(59));
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(1));
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Drained));
    assert!(rig.completed("j-1"), "sent and not confirmed: {:?}", rig.outcomes());
}

#[test]
fn a_draining_worker_delivers_its_unconfirmed_job_and_is_out() {
    let mut rig = sent("j-1");
    rig.command(Command::Drain);
    rig.reopen();
    rig.frame(&llm("j-1"));
    assert_eq!(rig.said(), ["accept", "completeJson"]);
    rig.acknowledge();
    rig.ack("completeAck", "j-1");
    assert_eq!(rig.closed_with(), [1000]);
}

#[test]
fn a_drain_that_starts_with_a_held_result_waits_for_its_offer_too() {
    let mut rig = held(&llm("j-1"), answer());
    rig.command(Command::Drain);
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(60));
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    assert!(rig.failure("j-1").contains("offered again"), "{:?}", rig.outcomes());
}

/// Whatever it took no jobs for before, and for however long: only now it is about to end.
#[test]
fn a_drain_waits_for_what_is_held_also_when_a_pause_has_waited_before() {
    for offered in [false, true] {
        let mut rig = held(&llm("j-1"), answer());
        rig.command(Command::Pause);
        rig.pass(secs(61));
        assert_eq!(rig.last_heartbeat(), (false, None));
        rig.command(Command::Drain);
        assert_eq!(rig.last_heartbeat(), (true, None));
        rig.pass(secs(59));
        assert!(rig.closed_with().is_empty());
        if offered {
            rig.frame(&llm("j-1"));
            assert_eq!(rig.said(), ["accept", "completeJson"]);
            rig.acknowledge();
            rig.ack("completeAck", "j-1");
        } else {
            rig.pass(secs(1));
        }
        assert_eq!(rig.closed_with(), [1000]);
        rig.closed(1000);
        assert_eq!((rig.exit(), rig.completed("j-1")), (Some(Exit::Drained), offered));
    }
}

#[test]
fn a_studio_that_stays_away_holds_up_a_drain_for_the_drain_time() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.break_connection();
    rig.pass_in_silence(secs(599));
    assert_eq!(rig.exit(), None);
    rig.pass_in_silence(secs(1));
    assert_eq!(rig.exit(), Some(Exit::Stopped));
    assert!(rig.outcome("j-1").is_some(), "every accepted job is recorded");
}

#[test]
fn a_run_that_fails_in_a_drain_is_said_and_the_worker_is_out() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.run_ends(Err(crate::engine::EngineError::transient("no memory")));
    assert_eq!(rig.state_of("j-1"), Some(JobState::Delivering));
    rig.ack("failAck", "j-1");
    assert_eq!(rig.closed_with(), [1000]);
}

#[test]
fn the_last_logs_leave_before_the_close() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.run_ends(bytes());
    rig.answered(status(200));
    let at = |wanted: fn(&Action) -> bool| rig.history.iter().rposition(wanted).unwrap();
    let logs = at(|action| matches!(action, Action::Send { frame: WorkerFrame::LogBatch { .. }, .. }));
    assert!(logs < at(|action| matches!(action, Action::Close { .. })));
}

/// Its last byte may have arrived, and then the studio holds nothing that could fail.
#[test]
fn a_stop_while_an_upload_moves_says_nothing_and_closes() {
    let mut rig = uploading("j-1");
    rig.command(Command::Stop);
    assert!(rig.cancelled(rig.request()));
    assert!(!rig.said().contains(&"fail".into()));
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Stopped));
    assert!(rig.failure("j-1").contains("before the studio confirmed"), "{:?}", rig.outcomes());
}
