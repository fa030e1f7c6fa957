//! What happens at one moment, the last one among it.

use super::*;
use crate::engine::{Payload, SpilledFile};

/// Accepts a job of that kind, whose closure waits for its thread.
fn busy(
    world: &World,
    engine: Arc<dyn Engine>,
    kind: &str,
) -> (WorkerHandle, Driven<impl Future<Output = Exit> + use<>>) {
    world.state().thread_busy = true;
    let (handle, mut driven) = serving_with(world, engine);
    world.says(text(&offer("j-1", kind)));
    assert!(driven.pass(secs(1)).is_pending());
    (handle, driven)
}

#[test]
fn a_result_that_is_there_is_not_lost_to_a_stop_in_the_same_moment() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = busy(&world, engine(8), "llm");
    world.state().thread_busy = false;
    handle.stop();
    world.change(|_| ());
    assert!(driven.pass(secs(5)).is_ready());
    let said = types(&world.texts());
    assert!(said.contains(&"completeJson".into()) && !said.contains(&"fail".into()), "{said:?}");
}

#[test]
fn the_file_of_a_result_that_comes_as_the_worker_ends_is_deleted() {
    let world = World::new(Timers::Exact);
    let file = SpilledFile { path: "result".into(), bytes: 1 << 30 };
    let made = Output::Bytes { ext: "mp4".into(), payload: Payload::File(file) };
    let engine = FnEngine::new("synthetic", services(), move |_| Ok::<_, EngineError>(made.clone()));
    let (_handle, mut driven) = busy(&world, Arc::new(engine), "image");
    world.change(|state| {
        state.files.push("result".into());
        state.thread_busy = false;
        let refusal = Received::Close { code: CloseCode::AUTH_FAILED, reason: "no".into() };
        state.incoming.push_back(Some(Ok(refusal)));
    });
    assert!(matches!(driven.pass(secs(5)), Poll::Ready(Exit::Unauthorized { .. })));
    assert!(world.state().files.is_empty(), "its file is left behind");
}

/// As two of `drain` at a worker that is behind, or one and a signal.
#[test]
fn two_drains_before_the_loop_turns_end_no_job() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = busy(&world, engine(8), "llm");
    handle.drain();
    handle.drain();
    assert!(driven.pass(secs(1)).is_pending());
    handle.drain();
    assert!(driven.pass(secs(1)).is_pending());
    world.change(|state| state.thread_busy = false);
    assert!(driven.pass(secs(5)).is_pending());
    world.says(text(&json!({ "type": "completeAck", "jobId": "j-1" })));
    assert_eq!(driven.pass(secs(5)), Poll::Ready(Exit::Drained));
    assert!(!types(&world.texts()).contains(&"fail".into()));
}
