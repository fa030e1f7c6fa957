//! Sections 1, 3 and 6: connecting, greeting, heartbeats, and every way in which a session ends.

use alloc::{format, string::ToString, vec::Vec};
use core::time::Duration;

use serde_json::json;

use super::rig::*;
use crate::worker::{
    Action, Command, ConnectFailure, HeartbeatOutcome, Input, Observation, SessionEnd, states::SessionState,
};

fn drops(rig: &Rig) -> usize {
    rig.history.iter().filter(|action| matches!(action, Action::Drop { .. })).count()
}

fn closes(rig: &Rig) -> Vec<u16> {
    let of = |action: &Action| match action {
        Action::Close { code, .. } => Some(code.0),
        _ => None,
    };
    rig.history.iter().filter_map(of).collect()
}

fn error(code: &str) -> serde_json::Value {
    json!({ "type": "error", "code": code, "message": "because" })
}

// Connecting.

#[test]
fn the_session_is_opened_at_the_workers_address_with_its_token() {
    let rig = Rig::new(settings(registered()));
    let connect = rig.history.iter().find_map(|action| match action {
        Action::Connect { url, bearer, .. } => Some((url.clone(), bearer.reveal().to_string())),
        _ => None,
    });
    let (url, bearer) = connect.unwrap();
    assert_eq!(url, "ws://studio/graphics/api/workers/w-1/connect");
    assert_eq!(bearer, "tok-secret");
}

#[test]
fn an_upgrade_is_given_up_after_15_s() {
    let mut rig = Rig::new(settings(registered()));
    rig.pass_in_silence(Duration::from_millis(14_999));
    assert_eq!(rig.worker.state(), SessionState::Connecting);
    rig.pass_in_silence(Duration::from_millis(1));
    assert_eq!((rig.worker.state(), drops(&rig)), (SessionState::Waiting, 1));
}

#[test]
fn a_welcome_is_waited_for_15_s() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.pass_in_silence(Duration::from_millis(14_999));
    assert_eq!(rig.worker.state(), SessionState::Greeting);
    rig.pass_in_silence(Duration::from_millis(1));
    assert_eq!((rig.worker.state(), drops(&rig)), (SessionState::Waiting, 1));
}

#[test]
fn frames_do_not_stretch_the_wait_for_the_welcome() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    for _ in 0..15 {
        rig.pass_in_silence(secs(1));
        rig.input(Input::OtherFrame { conn, binary: false });
    }
    assert_eq!(rig.worker.state(), SessionState::Waiting);
}

#[test]
fn outcomes_of_an_attempt_that_was_given_up_are_ignored() {
    let mut rig = Rig::new(settings(registered()));
    let old = rig.connecting();
    rig.pass_in_silence(secs(15));
    let new = rig.connecting();
    let before = rig.worker.clone();
    rig.input(Input::Connected { conn: old });
    rig.input(Input::ConnectFailed { conn: old, failure: ConnectFailure::Trouble("late".into()) });
    rig.input(Input::Closed { conn: old, end: SessionEnd::Dropped("late".into()) });
    rig.input(Input::Text { conn: old, text: error("auth_failed").to_string() });
    rig.input(Input::Flushed { conn: old, upto: 9 });
    assert_eq!(rig.worker.counters().stale_inputs, before.counters().stale_inputs + 5);
    assert_eq!(rig.worker.fingerprint(), before.fingerprint());
    assert_eq!(rig.conn(), new);
}

#[test]
fn an_answer_that_comes_twice_counts_once() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.input(Input::Connected { conn });
    rig.welcome();
    rig.welcome();
    let hellos = rig.said().into_iter().filter(|kind| kind == "hello").count();
    assert_eq!(hellos, 1);
    assert_eq!(rig.worker.counters().sessions, 1);
}

// Heartbeats.

