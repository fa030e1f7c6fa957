//! Registration, the session, and its frames.

use std::sync::Arc;

use serde_json::json;
use tungstenite::Message;

use super::{Scene, complete_ack};
use crate::{
    conformance::{Host, TestEngine, TestStudio, options, server::offer},
    drive::MemoryStore,
    wire::{Finite, LogLevel, MAX_FRAME_BYTES},
    worker::{CommandError, Exit, HeartbeatOutcome, Identity, JobOutcome, LogLine},
};

/// From nothing to two delivered jobs, and a drain (sections 2, 3, 5 and 6).
pub fn a_worker_registers_is_approved_and_delivers(host: &impl Host) {
    let studio = TestStudio::new();
    let (engine, store) = (TestEngine::new(), Arc::new(MemoryStore::new()));
    let worker = host.start(options(&studio.base(), Identity::default()), engine.clone(), store.clone());

    let mut asks = studio.request();
    assert_eq!(
        (asks.method.as_str(), asks.path.as_str()),
        ("POST", "/graphics/api/workers/register-request")
    );
    assert_eq!(asks.header("user-agent"), "studio-worker/test");
    assert_eq!(asks.header("authorization"), "");
    let asked = asks.json();
    let known = store.identity();
    assert_eq!(asked["installId"].as_str(), known.install_id.as_deref(), "it is stored before it is sent");
    asks.answer_json(200, &json!({ "requestId": "rr/1", "status": "pending" }));

    let polls = studio.request();
    assert_eq!(
        (polls.method.as_str(), polls.path.as_str()),
        ("GET", "/graphics/api/workers/register-requests/rr%2F1")
    );
    let secret = known.registration_secret.unwrap();
    assert_eq!(polls.header("authorization"), format!("Bearer {}", secret.reveal()));
    polls.answer_json(200, &json!({ "status": "approved", "workerId": "w/1", "authToken": "tok-9" }));

    let upgrading = studio.upgrade();
    assert_eq!(upgrading.0.path, "/graphics/api/workers/w%2F1/connect");
    assert_eq!(upgrading.0.header("authorization"), "Bearer tok-9");
    assert_eq!(upgrading.0.header("user-agent"), "studio-worker/test");
    let stored = store.identity();
    assert_eq!(
        stored.worker_id.as_deref(),
        Some("w/1"),
        "credentials are stored before the session is opened"
    );
    assert_eq!(stored.auth_token.unwrap().reveal(), "tok-9");
    let mut session = upgrading.accept();
    let hello = session.text();
    assert_eq!((hello["type"].as_str(), hello["authToken"].as_str()), (Some("hello"), Some("tok-9")));
    session.send(&json!({ "type": "welcome", "workerId": "w/1", "serverTime": "2026-01-01T00:00:00.000Z" }));
    let capabilities = session.heartbeat();
    assert_eq!(capabilities["autoEnabled"], true);
    assert_eq!(capabilities, hello["capabilities"]);

    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert_eq!((&complete["result"], &complete["prompt"]), (&json!({ "said": "hello" }), &json!("hello")));
    session.send(&complete_ack("j-1"));

    session.offer("j/2", "image", "100000");
    session.expect("accept", "j/2");
    let mut upload = studio.request();
    assert_eq!(upload.path, "/graphics/api/workers/w%2F1/jobs/j%2F2/complete");
    assert_eq!(upload.header("authorization"), "Bearer tok-9");
    assert_eq!(upload.header("user-agent"), "studio-worker/test");
    assert_eq!(upload.header("expect"), "");
    let body = upload.body();
    super::delivery::check_multipart(upload.header("content-type"), &body, "100000", "j_2.webp", 100_000);
    upload.answer_json(200, &json!({ "ok": true }));

    worker.handle.drain();
    assert_eq!(session.closed().0, 1000);
    let observers = worker.handle.observers();
    assert_eq!(worker.exit(), Exit::Drained);
    assert_eq!(engine.runs(), 2);
    let recent = observers.recent_jobs();
    let names: Vec<_> = recent.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(names, ["j/2", "j-1"]);
    assert!(recent.iter().all(|job| job.outcome == JobOutcome::Completed));
    assert_eq!(observers.current_job(), None);
    assert_eq!(observers.last_heartbeat().unwrap().outcome, HeartbeatOutcome::Ok);
    assert_eq!(observers.session().unwrap().state, "ended");
}

