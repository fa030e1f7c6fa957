//! Sections 3 and 6: hello, heartbeats, violations and ends.

use std::time::Duration;

use serde_json::json;

use super::rig::{Member, Rig, image, new, old};
use crate::{
    studio::{Action, Answer, ConnId, Input, JobState},
    wire::Secret,
};

#[test]
fn hello_is_answered_before_a_heartbeat_right_behind_it() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let (conn, _) = rig.upgrade(&member);
    rig.hello(conn, &member, &old());
    rig.say(conn, &json!({ "type": "heartbeat", "capabilities": old(), "currentJobId": "in-flight" }));
    let sent = rig.sent(conn);
    assert_eq!(
        (sent[0]["type"].as_str(), sent[0]["workerId"].as_str()),
        (Some("welcome"), Some(&*member.id))
    );
    assert_eq!(sent[0]["serverTime"], "2025-11-25T07:00:00.000Z");
    assert_eq!(sent[1], json!({ "type": "heartbeatAck" }));
    assert_eq!(sent.len(), 2);
}

#[test]
fn anything_before_hello_is_a_violation() {
    for text in [
        json!({ "type": "heartbeat", "capabilities": old() }).to_string(),
        json!({ "type": "readyForMore" }).to_string(),
        json!({ "type": "hologram" }).to_string(),
        json!({ "type": "hello" }).to_string(),
        "nonsense".into(),
    ] {
        let mut rig = Rig::new();
        let member = rig.member("i");
        let (conn, _) = rig.upgrade(&member);
        rig.input(Input::Text { conn, text: text.clone() });
        assert_eq!(rig.heard(conn), ["protocol_violation", "4002"], "{text}");
        assert_eq!(rig.studio.violations().count(), 1);
    }
}

#[test]
fn a_hello_with_another_token_ends_with_4001() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let (conn, _) = rig.upgrade(&member);
    rig.hello(conn, &Member { token: Secret::new("x"), ..member.clone() }, &old());
    assert_eq!(rig.heard(conn), ["auth_failed", "4001"]);
    assert!(rig.studio.session(&member.id).is_none());
}

#[test]
fn hello_must_come_within_15_s_and_heartbeats_within_30() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let (conn, _) = rig.upgrade(&member);
    rig.sleep(Duration::from_millis(14_999));
    assert!(rig.heard(conn).is_empty());
    rig.sleep(Duration::from_millis(1));
    assert_eq!(rig.heard(conn), ["1008"]);

    let conn = rig.connect(&member, &old());
    for _ in 0..3 {
        rig.sleep(Duration::from_secs(29));
        rig.heartbeat(conn, &old());
    }
    rig.take();
    rig.sleep(Duration::from_secs(29));
    assert!(rig.heard(conn).is_empty());
    rig.sleep(Duration::from_secs(1));
    assert_eq!(rig.heard(conn), ["1008"]);
}

#[test]
fn a_heartbeat_that_comes_with_its_deadline_counts() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    rig.take();
    rig.now.mono = rig.now.mono + Duration::from_secs(40);
    rig.heartbeat(conn, &old());
    assert_eq!(rig.heard(conn), ["heartbeatAck"]);
}

#[test]
fn a_second_connection_takes_over_when_it_says_hello_and_the_claim_is_released() {
    let mut rig = Rig::new();
    let (member, first) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.about(first, "accept", &job);
    let (second, answer) = rig.upgrade(&member);
    assert_eq!(answer, Answer::Proceed);
    rig.take();
    rig.heartbeat(first, &old());
    assert_eq!(rig.heard(first), ["heartbeatAck"], "until then the first one serves");
    rig.hello(second, &member, &old());
    assert_eq!(rig.heard(first), ["duplicate_worker", "4003"]);
    assert_eq!(rig.heard(second), ["welcome".to_owned(), format!("offer {job}")]);
    assert_eq!(rig.state(&job), (JobState::Offered, 1));
    rig.input(Input::Closed { conn: first });
    assert_eq!(rig.state(&job), (JobState::Offered, 1), "the old socket's end means nothing any more");
}

#[test]
fn of_connections_that_have_not_said_hello_the_newest_counts() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let (first, _) = rig.upgrade(&member);
    let (second, _) = rig.upgrade(&member);
    assert_eq!(rig.heard(first), ["duplicate_worker", "4003"]);
    rig.hello(second, &member, &old());
    assert_eq!(rig.heard(second), ["welcome"]);
}

