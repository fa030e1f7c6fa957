//! A disk that is full.

use std::fs;

use serde_json::json;
use studio_worker_core::{
    conformance::{Hosted as _, Start, TestStudio},
    worker::Identity,
};

use crate::{Test, program::Program, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    an_approval_that_cannot_be_saved_is_not_lost
};

/// The largest file that the program may write, in bytes: an error of the system's beyond it, for root as well.
const LIMIT: usize = 8 * 512;

/// The request is stored, and after it the disk is full: the approval can't be, so no session is opened with a token
/// that the next start would not know. As soon as there is room again, it is stored and used.
fn an_approval_that_cannot_be_saved_is_not_lost(on: &'static str) {
    let studio = TestStudio::new();
    // Room for the request beside it, and not for the token.
    let ballast = format!("# {}\n", "x".repeat(LIMIT - 1_000));
    let token = "t".repeat(1_000);
    let start = Start { base: &studio.base(), identity: Identity::default(), held: false };
    let shell = format!("trap '' XFSZ && ulimit -f {} && exec \"$0\" \"$@\"", LIMIT / 512);
    let program = Program::start_with(on, &start, &ballast, &shell);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let approved = json!({ "status": "approved", "workerId": "w-1", "authToken": token });
    studio.request().answer_json(200, &approved);
    let line = program.logs("could not be saved, trying again");
    assert!(line.contains("ERROR"), "{line}");
    assert!(!studio.has_upgrade(), "the token counts before it is stored");
    let text = program.config_text();
    assert!(
        text.contains("registration_secret") && !text.contains(&token),
        "what was stored is whole: {text}"
    );

    // In one step: the program may be about to write it at this very moment.
    let roomy = program.home().join("roomy.toml");
    fs::write(&roomy, text.replace(&ballast, "")).unwrap();
    fs::rename(roomy, program.config_path()).unwrap();
    let upgrading = studio.upgrade();
    assert_eq!(upgrading.0.header("authorization"), format!("Bearer {token}"));
    let stored = program.identity();
    assert_eq!(stored.worker_id.as_deref(), Some("w-1"));
    assert_eq!(stored.auth_token.unwrap().reveal(), token);
    drop(upgrading.accept().welcome());

    // What is stored is enough for the next start.
    let program = program.kill_and_restart();
    let mut session = studio.session();
    program.drain();
    assert_eq!(session.closed().0, 1000);
    assert_eq!(program.ended().code, 0);
}
