//! What only the owner of a worker in the same process can see or do.

use serde_json::json;

use crate::{
    conformance::{Host as _, InProcess, Local, Start, TestStudio, registered, result_bytes},
    engine::SPILL_ABOVE,
    wire::{Finite, LogLevel},
    worker::{CommandError, Exit, HeartbeatOutcome, JobOutcome, LogLine},
};

fn scene(host: &InProcess) -> (TestStudio, Local) {
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: registered(), held: false });
    (studio, worker)
}

/// The observers of section 9.
pub(super) fn what_happened_can_be_observed(host: &InProcess) {
    let (studio, worker) = scene(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert_eq!((&complete["result"], &complete["prompt"]), (&json!({ "said": "hello" }), &json!("hello")));
    session.complete_ack("j-1");
    let handle = worker.running.handle.clone();
    handle.drain();
    assert_eq!(session.closed().0, 1000);
    assert_eq!(worker.running.exit(), Exit::Drained);
    let observers = handle.observers();
    let recent = observers.recent_jobs();
    assert_eq!((recent.len(), recent[0].job_id.as_str()), (1, "j-1"));
    assert_eq!(recent[0].outcome, JobOutcome::Completed);
    assert_eq!(observers.current_job(), None);
    assert_eq!(observers.last_heartbeat().unwrap().outcome, HeartbeatOutcome::Ok);
    assert_eq!(observers.session().unwrap().state, "ended");
    assert!(handle.has_ended());
    assert_eq!(handle.set_threshold(1.0), Err(CommandError::Ended));
}

/// Checks an upload's body against section 5.
fn check_multipart(content_type: &str, body: &[u8], prompt: &str, length: usize) {
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\nwebp\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"j_1.webp\"\r\n\
         Content-Type: image/webp\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    assert_eq!(body.len(), head.len() + length + tail.len());
    assert_eq!(&body[..head.len()], head.as_bytes());
    assert_eq!(&body[body.len() - tail.len()..], tail.as_bytes());
    let payload = &body[head.len()..body.len() - tail.len()];
    assert!(payload == result_bytes(length), "the result was changed");
}

/// A result that stays in memory.
pub(super) fn a_result_in_memory_is_uploaded(host: &InProcess) {
    deliver(host, 8 * 1024 * 1024);
}

/// A result that is moved to a file, and streamed from it.
pub(super) fn a_large_result_is_uploaded_from_a_file(host: &InProcess) {
    deliver(host, usize::try_from(SPILL_ABOVE).unwrap() + 12_345);
}

fn deliver(host: &InProcess, length: usize) {
    let _turn = super::in_turn();
    let (studio, worker) = scene(host);
    let mut session = studio.session();
    let prompt = length.to_string();
    session.offer("j/1", "image", &prompt);
    session.expect("accept", "j/1");
    let mut upload = studio.request();
    let body = upload.body();
    check_multipart(upload.header("content-type"), &body, &prompt, length);
    upload.answer(204, "", "");
    let handle = worker.running.handle.clone();
    handle.drain();
    session.closed();
    assert_eq!(worker.running.exit(), Exit::Drained);
    assert_eq!(handle.observers().recent_jobs()[0].outcome, JobOutcome::Completed);
}

/// A panic is an error of the engine's: the job may be tried elsewhere, and the worker goes on.
pub(super) fn a_panic_of_the_engine_fails_its_job(host: &InProcess) {
    let (studio, _worker) = scene(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "panic");
    session.expect("accept", "j-1");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], true);
    assert!(fail["error"].as_str().unwrap().contains("panicked: out of paint"), "{fail}");
    session.fail_ack("j-1");
    session.offer("j-2", "llm", "hello");
    session.expect("accept", "j-2");
    session.expect("completeJson", "j-2");
}

/// A threshold is a number of GB.
pub(super) fn a_threshold_that_makes_no_sense_is_refused(host: &InProcess) {
    let (studio, worker) = scene(host);
    let mut session = studio.session();
    let handle = &worker.running.handle;
    for gb in [-1.0, f64::INFINITY] {
        assert_eq!(handle.set_threshold(gb), Err(CommandError::Threshold(gb)));
    }
    assert!(matches!(handle.set_threshold(f64::NAN), Err(CommandError::Threshold(_))));
    handle.set_threshold(1.5).unwrap();
    session.heartbeat_with("vramThresholdGb", 1.5);
    assert_eq!(handle.observers().session().unwrap().vram_threshold_gb, Finite::new(1.5).unwrap());
}

/// A log line of the program reaches the studio, without the token (sections 2 and 3).
pub(super) fn log_lines_reach_the_studio(host: &InProcess) {
    let (studio, worker) = scene(host);
    let mut session = studio.session();
    worker.running.handle.log(LogLine {
        level: LogLevel::Warn,
        category: "disk".into(),
        message: "nearly full, says tok-1".into(),
        job_id: None,
    });
    let entry = session.log_with("nearly full");
    assert_eq!((&entry["level"], &entry["message"]), (&json!("warn"), &json!("nearly full, says …")));
    assert_eq!(entry["category"], "disk");
}
