//! The four routes that workers use (sections 1 to 6).

use std::io::Write as _;

use serde_json::{Value, json};
use studio_worker_core::wire::multipart::Envelope;
use tungstenite::Message;

use crate::{
    http,
    rig::{Rig, complete},
};

#[test]
fn a_worker_is_registered_connected_and_delivers_json_and_bytes() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let shown = rig.get("/api/v1/workers").json();
    assert_eq!(
        (&shown["workers"][0]["id"], &shown["workers"][0]["connected"]),
        (&json!(worker.worker_id), &json!(true))
    );

    let chat = rig.queue(&json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }));
    let claim = session.accept();
    assert_eq!((&claim["jobId"], &claim["model"]), (&json!(chat), &json!("m")));
    let result = json!({ "choices": [{ "message": { "role": "assistant", "content": "hello" } }] });
    session.send(&json!({ "type": "completeJson", "jobId": chat, "result": result, "prompt": "hi" }));
    assert_eq!(session.receive(), json!({ "type": "completeAck", "jobId": chat }));
    let job = rig.job_is(&chat, "completed");
    assert_eq!((&job["output"]["form"], &job["output"]["prompt"]), (&json!("json"), &json!("hi")));
    let fetched = rig.get(job["output"]["url"].as_str().unwrap());
    assert_eq!((fetched.status, fetched.header("content-type")), (200, Some("application/json")));
    assert_eq!(fetched.json(), result);

    let image = rig.queue_image();
    session.accept();
    rig.job_is(&image, "running");
    let delivered = rig.upload(&worker, &image, "PNG", b"not really a picture");
    assert_eq!((delivered.status, delivered.json()), (200, json!({ "status": "completed" })));
    let job = rig.job(&image);
    assert_eq!(
        (&job["state"], &job["output"]["ext"], &job["output"]["bytes"]),
        (&json!("completed"), &json!("png"), &json!(20))
    );
    let fetched = rig.get(&format!("/api/v1/jobs/{image}/result"));
    assert_eq!(fetched.body, b"not really a picture");
    assert_eq!(
        (fetched.status, fetched.header("content-type"), fetched.header("content-length")),
        (200, Some("image/png"), Some("20"))
    );
}

#[test]
fn a_part_of_a_result_can_be_fetched() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    assert_eq!(rig.upload(&worker, &id, "png", b"0123456789").status, 200);
    let path = format!("/api/v1/jobs/{id}/result");
    let part = http::request(rig.address(), "GET", &path, &[("Range", "bytes=2-4")], b"");
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 2-4/10")));
    assert_eq!(part.body, b"234");
    let beyond = http::request(rig.address(), "GET", &path, &[("Range", "bytes=10-")], b"");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
}

#[test]
fn a_rejected_worker_hears_why() {
    let rig = Rig::new();
    let (request_id, secret) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
    assert_eq!(rig.poll(&request_id, &secret).json(), json!({ "status": "pending" }));
    let path = format!("/api/v1/registrations/{request_id}/reject");
    let rejected = rig.post(&path, &json!({ "reason": "not known here" }));
    assert_eq!((rejected.status, &rejected.json()["reason"]), (200, &json!("not known here")));
    let decision = rig.poll(&request_id, &secret).json();
    assert_eq!(decision, json!({ "status": "rejected", "reason": "not known here" }));
}

#[test]
fn a_poll_needs_the_secret_and_a_known_request() {
    let rig = Rig::new();
    let (request_id, secret) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
    assert_eq!(rig.poll("rr-nobody", &secret).status, 404);
    assert_eq!(rig.poll(&request_id, &"wrong".into()).status, 401);
    let path = format!("/graphics/api/workers/register-requests/{request_id}");
    assert_eq!(rig.get(&path).status, 401);
}

#[test]
fn a_registration_that_cannot_be_read_is_refused_and_so_is_the_eleventh_in_a_minute() {
    let rig = Rig::new();
    let path = "/graphics/api/workers/register-request";
    for body in [json!([]), json!({}), json!({ "installId": 7 })] {
        let answer = rig.post(path, &body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    let statuses: Vec<u16> = (0..12).map(|_| rig.post(path, &json!({})).status).collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let wait = rig.post(path, &json!({}));
    assert!(wait.header("retry-after").and_then(|value| value.parse::<u64>().ok()).is_some(), "{wait:?}");
}

#[test]
fn an_upgrade_is_refused_with_a_text() {
    let rig = Rig::new();
    let worker = rig.register();
    let refused = |worker_id: &str, token: &str| match rig.upgrade(worker_id, token) {
        Err(tungstenite::Error::Http(response)) => {
            let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(kind.starts_with("text/plain"), "{kind}");
            (
                response.status().as_u16(),
                String::from_utf8_lossy(response.body().as_deref().unwrap()).into_owned(),
            )
        }
        Err(error) => panic!("a refusal was wanted: {error}"),
        Ok(_) => panic!("a refusal was wanted"),
    };
    assert_eq!(refused(&worker.worker_id, "wrong").0, 401);
    let (status, text) = refused("w-nobody", &worker.token);
    assert_eq!(status, 404);
    assert!(text.contains("worker not found"), "{text}");

    // Not even an upgrade, and one without the sub-protocol.
    let path = format!("/graphics/api/workers/{}/connect", worker.worker_id);
    assert_eq!(rig.get(&path).status, 426);
    let bearer = format!("Bearer {}", worker.token);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = http::request(rig.address(), "GET", &path, &headers, b"");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("studio-worker-v1"), "{answer:?}");
}

#[test]
fn a_revoked_worker_is_told_so() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let path = format!("/api/v1/workers/{}", worker.worker_id);
    let revoked = rig.delete(&path);
    assert_eq!(revoked.status, 200);
    assert!(revoked.json()["revokedAt"].is_string());
    assert_eq!(session.closed(), 4004);
    assert_eq!(rig.delete(&path).status, 404);
    assert_eq!(rig.get("/api/v1/workers").json(), json!({ "workers": [] }));
    let all = rig.get("/api/v1/workers?revoked=true").json();
    assert_eq!(all["workers"][0]["id"], json!(worker.worker_id));
}

