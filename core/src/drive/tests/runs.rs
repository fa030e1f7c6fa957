//! Runs of the engine: what recipes want, carried out.

use std::future::pending;

use super::{
    super::{
        carrier::Carried,
        carry_out,
        machine::Transfers,
        runs::{Next, Progressed, Runs},
    },
    *,
};
use crate::{
    engine::{AsyncFnEngine, Effect, Happened, Payload, Recipe, SPILL_ABOVE, SpilledFile},
    wire::{Offer, StudioFrame},
    worker::{HttpRequest, RunId},
};

fn claim(kind: &str) -> Arc<Claim> {
    match StudioFrame::parse(&offer("j-1", kind).to_string()).unwrap() {
        StudioFrame::Offer(Offer::Readable(claim)) => Arc::new(*claim),
        other => panic!("{other:?}"),
    }
}

fn runs(world: &World, engine: Arc<dyn Engine>) -> Runs<World> {
    Runs::new(world.clone(), engine, "studio-worker/test".into(), Transfers::new(Arc::default()))
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
        let file = SpilledFile { path: "made-by-engine".into(), bytes: 9 };
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
            _ => panic!("no idea"),
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
    let answered = Progressed::Carried(Carried::Happened(Happened::Exchanged(Err(
        crate::worker::HttpFailure("x".into()),
    ))));
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
                _ => Effect::Done(Ok(0)),
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

#[test]
fn an_async_function_is_waited_for_and_a_cancelled_one_is_dropped() {
    let held = Arc::new(());
    let waits = Arc::clone(&held);
    let engine = AsyncFnEngine::new("synthetic", services(), move |claim: Arc<Claim>| {
        let waits = Arc::clone(&waits);
        async move {
            match claim.task.kind() {
                TaskKind::Llm => Ok(Output::Json(Arc::new(json!({ "job": claim.job_id.as_str() })))),
                TaskKind::Image => panic!("no idea"),
                _ => {
                    pending::<()>().await;
                    drop(waits);
                    Err(EngineError::transient("it should have waited for ever"))
                }
            }
        }
    });
    let world = World::new(Timers::Exact);
    let mut runs = runs(&world, Arc::new(engine));

    let next = runs.start(RunId(1), &claim("llm"));
    assert_eq!(finish(&world, &mut runs, next), Some(Ok(Output::Json(Arc::new(json!({ "job": "j-1" }))))));

    let next = runs.start(RunId(1), &claim("image"));
    assert_eq!(
        finish(&world, &mut runs, next),
        Some(Err(EngineError::transient("the engine panicked: no idea")))
    );

    let Next::Carry(waiting) = runs.start(RunId(1), &claim("audio_tts")) else { panic!("it ended") };
    let mut waiting = Driven::new(&world, waiting);
    assert!(waiting.settle().is_pending());
    assert_eq!(Arc::strong_count(&held), 3);
    assert!(matches!(runs.cancel(RunId(1)), Some(Err(error)) if error.retryable));
    drop(waiting);
    assert_eq!(Arc::strong_count(&held), 2, "what is dropped is given up");
}
