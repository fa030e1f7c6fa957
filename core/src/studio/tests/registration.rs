//! Section 2.

use std::time::Duration;

use serde_json::json;

use super::rig::{Member, Rig, old};
use crate::{
    studio::{Action, Answer, ConnId, Input, Options, Record, Standing},
    wire::{
        Secret,
        registration::{Decision, secret_hash},
    },
};

fn request_id(answer: &Answer) -> String {
    assert_eq!((answer.status(), answer.body()["status"].as_str()), (200, Some("pending")));
    answer.body()["requestId"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_machine_gets_the_same_request_while_it_is_pending() {
    let mut rig = Rig::new();
    let first = request_id(&rig.register("i", "s"));
    assert!(first.starts_with("rr-"));
    assert_eq!(request_id(&rig.register("i", "s")), first);
    assert_ne!(request_id(&rig.register("other", "s")), first);
}

#[test]
fn another_secret_for_a_known_install_id_gets_a_401_at_its_poll() {
    let mut rig = Rig::new();
    let first = request_id(&rig.register("i", "s"));
    assert_eq!(request_id(&rig.register("i", "stranger")), first);
    assert_eq!(rig.poll(&first, "stranger").status(), 401);
    assert_eq!(rig.poll(&first, "s"), Answer::Decision(Decision::Pending));
}

#[test]
fn a_poll_without_the_secret_or_for_nothing_is_refused() {
    let mut rig = Rig::new();
    let id = request_id(&rig.register("i", "s"));
    assert_eq!(rig.call(|call| Input::Poll { call, request_id: id, bearer: None }).status(), 401);
    assert_eq!(rig.poll("rr-unknown", "s").status(), 404);
}

#[test]
fn each_approved_poll_mints_a_token_and_the_newest_counts() {
    let mut rig = Rig::new();
    let first = rig.member("i");
    let id = rig.studio.registrations().next().unwrap().request_id.clone();
    let Answer::Decision(Decision::Approved { worker_id, auth_token }) = rig.poll(&id, "s") else { panic!() };
    assert_eq!(worker_id, first.id);
    assert_eq!(auth_token.reveal().len(), 64);
    assert_ne!(auth_token, first.token);
    assert_eq!(rig.upgrade(&first).1.status(), 401);
    assert_eq!(rig.upgrade(&Member { id: worker_id, token: auth_token }).1, Answer::Proceed);
}

#[test]
fn tokens_are_stored_as_hashes_and_before_they_are_given_out() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let hash = secret_hash(&member.token);
    let stored = rig.actions.iter().position(
        |action| matches!(action, Action::Save(Record::Worker(worker)) if worker.token_hash.as_ref() == Some(&hash)),
    );
    let told = rig.actions.iter().position(|action| {
        matches!(action, Action::Answer { answer: Answer::Decision(Decision::Approved { .. }), .. })
    });
    assert!(stored.unwrap() < told.unwrap());
    assert!(rig.stored.values().all(|text| !text.contains(member.token.reveal())));
    assert!(!format!("{:?}{:?}", rig.studio, rig.actions).contains(member.token.reveal()));
}

#[test]
fn a_rejection_carries_its_reason_and_can_not_become_an_approval() {
    let mut rig = Rig::new();
    let id = request_id(&rig.register("i", "s"));
    let reject = |call| Input::Reject { call, request_id: id.clone(), reason: Some("not ours".into()) };
    assert_eq!(rig.call(reject).body()["reason"], "not ours");
    let rejected = Decision::Rejected { reason: Some("not ours".into()) };
    assert_eq!(rig.poll(&id, "s"), Answer::Decision(rejected));
    assert_eq!(rig.approve(&id).status(), 409);
    // Who is rejected may ask again.
    let again = request_id(&rig.register("i", "s"));
    assert_ne!(again, id);
    assert_eq!(rig.poll(&id, "s").status(), 404);
}

#[test]
fn an_approval_is_one_however_often_it_is_given_and_is_not_taken_back_by_a_rejection() {
    let mut rig = Rig::new();
    let id = request_id(&rig.register("i", "s"));
    let first = rig.approve(&id).body();
    assert!(first["workerId"].as_str().unwrap().starts_with("w-"));
    assert!(first.get("secretHash").is_none());
    assert_eq!(rig.approve(&id).body(), first);
    assert_eq!(rig.studio.workers().count(), 1);
    assert_eq!(rig.call(|call| Input::Reject { call, request_id: id, reason: None }).status(), 409);
    assert_eq!(rig.approve("rr-x").status(), 404);
}

#[test]
fn a_known_machine_that_asks_anew_gets_a_new_request_and_keeps_its_id() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let old_request = rig.studio.registrations().next().unwrap().request_id.clone();
    let id = request_id(&rig.register("i", "s2"));
    assert_ne!(id, old_request);
    assert_eq!(rig.upgrade(&member).1, Answer::Proceed, "until the new request has its token");
    rig.approve(&id);
    let Answer::Decision(Decision::Approved { worker_id, .. }) = rig.poll(&id, "s2") else { panic!() };
    assert_eq!(worker_id, member.id);
    assert_eq!(rig.upgrade(&member).1.status(), 401);
}

