//! The loop's own promises, in virtual time. What the worker decides is tested beside the worker.

mod carrier;
mod ends;
mod machine;
mod meter;
mod runs;
mod watch;
mod world;

use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use serde_json::json;

use super::{MemoryStore, Outgoing, Received, SocketError, Store, WorkerHandle, start};
use crate::{
    engine::{Engine, EngineError, FnEngine, Models, Output, Service},
    wire::{ApiBase, Claim, CloseCode, TaskKind},
    worker::{Change, Exit, Identity, Options, Settings},
};
use world::{Driven, Timers, World};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn services() -> Vec<Service> {
    let listed =
        |kind| Service { kind, engine: "synthetic".into(), models: Models::Listed(vec!["synthetic".into()]) };
    TaskKind::ALL.into_iter().map(listed).collect()
}

fn options(identity: Identity) -> Options {
    let settings = Settings::new(ApiBase::parse("http://studio").unwrap(), identity);
    Options::new(settings, "studio-worker/test")
}

fn registered() -> Identity {
    Identity {
        install_id: Some("11111111-1111-4111-8111-111111111111".into()),
        worker_id: Some("w-1".into()),
        auth_token: Some("tok".into()),
        ..Identity::default()
    }
}

/// Makes bytes of a picture, and JSON of anything else.
fn engine(length: usize) -> Arc<dyn Engine> {
    Arc::new(FnEngine::new("synthetic", services(), move |claim| {
        Ok::<_, EngineError>(match claim.task.kind() {
            TaskKind::Image => Output::Bytes { ext: "webp".into(), payload: vec![7; length].into() },
            _ => Output::Json(Arc::new(json!({ "said": claim.task.prompt() }))),
        })
    }))
}

fn offer(job: &str, kind: &str) -> serde_json::Value {
    let task = match kind {
        "image" => json!({ "kind": kind, "prompt": "a cat" }),
        "audio_tts" => json!({ "kind": kind, "text": "hi" }),
        _ => json!({ "kind": kind, "messages": [{ "role": "user", "content": "hi" }] }),
    };
    json!({ "type": "offer", "claim": { "jobId": job, "model": "synthetic", "vramGbEstimate": 1, "task": task } })
}

fn text(frame: &serde_json::Value) -> Received {
    Received::Text(frame.to_string())
}

/// A worker whose session is open, and what was said until then has left.
fn serving(world: &World) -> (WorkerHandle, Driven<impl Future<Output = Exit> + use<>>) {
    serving_with(world, engine(8))
}

fn serving_with(
    world: &World,
    engine: Arc<dyn Engine>,
) -> (WorkerHandle, Driven<impl Future<Output = Exit> + use<>>) {
    serving_as(world, options(registered()), engine)
}

fn serving_as(
    world: &World,
    options: Options,
    engine: Arc<dyn Engine>,
) -> (WorkerHandle, Driven<impl Future<Output = Exit> + use<>>) {
    let (handle, driving) = start(world.clone(), options, engine, Arc::new(MemoryStore::new()), [7; 32]);
    let mut driven = Driven::new(world, driving);
    assert!(driven.pass(secs(1)).is_pending());
    world.says(text(&json!({ "type": "welcome", "workerId": "w-1", "serverTime": "" })));
    assert!(driven.pass(secs(2)).is_pending());
    assert_eq!(handle.observers().session().unwrap().state, "serving");
    (handle, driven)
}

fn types(texts: &[String]) -> Vec<String> {
    let kind = |text: &String| {
        let frame: serde_json::Value = serde_json::from_str(text).unwrap();
        frame["type"].as_str().unwrap().to_owned()
    };
    texts.iter().map(kind).filter(|kind| kind != "logBatch").collect()
}

#[test]
fn a_timer_that_fires_early_is_no_busy_loop_and_no_deadline() {
    let world = World::new(Timers::Hasty);
    let (_handle, mut driven) = serving(&world);
    let heartbeats = types(&world.texts()).len();
    let sleeps = world.state().sleeps;
    for _ in 0..3 {
        assert!(driven.pass(secs(5)).is_pending());
        world.says(text(&json!({ "type": "heartbeatAck" })));
    }
    assert_eq!(types(&world.texts()).len() - heartbeats, 3, "a heartbeat every 5 s and no sooner");
    let sleeps = world.state().sleeps - sleeps;
    assert!(sleeps <= 15_000 + 100, "at most one timer a millisecond, not {sleeps}");
}

#[test]
fn an_idle_session_wakes_only_for_what_happens() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    let polls = driven.polls;
    for _ in 0..12 {
        assert!(driven.pass(secs(5)).is_pending());
        world.says(text(&json!({ "type": "heartbeatAck" })));
    }
    let polls = driven.polls - polls;
    assert!(polls <= 12 * 5, "{polls} polls for 12 heartbeats");
}

