//! Time is an argument: clocks that jump, machines that sleep, and states that are the same at another time.

use alloc::{format, vec, vec::Vec};
use core::time::Duration;

use serde_json::json;

use super::rig::*;
use crate::{
    engine::Output,
    time::{Mono, Wall},
    wire::LogLevel,
    worker::{Action, Command, Identity, Input, LogLine, states::SessionState},
};

#[test]
fn time_that_goes_back_is_clamped() {
    let mut rig = Rig::serving();
    rig.pass(secs(100));
    let until = rig.wait();
    let conn = rig.conn();
    let mut early = rig.now;
    early.mono = Mono::ZERO;
    rig.worker.handle(early, Input::Tick);
    assert_eq!(rig.wait(), until);
    rig.worker.handle(early, Input::OtherFrame { conn, binary: false });
    assert_eq!(rig.wait().1, "heartbeat");
    assert!(rig.wait().0 > rig.now.mono);
    rig.pass(secs(100));
    assert_eq!((rig.worker.state(), rig.attempts()), (SessionState::Serving, 1));
}

#[test]
fn a_wall_clock_that_jumps_changes_nothing_but_stamps() {
    let play = |jumps: bool| {
        let mut rig = Rig::new(settings(registered()));
        let mut at = Vec::new();
        for n in 0..200_i64 {
            if jumps {
                let millis = if n % 2 == 0 { i64::MIN } else { i64::MAX };
                rig.now.wall = Wall::from_millis(millis / (n + 1));
            }
            match n % 20 {
                3 if rig.worker.state() == SessionState::Connecting => {
                    rig.open();
                }
                10 if rig.worker.state() == SessionState::Serving => rig.frame(&image(&format!("j-{n}"))),
                12 if rig.worker.jobs().count() > 0 => rig.run_ends(bytes()),
                13 if rig.worker.jobs().count() > 0 => rig.answered(status(200)),
                19 if rig.worker.state() == SessionState::Serving => rig.break_connection(),
                _ => {
                    let reason = rig.next_timer();
                    at.push((rig.now.mono, reason));
                }
            }
        }
        (at, rig.history.len())
    };
    assert_eq!(play(false), play(true));
}

#[test]
fn a_machine_that_was_suspended_reconnects() {
    let mut rig = Rig::serving();
    rig.leap(secs(36_000));
    assert_eq!(rig.worker.state(), SessionState::Waiting);
    assert!(rig.gap() <= secs(2));
    rig.open();
    rig.pass(secs(60));
    assert_eq!(rig.worker.state(), SessionState::Serving);
}

#[test]
fn a_suspended_machine_whose_studio_is_still_there_keeps_its_session() {
    let mut rig = Rig::serving();
    rig.now.mono = rig.now.mono + secs(36_000);
    // The frame is there before anybody looks at the clock.
    rig.frame(&json!({ "type": "heartbeatAck" }));
    rig.input(Input::Tick);
    assert_eq!(rig.worker.state(), SessionState::Serving);
    let beats = rig.frames().into_iter().filter(|frame| frame["type"] == "heartbeat").count();
    assert_eq!(beats, 1, "one heartbeat, not one for each that was missed");
}

/// Found by the simulation: the drop was told first, and with it came the end of the run's time.
#[test]
fn a_result_that_is_there_when_a_machine_wakes_is_not_lost_to_a_timer_that_is_due() {
    let mut rig = running("j-1");
    rig.now.mono = rig.now.mono + secs(36_000);
    rig.break_connection();
    rig.run_ends(bytes());
    rig.input(Input::Tick);
    rig.open();
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!((rig.runs_of("j-1"), rig.uploads()), (1, 1));
}

#[test]
fn hours_at_once_are_survived_in_every_state() {
    type Start = fn() -> Rig;
    let starts: [Start; 7] = [
        || Rig::new(settings(Identity::default())),
        || {
            let mut rig = Rig::new(settings(Identity::default()));
            rig.stored();
            rig
        },
        || Rig::new(settings(registered())),
        || {
            let mut rig = Rig::new(settings(registered()));
            let conn = rig.connecting();
            rig.input(Input::Connected { conn });
            rig
        },
        || {
            let mut rig = Rig::serving();
            rig.frame(&json!({ "type": "error", "code": "internal_error" }));
            rig
        },
        || running("j-1"),
        || uploading("j-1"),
    ];
    for start in starts {
        for hours in [1, 24, 24 * 365 * 100] {
            let mut rig = start();
            rig.leap(secs(3_600 * hours));
            let (until, _) = rig.wait();
            assert!(until > rig.now.mono);
            assert_eq!(rig.worker.counters().impossible, 0);
        }
    }
}

#[test]
fn the_far_future_is_like_the_present() {
    let mut rig = Rig::serving();
    rig.leap(Duration::from_micros(u64::MAX / 2));
    rig.open();
    rig.pass(secs(100));
    assert_eq!(rig.worker.state(), SessionState::Serving);
}