#[test]
fn auto_approval_lets_everybody_in_at_the_first_poll() {
    let mut rig = Rig::with(Options { auto_approve: true, ..Options::default() });
    let id = request_id(&rig.register("i", "s"));
    assert!(matches!(rig.poll(&id, "s"), Answer::Decision(Decision::Approved { .. })));
}

#[test]
fn ten_requests_a_minute_are_enough_for_one_address() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, peer: &str| {
        let peer = peer.to_owned();
        rig.call(|call| Input::Register { call, peer, body: b"{}".to_vec() })
    };
    for _ in 0..10 {
        assert_eq!(ask(&mut rig, "1.2.3.4").status(), 400);
    }
    rig.sleep(Duration::from_millis(20_500));
    let refused = ask(&mut rig, "1.2.3.4");
    assert_eq!((refused.status(), refused.retry_after()), (429, Some(40)));
    assert_eq!(ask(&mut rig, "1.2.3.5").status(), 400);
    rig.sleep(Duration::from_secs(40));
    assert_eq!(ask(&mut rig, "1.2.3.4").status(), 400);
}

#[test]
fn a_body_that_can_not_be_read_is_refused_with_the_field_that_is_to_blame() {
    let mut rig = Rig::with(Options { registrations_per_minute: 100, ..Options::default() });
    let good = json!({ "installId": "i", "registrationSecretHash": "ab".repeat(32), "capabilities": old() });
    for (field, value) in [
        ("installId", json!("")),
        ("installId", json!(7)),
        ("installId", json!("a\nb")),
        ("registrationSecretHash", json!("ab")),
        ("registrationSecretHash", json!("zz".repeat(32))),
        ("label", json!(["x"])),
        ("capabilities", json!(null)),
        ("capabilities", json!({ "vramTotalGb": "much" })),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let body = body.to_string().into_bytes();
        let answer = rig.call(|call| Input::Register { call, peer: "p".into(), body });
        assert_eq!((answer.status(), answer.body()["field"].as_str()), (400, Some(field)));
    }
    let huge = vec![b' '; 300 * 1024];
    assert_eq!(rig.call(|call| Input::Register { call, peer: "p".into(), body: huge }).status(), 413);
    assert_eq!(rig.studio.registrations().count(), 0);
}

#[test]
fn pending_registrations_are_bounded_and_abandoned_ones_make_room() {
    let mut rig = Rig::with(Options { max_pending: 2, ..Options::default() });
    let first = request_id(&rig.register("a", "s"));
    let second = request_id(&rig.register("b", "s"));
    assert_eq!(rig.register("c", "s").status(), 503);
    rig.sleep(Duration::from_secs(601));
    rig.poll(&first, "s");
    assert_eq!(rig.register("c", "s").status(), 200);
    assert_eq!(rig.poll(&first, "s").status(), 200);
    assert_eq!(rig.poll(&second, "s").status(), 404);
    assert!(rig.stored[&("registration".into(), second)].contains(Standing::Expired.name()));
}

#[test]
fn a_revoked_worker_is_told_so_and_must_ask_anew() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let request = rig.studio.registrations().next().unwrap().request_id.clone();
    rig.take();
    let worker_id = member.id.clone();
    assert_eq!(rig.call(|call| Input::Revoke { call, worker_id }).status(), 200);
    assert_eq!(rig.heard(conn), ["worker_deleted", "4004"]);
    let (_, refused) = rig.upgrade(&member);
    assert_eq!((refused.status(), refused.body()["error"].as_str()), (404, Some("worker not found")));
    assert_eq!(rig.poll(&request, "s").status(), 404);
    let worker_id = member.id.clone();
    assert_eq!(rig.call(|call| Input::Revoke { call, worker_id }).status(), 404);
    assert_ne!(rig.member("i").id, member.id);
}

#[test]
fn an_upgrade_needs_the_token_of_that_worker() {
    let mut rig = Rig::new();
    let (a, b) = (rig.member("a"), rig.member("b"));
    assert_eq!(rig.upgrade(&Member { id: a.id.clone(), token: b.token.clone() }).1.status(), 401);
    assert_eq!(rig.upgrade(&Member { id: "w-none".into(), token: Secret::new("x") }).1.status(), 404);
    let (worker_id, conn) = (a.id, ConnId(900));
    assert_eq!(rig.call(|call| Input::Upgrade { call, conn, worker_id, bearer: None }).status(), 401);
}
