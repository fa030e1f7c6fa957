//! Registration, and the way to a session.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    conformance::{
        Host, Hosted, Network, Scene, Session, Start, Stopwatch, TestStudio, offer_of_bytes, registered,
    },
    worker::Identity,
};

/// From nothing to two delivered jobs, and a drain (sections 2, 3, 5 and 6).
pub(super) fn a_worker_registers_is_approved_and_delivers(host: &dyn Host) {
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });

    let mut asks = studio.request();
    assert_eq!(
        (asks.method.as_str(), asks.path.as_str()),
        ("POST", "/graphics/api/workers/register-request")
    );
    let user_agent = asks.header("user-agent").to_owned();
    assert!(user_agent.starts_with("studio-worker/"), "{user_agent}");
    assert_eq!(asks.header("authorization"), "");
    let asked = asks.json();
    let known = worker.identity();
    assert_eq!(asked["installId"].as_str(), known.install_id.as_deref(), "it is stored before it is sent");
    asks.answer_json(200, &json!({ "requestId": "rr/1", "status": "pending" }));

    let polls = studio.request();
    assert_eq!(
        (polls.method.as_str(), polls.path.as_str()),
        ("GET", "/graphics/api/workers/register-requests/rr%2F1")
    );
    let secret = known.registration_secret.unwrap();
    assert_eq!(polls.header("authorization"), format!("Bearer {}", secret.reveal()));
    polls.answer_json(200, &json!({ "status": "approved", "workerId": "w/1", "authToken": "tok-9" }));

    let upgrading = studio.upgrade();
    assert_eq!(upgrading.0.path, "/graphics/api/workers/w%2F1/connect");
    assert_eq!(upgrading.0.header("authorization"), "Bearer tok-9");
    assert_eq!(upgrading.0.header("user-agent"), user_agent);
    let stored = worker.identity();
    assert_eq!(
        stored.worker_id.as_deref(),
        Some("w/1"),
        "credentials are stored before the session is opened"
    );
    assert_eq!(stored.auth_token.unwrap().reveal(), "tok-9");
    let mut session = upgrading.accept();
    let hello = session.text();
    assert_eq!((hello["type"].as_str(), hello["authToken"].as_str()), (Some("hello"), Some("tok-9")));
    session.send(&json!({ "type": "welcome", "workerId": "w/1", "serverTime": "2026-01-01T00:00:00.000Z" }));
    let capabilities = session.heartbeat();
    assert_eq!(capabilities["autoEnabled"], true);
    assert_eq!(capabilities, hello["capabilities"]);

    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let complete = session.expect("completeJson", "j-1");
    assert_eq!(complete["prompt"], "hello");
    assert!(complete["result"].to_string().contains("hello"), "{complete}");
    session.complete_ack("j-1");

    session.send(&offer_of_bytes("j/2", 100_000));
    session.expect("accept", "j/2");
    let mut upload = studio.request();
    assert_eq!(upload.path, "/graphics/api/workers/w%2F1/jobs/j%2F2/complete");
    assert_eq!(upload.header("authorization"), "Bearer tok-9");
    assert_eq!(upload.header("user-agent"), user_agent);
    assert_eq!(upload.header("expect"), "");
    assert!(upload.body().len() > 100_000);
    upload.answer_json(200, &json!({ "ok": true }));

    let ended = Scene { studio, worker }.drained(&mut session);
    assert_eq!(ended.runs, 2);
    ended.expect_jobs(&[("j-1", true), ("j/2", true)]);
}

/// A refused token ends the worker, with the studio's words (section 6).
pub(super) fn a_refused_token_ends_the_worker(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    studio.upgrade().refuse(401, "no such token here");
    super::ending::is_unauthorized(&worker.ended(), "no such token here");
}