#[test]
fn a_second_connection_takes_over() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut first = rig.connect(&worker);
    let _second = rig.connect(&worker);
    assert_eq!(first.closed(), 4003);
}

#[test]
fn a_violation_closes_the_session() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    session.send(&json!({ "type": "accept", "jobId": "job-nobody" }));
    let error = session.receive();
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("protocol_violation")));
    assert_eq!(session.closed(), 4002);
}

#[test]
fn pings_are_answered_and_odd_frames_do_no_harm() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    session.send_message(Message::Binary(vec![1, 2, 3].into()));
    session.send(&json!({ "type": "ofTomorrow", "field": 1 }));
    session.send_message(Message::Ping(b"are you there"[..].into()));
    let id = rig.queue_image();
    assert_eq!(session.accept()["jobId"], json!(id));
}

#[test]
fn a_frame_of_more_than_64_mib_closes_the_session() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue(&json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }));
    session.accept();
    let frame = |bytes: usize| {
        let result = "x".repeat(bytes);
        json!({ "type": "completeJson", "jobId": id, "result": result, "prompt": "hi" }).to_string()
    };
    // The socket may be closed before all of it was sent.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.send_message(Message::text(frame(65 * 1024 * 1024)));
    }));
    rig.job_is(&id, "queued");

    let mut session = rig.connect(&worker);
    session.accept();
    session.send_message(Message::text(frame(63 * 1024 * 1024)));
    assert_eq!(session.receive()["type"], "completeAck");
    rig.job_is(&id, "completed");
}

#[test]
fn a_session_that_ends_gives_its_job_back() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");
    session.hang_up();
    let job = rig.job_is(&id, "queued");
    assert_eq!(job["attempts"], 1);
}

#[test]
fn an_upload_needs_its_worker_and_its_job() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");
    let post = |path: &str, token: &str| {
        let envelope = Envelope::new(&"j".into(), "", "png", 1);
        let headers =
            [("Authorization", &*format!("Bearer {token}")), ("Content-Type", &*envelope.content_type)];
        let body = [&envelope.head[..], b"bytes", &envelope.tail].concat();
        http::request(rig.address(), "POST", path, &headers, &body).status
    };
    assert_eq!(post(&complete(&worker, &id), "wrong"), 401);
    assert_eq!(post(&format!("/graphics/api/workers/w-nobody/jobs/{id}/complete"), &worker.token), 404);
    assert_eq!(post(&complete(&worker, "job-nobody"), &worker.token), 409);
    assert_eq!(post(&complete(&worker, &id), &worker.token), 200);
    assert_eq!(post(&complete(&worker, &id), &worker.token), 409, "it is delivered already");
    assert_eq!(files(&rig), 1, "what was refused is not kept");
}

#[test]
fn an_id_is_one_segment_whatever_is_in_it() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = "a/b %?#ü..";
    let encoded = "a%2Fb%20%25%3F%23%C3%BC..";
    let task = json!({ "kind": "image", "prompt": "x" });
    let queued = rig.post("/api/v1/jobs", &json!({ "id": id, "model": "m", "task": task }));
    assert_eq!((queued.status, &queued.json()["id"]), (201, &json!(id)));
    assert_eq!(session.accept()["jobId"], json!(id));
    rig.job_is(encoded, "running");
    let envelope = Envelope::new(&id.into(), "x", "png", 1);
    let body = [&envelope.head[..], b"bytes", &envelope.tail].concat();
    let headers =
        [("Authorization", &*format!("Bearer {}", worker.token)), ("Content-Type", &*envelope.content_type)];
    let delivered = http::request(rig.address(), "POST", &complete(&worker, encoded), &headers, &body);
    assert_eq!(delivered.status, 200, "{delivered:?}");
    let job = rig.job_is(encoded, "completed");
    assert_eq!(job["output"]["url"], json!(format!("/api/v1/jobs/{encoded}/result")));
    assert_eq!(rig.get(job["output"]["url"].as_str().unwrap()).body, b"bytes");
}

