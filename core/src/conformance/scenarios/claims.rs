//! Claims and their loss (section 6): the engine never runs twice for a result that is still had.

use serde_json::json;

use crate::conformance::{Host, Scene, Session, offer, offer_of_bytes};

/// Offers a chat that the worker has an outcome of: it is accepted and sent without another run.
fn delivers_again(scene: Scene, session: &mut Session) {
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert!(complete["result"].to_string().contains("hello"), "{complete}");
    session.complete_ack("j-1");
    delivered_once(scene, session);
}

/// It ends with one job delivered, by one run.
fn delivered_once(scene: Scene, session: &mut Session) {
    let ended = scene.drained(session);
    assert_eq!(ended.runs, 1, "{}", ended.said);
    ended.expect_jobs(&[("j-1", true)]);
}

/// A socket that drops while a job runs: the run goes on, and its result goes out under the next offer.
pub(super) fn a_job_that_outlives_its_session_is_not_run_again(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    assert_eq!(session.heartbeats[0].get("currentJobId"), None, "the claim went with its session");
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    delivered_once(scene, &mut session);
}

/// A socket that drops between accept and start, or before the accept is even read.
pub(super) fn a_drop_right_after_an_offer_costs_no_second_run(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.drop_connection();
    let mut session = scene.studio.session();
    delivers_again(scene, &mut session);
}

/// A result that was sent, but whose acknowledgement was lost with the session, is held.
pub(super) fn a_result_that_was_not_confirmed_is_sent_under_the_next_offer(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    delivers_again(scene, &mut session);
}

/// An offer says that the studio has what was sent before.
pub(super) fn the_next_offer_confirms_what_was_sent(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    for job in ["j-1", "j-2"] {
        session.offer(job, "llm", "hello");
        session.expect("accept", job);
        session.expect("completeJson", job);
    }
    session.complete_ack("j-2");
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-2", true)]);
}

/// The id alone does not make a job the same: what is held for it is dropped, and the new task is run.
pub(super) fn a_job_offered_again_with_another_task_is_another_job(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "good night");
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert_eq!(complete["prompt"], "good night");
    assert!(complete["result"].to_string().contains("good night"), "{complete}");
    session.complete_ack("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", false), ("j-1", true)]);
}

/// While an orphan runs, other offers find the worker busy; at the third of them it is cancelled.
pub(super) fn an_orphan_gives_way_to_the_third_other_offer(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.drop_connection();
    let mut session = scene.studio.session();
    for job in ["j-2", "j-3", "j-4"] {
        session.offer(job, "llm", "hello");
        assert_eq!(session.expect("reject", job)["code"], "busy");
    }
    // A closure can't be stopped: the slot is free when it returns.
    scene.worker.let_go();
    session.offer_until_accepted("j-5");
    session.expect("completeJson", "j-5");
    session.complete_ack("j-5");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", false), ("j-5", true)]);
}

/// Leaves a session with a result sent and a violation said, in one way or the other.
fn violate(mut session: Session, by_frame: bool) {
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    if by_frame {
        session.error("protocol_violation", "not yours");
    } else {
        session.close(4002, "not yours");
    }
}

/// The last unconfirmed frame is taken for the cause, and goes out only under a new offer.
pub(super) fn what_the_studio_calls_a_violation_goes_out_under_a_new_offer_only(host: &dyn Host) {
    for by_frame in [false, true] {
        let scene = Scene::new(host);
        violate(scene.studio.session(), by_frame);
        let mut session = scene.studio.session();
        // Whatever it would send by itself comes before what another heartbeat says.
        scene.heartbeats_go_on(&mut session);
        delivers_again(scene, &mut session);
    }
}

/// A second violation shows that it is the result: it is dropped, and another offer of the job is run.
pub(super) fn a_second_violation_drops_the_result(host: &dyn Host) {
    let scene = Scene::new(host);
    violate(scene.studio.session(), false);
    violate(scene.studio.session(), false);
    let mut session = scene.studio.session();
    session.delivers("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", false), ("j-1", true)]);
}

