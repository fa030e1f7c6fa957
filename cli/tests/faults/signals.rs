//! Signals, whatever the program is about. What runs or is uploaded when the first one comes is in the scenarios.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;
use studio_worker_core::{
    conformance::{Ended, Hosted as _, Scene, Start, TestStudio, offer_of_bytes, registered},
    worker::Identity,
};

use crate::{
    Test,
    network::{registered_at, serves},
    program::{Host, Program},
    tests,
};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    a_signal_ends_an_idle_worker_at_once
    a_signal_ends_an_idle_worker_whose_studio_is_deaf
    a_signal_ends_a_worker_whose_connection_is_not_taken
    a_signal_ends_a_worker_whose_upgrade_is_not_answered
    a_signal_ends_a_worker_that_is_not_welcomed
    a_signal_ends_a_worker_that_waits_to_reconnect
    a_signal_ends_a_worker_whose_registration_is_not_answered
    a_signal_ends_a_worker_that_waits_for_its_approval
    a_second_signal_ends_an_upload
    a_worker_whose_stderr_is_gone_serves_and_ends_well
};

/// "At once" is less than any bound of a step that could be waited for; the shortest is that of the connection, 15 s.
const AT_ONCE: Duration = Duration::from_secs(14);

fn ends_at_once(program: Program) -> Ended {
    let since = Instant::now();
    let ended = program.ended();
    let took = since.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(ended.code, 0, "{}", ended.said);
    ended
}

fn a_signal_ends_an_idle_worker_at_once(on: &'static str) {
    for signal in ["-TERM", "-INT"] {
        let studio = TestStudio::new();
        let program = registered_at(on, &studio.base());
        let mut session = studio.session();
        program.signal(signal);
        assert_eq!(session.closed().0, 1000);
        // The last lines went out before that.
        assert!(session.logs.iter().any(|line| line["message"] == "drained"), "{:?}", session.logs);
        drop(session);
        ends_at_once(program);
    }
}

fn a_signal_ends_an_idle_worker_whose_studio_is_deaf(on: &'static str) {
    let studio = TestStudio::new();
    let program = registered_at(on, &studio.base());
    let session = studio.session();
    program.signal("-TERM");
    ends_at_once(program);
    drop(session);
}

fn a_signal_ends_a_worker_whose_connection_is_not_taken(on: &'static str) {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = registered_at(on, &format!("http://{}", nobody.local_addr().unwrap()));
    program.logs("serves");
    program.signal("-TERM");
    ends_at_once(program);
}

fn a_signal_ends_a_worker_whose_upgrade_is_not_answered(on: &'static str) {
    let studio = TestStudio::new();
    let program = registered_at(on, &studio.base());
    let unanswered = studio.upgrade();
    program.signal("-TERM");
    ends_at_once(program);
    drop(unanswered);
}

fn a_signal_ends_a_worker_that_is_not_welcomed(on: &'static str) {
    let studio = TestStudio::new();
    let program = registered_at(on, &studio.base());
    let mut session = studio.upgrade().accept();
    assert_eq!(session.text()["type"], "hello");
    program.signal("-TERM");
    ends_at_once(program);
}

fn a_signal_ends_a_worker_that_waits_to_reconnect(on: &'static str) {
    let studio = TestStudio::new();
    let program = registered_at(on, &studio.base());
    studio.upgrade().refuse_with(503, "Retry-After: 3000\r\n", "later");
    program.logs("no session, trying again in 300");
    program.signal("-TERM");
    ends_at_once(program);
}

fn unregistered_at(on: &'static str, studio: &TestStudio) -> Program {
    Program::start(on, &Start { base: &studio.base(), identity: Identity::default(), held: false })
}

fn a_signal_ends_a_worker_whose_registration_is_not_answered(on: &'static str) {
    let studio = TestStudio::new();
    let program = unregistered_at(on, &studio);
    let unanswered = studio.request();
    program.signal("-TERM");
    ends_at_once(program);
    drop(unanswered);
}

fn a_signal_ends_a_worker_that_waits_for_its_approval(on: &'static str) {
    let studio = TestStudio::new();
    let program = unregistered_at(on, &studio);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let unanswered = studio.request();
    // What is pending stays.
    let identity = program.identity();
    assert_eq!(identity.registration_request_id.as_deref(), Some("rr-1"));
    assert!(identity.registration_secret.is_some());
    program.signal("-TERM");
    ends_at_once(program);
    drop(unanswered);
}

fn a_second_signal_ends_an_upload(on: &'static str) {
    let Scene { studio, worker } = Scene::new(&Host::new(on));
    let mut session = studio.session();
    session.send(&offer_of_bytes("j-1", 14_000_000));
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    upload.read_some(1_000_000);
    worker.stop();
    // No `fail`: for all that the worker knows, the studio may have the result. The close releases the claim.
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!((ended.code, ended.runs), (0, 1));
    ended.expect_jobs(&[("j-1", false)]);
}

/// Whoever read its log has ended, as a terminal or a pager does.
fn a_worker_whose_stderr_is_gone_serves_and_ends_well(on: &'static str) {
    let studio = TestStudio::new();
    let start = Start { base: &studio.base(), identity: registered(), held: false };
    let shell = "mkfifo \"$HOME/log\" && { head -n 1 \"$HOME/log\" >/dev/null & } && exec \"$0\" \"$@\" 2>\"$HOME/log\"";
    let program = Program::start_with(on, &start, "", shell);
    let mut session = studio.session();
    for job in ["j-1", "j-2"] {
        serves(&mut session, job);
    }
    // What can't be written is still told to the studio.
    session.log_with("accepted");
    program.drain();
    assert_eq!(session.closed().0, 1000);
    assert_eq!(program.ended().code, 0);
}