#[test]
fn fields_come_in_any_order_and_strangers_among_them_are_skipped() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    let body = multipart(&[
        ("image", Some("a.png"), b"the bytes"),
        ("newer", None, b"whatever"),
        ("ext", None, b"WebP"),
        ("prompt", None, "größer".as_bytes()),
    ]);
    assert_eq!(send(&rig, &complete(&worker, &id), &worker.token, &body).status, 200);
    let job = rig.job(&id);
    assert_eq!((&job["output"]["ext"], &job["output"]["prompt"]), (&json!("webp"), &json!("größer")));
}

#[test]
fn an_upload_that_cannot_be_read_is_refused_and_can_be_made_again() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");
    let path = complete(&worker, &id);
    for (fields, field) in [
        (&[("ext", None, &b"png"[..])][..], "image"),
        (&[("image", Some("a"), b"x")], "ext"),
        (&[("ext", None, b"../x"), ("image", Some("a"), b"x")], "ext"),
        (&[("ext", None, b"\xff"), ("image", Some("a"), b"x")], "ext"),
        (&[("ext", None, b"png"), ("image", Some("a"), b"")], "image"),
        (&[("ext", None, b"png"), ("image", Some("a"), b"x"), ("image", Some("b"), b"y")], "image"),
    ] {
        let answer = send(&rig, &path, &worker.token, &multipart(fields));
        assert_eq!(answer.blame(), (400, Some(field.to_owned())), "{fields:?}");
    }
    let bearer = format!("Bearer {}", worker.token);
    let plain = http::request(rig.address(), "POST", &path, &[("Authorization", &bearer)], b"x");
    assert_eq!(plain.blame(), (400, Some("Content-Type".to_owned())));
    let mut cut_off = multipart(&[("ext", None, b"png"), ("image", Some("a"), b"bytes")]);
    cut_off.truncate(cut_off.len() - 10);
    assert_eq!(send(&rig, &path, &worker.token, &cut_off).status, 400);
    assert_eq!(files(&rig), 0, "nothing is left of them");
    assert_eq!(rig.job(&id)["state"], "running");
    assert_eq!(rig.upload(&worker, &id, "png", b"at last").status, 200);
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");
    let envelope = Envelope::new(&id.as_str().into(), "", "png", 1);
    let headers =
        [("Authorization", &*format!("Bearer {}", worker.token)), ("Content-Type", &*envelope.content_type)];
    let mut stream =
        http::begin(rig.address(), "POST", &complete(&worker, &id), &headers, envelope.length(1_000_000));
    stream.write_all(&envelope.head).unwrap();
    stream.write_all(&vec![7; 100_000]).unwrap();
    while files(&rig) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(stream);
    while files(&rig) > 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(rig.upload(&worker, &id, "png", b"whole").status, 200);
}

#[test]
fn log_lines_are_kept_and_read() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let line = |message: &str, job: Option<&str>| {
        let mut line = json!({
            "ts": "2026-11-25T07:00:00.000Z", "level": "warn", "category": "test", "message": message,
        });
        if let Some(job) = job {
            line["jobId"] = json!(job);
        }
        line
    };
    session.send(&json!({ "type": "logBatch", "entries": [line("one", None), line("two", Some("j-1"))] }));
    session.send(&json!({ "type": "logBatch", "entries": [line("three", None)] }));
    let lines = |query: &str| -> (Vec<String>, Value) {
        let answer = rig.get(&format!("/api/v1/logs{query}")).json();
        let lines = answer["lines"].as_array().unwrap();
        (
            lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect(),
            answer["next"].clone(),
        )
    };
    while lines("").0.len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (all, next) = lines("");
    assert_eq!(all, ["one", "two", "three"]);
    assert_eq!(lines(&format!("?worker={}&limit=2", worker.worker_id)).0, ["two", "three"]);
    assert_eq!(lines("?worker=w-nobody").0.len(), 0);
    assert_eq!(lines("?job=j-1").0, ["two"]);
    let first = rig.get("/api/v1/logs").json()["lines"][0]["id"].clone();
    assert_eq!(lines(&format!("?since={first}")), (vec!["two".into(), "three".into()], next.clone()));
    assert_eq!(lines(&format!("?since={next}")), (vec![], next));
}

fn files(rig: &Rig) -> usize {
    std::fs::read_dir(rig.place.path().join("data/results")).unwrap().count()
}

fn send(rig: &Rig, path: &str, token: &str, body: &[u8]) -> http::Answer {
    let headers = [
        ("Authorization", &*format!("Bearer {token}")),
        ("Content-Type", "multipart/form-data; boundary=XYZ"),
    ];
    http::request(rig.address(), "POST", path, &headers, body)
}

fn multipart(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, value) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend(
            format!("--XYZ\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
        );
        body.extend(*value);
        body.extend(b"\r\n");
    }
    body.extend(b"--XYZ--\r\n");
    body
}
