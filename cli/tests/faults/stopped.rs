//! A process that stands still.

use std::{thread, time::Duration};

use studio_worker_core::conformance::{Hosted as _, Scene, Start, TestStudio, registered};

use crate::{Test, program::Program, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    a_worker_that_was_stopped_for_a_while_goes_on_with_its_job
};

/// As when a machine sleeps: for longer than a peer may be silent, nothing of the program runs.
fn a_worker_that_was_stopped_for_a_while_goes_on_with_its_job(on: &'static str) {
    let studio = TestStudio::new();
    let program = Program::start(on, &Start { base: &studio.base(), identity: registered(), held: true });
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    program.signal("-STOP");
    thread::sleep(Duration::from_secs(22));
    program.signal("-CONT");
    // It can't know whether the peer was silent, so it may well have another session now; the job is still its own.
    session.is_lost();
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    program.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    let ended = Scene { studio, worker: Box::new(program) }.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", true)]);
}
