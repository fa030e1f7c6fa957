//! Frames of all sorts and sizes.

use std::time::Duration;

use serde_json::json;
use tungstenite::Message;

use crate::{
    conformance::{Host, Scene, Session, offer},
    wire::MAX_FRAME_BYTES,
};

const MIB: usize = 1024 * 1024;
/// More than the system keeps of a connection at both ends, which is 10 MiB on Linux.
const BEYOND_BUFFERS: usize = 12 * MIB;

/// A job from offer to acknowledgement.
fn serves(session: &mut Session, job: &str) {
    session.offer(job, "llm", "hello");
    session.expect("accept", job);
    session.expect("completeJson", job);
    session.complete_ack(job);
}

/// A job has a thread of its own (section 3).
pub(super) fn a_ping_is_answered_while_a_job_runs(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    for payload in [&b"one"[..], b"two"] {
        session.send_message(Message::Ping(payload.to_vec().into()));
        assert_eq!(session.pong(), payload);
    }
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
}

/// A studio that says much before it reads: if either side waited for the other to read, neither would go on.
pub(super) fn reading_goes_on_while_writing_waits(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    // A prompt that is said back, and is longer than both sides' buffers together.
    let prompt = "x".repeat(BEYOND_BUFFERS);
    session.offer("j-1", "llm", &prompt);
    session.expect("accept", "j-1");
    // The result is on its way now or soon, and nobody reads it.
    let filler = json!({ "type": "filler", "text": "x".repeat(MIB) });
    for _ in 0..BEYOND_BUFFERS / MIB {
        session.send(&filler);
    }
    let complete = session.expect("completeJson", "j-1");
    assert!(complete["prompt"] == prompt, "the prompt was changed");
    session.complete_ack("j-1");
    serves(&mut session, "j-2");
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-2", true)]);
}

/// Frames up to 64 MiB are read (section 3), which is four times what WebSocket libraries mostly allow for one.
pub(super) fn a_frame_of_17_mib_is_read(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut offer = offer("j-1", "llm", "hello");
    offer["claim"]["futureField"] = json!("x".repeat(17 * MIB));
    session.send(&offer);
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
}

/// What is larger than 64 MiB is not even waited for.
pub(super) fn a_frame_that_is_too_large_ends_the_session_with_1009(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let length = MAX_FRAME_BYTES as u64 + 1;
    let mut head = vec![0x81, 127];
    head.extend_from_slice(&length.to_be_bytes());
    session.send_raw(&head);
    assert_eq!(session.closed().0, 1009);
    // It goes on with another session.
    let mut session = scene.studio.session();
    serves(&mut session, "j-1");
    scene.drained(&mut session);
}

/// A frame as a server writes it: its first byte, and a payload below 64 KiB.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[first, 126], &length[..], payload].concat()
}

/// A message may come in pieces that are cut anywhere, with a ping between them.
pub(super) fn a_text_in_pieces_that_end_inside_a_character_is_read(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let text = offer("j-1", "llm", "é€😀").to_string();
    let inside: Vec<_> = (0..text.len()).filter(|at| !text.is_char_boundary(*at)).collect();
    assert_eq!(inside.len(), 1 + 2 + 3);
    let mut bytes = Vec::new();
    let mut from = 0;
    for at in inside {
        // The opcode of text comes with the first piece alone.
        bytes.extend(raw(u8::from(from == 0), &text.as_bytes()[from..at]));
        bytes.extend_from_slice(&[0x89, 0]);
        from = at;
    }
    bytes.extend(raw(0x80, &text.as_bytes()[from..]));
    session.send_raw(&bytes);
    assert_eq!(session.pong(), b"");
    // The other pings are answered before or after.
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert_eq!(complete["prompt"], "é€😀");
    session.complete_ack("j-1");
    scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
}

/// Text that ends inside a character is no text: the session is over (RFC 6455, section 8.1), and the job that runs is
/// none the worse.
pub(super) fn a_text_that_is_no_utf_8_costs_the_session_and_no_job(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let text = r#"{"type":"heartbeatAck","note":"é"#;
    session.send_raw(&raw(0x81, &text.as_bytes()[..text.len() - 1]));
    session.is_lost();
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", true)]);
}

/// A newer studio must not kill an older worker (section 3).
pub(super) fn frames_that_make_no_sense_are_skipped(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    for text in ["", "null", "[]", "\"offer\"", "{", "{}", r#"{"type":7}"#, r#"{"type":"from the future"}"#] {
        session.send_message(Message::text(text));
    }
    session.send_message(Message::binary(vec![0, 159, 146, 150]));
    session.send_message(Message::Pong(vec![1].into()));
    serves(&mut session, "j-1");
    session.log_with("from the future");
    session.log_with("a binary frame");
    scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
}

/// More happens than can be told: what is dropped is counted and said, and results are not kept waiting.
pub(super) fn a_flood_of_offers_drops_log_lines_and_says_so(host: &dyn Host) {
    // Many, so that the lines are more than can be told however slow the machine is; and no more than go into a pipe.
    const AT_A_TIME: usize = 200;
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let says = |entry: &&serde_json::Value| {
        entry["message"].as_str().is_some_and(|message| message.contains("older log lines were dropped"))
    };
    // Each is declined, and each time a line is logged; 200 of them are told in a second.
    let mut sent = 0;
    let line = loop {
        let other = |n: usize| {
            let mut offer = offer(&format!("other-{n}"), "llm", "hello");
            offer["claim"]["model"] = json!("somebody-elses");
            offer
        };
        session.send_together(&(sent..sent + AT_A_TIME).map(other).collect::<Vec<_>>());
        for n in sent..sent + AT_A_TIME {
            session.expect("reject", &format!("other-{n}"));
        }
        sent += AT_A_TIME;
        // A second must pass in virtual time, too.
        scene.studio.clock().sleep(Duration::from_millis(10));
        if let Some(line) = session.logs.iter().find(says) {
            break line.clone();
        }
        assert!(sent < 1_000_000, "nothing is dropped, or nobody is told");
    };
    let dropped: usize = line["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..=sent).contains(&dropped), "{line}");
    serves(&mut session, "j-1");
    scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
}

/// What the owner changes goes out as a heartbeat at once (section 3).
pub(super) fn pause_resume_and_threshold_are_said_at_once(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    scene.worker.pause();
    session.heartbeat_with("autoEnabled", false);
    session.offer("j-1", "llm", "hello");
    assert_eq!(session.expect("reject", "j-1")["code"], "paused");
    scene.worker.resume();
    session.heartbeat_with("autoEnabled", true);
    scene.worker.set_threshold(1.5);
    session.heartbeat_with("vramThresholdGb", 1.5);
    session.offer("j-1", "llm", "hello");
    assert_eq!(session.expect("reject", "j-1")["code"], "insufficient_memory");
}
