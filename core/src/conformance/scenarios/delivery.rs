//! Results on their way to the studio.

use serde_json::json;

use super::{Scene, complete_ack, fail_ack};
use crate::{
    conformance::{Host, byte},
    engine::SPILL_ABOVE,
    worker::{Exit, JobOutcome},
};

/// Checks an upload's body against section 5.
pub(super) fn check_multipart(content_type: &str, body: &[u8], prompt: &str, file: &str, length: usize) {
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\nwebp\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{file}\"\r\n\
         Content-Type: image/webp\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    assert_eq!(body.len(), head.len() + length + tail.len());
    assert_eq!(&body[..head.len()], head.as_bytes());
    assert_eq!(&body[body.len() - tail.len()..], tail.as_bytes());
    let payload = &body[head.len()..body.len() - tail.len()];
    assert!(payload.iter().enumerate().all(|(at, found)| *found == byte(at)), "the result was changed");
}

/// A result that stays in memory.
pub fn a_result_in_memory_is_uploaded(host: &impl Host) {
    deliver(host, 8 * 1024 * 1024);
}

/// A result that is moved to a file, and streamed from it.
pub fn a_large_result_is_uploaded_from_a_file(host: &impl Host) {
    deliver(host, usize::try_from(SPILL_ABOVE).unwrap() + 12_345);
}

fn deliver(host: &impl Host, length: usize) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let prompt = length.to_string();
    session.offer("j-1", "image", &prompt);
    session.expect("accept", "j-1");
    let mut upload = scene.studio.request();
    let body = upload.body();
    check_multipart(upload.header("content-type"), &body, &prompt, "j-1.webp", length);
    upload.answer(204, "", "");
    scene.worker.handle.drain();
    session.closed();
    let observers = scene.worker.handle.observers();
    assert_eq!(scene.worker.exit(), Exit::Drained);
    assert_eq!(observers.recent_jobs()[0].outcome, JobOutcome::Completed);
}

/// A studio that refuses a body while it comes (413): the job has failed for good.
pub fn an_answer_before_the_body_has_left_is_heard(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "image", "50000000");
    session.expect("accept", "j-1");
    let upload = scene.studio.request();
    assert!(upload.content_length() > 50_000_000);
    upload.answer(413, "", "at most 1 MB");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], false);
    let error = fail["error"].as_str().unwrap();
    assert!(error.contains("413") && error.contains("at most 1 MB"), "{error}");
    session.send(&fail_ack("j-1"));
}

/// A redirect never carries the bearer to another host (section 1): it is no success, and tried again.
pub fn a_redirect_is_not_followed(host: &impl Host) {
    let scene = Scene::new(host);
    let elsewhere = crate::conformance::TestStudio::new();
    let mut session = scene.studio.session();
    session.offer("j-1", "image", "100");
    session.expect("accept", "j-1");
    for _ in 0..2 {
        let mut upload = scene.studio.request();
        upload.body();
        upload.answer(307, &format!("Location: {}/elsewhere\r\n", elsewhere.base()), "");
    }
    let mut upload = scene.studio.request();
    upload.body();
    upload.answer(200, "", "");
    assert!(!elsewhere.has_request());
}

/// The engine never runs twice for a result that is still had (section 6).
pub fn a_job_that_outlives_its_session_is_not_run_again(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "wait");
    session.expect("accept", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    assert_eq!(session.heartbeats[0].get("currentJobId"), None, "the claim went with its session");
    session.offer("j-1", "llm", "wait");
    session.expect("accept", "j-1");
    scene.engine.gate.open();
    let complete = session.expect("completeJson", "j-1");
    assert_eq!(complete["result"], json!({ "said": "wait" }));
    session.send(&complete_ack("j-1"));
    assert_eq!(scene.engine.runs(), 1);
}

/// A panic is an error of the engine's: the job may be tried elsewhere, and the worker goes on.
pub fn a_panic_of_the_engine_fails_its_job(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "panic");
    session.expect("accept", "j-1");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], true);
    assert!(fail["error"].as_str().unwrap().contains("panicked: out of paint"), "{fail}");
    session.send(&fail_ack("j-1"));
    session.offer("j-2", "llm", "hello");
    session.expect("accept", "j-2");
    session.expect("completeJson", "j-2");
}
