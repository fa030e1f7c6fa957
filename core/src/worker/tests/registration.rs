//! Section 2: an operator approves, and nothing that is stored is lost on the way.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use super::rig::*;
use crate::{
    wire::{Secret, registration::secret_hash},
    worker::{
        Action, Exit, HttpAnswer, HttpFailure, HttpRequest, Identity, Input, Key, Method,
        states::SessionState,
    },
};

const INSTALL_ID: &str = "22222222-2222-4222-8222-222222222222";

fn asked() -> Identity {
    Identity {
        install_id: Some(INSTALL_ID.into()),
        registration_secret: Some("reg-secret".into()),
        registration_request_id: Some("rr-1".into()),
        ..Identity::default()
    }
}

/// As a program leaves its configuration between approval and the first welcome.
fn approved() -> Identity {
    Identity { worker_id: Some("w-1".into()), auth_token: Some("tok-secret".into()), ..asked() }
}

fn json_answer(value: &Value) -> HttpAnswer {
    body(200, &value.to_string())
}

fn pending() -> Value {
    json!({ "status": "pending" })
}

fn approval(token: &str) -> Value {
    json!({ "status": "approved", "workerId": "w-1", "authToken": token })
}

fn asks(rig: &Rig) -> Vec<HttpRequest> {
    rig.requests().into_iter().filter(|http| http.method == Method::Post).collect()
}

fn polls(rig: &Rig) -> Vec<HttpRequest> {
    rig.requests().into_iter().filter(|http| http.method == Method::Get).collect()
}

/// A worker from nothing, whose identity is stored and which has asked.
fn asking() -> Rig {
    let mut rig = Rig::new(settings(Identity::default()));
    rig.stored();
    rig
}

/// A worker whose request is accepted and stored.
fn waiting() -> Rig {
    let mut rig = asking();
    rig.answer(json_answer(&json!({ "requestId": "rr-1", "status": "pending" })));
    rig.stored();
    rig
}

/// A worker that was approved and whose token is stored.
fn newly_approved() -> Rig {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(json_answer(&approval("tok-secret")));
    rig.stored();
    rig
}

#[test]
fn install_id_and_secret_are_stored_before_anything_is_sent() {
    let mut rig = Rig::new(settings(Identity::default()));
    assert_eq!(rig.stores().len(), 1);
    assert_eq!(rig.file[&Key::InstallId].len(), 36);
    assert_eq!(rig.file[&Key::RegistrationSecret].len(), 64);
    rig.pass(secs(3_600));
    assert!(rig.requests().is_empty(), "sent before it was stored");
    rig.stored();
    assert_eq!(rig.requests().len(), 1);
}

#[test]
fn the_request_says_who_asks_and_hides_the_secret() {
    let rig = asking();
    let http = asks(&rig).remove(0);
    assert_eq!(http.url, "http://studio/graphics/api/workers/register-request");
    assert_eq!(http.bearer, None);
    let sent: Value = serde_json::from_str(text(&http)).unwrap();
    let secret = &rig.file[&Key::RegistrationSecret];
    assert_eq!(sent["installId"], rig.file[&Key::InstallId]);
    assert_eq!(sent["registrationSecretHash"], secret_hash(&Secret::new(secret.as_str())));
    assert_eq!(sent["label"], "box");
    assert_eq!(sent["userAgent"], "studio-worker/1.0.0");
    assert_eq!(sent["capabilities"]["machineName"], "host");
    assert_eq!(sent["capabilities"]["supportedModels"], json!(["synthetic"]));
    assert!(!text(&http).contains(secret));
}

#[test]
fn a_label_that_is_unset_or_empty_is_absent() {
    for label in [None, Some(String::new())] {
        let mut settings = settings(Identity::default());
        settings.label = label;
        let mut rig = Rig::new(settings);
        rig.stored();
        let sent: Value = serde_json::from_str(text(&asks(&rig)[0])).unwrap();
        assert_eq!(sent.get("label"), None);
    }
}

#[test]
fn an_install_id_that_is_there_is_kept() {
    let identity = Identity { install_id: Some(INSTALL_ID.into()), ..Identity::default() };
    let mut rig = Rig::new(settings(identity));
    assert!(!rig.file.contains_key(&Key::InstallId), "it is there already");
    rig.stored();
    assert!(text(&asks(&rig)[0]).contains(INSTALL_ID));
}

