//! The HTTP API for people and scripts.

use serde_json::{Value, json};

use crate::{http, rig::Rig};

#[test]
fn jobs_are_queued_listed_and_cancelled() {
    let rig = Rig::new();
    let job = json!({
        "model": "m", "gameId": "g-1", "assetName": "hero", "vramGbEstimate": 2.5,
        "task": { "kind": "image", "prompt": "a lighthouse", "width": 64, "height": 32, "ext": "png" },
        "modelSource": { "engine": "synthetic" },
    });
    let queued = rig.post("/api/v1/jobs", &job);
    assert_eq!(queued.status, 201);
    let queued = queued.json();
    assert_eq!(queued, rig.job(queued["id"].as_str().unwrap()));
    for (field, value) in [
        ("state", json!("queued")),
        ("kind", json!("image")),
        ("model", json!("m")),
        ("gameId", json!("g-1")),
        ("assetName", json!("hero")),
        ("vramGbEstimate", json!(2.5)),
        ("attempts", json!(0)),
        ("output", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(queued[field], value, "{field}");
    }
    assert_eq!(queued["task"]["width"], 64);
    assert_eq!(queued["modelSource"]["engine"], "synthetic");

    let path = format!("/api/v1/jobs/{}", queued["id"].as_str().unwrap());
    assert_eq!(rig.get(&format!("{path}/result")).status, 409);
    let cancelled = rig.delete(&path);
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(rig.delete(&path).status, 409);
    assert_eq!(rig.get(&path).json()["state"], "cancelled");
}

#[test]
fn a_job_that_a_worker_has_ends_when_the_worker_is_done() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");
    let cancelled = rig.delete(&format!("/api/v1/jobs/{id}"));
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelling")));
    rig.upload(&worker, &id, "png", b"unwanted");
    rig.job_is(&id, "cancelled");
    let results = rig.place.path().join("data/results");
    while std::fs::read_dir(&results).unwrap().count() > 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_job_id_is_taken_once_even_when_its_job_is_over() {
    let rig = Rig::new();
    let job = json!({ "id": "mine", "model": "m", "task": { "kind": "image", "prompt": "x" } });
    assert_eq!(rig.post("/api/v1/jobs", &job).status, 201);
    assert_eq!(rig.post("/api/v1/jobs", &job).blame(), (409, Some("id".to_owned())));
    assert_eq!(rig.delete("/api/v1/jobs/mine").status, 200);
    assert_eq!(rig.post("/api/v1/jobs", &job).blame(), (409, Some("id".to_owned())));
}

#[test]
fn a_listing_is_filtered_and_paged() {
    let rig = Rig::new();
    let chat = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] });
    let mut ids: Vec<String> = (0..5).map(|_| rig.queue_image()).collect();
    ids.push(rig.queue(&chat));
    rig.delete(&format!("/api/v1/jobs/{}", ids[0]));
    ids.reverse();
    let list = |query: &str| -> (Vec<String>, Value) {
        let answer = rig.get(&format!("/api/v1/jobs{query}")).json();
        let jobs = answer["jobs"].as_array().unwrap();
        (jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect(), answer["next"].clone())
    };
    assert_eq!(list(""), (ids.clone(), Value::Null));
    assert_eq!(list("?kind=llm").0, ids[..1]);
    assert_eq!(list("?state=cancelled").0, ids[5..]);
    assert_eq!(list("?state=queued&kind=image").0, ids[1..5]);
    let (page, next) = list("?limit=4");
    assert_eq!(page, ids[..4]);
    assert_eq!(
        list(&format!("?limit=4&cursor={}", next.as_str().unwrap())),
        (ids[4..].to_vec(), Value::Null)
    );
    let (page, next) = list("?limit=6");
    assert_eq!((page.len(), next), (6, Value::Null), "a full last page has no next");
}

#[test]
fn registrations_are_listed_and_decided_once() {
    let rig = Rig::new();
    let (first, _) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3951");
    let (second, _) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3952");
    let listed = |query: &str| -> Vec<String> {
        let answer = rig.get(&format!("/api/v1/registrations{query}")).json();
        let found = answer["registrations"].as_array().unwrap();
        found.iter().map(|it| it["requestId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("?status=pending"), [second.clone(), first.clone()]);
    assert_eq!(listed("?limit=1"), [second.as_str()]);
    let decide =
        |id: &str, what: &str| rig.post(&format!("/api/v1/registrations/{id}/{what}"), &json!({})).status;
    assert_eq!(decide(&first, "approve"), 200);
    assert_eq!(decide(&first, "approve"), 200, "approving twice is one approval");
    assert_eq!(decide(&first, "reject"), 409);
    assert_eq!(decide(&second, "reject"), 200);
    assert_eq!(decide(&second, "approve"), 409);
    assert_eq!(decide("rr-nobody", "approve"), 404);
    assert_eq!(decide("rr-nobody", "reject"), 404);
    assert_eq!(listed("?status=approved"), [first]);
    assert_eq!(listed("?status=rejected"), [second.as_str()]);
    // Neither needs a body.
    let path = format!("/api/v1/registrations/{second}/reject");
    assert_eq!(http::request(rig.address(), "POST", &path, &[], b"").status, 200);
}

#[test]
fn no_credential_and_no_hash_of_one_is_shown() {
    let rig = Rig::new();
    let worker = rig.register();
    for path in ["/api/v1/workers", "/api/v1/registrations", "/api/v1/jobs"] {
        let text = rig.get(path).text().to_ascii_lowercase();
        assert!(!text.contains(&worker.token) && !text.contains("hash"), "{path}: {text}");
    }
}

#[test]
fn the_page_the_description_and_the_health_are_served() {
    let rig = Rig::new();
    let page = rig.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("function showMesh") && page.text().contains("data-token=\"no\""));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for outside in ["http://", "https://", "src=\"//"] {
        let found: Vec<_> = page.text().lines().filter(|line| line.contains(outside)).collect();
        // The placeholder of a form field is the only address in it.
        assert!(found.iter().all(|line| line.contains("https://…")), "{found:?}");
    }
    assert_eq!(rig.get("/openapi.json").json()["openapi"], "3.1.0");
    let health = rig.get("/api/v1/healthz").json();
    assert_eq!(health, json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }));
}
