//! Spans of a worker, as whoever records them sees them.
#![cfg(feature = "tracing")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::json;
use studio_worker_core::{
    conformance::{Network, options, registered},
    engine::{FnEngine, Models, Output, Service},
    wire::TaskKind,
};
use studio_worker_tokio::{MemoryStore, WorkerBuilder};
use tracing_subscriber::fmt::format::FmtSpan;

/// What was recorded, line by line.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<u8>>>);

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_job_is_a_span_of_its_worker_and_what_its_engine_says_is_in_it() {
    let recorded = Recorded::default();
    let made = recorded.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_writer(move || made.clone())
        .init();
    let models = Models::Listed(vec!["synthetic".into()]);
    let services = vec![Service { kind: TaskKind::Llm, engine: "synthetic".into(), models }];
    let engine = FnEngine::new("synthetic", services, |_: &_| {
        tracing::info!("painting");
        Ok(Output::Json(Arc::new(json!({}))))
    });

    let studio = Network::loopback().studio();
    let service = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = options(&studio.base(), registered());
    let builder = WorkerBuilder::new(options, Arc::new(engine), Arc::new(MemoryStore::new()));
    let worker = builder.on(service.handle().clone()).spawn().unwrap();
    let handle = worker.handle().clone();
    let playing = std::thread::spawn(move || {
        let mut session = studio.session();
        session.delivers("j-1");
        handle.drain();
        assert_eq!(session.closed().0, 1000);
    });
    // Whoever observes a worker that has ended does not keep its span open.
    let _observers = worker.observers();
    service.block_on(worker).unwrap();
    playing.join().unwrap();

    let text = String::from_utf8(recorded.0.lock().unwrap().clone()).unwrap();
    let says = |wanted: &[&str]| {
        assert!(
            text.lines().any(|line| wanted.iter().all(|part| line.contains(part))),
            "{wanted:?} in\n{text}"
        );
    };
    let worker = r#"worker{label="test" worker_id="w-1"}"#;
    says(&[worker, r#"session{worker_id="w-1"}"#, ": new"]);
    let job = r#"job{job_id="j-1" kind="llm" model="synthetic""#;
    says(&[worker, job, ": painting"]);
    says(&[worker, job, r#"outcome="completed""#, ": close"]);
    says(&[worker, r#"session{worker_id="w-1"}"#, ": close"]);
    says(&[&format!("INFO {worker}: "), ": close"]);
}