/// The body of a 404 tells a worker that is unknown from an address that is wrong (section 6).
pub(super) fn an_unknown_worker_asks_to_be_registered_anew(host: &dyn Host) {
    let scene = Scene::new(host);
    scene.studio.upgrade().refuse(404, "<html>no such page</html>");
    // A wrong address, or a gateway's: the credentials are kept.
    scene.studio.upgrade().refuse(404, r#"{"error":"worker not found"}"#);
    super::ending::asks_anew(&scene);
}

/// A session needs its sub-protocol (section 1).
pub(super) fn a_studio_without_the_sub_protocol_is_not_greeted(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut other = scene.studio.upgrade().accept_with("");
    // The worker turns away; a `hello` would have its token in it.
    other.ends();
    drop(scene.studio.session());
}

/// `Retry-After` in seconds (section 6).
pub(super) fn a_busy_studio_is_left_alone_for_the_seconds_it_asks_for(host: &dyn Host) {
    for status in [503, 429] {
        let scene = Scene::new(host);
        let refused = refuse(&scene.studio, status, "Retry-After: 3\r\n");
        drop(scene.studio.session());
        assert!(refused.elapsed() >= Duration::from_secs(3));
    }
}

/// `Retry-After` as an HTTP date, measured by the answer's own `Date`: this studio's clock is far off (section 2).
pub(super) fn a_busy_studio_may_name_a_date_by_its_own_clock(host: &dyn Host) {
    for hour in ["06", "08"] {
        let scene = Scene::new(host);
        let headers = format!(
            "Date: Wed, 25 Nov 2026 {hour}:00:00 GMT\r\nRetry-After: Wed, 25 Nov 2026 {hour}:00:03 GMT\r\n"
        );
        let refused = refuse(&scene.studio, 503, &headers);
        drop(scene.studio.session());
        assert!(refused.elapsed() >= Duration::from_secs(3));
    }
}

/// Garbage, and dates that can't be measured: the usual back-off, no hour of waiting (section 2).
pub(super) fn a_retry_after_that_makes_no_sense_is_ignored(host: &dyn Host) {
    let scene = Scene::new(host);
    for headers in [
        "Retry-After: soon\r\n",
        "Retry-After: -5\r\n",
        "Retry-After: Wed, 25 Nov 2099 06:00:00 GMT\r\n",
        "Retry-After: \u{e9}\r\n",
    ] {
        refuse(&scene.studio, 503, headers);
    }
    drop(scene.studio.session());
}

/// Refuses the next upgrade; when that was.
fn refuse(studio: &TestStudio, status: u16, headers: &str) -> Stopwatch {
    let upgrading = studio.upgrade();
    // Before it is said: it is waited for at least as long from when it is heard.
    let at = studio.clock().stopwatch();
    upgrading.refuse_with(status, headers, "busy");
    at
}

/// What a session needs beside the headers of any WebSocket.
const ECHO: &str = "Sec-WebSocket-Protocol: studio-worker-v1\r\n";

/// A network may cut what is said anywhere.
pub(super) fn an_upgrade_and_frames_that_come_byte_by_byte_are_read(host: &dyn Host) {
    let scene = Scene::new(host);
    let mut session = scene.studio.upgrade().accept_writing(ECHO, |stream, answer| {
        for byte in answer {
            stream.write_all(&[*byte]).unwrap();
        }
    });
    assert_eq!(session.text()["type"], "hello");
    let welcome = br#"{"type":"welcome","workerId":"w-1","serverTime":""}"#;
    for byte in [&[0x81, u8::try_from(welcome.len()).unwrap()], &welcome[..]].concat() {
        session.send_raw(&[byte]);
    }
    session.heartbeat();
    scene.drained(&mut session);
}

/// Frames can come in one piece with the answer to the upgrade.
pub(super) fn a_close_right_behind_the_upgrade_is_heard(host: &dyn Host) {
    let Scene { studio, worker } = Scene::new(host);
    let session = studio.upgrade().accept_writing(ECHO, |stream, answer| {
        let reason = b"revoked";
        let code = 4001_u16.to_be_bytes();
        let length = u8::try_from(code.len() + reason.len()).unwrap();
        let together = [answer, &[0x88, length], &code, reason].concat();
        stream.write_all(&together).unwrap();
    });
    super::ending::is_unauthorized(&worker.ended(), "revoked");
    drop(session);
}

/// A worker that is not registered, and its first request.
fn asks(host: &dyn Host, studio: &TestStudio) -> (Box<dyn Hosted>, Value) {
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });
    let mut asks = studio.request();
    let asked = asks.json();
    asks.answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    (worker, asked)
}