#[test]
fn heartbeats_go_out_at_once_and_then_every_5_s() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.frames();
    rig.welcome();
    assert_eq!(rig.frames().len(), 1, "at once");
    rig.flush();
    for _ in 0..10 {
        rig.pass(Duration::from_millis(4_999));
        assert!(rig.frames().is_empty());
        rig.pass(Duration::from_millis(1));
        assert_eq!(rig.frames().len(), 1);
    }
}

#[test]
fn a_change_that_the_studio_must_know_goes_out_at_once() {
    let mut rig = Rig::serving();
    for (command, enabled, threshold) in [
        (Command::Pause, false, 12.0),
        (Command::Resume, true, 12.0),
        (Command::SetThreshold(3.5), true, 3.5),
    ] {
        rig.command(command);
        let heartbeats: Vec<_> = rig
            .seen
            .drain(..)
            .filter_map(|action| match action {
                Action::SendHeartbeat { capabilities, .. } => Some(capabilities),
                _ => None,
            })
            .collect();
        assert_eq!(heartbeats.len(), 1);
        assert_eq!(heartbeats[0].auto_enabled, enabled);
        assert!((heartbeats[0].vram_threshold_gb.get() - threshold).abs() < f64::EPSILON);
    }
    rig.command(Command::Resume);
    assert!(rig.frames().is_empty(), "nothing changed");
}

#[test]
fn a_change_before_the_welcome_is_in_hello_or_the_first_heartbeat() {
    let mut rig = Rig::new(settings(registered()));
    rig.command(Command::Pause);
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    assert_eq!(rig.hello()["capabilities"]["autoEnabled"], false);
    rig.command(Command::Resume);
    rig.frames();
    rig.welcome();
    assert_eq!(rig.frames()[0]["autoEnabled"], true);
}

#[test]
fn what_is_seen_of_heartbeats_is_whether_they_were_acknowledged() {
    let mut rig = Rig::serving();
    let seen = |rig: &mut Rig| -> Vec<HeartbeatOutcome> {
        let of = |action| match action {
            Action::Observe(Observation::Heartbeat(status)) => Some(status.outcome),
            _ => None,
        };
        rig.seen.drain(..).filter_map(of).collect()
    };
    rig.frame(&json!({ "type": "heartbeatAck" }));
    assert_eq!(seen(&mut rig), [HeartbeatOutcome::Ok]);
    rig.pass(secs(120));
    seen(&mut rig);
    rig.break_connection();
    assert_eq!(seen(&mut rig), [HeartbeatOutcome::Err { reason: "broken".into() }]);
}

#[test]
fn a_heartbeat_that_waits_to_be_written_is_not_piled_up() {
    let mut rig = Rig::serving();
    for _ in 0..25 {
        rig.leap(secs(1));
        rig.frame(&json!({ "type": "heartbeatAck" }));
    }
    assert_eq!(rig.frames().len(), 1);
    rig.flush();
    rig.pass(secs(5));
    assert_eq!(rig.frames().len(), 1);
}

#[test]
fn a_studio_that_sends_and_never_reads_is_dropped() {
    let mut rig = Rig::serving();
    let mut lasted = 0;
    while rig.worker.state() == SessionState::Serving && lasted < 100 {
        rig.leap(secs(1));
        rig.frame(&json!({ "type": "heartbeatAck" }));
        lasted += 1;
    }
    assert!((25..=40).contains(&lasted), "{lasted}");
    assert_eq!(drops(&rig), 1);
}

#[test]
fn a_studio_that_offers_and_never_reads_is_dropped_with_a_bounded_queue() {
    let mut rig = running("j-1");
    let before = rig.history.len();
    for n in 0..1_000 {
        rig.frame(&llm(&format!("other-{n}")));
    }
    assert_eq!(drops(&rig), 1);
    let sent = rig.history[before..].iter().filter(|action| matches!(action, Action::Send { .. })).count();
    assert!(sent <= 65, "{sent}");
}

#[test]
fn twenty_seconds_of_silence_end_a_session() {
    let mut rig = Rig::serving();
    rig.pass_in_silence(Duration::from_millis(19_999));
    assert_eq!(rig.worker.state(), SessionState::Serving);
    rig.pass_in_silence(Duration::from_millis(1));
    assert_eq!((rig.worker.state(), drops(&rig)), (SessionState::Waiting, 1));
}