#[test]
fn a_clock_that_jumps_past_a_deadline_does_not_miss_it() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    let before = types(&world.texts()).len();
    // As after a suspended machine: no timer has fired in between.
    world.change(|state| state.now += secs(12));
    assert!(driven.settle().is_pending());
    assert_eq!(types(&world.texts()).len(), before + 1);
}

#[test]
fn what_one_turn_decides_is_one_flush() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    let sent = world.texts().len();
    let flushes = world.state().flushes.len();
    world.state().thread_busy = true;
    world.change(|state| {
        for job in ["j-1", "j-2", "j-3"] {
            state.incoming.push_back(Some(Ok(text(&offer(job, "llm")))));
        }
    });
    assert!(driven.settle().is_pending());
    assert_eq!(types(&world.texts()[sent..]), ["accept", "reject", "reject"]);
    assert_eq!(world.state().flushes[flushes], 3, "all in the first flush; a log batch may follow");
}

#[test]
fn an_accept_has_left_before_its_job_begins() {
    let world = World::new(Timers::Exact);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (looking, into) = (world.clone(), Arc::clone(&seen));
    let engine = FnEngine::new("synthetic", services(), move |_: &Claim| {
        into.lock().unwrap().extend(types(&looking.texts()));
        Ok::<_, EngineError>(Output::Json(Arc::new(json!({}))))
    });
    let (_handle, driving) =
        start(world.clone(), options(registered()), Arc::new(engine), Arc::new(MemoryStore::new()), [7; 32]);
    let mut driven = Driven::new(&world, driving);
    assert!(driven.pass(secs(1)).is_pending());
    world.says(text(&json!({ "type": "welcome", "workerId": "w-1", "serverTime": "" })));
    world.says(text(&offer("j-1", "llm")));
    assert!(driven.settle().is_pending());
    assert_eq!(seen.lock().unwrap().last().map(String::as_str), Some("accept"));
    assert_eq!(types(&world.texts()).last().map(String::as_str), Some("completeJson"));
}

#[test]
fn reading_goes_on_while_nothing_can_be_written() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    world.change(|state| state.blocked = true);
    let sent = world.texts().len();
    world.says(text(&offer("j-1", "llm")));
    for _ in 0..200 {
        world.says(text(&json!({ "type": "heartbeatAck" })));
    }
    assert!(driven.settle().is_pending());
    assert!(world.state().incoming.is_empty(), "everything was read");
    assert_eq!(handle.observers().current_job().unwrap().job_id.as_str(), "j-1");
    assert_eq!(world.texts().len(), sent);
    world.change(|state| state.blocked = false);
    assert!(driven.settle().is_pending());
    assert_eq!(types(&world.texts()[sent..]), ["accept", "completeJson"]);
}

#[test]
fn the_code_of_a_close_is_heard_also_when_writing_failed_first() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    world.change(|state| {
        state.write_error = Some(SocketError::Broken("reset".into()));
        let close = Received::Close { code: CloseCode::AUTH_FAILED, reason: "revoked".into() };
        state.incoming.extend([Some(Ok(text(&offer("j-1", "llm")))), Some(Ok(close)), None]);
    });
    match driven.pass(secs(2)) {
        Poll::Ready(Exit::Unauthorized { reason }) => assert!(reason.contains("revoked"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_connection_is_left_also_when_the_peer_says_nothing() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    world.change(|state| state.write_error = Some(SocketError::Broken("reset".into())));
    handle.pause();
    assert!(driven.settle().is_pending());
    assert_eq!(handle.observers().session().unwrap().state, "waiting");
}

#[test]
fn a_frame_that_is_too_large_is_answered_with_1009() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    world.change(|state| state.incoming.extend([Some(Err(SocketError::TooLarge))]));
    assert!(driven.settle().is_pending());
    assert_eq!(handle.observers().session().unwrap().state, "waiting");
    let last = world.state().sent.last().cloned();
    assert!(matches!(last, Some(Outgoing::Close { code: CloseCode::TOO_BIG, .. })), "{last:?}");
}

#[test]
fn a_ping_is_flushed_though_nothing_else_is_due() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    let flushes = world.state().flushes.len();
    world.says(Received::Ping);
    assert!(driven.settle().is_pending());
    assert_eq!(world.state().flushes.len(), flushes + 1);
}

#[test]
fn progress_is_reported_four_times_a_second_at_most() {
    let world = World::new(Timers::Exact);
    let (_handle, mut driven) = serving(&world);
    world.says(text(&offer("j-1", "image")));
    assert!(driven.settle().is_pending());
    let progress = world.state().uploads[0].clone();
    let polls = driven.polls;
    for _ in 0..1_000 {
        progress.advance(100);
        assert!(driven.pass(Duration::from_millis(1)).is_pending());
    }
    // Of each millisecond's polls, those of the clock are this test's own.
    assert!(driven.polls - polls < 1_000 * 4);
    // Without progress a minute would end the upload.
    for _ in 0..8 {
        progress.advance(1);
        assert!(driven.pass(secs(20)).is_pending());
        world.says(text(&json!({ "type": "heartbeatAck" })));
    }
    assert_eq!(world.state().uploads.len(), 1, "the upload moves");
}