#[test]
fn empty_texts_in_a_configuration_are_nothing() {
    let nothing = || Some(String::new());
    let mut rig = Rig::new(settings(Identity {
        install_id: nothing(),
        registration_secret: Some("".into()),
        registration_request_id: nothing(),
        worker_id: nothing(),
        auth_token: Some("".into()),
        ..Identity::default()
    }));
    rig.stored();
    assert_eq!(asks(&rig).len(), 1);
    assert_eq!(rig.file[&Key::InstallId].len(), 36);
}

#[test]
fn what_could_not_be_stored_is_stored_again_with_back_off() {
    let mut rig = Rig::new(settings(Identity::default()));
    let first = rig.file.clone();
    let mut gaps = Vec::new();
    for _ in 0..6 {
        rig.store_fails("disk full");
        let before = rig.now.mono;
        let stores = rig.stores().len();
        while rig.stores().len() == stores {
            rig.next_timer();
        }
        gaps.push(rig.now.mono.since(before));
    }
    assert_eq!(rig.file, first, "the same values again");
    for (gap, base) in gaps.into_iter().zip([1_000, 2_000, 4_000, 8_000, 16_000, 30_000]) {
        assert!((base / 2..=base * 3 / 2).contains(&gap.as_millis()), "{base}: {gap:?}");
    }
    assert!(rig.requests().is_empty());
    rig.stored();
    assert_eq!(asks(&rig).len(), 1);
}

#[test]
fn the_request_id_is_stored_before_it_is_polled_for() {
    let mut rig = asking();
    rig.answer(json_answer(&json!({ "requestId": "rr/1", "status": "pending" })));
    assert_eq!(rig.file[&Key::RegistrationRequestId], "rr/1");
    rig.pass(secs(600));
    assert!(polls(&rig).is_empty());
    rig.stored();
    rig.pass(secs(2));
    let poll = polls(&rig).remove(0);
    assert_eq!(poll.url, "http://studio/graphics/api/workers/register-requests/rr%2F1");
    assert_eq!(poll.bearer.unwrap().reveal(), rig.file[&Key::RegistrationSecret]);
    assert_eq!(poll.body, None);
}

#[test]
fn polls_come_after_2_s_and_then_double_to_30_s() {
    let mut rig = waiting();
    let mut gaps = Vec::new();
    for n in 1..=7 {
        let before = rig.now.mono;
        while polls(&rig).len() < n {
            rig.next_timer();
        }
        gaps.push(rig.now.mono.since(before).as_secs());
        rig.answer(json_answer(&pending()));
    }
    assert_eq!(gaps, [2, 4, 8, 16, 30, 30, 30]);
}

#[test]
fn one_poll_is_in_flight_at_a_time() {
    let mut rig = waiting();
    rig.pass(secs(59));
    assert_eq!(polls(&rig).len(), 1);
    rig.pass(secs(5));
    assert!(rig.history.iter().any(|action| matches!(action, Action::CancelRequest { .. })));
    assert!(polls(&rig).len() <= 2);
}

#[test]
fn the_answer_to_an_exchange_that_was_given_up_is_ignored() {
    let mut rig = Rig::new(settings(asked()));
    let late = rig.request();
    rig.pass(secs(61));
    let stale = rig.worker.counters().stale_inputs;
    rig.input(Input::Answered { request: late, outcome: Ok(json_answer(&approval("tok-late"))) });
    assert_eq!(rig.worker.counters().stale_inputs, stale + 1);
    assert!(!rig.file.contains_key(&Key::AuthToken));
}

#[test]
fn approved_credentials_are_stored_before_the_session_is_opened() {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(json_answer(&approval("tok-secret")));
    assert_eq!(rig.file[&Key::WorkerId], "w-1");
    assert_eq!(rig.file[&Key::AuthToken], "tok-secret");
    rig.pass(secs(1));
    assert_eq!(rig.newest_conn(), None);
    rig.stored();
    assert!(rig.newest_conn().is_some());
    rig.open();
    assert_eq!(rig.hello()["authToken"], "tok-secret");
}

#[test]
fn a_full_disk_at_approval_loses_nothing() {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(json_answer(&approval("tok-secret")));
    for _ in 0..4 {
        rig.store_fails("disk full");
        let stores = rig.stores().len();
        while rig.stores().len() == stores {
            rig.next_timer();
        }
        assert_eq!(rig.newest_conn(), None);
    }
    rig.stored();
    assert!(rig.newest_conn().is_some());
    assert_eq!(polls(&rig).len(), 1, "the token that was given is kept");
}

