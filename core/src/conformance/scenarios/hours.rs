//! What takes minutes or hours, of virtual time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    conformance::{Host, Scene, Session, Start, Stopwatch, offer_of_bytes},
    worker::{HEARTBEAT_INTERVAL, Identity},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Takes heartbeats until so much time has gone by.
fn goes_on(session: &mut Session, since: &Stopwatch, until: Duration) {
    while since.elapsed() < until {
        session.take();
    }
}

/// The next frame that counts; `meanwhile` is done at each heartbeat.
fn waits_for_frame(session: &mut Session, since: &Stopwatch, mut meanwhile: impl FnMut()) -> Value {
    while since.elapsed() < 2 * HOUR {
        if let Some(frame) = session.frame_if_it_counts() {
            return frame;
        }
        meanwhile();
    }
    panic!("nothing but heartbeats comes on the session");
}

/// Each 5 s after the one before, and the first at once (section 3).
pub(super) fn heartbeats_come_every_5_s(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    let since = scene.studio.clock().stopwatch();
    for nth in 1..=720 {
        session.heartbeat();
        assert_eq!(since.elapsed(), nth * HEARTBEAT_INTERVAL);
    }
    scene.drained(&mut session);
}

/// Doubling to 30 s with jitter of half up or down, and anew after a minute's welcome (section 6).
pub(super) fn back_off_doubles_to_30_s_and_starts_anew_after_a_minute(host: &dyn Host) {
    let scene = Scene::new(host);
    let within = |since: &Stopwatch, base: Duration| {
        let took = since.elapsed();
        assert!((base / 2..=base * 3 / 2).contains(&took), "{took:?} of {base:?}");
    };
    let mut upgrading = scene.studio.upgrade();
    for base in [1, 2, 4, 8, 16, 30, 30, 30] {
        upgrading.0.drop_connection();
        let since = scene.studio.clock().stopwatch();
        upgrading = scene.studio.upgrade();
        within(&since, Duration::from_secs(base));
    }
    // Not for long enough.
    let mut session = upgrading.accept().welcome();
    goes_on(&mut session, &scene.studio.clock().stopwatch(), Duration::from_secs(55));
    session.drop_connection();
    let since = scene.studio.clock().stopwatch();
    let mut session = scene.studio.session();
    within(&since, Duration::from_secs(30));
    goes_on(&mut session, &scene.studio.clock().stopwatch(), MINUTE);
    session.drop_connection();
    let since = scene.studio.clock().stopwatch();
    drop(scene.studio.session());
    within(&since, Duration::from_secs(1));
}

/// At most an hour is waited for, whatever the studio says (section 2).
pub(super) fn a_retry_after_of_a_week_is_waited_for_an_hour(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.upgrade().refuse_with(503, "Retry-After: 604800\r\n", "later");
    let since = scene.studio.clock().stopwatch();
    let mut session = scene.studio.upgrade_within(2 * HOUR).accept().welcome();
    assert!((HOUR..HOUR * 3 / 2).contains(&since.elapsed()), "{:?}", since.elapsed());
    scene.drained(&mut session);
}

/// The first time after 2 s, then doubling to 30 s (section 2).
pub(super) fn an_approval_is_polled_for_ever_more_rarely(host: &dyn Host) {
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });
    let pending = json!({ "requestId": "rr-1", "status": "pending" });
    studio.request().answer_json(200, &pending);
    for seconds in [2, 4, 8, 16, 30, 30, 30] {
        let since = studio.clock().stopwatch();
        studio.request().answer_json(200, &pending);
        since.took(seconds, seconds);
    }
    let approved = json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-9" });
    studio.request().answer_json(200, &approved);
    Scene { studio, worker }.serves_once();
}

/// Five times in a row (section 6).
pub(super) fn a_worker_whose_id_is_used_elsewhere_again_and_again_stops(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    for _ in 0..5 {
        studio.upgrade_within(10 * MINUTE).accept().welcome().close(4003, "connected elsewhere");
    }
    let ended = worker.ended();
    assert_eq!(ended.code, 1, "{}", ended.said);
    assert!(!studio.has_upgrade());
}

