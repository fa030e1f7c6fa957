//! Offers whose answer waits for a measurement.

use super::*;

#[test]
fn a_pending_offer_is_forgotten_with_its_session() {
    for closed in [false, true] {
        let mut rig = serving();
        rig.frame(&image("j-1"));
        if closed {
            rig.frame(&json!({ "type": "error", "code": "internal_error", "message": "m" }));
        } else {
            rig.break_connection();
        }
        rig.seen.clear();
        rig.measured(gpu(24));
        assert_eq!(rig.worker.counters().stale_inputs, 1);
        if closed {
            rig.closed(1000);
        }
        rig.open();
        rig.pass(secs(10));
        assert_eq!((rig.answers(), rig.runs_of("j-1")), (vec![], 0));
    }
}

#[test]
fn a_pending_offer_is_declined_when_no_more_jobs_are_taken() {
    let moved = || {
        let mut settings = measuring();
        settings.api_base = crate::wire::ApiBase::parse("http://elsewhere").unwrap();
        settings
    };
    let off = || {
        let mut settings = measuring();
        settings.capabilities.auto_enabled = false;
        settings
    };
    for command in [
        Command::Pause,
        Command::Drain,
        Command::Stop,
        Command::Reconfigure(moved().into()),
        Command::Reconfigure(off().into()),
    ] {
        let mut rig = serving();
        rig.frame(&image("j-1"));
        rig.seen.clear();
        rig.command(command.clone());
        assert_eq!(rig.answers(), [("reject paused".into(), "j-1".into())], "{command:?}");
        rig.measured(gpu(24));
        assert_eq!(rig.runs_of("j-1"), 0);
    }
}

#[test]
fn what_changed_while_it_was_measured_counts() {
    let unserved = Settings { services: vec![], ..measuring() };
    let unmeasured = Settings { measured_engines: vec![], ..measuring() };
    for (command, answer) in [
        (Command::SetThreshold(1.0), "reject insufficient_memory"),
        (Command::Reconfigure(unserved.into()), "reject"),
        (Command::Reconfigure(unmeasured.into()), "accept"),
    ] {
        let mut rig = serving();
        rig.frame(&image("j-1"));
        rig.command(command.clone());
        rig.seen.clear();
        rig.measured(gpu(0));
        assert_eq!(rig.answers(), [(answer.into(), "j-1".into())], "{command:?}");
    }
}

#[test]
fn settings_without_measured_engines_keep_nothing_away() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.command(Command::Reconfigure(Settings { measured_engines: vec![], ..measuring() }.into()));
    assert!((rig.advertised() - 12.0).abs() < 1e-9);
}

#[test]
fn another_offer_meanwhile_is_busy_and_the_same_one_is_answered_once() {
    let mut rig = serving();
    rig.frame(&image("j-1"));
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    assert_eq!(rig.answer_to(&image("j-1")), "nothing");
    assert_eq!(rig.measures(), 1);
    rig.measured(gpu(24));
    assert_eq!(rig.answers(), [("accept".into(), "j-1".into())]);
}

#[test]
fn a_pending_job_that_is_offered_with_another_task_is_that_one() {
    let mut rig = serving();
    rig.frame(&image("j-1"));
    assert_eq!(rig.answer_to(&llm("j-1")), "nothing");
    assert_eq!(rig.measures(), 2);
    rig.measured(gpu(24));
    assert_eq!(rig.answers(), [("accept".into(), "j-1".into())]);
    let dispatched = rig.history.iter().rev().find_map(|action| match action {
        Action::DispatchJob { claim, .. } => Some(claim.task.kind()),
        _ => None,
    });
    assert_eq!(dispatched, Some(TaskKind::Llm));

    // One that is for nobody, or not for this worker, ends it as well: it must not be accepted afterwards.
    let mut unknown = image("j-1");
    unknown["claim"]["model"] = json!("flux1-dev");
    let invalid = offer("j-1", json!({ "kind": "image", "prompt": "a cat", "width": 0 }));
    for (newer, answer) in [(unknown, "reject"), (invalid, "accept")] {
        let mut rig = serving();
        rig.frame(&image("j-1"));
        assert_eq!(rig.answer_to(&newer), answer);
        rig.measured(gpu(24));
        rig.pass(secs(10));
        assert_eq!((rig.answers(), rig.runs_of("j-1")), (vec![], 0));
    }
}

#[test]
fn a_held_result_is_not_delivered_beside_a_pending_offer() {
    let mut rig = serving();
    assert_eq!(rig.admit(&llm("j-1"), gpu(24)), "accept");
    rig.run_ends(answer());
    rig.flush();
    rig.reopen();
    assert_eq!(rig.answer_to(&image("j-2")), "nothing");
    assert_eq!(rig.answer_to(&llm("j-1")), "reject busy");
    rig.measured(gpu(24));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}

#[test]
fn a_held_result_needs_no_memory() {
    let mut rig = serving();
    rig.admit(&llm("j-1"), gpu(24));
    rig.run_ends(answer());
    rig.reopen();
    assert_eq!(rig.answer_to(&llm("j-1")), "accept");
    assert_eq!((rig.measures(), rig.runs_of("j-1")), (1, 1));
}

#[test]
fn heartbeats_do_not_name_a_pending_job_nor_do_observers_see_it() {
    let mut rig = serving();
    rig.frame(&image("j-1"));
    rig.pass(secs(4));
    rig.command(Command::SetThreshold(11.0));
    let beats = rig.frames();
    assert!(!beats.is_empty() && beats.iter().all(|frame| frame["currentJobId"].is_null()), "{beats:?}");
    let shown = |action: &Action| matches!(action, Action::Observe(Observation::CurrentJob(Some(_))));
    assert!(!rig.history.iter().any(shown));
}

#[test]
fn a_parked_offer_is_measured_when_its_turn_comes() {
    let mut rig = serving();
    rig.admit(&image("j-1"), gpu(24));
    rig.run_ends(bytes());
    rig.flush();
    assert_eq!(rig.answer_to(&image("j-2")), "nothing");
    assert_eq!(rig.measures(), 1, "it waits for the upload");
    rig.answered(status(200));
    assert_eq!(rig.measures(), 2);
    rig.measured(gpu(24));
    assert_eq!(rig.answers(), [("accept".into(), "j-2".into())]);
}
