//! What a service does with a worker: spawns it, watches it, ends it, gives it an engine of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use studio_worker_core::{
    conformance::{Network, TestStudio, options, registered},
    engine::{Engine, EngineError, Models, Output, Service},
    wire::TaskKind,
    worker::{Exit, JobOutcome},
};
use studio_worker_tokio::{
    MemoryStore, SpawnError, Tokio, TokioPlatform, WorkerBuilder, WorkerStatus, engine_fn,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A service's runtime, with the test's thread beside it: the studio of the test blocks.
fn service() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn services() -> Vec<Service> {
    let models = Models::Listed(vec!["synthetic".into()]);
    vec![Service { kind: TaskKind::Llm, engine: "synthetic".into(), models }]
}

/// Answers with who it is.
fn named(name: &'static str) -> Arc<dyn Engine> {
    engine_fn("synthetic", services(), move |_| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Output::Json(Arc::new(json!({ "by": name }))))
    })
}

fn worker_of(studio: &TestStudio, engine: Arc<dyn Engine>) -> WorkerBuilder {
    WorkerBuilder::new(options(&studio.base(), registered()), engine, Arc::new(MemoryStore::new()))
}

#[test]
fn a_cancelled_token_drains_and_what_runs_is_delivered() {
    let (network, service, token) = (Network::loopback(), service(), CancellationToken::new());
    let studio = network.studio();
    let (release, released) = tokio::sync::watch::channel(false);
    let engine = engine_fn("synthetic", services(), move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.map_err(EngineError::transient)?;
            Ok(Output::Json(Arc::new(json!({ "done": true }))))
        }
    });
    let worker =
        worker_of(&studio, engine).on(service.handle().clone()).cancelled_by(token.clone()).spawn().unwrap();
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    token.cancel();
    // The service's wish has reached the worker when it wants no more jobs.
    session.heartbeat_with("autoEnabled", false);
    assert!(!worker.has_ended());
    release.send(true).unwrap();
    assert_eq!(session.expect("completeJson", "j-1")["result"], json!({ "done": true }));
    session.complete_ack("j-1");
    assert_eq!(session.closed().0, 1000);
    assert_eq!(service.block_on(worker).unwrap(), Exit::Drained);
}

#[test]
fn a_shutdown_is_awaited_and_a_stop_gives_up_what_runs() {
    let (network, service) = (Network::loopback(), service());
    let held = Arc::new(());
    for graceful in [true, false] {
        let (studio, waits) = (network.studio(), Arc::clone(&held));
        let engine = engine_fn("synthetic", services(), move |_| {
            let waits = Arc::clone(&waits);
            async move {
                pending::<()>().await;
                drop(waits);
                Err(EngineError::transient("it should have waited for ever"))
            }
        });
        let worker = service.block_on(async { worker_of(&studio, engine).spawn() }).unwrap();
        let mut session = studio.session();
        if graceful {
            let ending = service.spawn(worker.shutdown());
            assert_eq!(session.closed().0, 1000);
            assert_eq!(service.block_on(ending).unwrap().unwrap(), Exit::Drained);
            continue;
        }
        session.offer("j-1", "llm", "hello");
        session.expect("accept", "j-1");
        while Arc::strong_count(&held) < 3 {
            std::thread::yield_now();
        }
        let ending = service.spawn(worker.stop());
        assert_eq!(session.expect("fail", "j-1")["retryable"], true);
        session.fail_ack("j-1");
        assert_eq!(service.block_on(ending).unwrap().unwrap(), Exit::Stopped);
        drop(service);
        assert_eq!(Arc::strong_count(&held), 1, "a run that is given up is dropped where it waits");
        return;
    }
}

#[test]
fn the_status_is_a_channel() {
    let (network, service) = (Network::loopback(), service());
    let studio = network.studio();
    let worker = worker_of(&studio, named("w")).on(service.handle().clone()).spawn().unwrap();
    let mut status = worker.status();
    let mut session = studio.session();
    service.block_on(status.wait_for(WorkerStatus::is_connected)).unwrap();
    session.delivers("j-1");
    let done = service.block_on(status.wait_for(|status| status.last_job.is_some())).unwrap().clone();
    let job = done.last_job.unwrap();
    assert_eq!((job.job_id.as_str(), job.outcome), ("j-1", JobOutcome::Completed));
    let ending = service.spawn(worker.shutdown());
    assert_eq!(session.closed().0, 1000);
    let ended = service.block_on(status.wait_for(|status| !status.is_connected())).unwrap().clone();
    assert!(ended.session.is_some());
    service.block_on(ending).unwrap().unwrap();
    assert_eq!(status.borrow().session.as_ref().unwrap().state, "ended");
}