/// A close 1009 after a result fails its job for good, at its next offer (section 3).
pub(super) fn a_result_that_is_too_large_for_the_studio_is_failed_at_the_next_offer(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.close(1009, "too large");
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    assert_eq!(session.expect("fail", "j-1")["retryable"], false);
    session.fail_ack("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1);
    ended.expect_jobs(&[("j-1", false)]);
}

/// Two offers that come at once: a job is one at a time (section 5).
pub(super) fn of_two_offers_in_one_write_one_is_accepted(host: &dyn Host) {
    let scene = Scene::held(host);
    let mut session = scene.studio.session();
    session.send_together(&[offer("j-1", "llm", "hello"), offer("j-2", "llm", "hello")]);
    session.expect("accept", "j-1");
    assert_eq!(session.expect("reject", "j-2")["code"], "busy");
    scene.worker.let_go();
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    session.delivers("j-2");
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-2", true)]);
}

/// The studio offers as soon as it has the result.
pub(super) fn an_offer_in_the_same_write_as_the_last_acknowledgement_is_taken(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    for (job, next) in [("j-1", "j-2"), ("j-2", "j-3"), ("j-3", "j-4")] {
        session.expect("accept", job);
        session.expect("completeJson", job);
        session.send_together(&[json!({ "type": "completeAck", "jobId": job }), offer(next, "llm", "hello")]);
    }
    session.expect("accept", "j-4");
    session.expect("completeJson", "j-4");
    session.complete_ack("j-4");
    let ended = scene.drained(&mut session);
    ended.expect_jobs(&[("j-1", true), ("j-2", true), ("j-3", true), ("j-4", true)]);
}

/// The next offer can reach the worker before the answer of the upload does: it is parked, and taken then. A second
/// one finds the worker busy.
pub(super) fn an_offer_that_overtakes_the_answer_of_an_upload_is_taken_after_it(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    let mut upload = scene.studio.request();
    upload.body();
    session.offer("j-2", "llm", "hello");
    session.offer("j-3", "llm", "hello");
    assert_eq!(session.expect("reject", "j-3")["code"], "busy");
    upload.answer(200, "", "");
    session.expect("accept", "j-2");
    session.expect("completeJson", "j-2");
    session.complete_ack("j-2");
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-2", true)]);
}

/// An offer is of its session: what is parked when that drops is not answered on the next.
pub(super) fn a_parked_offer_goes_with_its_session(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    let mut upload = scene.studio.request();
    upload.body();
    session.offer("j-2", "llm", "hello");
    // Behind it, so that it is parked by then.
    session.offer("j-3", "llm", "hello");
    session.expect("reject", "j-3");
    session.drop_connection();
    let mut session = scene.studio.session();
    upload.answer(200, "", "");
    scene.heartbeats_go_on(&mut session);
    session.delivers("j-4");
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-4", true)]);
}

/// Four results are held; the one that was held first makes room for a fifth.
pub(super) fn of_five_results_that_are_held_the_first_makes_room(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let jobs = ["j-1", "j-2", "j-3", "j-4", "j-5"];
    for job in jobs {
        session.send(&offer_of_bytes(job, 1_000));
        session.expect("accept", job);
        let mut upload = scene.studio.request();
        upload.body();
        upload.answer(404, "", "unknown");
        // The next offer must not overtake the answer.
        scene.has_no_job(&mut session);
    }
    for job in jobs.into_iter().rev() {
        session.send(&offer_of_bytes(job, 1_000));
        session.expect("accept", job);
        let mut upload = scene.studio.request();
        upload.body();
        upload.answer(200, "", "");
    }
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 6, "{}", ended.said);
    let delivered = jobs.into_iter().rev().map(|job| (job, true));
    ended.expect_jobs(&[("j-1", false)].into_iter().chain(delivered).collect::<Vec<_>>());
}

/// What is parked is not taken by a worker that ends.
pub(super) fn a_parked_offer_is_declined_by_a_drain(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    let mut session = studio.session();
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    upload.body();
    session.offer("j-2", "llm", "hello");
    // Behind the offer, so that it is parked by then.
    session.offer("j-3", "llm", "hello");
    session.expect("reject", "j-3");
    worker.drain();
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    upload.answer(200, "", "");
    assert_eq!(session.closed().0, 1000);
    worker.ended().expect_jobs(&[("j-1", true)]);
}