#[test]
fn a_stop_ends_at_once_and_the_handle_says_so() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    handle.stop();
    assert!(driven.settle().is_pending());
    let last = world.state().sent.last().cloned();
    assert!(matches!(last, Some(Outgoing::Close { code: CloseCode::NORMAL, .. })), "{last:?}");
    assert!(!handle.has_ended());
    world.says(Received::Close { code: CloseCode::NORMAL, reason: String::new() });
    world.change(|state| state.incoming.push_back(None));
    assert_eq!(driven.pass(secs(1)), Poll::Ready(Exit::Stopped));
    drop(driven);
    assert!(handle.has_ended());
}

/// Panics, then fails, then works.
struct Flaky(Mutex<Vec<Vec<Change>>>);

impl Store for Flaky {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let nth = {
            let mut saved = self.0.lock().unwrap();
            saved.push(changes.to_vec());
            saved.len()
        };
        match nth {
            1 => panic!("the disk is gone"),
            2 => Err("the disk is full".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_store_that_panics_or_fails_is_tried_again() {
    let world = World::new(Timers::Exact);
    let store = Arc::new(Flaky(Mutex::new(Vec::new())));
    let (handle, driving) =
        start(world.clone(), options(Identity::default()), engine(8), store.clone(), [7; 32]);
    let mut driven = Driven::new(&world, driving);
    assert!(driven.pass(secs(120)).is_pending());
    let saved = store.0.lock().unwrap();
    assert!(saved.len() >= 3, "{}", saved.len());
    assert_eq!(saved[0], saved[2], "the same is stored again");
    assert!(world.state().exchanges > 0, "and then the studio is asked");
    assert!(!handle.has_ended());
}

#[test]
fn another_engine_says_what_it_serves() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    let said = |world: &World| {
        let frames = world.texts();
        let beat = frames.iter().rfind(|text| text.contains(r#""type":"heartbeat""#)).unwrap();
        let capabilities = &serde_json::from_str::<serde_json::Value>(beat).unwrap()["capabilities"];
        (capabilities["engine"].clone(), capabilities["taskKinds"].as_array().unwrap().len())
    };
    assert_eq!(said(&world), (json!("synthetic"), 6));
    let services = vec![Service {
        kind: TaskKind::Llm,
        engine: "echo".into(),
        models: Models::Listed(vec!["e".into()]),
    }];
    let echo = FnEngine::new("echo", services, |_: &Claim| Err::<Output, _>(EngineError::permanent("mute")));
    handle.reconfigure(options(registered()).settings, Some(Arc::new(echo)));
    assert!(driven.pass(secs(6)).is_pending());
    assert_eq!(said(&world), (json!("echo"), 1));
}

#[test]
fn a_worker_that_is_dropped_has_ended_for_who_observes_it() {
    let world = World::new(Timers::Exact);
    let (handle, driven) = serving(&world);
    let observers = handle.observers();
    drop(driven);
    let session = observers.session().unwrap();
    assert_eq!(session.state, "ended");
    assert!(session.detail.unwrap().contains("given up"));
    assert!(observers.status().has_ended() && handle.has_ended());
}

#[test]
fn a_worker_that_is_dropped_before_its_first_poll_has_ended() {
    let world = World::new(Timers::Exact);
    let (handle, driving) =
        start(world.clone(), options(registered()), engine(8), Arc::new(MemoryStore::new()), [7; 32]);
    assert!(!handle.has_ended());
    drop(driving);
    assert!(handle.has_ended());
    assert_eq!(handle.set_threshold(1.0), Err(crate::worker::CommandError::Ended));
}

#[test]
fn settings_whose_engine_panics_are_not_taken_over() {
    struct Moody;
    impl Engine for Moody {
        fn name(&self) -> &'static str {
            "moody"
        }

        fn services(&self) -> Vec<Service> {
            panic!("not today")
        }

        fn recipe(&self, _: &Arc<Claim>) -> Box<dyn crate::engine::Recipe> {
            panic!("it was not taken over")
        }
    }
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    handle.reconfigure(options(registered()).settings, Some(Arc::new(Moody)));
    assert!(driven.pass(secs(1)).is_pending());
    world.says(text(&offer("j-1", "llm")));
    assert!(driven.pass(secs(1)).is_pending());
    assert!(types(&world.texts()).contains(&"completeJson".to_owned()));
}