#[test]
fn accept_fail_and_complete_for_a_job_that_is_not_held_are_violations() {
    for frame in ["accept", "fail", "completeJson"] {
        let mut rig = Rig::new();
        let (_, busy) = rig.worker("a", &old());
        let (_, conn) = rig.worker("b", &old());
        let job = rig.queue(image("flux"));
        rig.take();
        rig.about(conn, frame, &job);
        assert_eq!(rig.heard(conn), ["protocol_violation", "4002"], "{frame}");
        assert_eq!(rig.studio.counters().violations, 1);
        assert_eq!(rig.state(&job), (JobState::Offered, 0), "{frame}: it is the other worker's");
        rig.about(busy, "accept", &job);
        assert_eq!(rig.state(&job), (JobState::Running, 0));
    }
}

#[test]
fn a_violation_releases_what_the_worker_holds() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("a", &old());
    let job = rig.queue(image("flux"));
    rig.about(conn, "accept", &job);
    rig.about(conn, "reject", &job);
    assert_eq!(rig.heard(conn).last().unwrap(), "4002");
    assert_eq!(rig.state(&job), (JobState::Queued, 1));
}

#[test]
fn a_second_hello_and_broken_frames_are_violations() {
    for text in [
        json!({ "type": "hello", "authToken": "x", "capabilities": {} }).to_string(),
        json!({ "type": "accept" }).to_string(),
        "{".into(),
        "[]".into(),
    ] {
        let mut rig = Rig::new();
        let (_, conn) = rig.worker("i", &new());
        rig.take();
        rig.input(Input::Text { conn, text: text.clone() });
        assert_eq!(rig.heard(conn), ["protocol_violation", "4002"], "{text}");
    }
}

#[test]
fn what_a_newer_or_an_older_worker_says_is_tolerated() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    rig.take();
    rig.say(conn, &json!({ "type": "hologram", "x": 1 }));
    rig.say(conn, &json!({ "type": "readyForMore" }));
    rig.say(conn, &json!({ "type": "reject", "jobId": "unknown", "reason": "no" }));
    rig.input(Input::Binary { conn });
    assert!(rig.heard(conn).is_empty());
    assert_eq!((rig.studio.counters().skipped_frames, rig.studio.counters().violations), (3, 0));
}

#[test]
fn log_batches_are_stored_and_bounded() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    rig.take();
    let entry = json!({ "ts": "2026-01-01T00:00:00.000Z", "level": "warn", "category": "c", "message": "m" });
    rig.say(conn, &json!({ "type": "logBatch", "entries": vec![entry; 300] }));
    let [Action::StoreLogs { worker_id, entries }] = &rig.take()[..] else { panic!() };
    assert_eq!((worker_id, entries.len()), (&member.id, 200));
}

#[test]
fn what_is_seen_of_a_session_is_what_was_last_said() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.sleep(Duration::from_secs(5));
    rig.heartbeat(conn, &new());
    let view = rig.studio.session(&member.id).unwrap();
    assert_eq!((view.conn, view.job_id, &*view.capabilities.machine_name), (conn, Some(&job), "new"));
    assert_eq!(view.heard_at.since(view.connected_at), Duration::from_secs(5));
    assert_eq!(rig.studio.worker(&member.id).unwrap().capabilities.machine_name, "new");
    rig.input(Input::Closed { conn });
    assert!(rig.studio.session(&member.id).is_none());
}

#[test]
fn inputs_of_sessions_that_are_gone_are_counted_and_change_nothing() {
    let mut rig = Rig::new();
    let before = rig.studio.clone();
    rig.input(Input::Text { conn: ConnId(77), text: "{}".into() });
    rig.input(Input::Binary { conn: ConnId(77) });
    rig.input(Input::Closed { conn: ConnId(77) });
    assert_eq!(rig.studio.counters().stale_inputs, before.counters().stale_inputs + 3);
    assert!(rig.take().is_empty());
}

#[test]
fn a_shut_down_closes_every_session_and_lets_nobody_in() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.take();
    rig.input(Input::ShutDown);
    assert_eq!(rig.heard(conn), ["1001"]);
    assert_eq!(rig.state(&job), (JobState::Queued, 1));
    assert_eq!(rig.upgrade(&member).1.status(), 503);
}
