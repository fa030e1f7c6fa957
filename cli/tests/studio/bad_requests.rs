//! What can't be read is a 4xx that names what is to blame.

use serde_json::json;

use crate::{
    http::{self, Answer},
    rig::{JSON, Rig},
};

#[test]
fn a_bad_job_names_its_field() {
    let rig = Rig::new();
    let image = json!({ "kind": "image", "prompt": "x" });
    for (job, field) in [
        (json!({ "task": image }), Some("model")),
        (json!({ "model": "m" }), Some("task")),
        (json!({ "model": "m", "task": { "kind": "hologram" } }), Some("task.kind")),
        (json!({ "model": "m", "task": { "kind": "image" } }), Some("task.prompt")),
        (json!({ "model": "m", "task": { "kind": "image", "prompt": "x", "width": 0 } }), Some("task.width")),
        (json!({ "model": "m", "task": image, "colour": "red" }), Some("colour")),
        (json!({ "model": "m", "task": image, "vramGbEstimate": -1 }), Some("vramGbEstimate")),
        (json!({ "model": "m", "task": image, "vramGbEstimate": "much" }), Some("vramGbEstimate")),
        (json!([]), None),
    ] {
        let answer = rig.post("/api/v1/jobs", &job);
        assert_eq!(answer.blame(), (400, field.map(str::to_owned)), "{job}");
        assert_eq!(answer.json()["error"]["code"], "bad_request");
    }
    assert_eq!(rig.get("/api/v1/jobs").json()["jobs"], json!([]));
}

#[test]
fn a_bad_query_names_its_parameter() {
    let rig = Rig::new();
    for (path, field) in [
        ("/api/v1/jobs?state=done", "state"),
        ("/api/v1/jobs?kind=hologram", "kind"),
        ("/api/v1/jobs?limit=0", "limit"),
        ("/api/v1/jobs?limit=1001", "limit"),
        ("/api/v1/jobs?limit=many", "limit"),
        ("/api/v1/jobs?cursor=-1", "cursor"),
        ("/api/v1/jobs?order=up", "order"),
        ("/api/v1/jobs?limit=1&limit=2", "limit"),
        ("/api/v1/registrations?status=maybe", "status"),
        ("/api/v1/workers?revoked=perhaps", "revoked"),
        ("/api/v1/logs?since=yesterday", "since"),
        ("/api/v1/jobs/%FF", "path"),
    ] {
        assert_eq!(rig.get(path).blame(), (400, Some(field.to_owned())), "{path}");
    }
}

#[test]
fn a_body_must_be_json_of_a_sensible_size() {
    let rig = Rig::new();
    let job = br#"{"model":"m","task":{"kind":"image","prompt":"x"}}"#;
    let post = |headers: &[(&str, &str)], body: &[u8]| -> Answer {
        http::request(rig.address(), "POST", "/api/v1/jobs", headers, body)
    };
    let unsupported = (415, Some("Content-Type".to_owned()));
    assert_eq!(post(&[], job).blame(), unsupported);
    assert_eq!(post(&[("Content-Type", "text/plain")], job).blame(), unsupported);
    assert_eq!(post(&[("Content-Type", "application/json; charset=utf-8")], job).status, 201);
    assert_eq!(post(&[JSON], b"{").status, 400);
    assert_eq!(post(&[JSON], &vec![b' '; 49 * 1024 * 1024]).status, 413);
    let register = "/graphics/api/workers/register-request";
    let large = http::request(rig.address(), "POST", register, &[JSON], &vec![b' '; 2 * 1024 * 1024]);
    assert_eq!(large.status, 413);
}

#[test]
fn a_rejection_has_a_reason_or_nothing() {
    let rig = Rig::new();
    let (request_id, _) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
    let path = format!("/api/v1/registrations/{request_id}/reject");
    assert_eq!(rig.post(&path, &json!({ "reason": 7 })).blame(), (400, Some("reason".to_owned())));
    assert_eq!(rig.post(&path, &json!({ "why": "x" })).blame(), (400, Some("why".to_owned())));
    assert_eq!(rig.post(&path, &json!("x")).status, 400);
    let plain = http::request(rig.address(), "POST", &path, &[], b"because");
    assert_eq!(plain.blame(), (415, Some("Content-Type".to_owned())));
}

#[test]
fn what_is_not_there_is_a_404_and_a_wrong_method_a_405() {
    let rig = Rig::new();
    for path in [
        "/nothing",
        "/api/v1/nothing",
        "/api/v1/jobs/job-nobody",
        "/api/v1/jobs/job-nobody/result",
        "/graphics/api/workers",
    ] {
        let answer = rig.get(path);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(rig.delete("/api/v1/jobs/job-nobody").status, 404);
    assert_eq!(rig.delete("/api/v1/workers/w-nobody").status, 404);
    for (method, path) in
        [("PUT", "/api/v1/jobs"), ("POST", "/"), ("GET", "/graphics/api/workers/register-request")]
    {
        let answer = http::request(rig.address(), method, path, &[], b"");
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (405, &json!("method_not_allowed")),
            "{path}"
        );
        assert!(answer.header("allow").is_some(), "{answer:?}");
    }
}
