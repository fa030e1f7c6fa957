//! Section 7: what changes while the worker runs.

use alloc::{string::String, vec, vec::Vec};
use core::time::Duration;

use serde_json::{Value, json};

use super::rig::*;
use crate::{
    engine::{Models, Service},
    wire::{ApiBase, Finite, Secret, TaskKind},
    worker::{Action, Command, Exit, Identity, Input, Key, Method, Settings, states::SessionState},
};

fn reconfigure(rig: &mut Rig, settings: Settings) {
    rig.command(Command::Reconfigure(settings.into()));
}

fn connects(rig: &Rig) -> Vec<(String, String)> {
    let of = |action: &Action| match action {
        Action::Connect { url, bearer, .. } => Some((url.clone(), bearer.reveal().into())),
        _ => None,
    };
    rig.history.iter().filter_map(of).collect()
}

fn other_identity() -> Identity {
    Identity { worker_id: Some("w-2".into()), auth_token: Some("tok-other".into()), ..registered() }
}

/// The identity that the file has now.
fn on_disk(rig: &Rig) -> Identity {
    let text = |key| rig.file.get(&key).cloned();
    let secret = |key| text(key).map(Secret::from);
    Identity {
        install_id: text(Key::InstallId),
        registration_secret: secret(Key::RegistrationSecret),
        registration_request_id: text(Key::RegistrationRequestId),
        registration_rejected: text(Key::RegistrationRejected),
        worker_id: text(Key::WorkerId),
        auth_token: secret(Key::AuthToken),
    }
}