/// A result that was sent and not confirmed, and its job offered again so much later.
fn offered_again_after(host: &dyn Host, span: Duration, runs: usize) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.drop_connection();
    let since = scene.studio.clock().stopwatch();
    let mut session = scene.studio.session();
    goes_on(&mut session, &since, span);
    session.delivers("j-1");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, runs, "{}", ended.said);
}

/// For 15 minutes (section 6).
pub(super) fn a_result_is_held_for_15_minutes(host: &dyn Host) {
    offered_again_after(host, Duration::from_secs(15 * 60 - 10), 1);
}

/// And not for longer: the job is run again.
pub(super) fn a_result_is_not_held_for_longer(host: &dyn Host) {
    offered_again_after(host, Duration::from_secs(15 * 60 + 5), 2);
}

/// Tried again for an hour; then the claim is let go, and the result held (section 6).
pub(super) fn an_upload_that_fails_for_an_hour_lets_its_claim_go(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.session();
    session.send(&offer_of_bytes("j-1", 1_000));
    session.expect("accept", "j-1");
    let since = scene.studio.clock().stopwatch();
    let mut tries = 0;
    let fail = waits_for_frame(&mut session, &since, || {
        if let Some(mut upload) = scene.studio.try_request() {
            upload.body();
            upload.answer(503, "", "not now");
            tries += 1;
        }
    });
    since.took(3_600, 3_660);
    assert_eq!((&fail["type"], &fail["retryable"]), (&json!("fail"), &json!(true)), "{fail}");
    // Every 45 s at the rarest.
    assert!((80..300).contains(&tries), "{tries}");
    session.fail_ack("j-1");

    session.send(&offer_of_bytes("j-1", 1_000));
    session.expect("accept", "j-1");
    let mut upload = scene.studio.request();
    upload.body();
    upload.answer(200, "", "");
    let ended = scene.drained(&mut session);
    assert_eq!(ended.runs, 1, "{}", ended.said);
}

/// Ten minutes, unless the owner says otherwise: what runs is failed as retryable, and the worker ends well (section 6).
pub(super) fn a_drain_ends_when_its_time_is_over(host: &dyn Host) {
    let Scene { studio, worker } = Scene::held(host);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    worker.drain();
    let since = studio.clock().stopwatch();
    let fail = waits_for_frame(&mut session, &since, || {});
    since.took(600, 600);
    assert_eq!((&fail["type"], &fail["retryable"]), (&json!("fail"), &json!(true)), "{fail}");
    session.fail_ack("j-1");
    assert_eq!(session.closed().0, 1000);
    let ended = worker.ended();
    assert_eq!(ended.code, 0, "{}", ended.said);
    ended.expect_jobs(&[("j-1", false)]);
}

/// It would cost its job an attempt if the session were closed on it. A studio that says nothing is not waited for: out
/// within a second (section 6).
pub(super) fn a_drain_declines_an_offer_that_is_on_its_way(host: &dyn Host) {
    for answers in [true, false] {
        let Scene { studio, worker } = Scene::new(host);
        let mut session = studio.session();
        let since = studio.clock().stopwatch();
        worker.drain();
        // Not acknowledged.
        let said = loop {
            let frame = session.text();
            if frame["type"] == "heartbeat" {
                break frame;
            }
        };
        assert_eq!(said["capabilities"]["autoEnabled"], false);
        studio.clock().sleep(Duration::from_millis(300));
        session.offer("j-1", "llm", "hello");
        assert_eq!(session.expect("reject", "j-1")["code"], "paused");
        if answers {
            session.send(&json!({ "type": "heartbeatAck" }));
        }
        assert_eq!(session.closed().0, 1000);
        assert_eq!(since.elapsed(), Duration::from_millis(if answers { 300 } else { 650 }));
        let ended = worker.ended();
        assert_eq!((ended.code, ended.runs), (0, 0));
    }
}
