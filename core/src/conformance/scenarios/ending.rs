//! How a session ends (the table of section 6), and how a worker does.

use crate::conformance::{Ended, Host, Scene, offer_of_bytes};

/// The worker gave up, with the studio's words and what to do.
pub(super) fn is_unauthorized(ended: &Ended, words: &str) {
    assert_eq!(ended.code, 1);
    for part in [words, "register --reset"] {
        assert!(ended.said.contains(part), "{}", ended.said);
    }
}

/// The worker has forgotten its credentials, and asks to be registered as the same installation.
pub(super) fn asks_anew(scene: &Scene) {
    let mut asks = scene.studio.request();
    assert_eq!(asks.path, "/graphics/api/workers/register-request");
    assert_eq!(asks.json()["installId"], "11111111-1111-4111-8111-111111111111");
    let identity = scene.worker.identity();
    assert!(identity.auth_token.is_none() && identity.worker_id.is_none());
}

/// A close code is heard (section 6).
pub(super) fn a_close_4001_ends_the_worker(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    studio.session().close(4001, "token revoked");
    is_unauthorized(&worker.ended(), "token revoked");
}

/// So is an error frame.
pub(super) fn an_error_auth_failed_ends_the_worker(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    studio.session().error("auth_failed", "token revoked");
    is_unauthorized(&worker.ended(), "token revoked");
}

/// The registration was revoked.
pub(super) fn a_close_4004_asks_to_be_registered_anew(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.session().close(4004, "deleted");
    asks_anew(&scene);
}

/// The same in a frame.
pub(super) fn an_error_worker_deleted_asks_to_be_registered_anew(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.session().error("worker_deleted", "deleted");
    asks_anew(&scene);
}

/// The studio's trouble is not the worker's end.
pub(super) fn an_internal_error_is_followed_by_another_session(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.session().error("internal_error", "out of disk");
    scene.serves_once();
}

/// Known and unknown codes alike.
pub(super) fn a_close_of_any_other_code_is_followed_by_another_session(host: &dyn Host) {
    let scene = Scene::new(host);
    for code in [1001, 1012, 4999] {
        scene.studio.session().close(code, "");
    }
    scene.serves_once();
}

/// Without a word.
pub(super) fn a_dropped_connection_is_followed_by_another_session(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.session().drop_connection();
    scene.serves_once();
}

/// A drain finishes and delivers what runs, and takes nothing new; heartbeats go on and say so (section 6).
pub(super) fn a_drain_delivers_what_runs(host: &dyn Host) {
    let Scene { studio, worker } = Scene::held(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    worker.drain();
    session.heartbeat_with("autoEnabled", false);
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    // The next one by its timer.
    assert_eq!(session.heartbeat()["autoEnabled"], false);
    assert_eq!(session.heartbeats.last().unwrap()["currentJobId"], "j-1");
    worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!((ended.code, ended.runs), (0, 1));
    ended.expect_jobs(&[("j-1", true)]);
}

/// Bytes on their way are waited for.
pub(super) fn a_drain_delivers_what_is_uploaded(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    let mut session = studio.session();
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    worker.drain();
    session.heartbeat_with("autoEnabled", false);
    upload.body();
    upload.answer(503, "", "not now");
    let mut upload = studio.request();
    upload.body();
    assert_eq!(session.heartbeat()["autoEnabled"], false);
    upload.answer(200, "", "");
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!((ended.code, ended.runs), (0, 1));
    ended.expect_jobs(&[("j-1", true)]);
}

/// While draining with a job that lost its claim, the worker wants that one alone (section 6).
pub(super) fn a_drain_waits_for_a_job_whose_session_dropped(host: &dyn Host) {
    let Scene { studio, worker } = Scene::held(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    worker.drain();
    session.heartbeat_with("autoEnabled", false);
    session.drop_connection();
    let mut session = studio.session();
    assert_eq!(session.heartbeats[0]["capabilities"]["autoEnabled"], true, "it wants its job back");
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    assert_eq!(session.heartbeat()["autoEnabled"], false);
    worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!((ended.code, ended.runs), (0, 1));
    ended.expect_jobs(&[("j-1", true)]);
}

/// A stop ends at once; what runs is failed as retryable (section 6).
pub(super) fn a_stop_fails_what_runs(host: &dyn Host) {
    let Scene { studio, worker } = Scene::held(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    worker.stop();
    assert_eq!(session.expect("fail", "j-1")["retryable"], true);
    let said = session.heartbeats.last().unwrap();
    assert_eq!(said["capabilities"]["autoEnabled"], false, "else the studio would offer it again at once");
    session.fail_ack("j-1");
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!(ended.code, 0);
    ended.expect_jobs(&[("j-1", false)]);
}

/// There is nobody left to deliver to.
pub(super) fn a_refused_token_ends_a_drain_at_once(host: &dyn Host) {
    let Scene { studio, worker } = Scene::held(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    worker.drain();
    session.heartbeat_with("autoEnabled", false);
    session.drop_connection();
    studio.upgrade().refuse(401, "no such token here");
    let ended = worker.ended();
    is_unauthorized(&ended, "no such token here");
    ended.expect_jobs(&[("j-1", false)]);
}
