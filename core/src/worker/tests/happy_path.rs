//! What happens when nothing goes wrong.

use serde_json::json;

use super::rig::*;
use crate::worker::{Action, Input};

#[test]
fn nothing_but_hello_is_sent_before_the_welcome() {
    let mut rig = Rig::new(settings(registered()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.pass_in_silence(secs(10));
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0]["type"], "hello");
    assert_eq!(frames[0]["authToken"], "tok-secret");
}

#[test]
fn a_json_job_is_accepted_run_and_delivered_in_a_frame() {
    let mut rig = Rig::serving();
    rig.frame(&llm("j-1"));
    assert_eq!(rig.frames(), [json!({ "type": "accept", "jobId": "j-1" })]);
    rig.run_ends(answer());
    let wanted =
        json!({ "type": "completeJson", "jobId": "j-1", "result": { "text": "hello" }, "prompt": "hi" });
    assert_eq!(rig.frames(), [wanted]);
    assert!(!rig.completed("j-1"));
    rig.frame(&json!({ "type": "completeAck", "jobId": "j-1" }));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.worker.jobs().count(), 0);
}

#[test]
fn a_byte_job_is_accepted_run_and_uploaded() {
    let mut rig = Rig::serving();
    rig.frame(&image("j/1"));
    rig.run_ends(bytes());
    let upload = rig.history.iter().find_map(|action| match action {
        Action::Upload { upload, .. } => Some(upload.clone()),
        _ => None,
    });
    let upload = upload.unwrap();
    assert_eq!(upload.url, "http://studio/graphics/api/workers/w-1/jobs/j%2F1/complete");
    assert_eq!(upload.payload.len(), 3);
    rig.pass(secs(6));
    assert_eq!(rig.frames().last().unwrap()["currentJobId"], "j/1");
    rig.answered(status(200));
    assert!(rig.completed("j/1"));
    rig.pass(secs(6));
    assert_eq!(rig.frames().last().unwrap()["currentJobId"], json!(null));
}
