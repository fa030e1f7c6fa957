//! What a studio can answer to an upload (section 6), and that heartbeats go on meanwhile.

use std::time::Duration;

use super::delivery::{once, upload_of};
use crate::conformance::{Host, Scene, Session, offer_of_bytes};

/// An upload that is answered so is tried again, and then delivers; heartbeats go on while it waits.
fn is_tried_again(host: &dyn Host, status: u16, headers: &str, least: Duration) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100_000);
    let body = upload.body();
    scene.heartbeats_go_on(&mut session);
    let answered = scene.studio.clock().stopwatch();
    upload.answer(status, headers, "not now");
    let mut upload = scene.studio.request();
    assert!(answered.elapsed() >= least);
    assert_eq!(upload.body().len(), body.len());
    scene.heartbeats_go_on(&mut session);
    assert_eq!(session.heartbeats.last().unwrap()["currentJobId"], "j-1");
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// Half a second is the least of the first back-off.
const LEAST: Duration = Duration::from_millis(500);

/// A studio that lost patience.
pub(super) fn an_upload_answered_408_is_tried_again(host: &dyn Host) {
    is_tried_again(host, 408, "", LEAST);
}

/// A studio that is busy, and says for how long.
pub(super) fn an_upload_answered_429_is_tried_again_when_the_studio_asks_for_it(host: &dyn Host) {
    is_tried_again(host, 429, "Retry-After: 3\r\n", Duration::from_secs(3));
}

/// A studio in trouble.
pub(super) fn an_upload_answered_500_is_tried_again(host: &dyn Host) {
    is_tried_again(host, 500, "", LEAST);
}

/// A studio that restarts.
pub(super) fn an_upload_answered_503_is_tried_again(host: &dyn Host) {
    is_tried_again(host, 503, "", LEAST);
}

/// A connection that breaks before the studio has the whole.
pub(super) fn an_upload_whose_connection_breaks_is_tried_again(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 10_000_000);
    upload.read_some(5_000_000);
    upload.drop_connection();
    let mut upload = scene.studio.request();
    scene.heartbeats_go_on(&mut session);
    upload.body();
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// A studio that has the whole, and whose answer is lost: its next offer ends the back-off, and the 409 that follows
/// counts as delivered.
pub(super) fn a_result_stored_before_the_connection_dropped_is_delivered_once(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100_000);
    upload.body();
    upload.drop_connection();
    session.offer("j-2", "llm", "hello");
    let mut upload = scene.studio.request();
    upload.body();
    scene.heartbeats_go_on(&mut session);
    upload.answer(409, "", "done already");
    session.expect("accept", "j-2");
    session.expect("completeJson", "j-2");
    session.complete_ack("j-2");
    assert!(!scene.studio.has_request());
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", true), ("j-2", true)]);
}

/// Offers the job again: its result is uploaded without another run.
fn is_kept(scene: Scene, mut session: Session) {
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    let mut upload = scene.studio.request();
    upload.body();
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// A token that is refused for an upload: three tries, then the claim is let go, and the result is held. The stored
/// token stays.
fn is_given_up_after_three_tries(host: &dyn Host, status: u16) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100_000);
    for again in [true, true, false] {
        upload.body();
        upload.answer(status, "", "who are you");
        if again {
            upload = scene.studio.request();
        } else {
            break;
        }
    }
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], true);
    assert!(fail["error"].as_str().unwrap().contains(&status.to_string()), "{fail}");
    session.fail_ack("j-1");
    scene.heartbeats_go_on(&mut session);
    is_kept(scene, session);
}

/// The token is refused.
pub(super) fn an_upload_answered_401_is_given_up_after_three_tries(host: &dyn Host) {
    is_given_up_after_three_tries(host, 401);
}

/// A gateway says no.
pub(super) fn an_upload_answered_403_is_given_up_after_three_tries(host: &dyn Host) {
    is_given_up_after_three_tries(host, 403);
}

/// The studio does not hold the job for this worker: the claim is over, no `fail` is sent, the result is held.
fn ends_its_claim_only(host: &dyn Host, status: u16) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100_000);
    upload.body();
    scene.heartbeats_go_on(&mut session);
    upload.answer(status, "", "not yours");
    // A `fail` would come before the acceptance that follows.
    is_kept(scene, session);
}

/// The job is unknown.
pub(super) fn an_upload_answered_404_keeps_its_result(host: &dyn Host) {
    ends_its_claim_only(host, 404);
}

/// The job is somebody else's.
pub(super) fn an_upload_answered_409_keeps_its_result(host: &dyn Host) {
    ends_its_claim_only(host, 409);
}

/// The job is gone.
pub(super) fn an_upload_answered_410_keeps_its_result(host: &dyn Host) {
    ends_its_claim_only(host, 410);
}

/// A result that the studio will never take: the job fails with its words.
fn fails_its_job_for_good(host: &dyn Host, status: u16) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100_000);
    upload.body();
    scene.heartbeats_go_on(&mut session);
    upload.answer(status, "", "no thanks");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], false);
    let error = fail["error"].as_str().unwrap();
    assert!(error.contains(&status.to_string()) && error.contains("no thanks"), "{error}");
    session.fail_ack("j-1");
    once(scene, &mut session, false);
}

/// It is too large.
pub(super) fn an_upload_answered_413_fails_its_job_for_good(host: &dyn Host) {
    fails_its_job_for_good(host, 413);
}

/// It is not what was asked for.
pub(super) fn an_upload_answered_422_fails_its_job_for_good(host: &dyn Host) {
    fails_its_job_for_good(host, 422);
}