#[test]
fn workers_of_different_studios_live_in_one_process() {
    let (network, service, shared) = (Network::loopback(), service(), Tokio::new());
    let names = ["one", "two", "three"];
    let hosted: Vec<_> = names
        .iter()
        .map(|name| {
            let studio = network.studio();
            let builder = worker_of(&studio, named(name)).runtime(shared.clone());
            let worker = builder.on(service.handle().clone()).spawn().unwrap();
            (studio, worker)
        })
        .collect();
    let mut sessions: Vec<_> = hosted.iter().map(|(studio, _)| studio.session()).collect();
    for session in &mut sessions {
        session.offer("j-1", "llm", "hello");
    }
    for (session, name) in sessions.iter_mut().zip(names) {
        session.expect("accept", "j-1");
        assert_eq!(session.expect("completeJson", "j-1")["result"], json!({ "by": name }));
        session.complete_ack("j-1");
    }
    // One that ends leaves the others alone.
    let mut hosted = hosted.into_iter();
    let (_studio, first) = hosted.next().unwrap();
    let ending = service.spawn(first.shutdown());
    assert_eq!(sessions[0].closed().0, 1000);
    service.block_on(ending).unwrap().unwrap();
    sessions[1].delivers("j-2");
    for (_, worker) in hosted {
        service.block_on(worker.stop()).unwrap();
    }
}

#[test]
fn a_panic_of_an_async_engine_fails_its_job_alone() {
    let (network, service, runs) = (Network::loopback(), service(), Arc::new(AtomicUsize::new(0)));
    let (studio, counted) = (network.studio(), Arc::clone(&runs));
    let engine = engine_fn("synthetic", services(), move |_| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            assert!(!first, "out of paint");
            Ok(Output::Json(Arc::new(json!({}))))
        }
    });
    let worker = worker_of(&studio, engine).on(service.handle().clone()).spawn().unwrap();
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    let fail = session.expect("fail", "j-1");
    assert_eq!(fail["error"], "the engine panicked: out of paint", "{fail}");
    session.fail_ack("j-1");
    session.delivers("j-2");
    let ending = service.spawn(worker.shutdown());
    assert_eq!(session.closed().0, 1000);
    service.block_on(ending).unwrap().unwrap();
}

#[test]
fn where_there_is_no_runtime_the_error_says_what_to_do() {
    let studio = Network::loopback().studio();
    let error = worker_of(&studio, named("w")).spawn().unwrap_err();
    assert!(matches!(error, SpawnError::NoRuntime(_)));
    assert!(error.to_string().contains("WorkerBuilder::on"), "{error}");
}

#[test]
fn a_runtime_that_is_shut_down_says_so() {
    let studio = Network::loopback().studio();
    let service = service();
    let worker = worker_of(&studio, named("w")).on(service.handle().clone()).spawn().unwrap();
    let observers = worker.observers();
    let session = studio.session();
    service.shutdown_background();
    let lost = futures::executor::block_on(worker).unwrap_err();
    assert!(lost.is_cancelled());
    assert!(observers.status().has_ended(), "{:?}", observers.session());
    drop(session);
}

/// Time that stands still but for timers: tokio's own way of testing.
#[tokio::test(start_paused = true)]
async fn the_clock_is_tokios_and_can_be_paused() {
    // Nobody listens: the worker backs off between its attempts.
    let runtime = Tokio::on(TokioPlatform::dialing(|_| async {
        Err::<tokio::io::DuplexStream, _>(std::io::ErrorKind::ConnectionRefused.into())
    }));
    let mut options = options("http://studio.test", registered());
    options.settings.reconnect_attempts = Some(8);
    let builder = WorkerBuilder::new(options, named("w"), Arc::new(MemoryStore::new()));
    let since = tokio::time::Instant::now();
    let exit = builder.runtime(runtime).spawn().unwrap().await.unwrap();
    assert!(matches!(exit, Exit::AttemptsExhausted { .. }), "{exit}");
    // They lie further apart than this test would ever wait.
    assert!(since.elapsed() > Duration::from_secs(60), "{:?}", since.elapsed());
}
