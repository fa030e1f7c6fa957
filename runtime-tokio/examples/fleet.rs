//! Many workers in one process, each with an identity of its own:
//! `cargo run -p studio-worker-tokio --example fleet -- http://127.0.0.1:8700 8 ./fleet`.
//!
//! They share a clock and what TLS trusts through one [`Tokio`]. A SIGINT ends them all; each delivers what it has in
//! hand.

use std::{env, error::Error, fs, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use serde_json::json;
use studio_worker_core::{
    engine::{Models, Output, Service},
    wire::{ApiBase, TaskKind},
    worker::{Options, Settings},
};
use studio_worker_tokio::{FileStore, Tokio, Worker, WorkerBuilder, engine_fn};
use tokio::{signal, time};
use tokio_util::sync::CancellationToken;

/// Between two lines about the fleet.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fleet URL-OF-A-STUDIO NUMBER-OF-WORKERS FOLDER";
    let mut arguments = env::args().skip(1);
    let studio = ApiBase::parse(&arguments.next().ok_or(usage)?)?;
    let size: usize = arguments.next().ok_or(usage)?.parse()?;
    let folder = PathBuf::from(arguments.next().ok_or(usage)?);
    fs::create_dir_all(&folder)?;

    // Heard from here on, before there is anything to end, and also while nobody looks.
    let mut interrupted = pin!(signal::ctrl_c());
    if let Some(signal) = interrupted.as_mut().now_or_never() {
        return Ok(signal?);
    }

    let models = Models::Listed(vec!["echo-1".into()]);
    let services = vec![Service { kind: TaskKind::Llm, engine: "echo".into(), models }];
    let engine = engine_fn("echo", services, |claim| async move {
        let message = json!({ "role": "assistant", "content": claim.task.prompt() });
        Ok(Output::Json(Arc::new(json!({ "choices": [{ "message": message }] }))))
    });
    let (shared, ending) = (Tokio::new(), CancellationToken::new());
    let mut fleet = Vec::new();
    for number in 1..=size {
        let store = FileStore::open(folder.join(format!("worker-{number}.json")))?;
        let mut settings = Settings::new(studio.clone(), store.identity());
        settings.label = Some(format!("fleet {number}"));
        let options = Options::new(settings, concat!("fleet/", env!("CARGO_PKG_VERSION")));
        let builder = WorkerBuilder::new(options, Arc::clone(&engine), Arc::new(store));
        fleet.push(builder.runtime(shared.clone()).cancelled_by(ending.clone()).spawn()?);
    }

    let mut reports = time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            signal = &mut interrupted => break signal?,
            _ = reports.tick() => report(&fleet),
        }
        if fleet.iter().all(Worker::has_ended) {
            break;
        }
    }
    ending.cancel();
    for (number, exit) in (1..).zip(join_all(fleet).await) {
        println!("worker {number} ended: {}", exit?);
    }
    Ok(())
}

fn report(fleet: &[Worker]) {
    let (mut connected, mut busy, mut delivered) = (0, 0, 0);
    for worker in fleet {
        let observers = worker.observers();
        let status = observers.status();
        connected += usize::from(status.is_connected());
        busy += usize::from(status.current_job.is_some());
        delivered += observers.recent_jobs().len();
    }
    println!(
        "{connected} of {} connected, {busy} busy, {delivered} jobs among the last of each",
        fleet.len()
    );
}