/// `429` and `5xx`: asked again later, and nothing that was stored is lost (section 2).
pub(super) fn a_busy_studio_is_asked_for_registration_when_it_says(host: &dyn Host) {
    let studio = host.network().studio();
    let worker = host.start(Start { base: &studio.base(), identity: Identity::default(), held: false });
    let mut first = studio.request();
    let asked = first.json();
    let refused = studio.clock().stopwatch();
    first.answer(429, "Retry-After: 3\r\n", "slowly");
    let mut second = studio.request();
    assert!(refused.elapsed() >= Duration::from_secs(3));
    assert_eq!(second.json(), asked);
    second.answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio.request().answer(503, "Retry-After: soon\r\n", "slowly");
    let polls = studio.request();
    assert!(polls.path.ends_with("/rr-1"), "{}", polls.path);
    polls.answer_json(200, &json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-9" }));
    Scene { studio, worker }.serves_once();
}

/// `404`: the request is unknown, and the installation stays what it is (section 2).
pub(super) fn a_request_that_is_unknown_is_made_anew_by_the_same_installation(host: &dyn Host) {
    let studio = host.network().studio();
    let (_worker, asked) = asks(host, &studio);
    studio.request().answer(404, "", "unknown");
    let mut again = studio.request();
    assert_eq!(again.path, "/graphics/api/workers/register-request");
    let again = again.json();
    assert_eq!(again["installId"], asked["installId"]);
    assert_ne!(again["registrationSecretHash"], asked["registrationSecretHash"]);
}

/// `401`: a studio that knows the installation may go on answering for the old secret (section 2).
pub(super) fn a_secret_that_is_refused_is_replaced_and_so_is_the_installation(host: &dyn Host) {
    let studio = host.network().studio();
    let (_worker, asked) = asks(host, &studio);
    studio.request().answer(401, "", "who are you");
    let mut again = studio.request();
    assert_eq!(again.path, "/graphics/api/workers/register-request");
    let again = again.json();
    assert_ne!(again["installId"], asked["installId"]);
    assert_ne!(again["registrationSecretHash"], asked["registrationSecretHash"]);
}

/// The studio's clock is its own affair (section 3): nothing is judged by it.
pub(super) fn a_server_time_far_away_means_nothing(host: &dyn Host) {
    for time in ["1970-01-01T00:00:00.000Z", "2199-12-31T23:59:59.999Z", "half past ten", ""] {
        let scene = Scene::new(host);
        let mut session: Session = scene.studio.upgrade().accept();
        assert_eq!(session.text()["type"], "hello");
        session.send(&json!({ "type": "welcome", "workerId": "w-1", "serverTime": time }));
        session.heartbeat();
        session.delivers("j-1");
        scene.drained(&mut session).expect_jobs(&[("j-1", true)]);
    }
}

/// Nobody listens when the worker starts.
pub(super) fn a_studio_that_cannot_be_reached_is_tried_again_until_it_can(host: &dyn Host) {
    let network = host.network();
    let place = network.vacancy();
    let base = network.base(place.address());
    let worker = host.start(Start { base: &base, identity: registered(), held: false });
    // Past the first attempts: the second comes after 1.5 s at most.
    network.clock().sleep(Duration::from_secs(3));
    Scene { studio: network.studio_at(place.address()), worker }.serves_once();
}

/// A studio whose certificate nobody vouches for is told nothing, neither on a session nor over HTTP.
pub(super) fn an_authority_that_is_not_known_is_not_trusted(host: &dyn Host) {
    let stranger = Network::loopback_tls().studio();
    for identity in [registered(), Identity::default()] {
        let worker = host.start(Start { base: &stranger.base(), identity, held: false });
        // It tries again, and is none the wiser.
        stranger.is_turned_away_from();
        stranger.is_turned_away_from();
        drop(worker);
        assert!(!stranger.has_upgrade() && !stranger.has_request());
    }
}
