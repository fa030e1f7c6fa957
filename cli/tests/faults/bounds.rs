//! Bounds that the program keeps by the real clock: half a minute, or a whole one.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use studio_worker_core::conformance::{
    Hosted as _, Request, Scene, Start, TestStudio, offer_of_bytes, registered,
};

use crate::{
    Test,
    program::{Host, Program},
    tests,
};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    an_upload_that_is_never_answered_is_tried_again
    an_upload_that_is_read_halfway_is_tried_again
    an_orphan_that_is_not_offered_within_60_s_is_cancelled
    a_worker_whose_id_is_used_elsewhere_waits_30_s
    a_result_that_is_not_acknowledged_within_30_s_is_sent_on_a_new_session
    a_silent_peer_is_left_for_a_new_session_within_30_s
    a_worker_that_was_stopped_for_a_while_goes_on_with_its_job
};

/// How long the slowest of these may take.
const LONG: Duration = Duration::from_secs(180);

/// An upload of which no byte moves for 60 s is begun again (section 1); heartbeats go on all the while.
fn stalls(least: usize, first: impl FnOnce(&mut Request)) {
    let scene = Scene::new(&Host::new());
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", least));
    session.expect("accept", "j-1");
    let mut stalled = scene.studio.request();
    first(&mut stalled);
    let (since, beats) = (Instant::now(), session.heartbeats.len());
    let mut upload = loop {
        session.heartbeat();
        if let Some(request) = scene.studio.try_request() {
            break request;
        }
        assert!(since.elapsed() < LONG, "it is not tried again");
    };
    // The last bytes may have left a little before they were read here.
    assert!(since.elapsed() > Duration::from_secs(55));
    assert!(session.heartbeats.len() - beats >= 10);
    upload.body();
    upload.answer(200, "", "");
    drop(stalled);
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", true)]);
}

fn an_upload_that_is_never_answered_is_tried_again() {
    stalls(100_000, |upload| {
        upload.body();
    });
}

fn an_upload_that_is_read_halfway_is_tried_again() {
    // What is left does not fit into the buffers of both ends together.
    stalls(14_000_000, |upload| {
        upload.read_some(2_000_000);
    });
}

fn an_orphan_that_is_not_offered_within_60_s_is_cancelled() {
    let scene = Scene::held(&Host::new());
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    let since = Instant::now();
    session.log_with("cancelled after its claim was lost");
    assert!(since.elapsed() > Duration::from_secs(55));
    // The slot is free, for this job as for any other.
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", false), ("j-1", true)]);
}

fn a_worker_whose_id_is_used_elsewhere_waits_30_s() {
    // By a close, and by an error frame, at the same time.
    thread::scope(|scope| {
        for by_frame in [false, true] {
            scope.spawn(move || {
                let scene = Scene::new(&Host::new());
                let session = scene.studio.session();
                let since = Instant::now();
                if by_frame {
                    session.error("duplicate_worker", "connected elsewhere");
                } else {
                    session.close(4003, "connected elsewhere");
                }
                let mut session = scene.studio.upgrade_within(LONG).accept().welcome();
                assert!(since.elapsed() >= Duration::from_secs(30));
                session.log_with("somebody else uses this worker's id");
                scene.drained(&mut session);
            });
        }
    });
}

fn a_result_that_is_not_acknowledged_within_30_s_is_sent_on_a_new_session() {
    let scene = Scene::new(&Host::new());
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    let since = Instant::now();
    assert_eq!(session.closed().0, 1000);
    assert!(since.elapsed() > Duration::from_secs(25));
    drop(session);
    let mut session = scene.studio.session();
    session.delivers("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", true)]);
}

/// A peer that is half gone: it takes everything and says nothing. The job that runs is none the worse.
fn a_silent_peer_is_left_for_a_new_session_within_30_s() {
    let scene = Scene::held(&Host::new());
    let mut silent = scene.studio.session();
    silent.offer("j-1", "llm", "hello");
    silent.expect("accept", "j-1");
    let since = Instant::now();
    let mut session = scene.studio.upgrade_within(LONG).accept().welcome();
    let took = since.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    session.log_with("silent for 20 s");
    // The studio still holds the old session, whose claim it gives up for the new one.
    session.send(&json!({ "type": "heartbeatAck" }));
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    drop(silent);
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", true)]);
}

/// As when a machine sleeps: for longer than a peer may be silent, nothing of the program runs.
fn a_worker_that_was_stopped_for_a_while_goes_on_with_its_job() {
    let studio = TestStudio::new();
    let program = Program::start(&Start { base: &studio.base(), identity: registered(), held: true });
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