/// A session needs its sub-protocol (section 1).
pub fn a_studio_without_the_sub_protocol_is_not_greeted(host: &impl Host) {
    let scene = Scene::new(host);
    let mut other = scene.studio.upgrade().accept_with("");
    // The worker turns away; a `hello` would have its token in it.
    other.ends();
    drop(scene.studio.session());
}

/// Two offers that come at once: a job is one at a time (section 5).
pub fn of_two_offers_in_one_write_one_is_accepted(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.send_together(&[offer("j-1", "llm", "wait"), offer("j-2", "llm", "hello")]);
    session.expect("accept", "j-1");
    let reject = session.expect("reject", "j-2");
    assert_eq!(reject["code"], "busy");
    scene.engine.gate.open();
    session.expect("completeJson", "j-1");
    session.send(&complete_ack("j-1"));
    session.offer("j-2", "llm", "hello");
    session.expect("accept", "j-2");
    session.expect("completeJson", "j-2");
}

/// A job has a thread of its own (section 3).
pub fn a_ping_is_answered_while_a_job_runs(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "wait");
    session.expect("accept", "j-1");
    for payload in [&b"one"[..], b"two"] {
        session.send_message(Message::Ping(payload.to_vec().into()));
        assert_eq!(session.pong(), payload);
    }
    scene.engine.gate.open();
    session.expect("completeJson", "j-1");
}

/// A studio that says much before it reads: if either side waited for the other to read, neither would go on.
pub fn reading_goes_on_while_writing_waits(host: &impl Host) {
    const MUCH: usize = 24 * 1024 * 1024;
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    // Longer than both sides' buffers together.
    let prompt = format!("repeat {}", MUCH / 15);
    session.offer("j-1", "llm", &prompt);
    session.expect("accept", "j-1");
    // The result is on its way now or soon, and nobody reads it.
    let filler = json!({ "type": "filler", "text": "x".repeat(256 * 1024) });
    for _ in 0..MUCH / (256 * 1024) {
        session.send(&filler);
    }
    let complete = session.expect("completeJson", "j-1");
    assert_eq!(complete["result"]["said"].as_str().unwrap().len(), prompt.len() * (MUCH / 15));
    session.send(&complete_ack("j-1"));
    session.offer("j-2", "llm", "still there");
    session.expect("accept", "j-2");
}

/// Frames up to 64 MiB are read (section 3); what is larger is not even waited for.
pub fn a_frame_that_is_too_large_ends_the_session_with_1009(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let length = MAX_FRAME_BYTES as u64 + 1;
    let mut head = vec![0x81, 127];
    head.extend_from_slice(&length.to_be_bytes());
    session.send_raw(&head);
    assert_eq!(session.closed().0, 1009);
    // It goes on with another session.
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
}

/// What the owner changes goes out as a heartbeat at once (section 3).
pub fn pause_resume_and_threshold_are_said_at_once(host: &impl Host) {
    let scene = Scene::new(host);
    let handle = &scene.worker.handle;
    let mut session = scene.studio.session();
    handle.pause();
    assert_eq!(session.heartbeat()["autoEnabled"], false);
    session.offer("j-1", "llm", "hello");
    assert_eq!(session.expect("reject", "j-1")["code"], "paused");
    handle.resume();
    assert_eq!(session.heartbeat()["autoEnabled"], true);
    handle.set_threshold(1.5).unwrap();
    assert_eq!(session.heartbeat()["vramThresholdGb"], 1.5);
    session.offer("j-1", "llm", "hello");
    assert_eq!(session.expect("reject", "j-1")["code"], "insufficient_memory");
    for gb in [-1.0, f64::INFINITY] {
        assert_eq!(handle.set_threshold(gb), Err(CommandError::Threshold(gb)));
    }
    assert!(matches!(handle.set_threshold(f64::NAN), Err(CommandError::Threshold(_))));
    assert_eq!(handle.observers().session().unwrap().vram_threshold_gb, Finite::new(1.5).unwrap());
}

/// A log line of the program reaches the studio, without the token (sections 2 and 3).
pub fn log_lines_reach_the_studio(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    scene.worker.handle.log(LogLine {
        level: LogLevel::Warn,
        category: "disk".into(),
        message: "nearly full, says tok-1".into(),
        job_id: None,
    });
    let entry = loop {
        if let Some(entry) = session.logs.iter().find(|entry| entry["category"] == "disk") {
            break entry.clone();
        }
        session.take();
    };
    assert_eq!((&entry["level"], &entry["message"]), (&json!("warn"), &json!("nearly full, says …")));
}