#[test]
fn a_request_that_is_pending_is_polled_at_once_after_a_restart() {
    let rig = Rig::new(settings(asked()));
    assert_eq!(polls(&rig).len(), 1);
    assert!(asks(&rig).is_empty() && rig.stores().is_empty());
}

#[test]
fn request_and_secret_are_kept_until_the_first_welcome_and_forgotten_then() {
    let mut rig = newly_approved();
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    assert_eq!(rig.stores().len(), 1, "nothing is forgotten before the welcome");
    rig.welcome();
    let last = rig.stores().pop().unwrap();
    let forgotten: Vec<_> =
        last.iter().filter(|change| change.value.is_none()).map(|change| change.key).collect();
    assert_eq!(forgotten, [Key::RegistrationRequestId, Key::RegistrationSecret]);
}

#[test]
fn what_could_not_be_forgotten_is_forgotten_later() {
    let mut rig = newly_approved();
    rig.open();
    let stores = rig.stores().len();
    rig.store_fails("disk full");
    rig.pass(secs(5));
    assert_eq!(rig.stores().len(), stores + 1);
    assert_eq!(rig.stores()[stores], rig.stores()[stores - 1]);
    assert_eq!(rig.worker.state(), SessionState::Serving);
    rig.stored();
    rig.pass(secs(120));
    assert_eq!(rig.stores().len(), stores + 1);
}

#[test]
fn what_a_newer_request_stores_is_not_stored_for_the_one_that_failed() {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(body(404, "unknown request"));
    let failed = rig.store_id();
    while rig.stores().len() < 2 {
        rig.next_timer();
    }
    rig.input(Input::Stored { store: failed, outcome: Err("disk full".into()) });
    rig.stored();
    rig.pass(secs(2));
    let keys: Vec<_> = rig.stores()[2].iter().map(|change| change.key).collect();
    assert_eq!(keys, [Key::WorkerId, Key::AuthToken]);
}

#[test]
fn a_configuration_left_after_approval_serves_without_registering_anew() {
    let mut rig = Rig::new(settings(approved()));
    assert!(rig.requests().is_empty());
    rig.open();
}

/// A poll that something on the way repeats is answered twice, and the older token may be what arrives: so one refused
/// token behind a fresh poll proves nothing yet.
#[test]
fn a_401_before_the_first_welcome_polls_for_the_newest_token_three_times() {
    let mut rig = Rig::new(settings(approved()));
    for (nth, wait) in [0, 2, 4].into_iter().enumerate() {
        rig.refuse(body(401, "bad token"));
        assert_eq!(rig.exit(), None);
        rig.pass(secs(wait));
        assert_eq!(polls(&rig).len(), nth + 1, "after {wait} s");
        let token = format!("tok-fresh-{nth}");
        rig.answer(json_answer(&approval(&token)));
        rig.stored();
        let bearer = rig.history.iter().rev().find_map(|action| match action {
            Action::Connect { bearer, .. } => Some(bearer.clone()),
            _ => None,
        });
        assert_eq!(bearer.unwrap().reveal(), token);
    }
    rig.refuse(body(401, "bad token"));
    assert!(matches!(rig.exit(), Some(Exit::Unauthorized { .. })));
}

#[test]
fn a_refused_token_behind_the_upgrade_polls_for_the_newest_one_too() {
    let mut rig = Rig::new(settings(approved()));
    let conn = rig.connecting();
    rig.input(Input::Connected { conn });
    rig.closed(4001);
    assert_eq!(polls(&rig).len(), 1);
}

#[test]
fn a_rejection_is_stored_and_then_ends_the_worker() {
    for (reason, stored) in [
        (json!({ "status": "rejected", "reason": "no room" }), "no room"),
        (json!({ "status": "rejected", "reason": null }), ""),
        (json!({ "status": "rejected" }), ""),
    ] {
        let mut rig = Rig::new(settings(asked()));
        rig.answer(json_answer(&reason));
        assert_eq!(rig.file[&Key::RegistrationRejected], stored);
        assert_eq!(rig.exit(), None, "not before it is stored");
        rig.stored();
        let exit = rig.exit().unwrap();
        assert_eq!(exit.code(), 1);
        assert!(exit.to_string().contains("register --reset"), "{exit}");
        assert!(exit.to_string().contains(stored), "{exit}");
    }
}