fn play(seed: [u8; 32]) -> Rig {
    let mut rig = Rig::seeded(settings(Identity::default()), seed);
    rig.stored();
    rig.answer(body(503, ""));
    rig.next_timer();
    rig.answer(body(200, r#"{"requestId":"rr-1"}"#));
    rig.stored();
    rig.pass(secs(2));
    rig.answer(body(200, r#"{"status":"approved","workerId":"w-1","authToken":"tok-secret"}"#));
    rig.stored();
    rig.open();
    rig.frame(&image("j-1"));
    rig.run_ends(bytes());
    rig.break_connection();
    rig.open();
    rig.pass(secs(30));
    rig
}

#[test]
fn the_same_seed_and_inputs_give_the_same_run() {
    let (a, b) = (play([9; 32]), play([9; 32]));
    assert_eq!(a.history, b.history);
    assert_eq!(a.worker, b.worker);
    assert_eq!(a.worker.fingerprint(), b.worker.fingerprint());
}

#[test]
fn another_seed_gives_another_run() {
    let (a, b) = (play([9; 32]), play([10; 32]));
    assert_ne!(a.history, b.history);
    assert_ne!(a.file, b.file);
}

#[test]
fn states_that_behave_alike_have_one_fingerprint_at_any_time() {
    let serving = Rig::serving();
    let mut later = Rig::serving();
    // Sessions, jobs and log lines later, it stands as it stood, as long as the same timers run.
    later.frame(&image("j-1"));
    later.run_ends(bytes());
    later.answered(status(200));
    later.frame(&json!({ "type": "poem" }));
    later.flush();
    later.pass(secs(700));
    later.break_connection();
    later.now.wall = Wall::from_millis(5);
    later.gap();
    later.open();
    later.flush();
    let mut fresh = serving;
    fresh.break_connection();
    fresh.gap();
    fresh.open();
    fresh.flush();
    assert_eq!(
        fresh.worker.fingerprint(),
        later.worker.fingerprint(),
        "\n{:?}\n{:?}",
        fresh.worker,
        later.worker
    );
}

#[test]
fn the_same_job_under_other_numbers_has_one_fingerprint() {
    let held = |jobs_before: usize, delivering: bool| {
        let mut rig = Rig::serving();
        for n in 0..jobs_before {
            rig.frame(&image(&format!("before-{n}")));
            rig.run_ends(bytes());
            rig.answered(status(200));
        }
        rig.frame(&image("j-1"));
        if delivering {
            rig.run_ends(bytes());
            // Its stall is a timer of this very job.
            rig.pass(secs(30));
        }
        rig.flush();
        // What is only timed from the welcome is the same again.
        if !delivering {
            rig.pass(secs(700));
        }
        rig
    };
    for delivering in [false, true] {
        let (a, b) = (held(0, delivering), held(3, delivering));
        assert_eq!(a.worker.fingerprint(), b.worker.fingerprint(), "\n{:?}\n{:?}", a.worker, b.worker);
    }
}

#[test]
fn states_that_behave_differently_have_different_fingerprints() {
    let rigs = vec![
        Rig::new(settings(registered())),
        Rig::new(settings(Identity::default())),
        Rig::serving(),
        {
            let mut rig = Rig::serving();
            rig.command(Command::Pause);
            rig.flush();
            rig
        },
        {
            let mut rig = Rig::serving();
            rig.command(Command::SetThreshold(1.0));
            rig.flush();
            rig
        },
        {
            let mut rig = Rig::serving();
            rig.pass(Duration::from_millis(1));
            rig
        },
        running("j-1"),
        running("j-2"),
        uploading("j-1"),
        {
            let mut rig = Rig::serving();
            rig.closed(4003);
            rig
        },
        {
            let mut rig = Rig::serving();
            rig.break_connection();
            rig
        },
    ];
    for (n, a) in rigs.iter().enumerate() {
        for b in &rigs[..n] {
            assert_ne!(a.worker.fingerprint(), b.worker.fingerprint(), "{:?}", a.history.last());
        }
    }
}

/// None of it is printed, and all of it decides what the worker will say.
#[test]
fn a_fingerprint_sees_tokens_the_bytes_of_results_and_that_lines_wait() {
    let with = |token: &str| Rig::new(settings(Identity { auth_token: Some(token.into()), ..registered() }));
    assert_ne!(with("tok-1").worker.fingerprint(), with("tok-2").worker.fingerprint());

    let made = |payload: Vec<u8>| {
        let mut rig = running("j-1");
        rig.run_ends(Ok(Output::Bytes { ext: "webp".into(), payload: payload.into() }));
        rig
    };
    assert_ne!(made(vec![1, 2, 3]).worker.fingerprint(), made(vec![1, 2, 4]).worker.fingerprint());

    // A batch goes out once what was sent before it has left, or none.
    let waiting = |lines: usize| {
        let mut rig = running("j-1");
        rig.frame(&image("j-2"));
        for _ in 0..lines {
            let message = "a line".into();
            let line = LogLine { level: LogLevel::Info, category: "test".into(), message, job_id: None };
            rig.input(Input::Log(line));
        }
        rig
    };
    assert_ne!(waiting(0).worker.fingerprint(), waiting(1).worker.fingerprint());
}

#[test]
fn a_fingerprint_changes_nothing() {
    let rig = running("j-1");
    let before = rig.worker.clone();
    rig.worker.fingerprint();
    assert_eq!(rig.worker, before);
}

#[test]
fn waits_are_named_after_what_is_waited_for() {
    let mut rig = Rig::new(settings(registered()));
    assert_eq!(rig.wait().1, "connecting");
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    assert_eq!(rig.wait().1, "welcome");
    rig.welcome();
    assert_eq!(rig.wait().1, "heartbeat");
    rig.frame(&json!({ "type": "error", "code": "internal_error" }));
    assert_eq!(rig.wait().1, "close");
    rig.closed(1011);
    assert_eq!(rig.wait().1, "back-off");
    assert!(rig.history.iter().all(|action| !matches!(action, Action::Exit(_))));
}
