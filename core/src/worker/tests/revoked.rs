//! Section 6: a registration that the studio revoked, and a 404 that means nothing of the kind.

use alloc::{string::ToString, vec::Vec};

use serde_json::{Value, json};

use super::rig::*;
use crate::worker::{HttpAnswer, HttpRequest, Key, Method, states::SessionState};

fn json_answer(value: &Value) -> HttpAnswer {
    body(200, &value.to_string())
}

fn approval(token: &str) -> Value {
    json!({ "status": "approved", "workerId": "w-1", "authToken": token })
}

fn asks(rig: &Rig) -> Vec<HttpRequest> {
    rig.requests().into_iter().filter(|http| http.method == Method::Post).collect()
}

/// Every way in which a studio says that it doesn't know the worker any more.
fn revoked(rig: &mut Rig, how: usize) {
    match how {
        0 => rig.refuse(body(404, "worker not found")),
        1 => rig.refuse(body(404, r#"{"error":"Worker w-1 not found"}"#)),
        2 => rig.refuse(body(404, r#"{"error":"worker_not_found"}"#)),
        3 => {
            rig.open();
            rig.closed(4004);
        }
        _ => {
            rig.open();
            rig.frame(&json!({ "type": "error", "code": "worker_deleted", "message": "gone" }));
            rig.closed(4004);
        }
    }
}

#[test]
fn a_revoked_worker_forgets_its_credentials_and_registers_anew() {
    for how in 0..5 {
        let mut rig = Rig::new(settings(registered()));
        rig.file.insert(Key::WorkerId, "w-1".into());
        rig.file.insert(Key::AuthToken, "tok-secret".into());
        revoked(&mut rig, how);
        rig.until_asked();
        assert!(!rig.file.contains_key(&Key::WorkerId) && !rig.file.contains_key(&Key::AuthToken));
        assert!(!rig.file.contains_key(&Key::InstallId), "the install id stays what it was");
        let sent: Value = serde_json::from_str(text(&asks(&rig)[0])).unwrap();
        assert_eq!(sent["installId"], "11111111-1111-4111-8111-111111111111");
        assert_eq!(rig.exit(), None);
    }
}

#[test]
fn a_studio_that_approves_and_revokes_is_asked_ever_more_rarely() {
    let mut rig = Rig::new(settings(registered()));
    let mut asked_at = Vec::new();
    for _ in 0..8 {
        rig.refuse(body(404, "worker not found"));
        rig.until_asked();
        asked_at.push(rig.now.mono);
        rig.answer(json_answer(&json!({ "requestId": "rr-1", "status": "pending" })));
        rig.stored_all();
        rig.pass(secs(2));
        rig.answer(json_answer(&approval("tok-secret")));
        rig.stored_all();
    }
    let last = asked_at[7].since(asked_at[6]);
    assert!(last >= secs(15), "{last:?}");
}

#[test]
fn a_404_of_a_gateway_keeps_the_credentials() {
    for text in [
        "",
        "404 page not found",
        "<html><h1>404 Not Found</h1></html>",
        "Not Found: /graphics/api/workers/w-1/connect",
        "path /graphics/api/workers/worker-1/connect not found",
        "no workers here; page not found",
    ] {
        let mut rig = Rig::new(settings(registered()));
        rig.refuse(body(404, text));
        assert_eq!(rig.worker.state(), SessionState::Waiting, "{text}");
        assert!(rig.stores().is_empty());
        rig.open();
    }
}