#[test]
fn any_frame_shows_that_the_studio_lives() {
    let mut rig = Rig::serving();
    let conn = rig.conn();
    let lively: [fn(crate::worker::ConnId) -> Input; 4] = [
        |conn| Input::OtherFrame { conn, binary: false },
        |conn| Input::OtherFrame { conn, binary: true },
        |conn| Input::Text { conn, text: "not json".into() },
        |conn| Input::Text { conn, text: r#"{"type":"newThing"}"#.into() },
    ];
    for input in lively {
        rig.pass_in_silence(secs(19));
        rig.flush();
        rig.input(input(conn));
    }
    rig.pass_in_silence(secs(19));
    assert_eq!(rig.worker.state(), SessionState::Serving);
}

// Odd frames.

#[test]
fn unknown_frame_types_are_logged_once_a_type_also_over_a_reconnect() {
    let mut rig = Rig::serving();
    for _ in 0..2 {
        for _ in 0..50 {
            rig.frame(&json!({ "type": "poem" }));
            rig.frame(&json!({ "type": "song", "claim": 7 }));
        }
        rig.break_connection();
        rig.open();
    }
    let lines = rig.log_lines();
    for kind in ["poem", "song"] {
        assert_eq!(lines.iter().filter(|line| line.message.contains(kind)).count(), 1);
    }
}

#[test]
fn endless_new_types_are_logged_with_a_bound() {
    let mut rig = Rig::serving();
    let before = rig.log_lines().len();
    for n in 0..1_000 {
        rig.frame(&json!({ "type": format!("type-{n}") }));
    }
    assert!(rig.log_lines().len() - before <= 40);
    assert_eq!(rig.worker.state(), SessionState::Serving);
}

#[test]
fn what_is_no_frame_is_skipped_and_logged_with_a_bound() {
    let mut rig = Rig::serving();
    let conn = rig.conn();
    let before = rig.log_lines().len();
    for n in 0..1_000 {
        match n % 6 {
            0 => rig.input(Input::OtherFrame { conn, binary: true }),
            1 => rig.input(Input::Text { conn, text: "{".into() }),
            2 => rig.frame(&json!([1])),
            3 => rig.frame(&json!({ "type": 5 })),
            4 => rig.frame(&json!({ "type": "completeAck" })),
            _ => rig.frame(&json!({ "type": "error", "code": "new_code", "message": "x".repeat(10_000) })),
        }
    }
    let lines = &rig.log_lines()[before..];
    assert!((1..=20).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.message.len() < 1_000));
    assert_eq!(rig.worker.counters().skipped_frames, 1_000);
    assert_eq!(rig.worker.state(), SessionState::Serving);
}

#[test]
fn names_that_a_studio_sends_are_cut_in_logs() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.frame(&json!({ "type": "welcome", "workerId": "w".repeat(100_000) }));
    rig.frame(&json!({ "type": "t".repeat(100_000) }));
    rig.frame(&json!({ "type": "error", "code": "c".repeat(100_000), "message": "" }));
    rig.frame(&json!({ "type": "error", "code": "internal_error", "message": "m".repeat(100_000) }));
    assert!(rig.log_lines().iter().all(|line| line.message.len() < 10_000));
    assert!(rig.statuses().iter().all(|status| status.detail.as_ref().is_none_or(|text| text.len() < 1_000)));
}

#[test]
fn an_offer_before_the_welcome_closes_and_other_frames_are_skipped() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    for kind in ["heartbeatAck", "completeAck", "failAck", "news"] {
        rig.frame(&json!({ "type": kind, "jobId": "j" }));
    }
    assert_eq!(rig.worker.state(), SessionState::Greeting);
    rig.frame(&image("j-1"));
    assert_eq!(closes(&rig), [1008]);
    assert_eq!(rig.said(), ["hello"]);
}
