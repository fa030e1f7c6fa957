//! Results as bytes on their way to the studio: what a lost session does to them, and how they are sent.

use crate::conformance::{Ended, Host, Request, Scene, Session, offer_of_bytes};

/// The bytes of a result that don't fit into the buffers of both ends together.
pub(super) const MANY: usize = 14_000_000;

/// Offers a job whose result has that many bytes, and takes its upload.
pub(super) fn upload_of(scene: &Scene, session: &mut Session, least: usize) -> Request {
    session.send(&offer_of_bytes("j-1", least));
    session.expect("accept", "j-1");
    scene.studio.request()
}

/// It ends with one job, by one run.
pub(super) fn once(scene: Scene, session: &mut Session, delivered: bool) -> Ended {
    let ended = scene.drained(session);
    assert_eq!(ended.runs, 1, "{}", ended.said);
    ended.expect_jobs(&[("j-1", delivered)]);
    ended
}

/// What is sent is what section 5 says.
pub(super) fn a_result_is_uploaded(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, MANY);
    let body = upload.body();
    let boundary = upload.header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap();
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\naaa");
    assert!(
        body.starts_with(head.as_bytes()) && body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes())
    );
    let file = b"Content-Disposition: form-data; name=\"image\"; filename=\"j-1.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    assert!(body[..body.len() - MANY].windows(file.len()).any(|part| part == file));
    upload.answer(204, "", "");
    once(scene, &mut session, true);
}

/// A studio that refuses a body while it comes (413): the job has failed for good.
pub(super) fn an_answer_before_the_body_has_left_is_heard(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let upload = upload_of(&scene, &mut session, MANY);
    assert!(upload.content_length() > MANY);
    upload.answer(413, "", "at most 1 MB");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["retryable"], false);
    let error = fail["error"].as_str().unwrap();
    assert!(error.contains("413") && error.contains("at most 1 MB"), "{error}");
    session.fail_ack("j-1");
    once(scene, &mut session, false);
}

/// A redirect never carries the bearer to another host (section 1): it is no success, and tried again.
pub(super) fn a_redirect_is_not_followed(host: &dyn Host) {
    let scene = Scene::new(host);
    let elsewhere = host.network().studio();
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 100);
    for _ in 0..2 {
        upload.body();
        upload.answer(307, &format!("Location: {}/elsewhere\r\n", elsewhere.base()), "");
        upload = scene.studio.request();
    }
    upload.body();
    upload.answer(200, "", "");
    assert!(!elsewhere.has_request());
    once(scene, &mut session, true);
}

/// A socket that drops while the result is uploaded: the upload goes on, and its 2xx delivers.
pub(super) fn an_upload_outlives_its_session(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, MANY);
    let some = upload.read_some(MANY / 2).len();
    session.drop_connection();
    let mut session = scene.studio.session();
    let rest = upload.content_length() - some;
    upload.read_some(rest);
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// The same, but the job is offered again first: the upload that moves is the one.
pub(super) fn an_upload_that_moves_is_adopted_by_the_next_offer(host: &dyn Host) {
    let _turn = super::in_turn();
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, MANY);
    let some = upload.read_some(MANY / 2).len();
    session.drop_connection();
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", MANY));
    session.expect("accept", "j-1");
    scene.heartbeats_go_on(&mut session);
    assert_eq!(session.heartbeats.last().unwrap()["currentJobId"], "j-1");
    assert!(!scene.studio.has_request(), "one upload at a time");
    let rest = upload.content_length() - some;
    upload.read_some(rest);
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// Drops the session of an upload and offers its job again; the upload began under the old claim, so its 409 says
/// nothing of the new one.
fn refused_under_its_old_claim(scene: &Scene) -> (Session, Request) {
    let mut session = scene.studio.session();
    let mut upload = upload_of(scene, &mut session, 100_000);
    session.drop_connection();
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", 100_000));
    session.expect("accept", "j-1");
    upload.body();
    upload.answer(409, "", "not yours any more");
    let mut afresh = scene.studio.request();
    afresh.body();
    (session, afresh)
}

/// It is uploaded once afresh, without a second run.
pub(super) fn an_upload_refused_under_its_old_claim_is_made_afresh(host: &dyn Host) {
    let scene = Scene::new(host);
    let (mut session, afresh) = refused_under_its_old_claim(&scene);
    afresh.answer(200, "", "");
    once(scene, &mut session, true);
}

/// A second 409 ends the job.
pub(super) fn a_job_whose_result_is_refused_twice_ends(host: &dyn Host) {
    let scene = Scene::new(host);
    let (mut session, afresh) = refused_under_its_old_claim(&scene);
    afresh.answer(409, "", "not yours");
    // No `fail` is sent, since the studio holds nothing: the next frame is the answer to another offer. That one must not
    // overtake the refusal, which it would explain.
    scene.has_no_job(&mut session);
    session.delivers("j-2");
    scene.drained(&mut session).expect_jobs(&[("j-1", false), ("j-2", true)]);
}

/// Any 2xx is success (section 5), and what becomes of the rest of its body is of no account.
pub(super) fn the_status_of_an_answer_is_enough(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 1_000);
    upload.body();
    upload.answer_in_part(200);
    // Parked until the upload is over.
    session.delivers("j-2");

    session.send(&offer_of_bytes("j-3", 1_000));
    session.expect("accept", "j-3");
    let mut cut = scene.studio.request();
    cut.body();
    cut.answer_in_part(201);
    // In good form: over TLS, a client may take what came before any other end for tampered with.
    cut.hang_up();
    session.delivers("j-4");
    assert!(!scene.studio.has_request(), "it was uploaded again");

    session.send(&offer_of_bytes("j-5", 1_000));
    session.expect("accept", "j-5");
    let mut refused = scene.studio.request();
    refused.body();
    refused.answer_in_part(413);
    assert_eq!(session.expect("fail", "j-5")["retryable"], false);
    session.fail_ack("j-5");
    let ended = scene.drained(&mut session);
    ended.expect_jobs(&[("j-1", true), ("j-2", true), ("j-3", true), ("j-4", true), ("j-5", false)]);
}

/// What a gateway says before the answer.
pub(super) fn an_interim_answer_is_not_the_answer(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let mut upload = upload_of(&scene, &mut session, 1_000);
    upload.interim(100);
    upload.body();
    upload.interim(103);
    scene.heartbeats_go_on(&mut session);
    upload.answer(200, "", "");
    once(scene, &mut session, true);
}

/// A connection that was kept for the next upload, and that the studio has closed by then, costs nothing.
pub(super) fn a_connection_that_was_closed_meanwhile_is_made_anew(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    for job in ["j-1", "j-2", "j-3"] {
        session.send(&offer_of_bytes(job, 1_000));
        session.expect("accept", job);
        let mut upload = scene.studio.request();
        upload.body();
        upload.answer_and_hang_up(200);
    }
    scene.drained(&mut session).expect_jobs(&[("j-1", true), ("j-2", true), ("j-3", true)]);
}
