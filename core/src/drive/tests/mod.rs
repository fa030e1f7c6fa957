//! The loop's own promises, in virtual time. What the worker decides is tested beside the worker.

mod ends;
mod world;

use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use serde_json::json;

use super::{
    MemoryStore, Outgoing, Received, SocketError, Store, WorkerHandle, carry_out,
    runs::{Next, Progressed, Runs},
    start,
};
use crate::{
    engine::{
        Effect, Engine, EngineError, FnEngine, Happened, Models, Output, Payload, Recipe, SPILL_ABOVE,
        Service,
    },
    wire::{ApiBase, Capabilities, Claim, CloseCode, Finite, Offer, StudioFrame, TaskKind},
    worker::{Change, Exit, HttpRequest, Identity, Options, RunId, Settings},
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
    let settings = Settings {
        api_base: ApiBase::parse("http://studio").unwrap(),
        identity,
        label: None,
        capabilities: Capabilities {
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            ..Capabilities::default()
        },
        services: Vec::new(),
        reconnect_attempts: None,
    };
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
    let (handle, driving) =
        start(world.clone(), options(registered()), engine, Arc::new(MemoryStore::new()), [7; 32]);
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

// Runs of the engine.

fn claim(kind: &str) -> Arc<Claim> {
    match StudioFrame::parse(&offer("j-1", kind).to_string()).unwrap() {
        StudioFrame::Offer(Offer::Readable(claim)) => Arc::new(*claim),
        other => panic!("{other:?}"),
    }
}

fn runs(world: &World, engine: Arc<dyn Engine>) -> Runs<World> {
    Runs::new(world.clone(), engine, "studio-worker/test".into())
}

/// Carries a run out until it ends or waits.
fn finish(world: &World, runs: &mut Runs<World>, mut next: Next) -> Option<Result<Output, EngineError>> {
    loop {
        match next {
            Next::Ended(outcome) => return Some(outcome),
            Next::Carry(future) => match Driven::new(world, future).settle() {
                Poll::Ready(progressed) => next = runs.go_on(RunId(1), progressed)?,
                Poll::Pending => return None,
            },
        }
    }
}

#[test]
fn a_large_result_goes_to_a_file_unless_the_disk_is_full() {
    let length = usize::try_from(SPILL_ABOVE).unwrap();
    for (length, disk_full, in_file) in
        [(length, false, false), (length + 1, false, true), (length + 1, true, false)]
    {
        let world = World::new(Timers::Exact);
        world.state().disk_full = disk_full;
        let mut runs = runs(&world, engine(length));
        let next = runs.start(RunId(1), &claim("image"));
        let outcome = finish(&world, &mut runs, next).unwrap();
        let Ok(Output::Bytes { payload, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(payload.len(), length as u64);
        assert_eq!(matches!(payload, Payload::File(_)), in_file);
        assert_eq!(world.state().files.len(), usize::from(in_file));
    }
}

#[test]
fn a_cancelled_closure_keeps_its_slot_until_it_returns_and_its_file_goes() {
    let world = World::new(Timers::Exact);
    world.state().files.push("made-by-engine".into());
    let engine = FnEngine::new("synthetic", services(), |_: &Claim| {
        let file = crate::engine::SpilledFile { path: "made-by-engine".into(), bytes: 9 };
        Ok::<_, EngineError>(Output::Bytes { ext: "webp".into(), payload: Payload::File(file) })
    });
    let mut runs = runs(&world, Arc::new(engine));
    world.state().thread_busy = true;
    let Next::Carry(computing) = runs.start(RunId(1), &claim("image")) else { panic!("nothing to compute") };
    let mut computing = Driven::new(&world, computing);
    assert!(computing.settle().is_pending());
    assert_eq!(runs.cancel(RunId(1)), None);
    world.change(|state| state.thread_busy = false);
    let Poll::Ready(progressed) = computing.settle() else { panic!("it computes still") };
    let next = runs.go_on(RunId(1), progressed).unwrap();
    let outcome = finish(&world, &mut runs, next).unwrap();
    assert!(matches!(&outcome, Err(error) if error.retryable && error.message.contains("cancelled")));
    assert!(world.state().files.is_empty());
}

/// Asks over HTTP, then panics.
struct Asks;

impl Engine for Asks {
    fn name(&self) -> &'static str {
        "asks"
    }

    fn services(&self) -> Vec<Service> {
        services()
    }

    fn recipe(&self, _: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(Asking)
    }
}

struct Asking;

impl Recipe for Asking {
    fn next(&mut self, happened: Happened) -> Effect {
        match happened {
            Happened::Started => Effect::Pause(secs(3)),
            Happened::Paused => Effect::Exchange(HttpRequest::get("http://engine/")),
            Happened::Exchanged(_) | Happened::Computed(_) => panic!("no idea"),
        }
    }
}

#[test]
fn an_exchange_that_is_cancelled_ends_at_once() {
    let world = World::new(Timers::Hasty);
    let mut runs = runs(&world, Arc::new(Asks));
    let Next::Carry(pausing) = runs.start(RunId(1), &claim("llm")) else { panic!("no pause") };
    let mut pausing = Driven::new(&world, pausing);
    assert!(pausing.pass(Duration::from_millis(2_900)).is_pending());
    let Poll::Ready(progressed) = pausing.pass(Duration::from_millis(200)) else { panic!("it pauses still") };
    let Some(Next::Carry(exchange)) = runs.go_on(RunId(1), progressed) else { panic!("no exchange") };
    let mut exchange = Driven::new(&world, exchange);
    assert!(exchange.settle().is_pending());
    assert!(matches!(runs.cancel(RunId(1)), Some(Err(error)) if error.retryable));
    drop(exchange);
    assert_eq!(world.state().dropped_exchanges, 1);
    assert!(runs.cancel(RunId(1)).is_none(), "it has ended already");
}

#[test]
fn a_recipe_that_panics_is_an_error_of_its_run() {
    let world = World::new(Timers::Exact);
    let mut runs = runs(&world, Arc::new(Asks));
    let Next::Carry(_) = runs.start(RunId(1), &claim("llm")) else { panic!("no pause") };
    let answered = Progressed::Happened(Happened::Exchanged(Err(crate::worker::HttpFailure("x".into()))));
    match runs.go_on(RunId(1), answered) {
        Some(Next::Ended(Err(error))) => {
            assert_eq!(error, EngineError::transient("the engine panicked: no idea"));
        }
        _ => panic!("it goes on"),
    }
    // Its slot is free: the next run is as good as the first.
    assert!(matches!(runs.start(RunId(2), &claim("llm")), Next::Carry(_)));
}

#[test]
fn a_recipe_is_carried_out_beside_any_worker() {
    /// Pauses, computes, and says what it found.
    struct Survey;
    impl Recipe<u32> for Survey {
        fn next(&mut self, happened: Happened) -> Effect<u32> {
            match happened {
                Happened::Started => Effect::Pause(secs(3)),
                Happened::Paused => Effect::Compute(Box::new(|| panic!("no idea"))),
                Happened::Computed(outcome) => Effect::Done(match outcome {
                    Err(error) if error.message == "the engine panicked: no idea" => Ok(7),
                    _ => Ok(0),
                }),
                Happened::Exchanged(_) => Effect::Done(Ok(0)),
            }
        }
    }
    let world = World::new(Timers::Hasty);
    let mut carried = Driven::new(&world, carry_out(world.clone(), "test".into(), Box::new(Survey)));
    assert!(carried.pass(Duration::from_millis(2_900)).is_pending());
    assert_eq!(carried.pass(Duration::from_millis(200)), Poll::Ready(Ok(7)));

    let mut asking = Driven::new(&world, carry_out(world.clone(), "test".into(), Box::new(Asking)));
    assert!(asking.pass(secs(4)).is_pending());
    assert_eq!(world.state().exchanges, 1);
    drop(asking);
    assert_eq!(world.state().dropped_exchanges, 1, "what is dropped is given up");
}
