//! Who may ask.

use serde_json::json;

use crate::{
    http::{self, request},
    rig::{JSON, Rig},
};

const ADMIN_PATHS: [(&str, &str); 11] = [
    ("POST", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs/j"),
    ("DELETE", "/api/v1/jobs/j"),
    ("GET", "/api/v1/jobs/j/result"),
    ("GET", "/api/v1/workers"),
    ("DELETE", "/api/v1/workers/w"),
    ("GET", "/api/v1/registrations"),
    ("POST", "/api/v1/registrations/r/approve"),
    ("POST", "/api/v1/registrations/r/reject"),
    ("GET", "/api/v1/logs"),
];

#[test]
fn beyond_loopback_the_admin_token_is_wanted() {
    let rig = Rig::on("0.0.0.0:0");
    let path = rig.place.path().join("data/admin-token");
    let token = std::fs::read_to_string(path).unwrap();
    let token = token.trim();
    for (method, path) in ADMIN_PATHS {
        for bearer in [None, Some("Bearer wrong".to_owned()), Some(format!("Basic {token}"))] {
            let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
            let answer = request(rig.address(), method, path, &headers, b"");
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer")),
                "{method} {path} {bearer:?}"
            );
            assert_eq!(answer.json()["error"]["code"], "unauthorized");
        }
    }
    let bearer = format!("Bearer {token}");
    let answer = request(rig.address(), "GET", "/api/v1/jobs", &[("Authorization", &bearer)], b"");
    assert_eq!(answer.json(), json!({ "jobs": [], "next": null }));
    // Workers have credentials of their own, and what tells nothing is for everybody.
    assert!(rig.get("/").text().contains("data-token=\"yes\""));
    assert_eq!(rig.get("/api/v1/healthz").status, 200);
    assert_eq!(rig.get("/openapi.json").status, 200);
    rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
}

#[test]
fn on_loopback_no_token_is_made() {
    let rig = Rig::new();
    assert_eq!(rig.get("/api/v1/jobs").status, 200);
    assert!(!rig.place.path().join("data/admin-token").exists());
}

#[test]
fn a_page_of_another_site_gets_nothing_and_changes_nothing() {
    let rig = Rig::new();
    let (request_id, _) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
    let approve = format!("/api/v1/registrations/{request_id}/approve");
    let job = br#"{"model":"m","task":{"kind":"image","prompt":"x"}}"#;
    let own = rig.address().to_string();
    for (header, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Host", "evil.example"),
        ("Host", "evil.example:8700"),
    ] {
        for (method, path, body) in [
            ("POST", approve.as_str(), &b""[..]),
            ("POST", "/api/v1/jobs", job),
            ("GET", "/api/v1/workers", b""),
            ("GET", "/", b""),
            ("POST", "/graphics/api/workers/register-request", b"{}"),
        ] {
            let answer = http::request(rig.address(), method, path, &[(header, value), JSON], body);
            assert_eq!(answer.blame(), (403, Some(header.to_owned())), "{header}: {value} {method} {path}");
        }
    }
    assert_eq!(rig.get("/api/v1/registrations").json()["registrations"][0]["status"], "pending");
    assert_eq!(rig.get("/api/v1/jobs").json()["jobs"], json!([]));
    let origin = format!("http://{own}");
    let answer = http::request(rig.address(), "POST", &approve, &[("Origin", &origin)], b"");
    assert_eq!(answer.status, 200, "its own page may");
}

#[test]
fn a_result_cannot_act() {
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    assert_eq!(rig.upload(&worker, &id, "html", b"<script>alert(1)</script>").status, 200);
    let result = rig.get(&format!("/api/v1/jobs/{id}/result"));
    assert_eq!(result.header("content-type"), Some("application/octet-stream"));
    assert_eq!(result.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(result.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert!(result.header("content-disposition").unwrap().starts_with("attachment"), "{result:?}");
}
