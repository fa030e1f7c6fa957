//! Bounds that take half a minute, or a whole one.

use std::time::Duration;

use serde_json::json;

use crate::{
    conformance::{Host, Request, Scene, Session, Start, offer_of_bytes},
    worker::Identity,
};

/// How long to wait for the slowest of these.
const LONG: Duration = Duration::from_secs(180);

/// It ends with one job delivered, by so many runs.
fn ends(scene: Scene, session: &mut Session, runs: usize, jobs: &[(&str, bool)]) {
    let ended = scene.drained(session);
    assert_eq!(ended.runs, runs, "{}", ended.said);
    ended.expect_jobs(jobs);
}

/// Connecting and the upgrade have 15 s together (section 1).
pub(super) fn an_upgrade_that_is_never_answered_is_tried_again(host: &dyn Host) {
    let scene = Scene::new(host);
    let since = scene.studio.clock().stopwatch();
    let unanswered = scene.studio.upgrade();
    let mut session = scene.studio.session();
    since.took(15, 17);
    session.delivers("j-1");
    drop(unanswered);
    ends(scene, &mut session, 1, &[("j-1", true)]);
}

/// So has the welcome (section 1).
pub(super) fn a_welcome_that_does_not_come_is_waited_for_15_s(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut mute = scene.studio.upgrade().accept();
    assert_eq!(mute.text()["type"], "hello");
    let since = scene.studio.clock().stopwatch();
    mute.is_lost();
    since.took(15, 15);
    let mut session = scene.studio.session();
    session.delivers("j-1");
    ends(scene, &mut session, 1, &[("j-1", true)]);
}

/// Small requests have 60 s (section 1).
pub(super) fn a_registration_that_is_never_answered_is_asked_for_again(host: &dyn Host) {
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });
    let mut unanswered = studio.request();
    let since = studio.clock().stopwatch();
    let asked = unanswered.json();
    let mut again = studio.request_within(LONG);
    since.took(60, 62);
    assert_eq!(again.json(), asked);
    again.answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let approved = json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-9" });
    studio.request().answer_json(200, &approved);
    drop(unanswered);
    Scene { studio, worker }.serves_once();
}

/// An upload of which no byte moves for 60 s is begun again (section 1); heartbeats go on all the while.
fn stalls(host: &dyn Host, least: usize, first: impl FnOnce(&mut Request)) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", least));
    session.expect("accept", "j-1");
    let mut stalled = scene.studio.request();
    first(&mut stalled);
    let (since, beats) = (scene.studio.clock().stopwatch(), session.heartbeats.len());
    let mut upload = loop {
        session.heartbeat();
        if let Some(request) = scene.studio.try_request() {
            break request;
        }
        assert!(since.elapsed() < LONG, "it is not tried again");
    };
    // Up to the heartbeat after the back-off.
    since.took(60, 67);
    assert!(session.heartbeats.len() - beats >= 10);
    upload.body();
    upload.answer(200, "", "");
    drop(stalled);
    ends(scene, &mut session, 1, &[("j-1", true)]);
}

/// The studio has it all, and says nothing.
pub(super) fn an_upload_that_is_never_answered_is_tried_again(host: &dyn Host) {
    stalls(host, 100_000, |upload| {
        upload.body();
    });
}

/// What is left does not fit into the buffers of both ends together.
pub(super) fn an_upload_that_is_read_halfway_is_tried_again(host: &dyn Host) {
    stalls(host, super::delivery::MANY, |upload| {
        upload.read_some(2_000_000);
    });
}

/// From the welcome without its offer (section 6).
pub(super) fn an_orphan_that_is_not_offered_within_60_s_is_cancelled(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    let since = scene.studio.clock().stopwatch();
    session.log_with("cancelled after its claim was lost");
    since.took(60, 61);
    // A closure can't be stopped: the slot is free when it returns, for this job as for any other.
    scene.worker.let_go();
    session.offer_until_accepted("j-1");
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    ends(scene, &mut session, 2, &[("j-1", false), ("j-1", true)]);
}

/// Somebody else's session under this id (section 6).
fn waits_long(host: &dyn Host, replaced: impl FnOnce(Session)) {
    let scene = Scene::new(host);
    replaced(scene.studio.session());
    let since = scene.studio.clock().stopwatch();
    let mut session = scene.studio.upgrade_within(LONG).accept().welcome();
    since.took(30, 60);
    session.log_with("somebody else uses this worker's id");
    scene.drained(&mut session);
}

/// By a close.
pub(super) fn a_worker_whose_id_is_used_elsewhere_waits_30_s(host: &dyn Host) {
    waits_long(host, |session| session.close(4003, "connected elsewhere"));
}

/// By an error frame.
pub(super) fn a_worker_that_is_told_that_its_id_is_used_elsewhere_waits_30_s(host: &dyn Host) {
    waits_long(host, |session| session.error("duplicate_worker", "connected elsewhere"));
}

/// A result has 30 s to be confirmed in (section 6).
pub(super) fn a_result_that_is_not_acknowledged_within_30_s_is_sent_on_a_new_session(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    let since = scene.studio.clock().stopwatch();
    assert_eq!(session.closed().0, 1000);
    since.took(30, 30);
    drop(session);
    let mut session = scene.studio.session();
    session.delivers("j-1");
    ends(scene, &mut session, 1, &[("j-1", true)]);
}

/// A peer that is half gone: it takes everything and says nothing. The job that runs is none the worse.
pub(super) fn a_silent_peer_is_left_for_a_new_session_within_30_s(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut silent = scene.studio.session();
    silent.offer("j-1", "llm", "hello");
    silent.expect("accept", "j-1");
    let since = scene.studio.clock().stopwatch();
    let mut session = scene.studio.upgrade_within(LONG).accept().welcome();
    since.took(20, 22);
    session.log_with("silent for 20 s");
    // The studio still holds the old session, whose claim it gives up for the new one.
    session.send(&json!({ "type": "heartbeatAck" }));
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    drop(silent);
    ends(scene, &mut session, 1, &[("j-1", true)]);
}