#[test]
fn a_restart_after_a_rejection_does_not_ask_again() {
    for reason in ["", "no room"] {
        let mut rig = Rig::new(settings(Identity { registration_rejected: Some(reason.into()), ..asked() }));
        assert!(rig.requests().is_empty());
        let exit = rig.exit().unwrap();
        let wanted = Some(reason.to_string()).filter(|reason| !reason.is_empty());
        assert_eq!(exit, Exit::Rejected { reason: wanted });
        assert!(rig.wait().0 > rig.now.mono);
    }
}

#[test]
fn an_unknown_request_is_asked_anew_with_the_same_install_id() {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(body(404, "unknown request"));
    rig.stored_all();
    assert!(!rig.file.contains_key(&Key::RegistrationRequestId));
    rig.until_asked();
    let secret = rig.file[&Key::RegistrationSecret].clone();
    assert_ne!(secret, "reg-secret");
    let sent: Value = serde_json::from_str(text(&asks(&rig)[0])).unwrap();
    assert_eq!(sent["installId"], INSTALL_ID);
    assert_eq!(sent["registrationSecretHash"], secret_hash(&secret.into()));
}

#[test]
fn a_refused_secret_is_asked_anew_with_another_install_id() {
    let mut rig = Rig::new(settings(asked()));
    rig.answer(body(401, "wrong secret"));
    rig.until_asked();
    let sent: Value = serde_json::from_str(text(&asks(&rig)[0])).unwrap();
    assert_ne!(sent["installId"], INSTALL_ID);
    assert_eq!(sent["installId"], rig.file[&Key::InstallId]);
    assert_ne!(rig.file[&Key::RegistrationSecret], "reg-secret");
}

#[test]
fn trouble_is_tried_again_with_back_off_and_loses_nothing() {
    type Trouble = fn() -> Result<HttpAnswer, HttpFailure>;
    let troubles: [Trouble; 8] = [
        || Ok(body(429, "slow down")),
        || Ok(body(500, "")),
        || Ok(body(503, "")),
        || Ok(body(400, "what?")),
        || Ok(body(200, "<html>")),
        || Ok(body(200, "{}")),
        || Ok(body(302, "")),
        || Err(HttpFailure("no route".into())),
    ];
    for trouble in troubles {
        for identity in [asked(), Identity { registration_request_id: None, ..asked() }] {
            let mut rig = Rig::new(settings(identity));
            for base in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
                let before = rig.now.mono;
                let sent = rig.requests().len();
                rig.answered(trouble());
                while rig.requests().len() == sent {
                    rig.next_timer();
                }
                let gap = rig.now.mono.since(before).as_millis();
                assert!((base / 2..=base * 3 / 2).contains(&gap), "{base}: {gap}");
            }
            assert!(rig.stores().is_empty());
        }
    }
}

#[test]
fn a_poll_honours_retry_after_up_to_an_hour() {
    let date = "Tue, 25 Nov 2025 07:00:00 GMT";
    for (retry_after, least, most) in [
        ("120", 120, 122),
        ("Tue, 25 Nov 2025 07:02:00 GMT", 120, 122),
        ("999999", 3_600, 3_602),
        ("soon", 0, 2),
        ("-3", 0, 2),
    ] {
        let mut rig = Rig::new(settings(asked()));
        // This side's clock is a year off, which must not matter.
        rig.now.wall = crate::time::Wall::from_millis(rig.now.wall.as_millis() + 31_536_000_000);
        let before = rig.now.mono;
        rig.answer(HttpAnswer {
            status: 429,
            retry_after: Some(retry_after.into()),
            date: Some(date.into()),
            body: Vec::new(),
            ..HttpAnswer::default()
        });
        while rig.requests().len() == 1 {
            rig.next_timer();
        }
        let waited = rig.now.mono.since(before);
        assert!((secs(least)..=secs(most)).contains(&waited), "{retry_after}: {waited:?}");
    }
}

#[test]
fn the_session_states_of_a_registration_can_be_observed() {
    let rig = waiting();
    let details: Vec<_> = rig.statuses().into_iter().filter_map(|status| status.detail).collect();
    assert!(details.iter().any(|detail| detail.contains("rr-1")), "{details:?}");
    assert!(rig.statuses().iter().all(|status| status.state == "unregistered"));
}

#[test]
fn a_stop_ends_a_registration_at_once() {
    let mut rig = Rig::new(settings(asked()));
    rig.command(crate::worker::Command::Drain);
    assert_eq!(rig.exit(), Some(Exit::Drained));
    assert!(format!("{:?}", rig.history).contains("CancelRequest"));
}
