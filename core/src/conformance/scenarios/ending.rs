//! How a worker ends, or doesn't.

use super::{Scene, complete_ack};
use crate::{conformance::Host, worker::Exit};

/// A refused token ends the worker, with the studio's words (section 6).
pub fn a_refused_token_ends_the_worker(host: &impl Host) {
    let scene = Scene::new(host);
    scene.studio.upgrade().refuse(401, "token revoked");
    match scene.worker.exit() {
        Exit::Unauthorized { reason } => assert!(reason.contains("token revoked"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// The body of a 404 tells a worker that is unknown from an address that is wrong (section 6).
pub fn an_unknown_worker_asks_to_be_registered_anew(host: &impl Host) {
    let scene = Scene::new(host);
    scene.studio.upgrade().refuse(404, "<html>no such page</html>");
    // A wrong address, or a gateway's: the credentials are kept.
    scene.studio.upgrade().refuse(404, r#"{"error":"worker not found"}"#);
    let mut asks = scene.studio.request();
    assert_eq!(asks.path, "/graphics/api/workers/register-request");
    assert_eq!(asks.json()["installId"], "11111111-1111-4111-8111-111111111111");
}

/// A close code is heard (section 6).
pub fn a_close_4001_ends_the_worker(host: &impl Host) {
    let scene = Scene::new(host);
    scene.studio.session().close(4001, "token revoked");
    match scene.worker.exit() {
        Exit::Unauthorized { reason } => assert!(reason.contains("token revoked"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// A drain finishes and delivers what runs, and takes nothing new (section 6).
pub fn a_drain_delivers_what_runs(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "wait");
    session.expect("accept", "j-1");
    scene.worker.handle.drain();
    assert_eq!(session.heartbeat()["autoEnabled"], false);
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    scene.engine.gate.open();
    session.expect("completeJson", "j-1");
    session.send(&complete_ack("j-1"));
    assert_eq!(session.closed().0, 1000);
    let handle = scene.worker.handle.clone();
    assert_eq!(scene.worker.exit(), Exit::Drained);
    assert!(handle.has_ended());
    assert!(handle.set_threshold(1.0).is_err());
}

/// A stop ends at once; what runs is failed as retryable (section 6).
pub fn a_stop_fails_what_runs(host: &impl Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "wait");
    session.expect("accept", "j-1");
    scene.worker.handle.stop();
    assert_eq!(session.expect("fail", "j-1")["retryable"], true);
    assert_eq!(session.closed().0, 1000);
    assert_eq!(scene.worker.exit(), Exit::Stopped);
    scene.engine.gate.open();
}