/// A worker that registered while it ran and serves; at the welcome, the forgotten request is stored.
fn registered_here() -> Rig {
    let mut rig = Rig::new(settings(Identity::default()));
    rig.stored();
    rig.answer(body(200, r#"{"requestId":"rr-1","status":"pending"}"#));
    rig.stored();
    rig.pass(secs(2));
    rig.answer(body(200, r#"{"status":"approved","workerId":"w-1","authToken":"tok-secret"}"#));
    rig.stored();
    rig.open();
    rig.stored();
    rig
}

#[test]
fn a_changed_threshold_is_said_at_once() {
    let mut rig = Rig::serving();
    let mut changed = settings(registered());
    changed.capabilities.vram_threshold_gb = Finite::from(1);
    reconfigure(&mut rig, changed);
    assert_eq!(rig.frames().len(), 1);
    rig.frame(&image("j-1"));
    assert_eq!(rig.frames()[0]["code"], "insufficient_memory");
    assert_eq!(rig.attempts(), 1, "no new session");
}

#[test]
fn a_threshold_that_was_set_stays_when_something_else_changes() {
    let mut rig = Rig::serving();
    rig.command(Command::SetThreshold(1.0));
    let mut changed = settings(registered());
    changed.label = Some("another".into());
    reconfigure(&mut rig, changed);
    assert_eq!(rig.worker.capabilities().vram_threshold_gb, Finite::from(1));
}

#[test]
fn being_disabled_is_said_at_once_and_declines_offers() {
    let mut rig = Rig::serving();
    let mut changed = settings(registered());
    changed.capabilities.auto_enabled = false;
    reconfigure(&mut rig, changed);
    assert_eq!(rig.frames()[0]["autoEnabled"], false);
    rig.frame(&image("j-1"));
    assert_eq!(rig.frames()[0]["code"], "paused");
    reconfigure(&mut rig, settings(registered()));
    assert_eq!(rig.frames()[0]["autoEnabled"], true);
}

#[test]
fn changed_services_are_said_at_once() {
    let mut rig = Rig::serving();
    let mut changed = settings(registered());
    let models = Models::Listed(vec!["b".into(), "a".into(), "a".into()]);
    changed.services = vec![Service { kind: TaskKind::Llm, engine: "llama-cpp".into(), models }];
    reconfigure(&mut rig, changed);
    let capabilities = rig.worker.capabilities();
    assert_eq!(capabilities.supported_models, ["a", "b"]);
    assert_eq!(capabilities.task_kinds, ["llm"]);
    assert_eq!(capabilities.model_engines, Some(vec!["llama-cpp".into()]));
    assert_eq!(rig.frames().len(), 1);
    rig.frame(&image("j-1"));
    let reject = rig.frames().remove(0);
    assert_eq!((&reject["type"], &reject["code"]), (&json!("reject"), &Value::Null));
}

#[test]
fn a_changed_label_is_in_the_next_request() {
    let mut rig = Rig::new(settings(Identity::default()));
    let mut changed = settings(Identity::default());
    changed.label = Some("another".into());
    reconfigure(&mut rig, changed);
    rig.stored();
    let sent: Value = serde_json::from_str(text(&rig.requests()[0])).unwrap();
    assert_eq!(sent["label"], "another");
}

#[test]
fn the_same_settings_change_nothing() {
    let mut rig = Rig::serving();
    rig.command_unheard(Command::Reconfigure(settings(registered()).into()));
    assert!(rig.seen.is_empty());
}

/// It would cost its job an attempt.
#[test]
fn changed_credentials_do_not_close_on_an_offer_that_is_on_its_way() {
    let mut rig = Rig::serving();
    let changed = settings(other_identity());
    rig.command_unheard(Command::Reconfigure(changed.into()));
    assert!(rig.closed_with().is_empty());
    assert_eq!(rig.answer_to(&image("j-1")), "reject paused");
    rig.acknowledge();
    assert_eq!(rig.closed_with(), [1000]);
}

#[test]
fn changed_credentials_reconnect_at_once_when_idle() {
    let mut rig = Rig::serving();
    reconfigure(&mut rig, settings(other_identity()));
    assert_eq!(rig.worker.state(), SessionState::Closing);
    rig.closed(1000);
    let there = "ws://studio/graphics/api/workers/w-2/connect";
    assert_eq!(connects(&rig)[1..], [(there.into(), "tok-other".into())]);
    rig.open();
    assert_eq!(rig.hello()["authToken"], "tok-other");
    assert_eq!(rig.hello()["capabilities"]["autoEnabled"], true);
}

#[test]
fn a_changed_address_waits_for_the_current_job_and_keeps_the_credentials() {
    let mut rig = Rig::serving();
    rig.frame(&llm("j-1"));
    rig.flush();
    rig.seen.clear();
    let mut moved = settings(registered());
    moved.api_base = ApiBase::parse("https://elsewhere").unwrap();
    reconfigure(&mut rig, moved);
    assert_eq!(rig.frames()[0]["autoEnabled"], false, "no more jobs are wanted here");
    rig.frame(&llm("j-2"));
    assert_eq!(rig.said(), ["reject"]);
    rig.run_ends(answer());
    assert_eq!(rig.worker.state(), SessionState::Serving);
    rig.frame(&json!({ "type": "completeAck", "jobId": "j-1" }));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.worker.state(), SessionState::Closing);
    rig.closed(1000);
    let there = "wss://elsewhere/graphics/api/workers/w-1/connect";
    assert_eq!(connects(&rig)[1..], [(there.into(), "tok-secret".into())]);
}

#[test]
fn a_busy_studio_cannot_put_off_a_change_for_ever() {
    let mut rig = uploading("j-1");
    rig.frame(&image("j-2"));
    reconfigure(&mut rig, settings(other_identity()));
    assert_eq!(rig.said(), ["reject"], "what was parked is declined");
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.worker.state(), SessionState::Closing);
}

#[test]
fn a_change_while_no_session_is_open_is_taken_over_at_once() {
    type Start = fn() -> Rig;
    let starts: [Start; 4] = [
        || Rig::new(settings(registered())),
        || {
            let mut rig = Rig::new(settings(registered()));
            let conn = rig.connecting();
            rig.input(Input::Connected { conn });
            rig
        },
        || {
            let mut rig = Rig::serving();
            rig.break_connection();
            rig
        },
        || {
            let mut rig = running("j-1");
            rig.break_connection();
            rig
        },
    ];
    for start in starts {
        let mut rig = start();
        reconfigure(&mut rig, settings(other_identity()));
        assert_eq!(connects(&rig).last().unwrap().1, "tok-other");
        rig.open();
    }
}

#[test]
fn a_change_that_is_taken_back_in_time_leaves_the_worker_as_it_was() {
    let mut rig = Rig::serving();
    reconfigure(&mut rig, settings(other_identity()));
    reconfigure(&mut rig, settings(registered()));
    rig.closed(1000);
    assert_eq!(connects(&rig).last().unwrap().1, "tok-secret");
    rig.open();

    let mut rig = running("j-1");
    reconfigure(&mut rig, settings(other_identity()));
    reconfigure(&mut rig, settings(registered()));
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert_eq!(rig.worker.state(), SessionState::Serving);
    assert!(rig.worker.capabilities().auto_enabled);
}

#[test]
fn credentials_that_this_worker_stored_are_no_change_when_they_come_back() {
    let mut rig = registered_here();
    let own = settings(on_disk(&rig));
    for _ in 0..3 {
        reconfigure(&mut rig, own.clone());
        rig.pass(secs(10));
    }
    assert_eq!(rig.attempts(), 1);
}

#[test]
fn what_the_configuration_said_a_moment_ago_is_no_change() {
    let mut rig = Rig::new(settings(Identity::default()));
    let mut versions = vec![Identity::default()];
    rig.stored();
    versions.push(on_disk(&rig));
    rig.answer(body(200, r#"{"requestId":"rr-1","status":"pending"}"#));
    rig.stored();
    versions.push(on_disk(&rig));
    rig.pass(secs(2));
    rig.answer(body(200, r#"{"status":"approved","workerId":"w-1","authToken":"tok-secret"}"#));
    rig.stored();
    versions.push(on_disk(&rig));
    rig.open();
    rig.stored();
    // A reader that was late comes with one after the other.
    for late in versions {
        reconfigure(&mut rig, settings(late));
    }
    assert_eq!((rig.worker.state(), rig.attempts()), (SessionState::Serving, 1));
}

#[test]
fn a_late_read_with_a_changed_address_keeps_the_credentials() {
    let mut rig = registered_here();
    let mut moved = settings(Identity::default());
    moved.api_base = ApiBase::parse("http://elsewhere").unwrap();
    reconfigure(&mut rig, moved);
    rig.closed(1000);
    let (url, bearer) = connects(&rig).pop().unwrap();
    assert!(url.starts_with("ws://elsewhere/"), "{url}");
    assert_eq!(bearer, "tok-secret");
}

#[test]
fn what_could_not_be_saved_is_not_undone_by_the_configuration() {
    let mut rig = Rig::new(settings(Identity { install_id: registered().install_id, ..Identity::default() }));
    let disk = settings(Identity { install_id: registered().install_id, ..Identity::default() });
    rig.store_fails("disk full");
    let secret = rig.file[&Key::RegistrationSecret].clone();
    rig.pass(secs(600));
    reconfigure(&mut rig, disk);
    rig.stored();
    assert_eq!(rig.file[&Key::RegistrationSecret], secret);
    assert_eq!(rig.requests().len(), 1);
}

#[test]
fn a_reset_while_running_registers_anew() {
    for (start, wait) in
        [(registered_here as fn() -> Rig, secs(4)), (Rig::serving, secs(0)), (registered_here, secs(600))]
    {
        let mut rig = start();
        rig.pass(wait);
        let before = rig.requests().len();
        reconfigure(&mut rig, settings(Identity::default()));
        assert_eq!(rig.worker.state(), SessionState::Closing);
        rig.closed(1000);
        assert_eq!(rig.worker.state(), SessionState::Unregistered);
        rig.stored();
        let asked = &rig.requests()[before..];
        assert_eq!((asked.len(), asked[0].method), (1, Method::Post));
    }
}

#[test]
fn a_reset_while_waiting_for_approval_gives_up_the_old_request() {
    let pending = Identity {
        install_id: registered().install_id,
        registration_secret: Some("reg-secret".into()),
        registration_request_id: Some("rr-1".into()),
        ..Identity::default()
    };
    let mut rig = Rig::new(settings(pending));
    let old = rig.request();
    reconfigure(&mut rig, settings(Identity::default()));
    let cancelled = |action: &Action| matches!(action, Action::CancelRequest { request } if *request == old);
    assert!(rig.history.iter().any(cancelled));
    rig.stored();
    assert_eq!(rig.requests().last().unwrap().method, Method::Post);
    assert_ne!(rig.file[&Key::RegistrationSecret], "reg-secret");
}

#[test]
fn a_rejection_that_comes_by_configuration_ends_the_worker() {
    let mut rig = Rig::serving();
    let rejected = Identity { registration_rejected: Some("no".into()), ..Identity::default() };
    reconfigure(&mut rig, settings(rejected));
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Rejected { reason: Some("no".into()) }));
}

#[test]
fn a_token_that_is_refused_after_it_was_changed_is_not_the_end() {
    for code in [4001, 4003, 4004] {
        let mut rig = running("j-1");
        reconfigure(&mut rig, settings(other_identity()));
        rig.closed(code);
        assert_eq!(connects(&rig).last().unwrap().1, "tok-other");
        rig.open();
        assert!(rig.stores().is_empty());
    }
}

#[test]
fn changed_reconnect_attempts_count_from_then_on() {
    let mut rig = Rig::new(settings(registered()));
    let mut changed = settings(registered());
    changed.reconnect_attempts = Some(1);
    reconfigure(&mut rig, changed);
    rig.refuse(body(500, ""));
    assert_eq!(rig.exit(), None);
    rig.refuse(body(500, ""));
    assert!(matches!(rig.exit(), Some(Exit::AttemptsExhausted { attempts: 2, .. })));
}

#[test]
fn a_drain_is_not_held_up_by_a_change() {
    let mut rig = running("j-1");
    reconfigure(&mut rig, settings(other_identity()));
    rig.command(Command::Drain);
    rig.run_ends(bytes());
    rig.answered(status(200));
    rig.pass_in_silence(Duration::from_secs(1));
    assert_eq!(rig.exit(), Some(Exit::Drained));
}
