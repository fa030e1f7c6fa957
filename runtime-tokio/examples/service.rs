//! A service with routes of its own that hosts a worker beside them:
//! `cargo run -p studio-worker-tokio --example service -- http://127.0.0.1:8700 127.0.0.1:8080`.
//!
//! - `GET /` is the service's own.
//! - `GET /health` is 200 while the worker has a session with its studio, and 503 while it has none.
//! - `GET /status` is what the worker does, as JSON.
//!
//! A SIGINT or SIGTERM ends it: the worker takes no new job, what runs is finished and delivered, and then the last
//! requests are answered. A second one ends the worker at once.

use std::{env, error::Error, future::IntoFuture as _, io, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};
use studio_worker_core::{
    engine::{Engine, Models, Output, Service},
    wire::{ApiBase, TaskKind},
    worker::{JobOutcome, Options, Settings},
};
use studio_worker_tokio::{FileStore, WorkerBuilder, WorkerHandle, WorkerObservers, WorkerStatus, engine_fn};
use tokio::{
    net::TcpListener,
    signal::{
        self,
        unix::{self, SignalKind},
    },
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// What the routes look at.
#[derive(Clone)]
struct App {
    status: watch::Receiver<WorkerStatus>,
    observers: WorkerObservers,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: service URL-OF-A-STUDIO LISTEN-ADDRESS [IDENTITY-FILE]";
    let mut arguments = env::args().skip(1);
    let studio = ApiBase::parse(&arguments.next().ok_or(usage)?)?;
    let listener = TcpListener::bind(arguments.next().ok_or(usage)?).await?;
    let store = FileStore::open(arguments.next().unwrap_or("service-worker.json".into()))?;

    let ending = CancellationToken::new();
    let mut settings = Settings::new(studio, store.identity());
    settings.label = Some("the service".into());
    let options = Options::new(settings, concat!("service/", env!("CARGO_PKG_VERSION")));
    let worker =
        WorkerBuilder::new(options, engine(), Arc::new(store)).cancelled_by(ending.clone()).spawn()?;

    let app = App { status: worker.status(), observers: worker.observers() };
    let routes = Router::new()
        .route("/", get(async || "a service of one's own\n"))
        .route("/health", get(health))
        .route("/status", get(status))
        .with_state(app);
    println!("listening on {}", listener.local_addr()?);
    // The routes answer until the worker has ended.
    let closing = CancellationToken::new();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(closing.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    tokio::spawn(steer(ending, worker.handle().clone()));

    let exit = worker.await?;
    closing.cancel();
    serving.await??;
    println!("the worker ended: {exit}");
    if exit.code() == 0 { Ok(()) } else { Err(exit.to_string().into()) }
}

/// Ends the worker as the operator wants it.
async fn steer(ending: CancellationToken, worker: WorkerHandle) -> io::Result<()> {
    let mut terminated = unix::signal(SignalKind::terminate())?;
    for end in [&(|| ending.cancel()) as &(dyn Fn() + Sync), &|| worker.stop()] {
        tokio::select! {
            signal = signal::ctrl_c() => signal?,
            _ = terminated.recv() => {}
        }
        end();
    }
    Ok(())
}

/// Counts words, slowly.
fn engine() -> Arc<dyn Engine> {
    let models = Models::Listed(vec!["count-1".into()]);
    let services = vec![Service { kind: TaskKind::Llm, engine: "count".into(), models }];
    engine_fn("count", services, |claim| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let words = claim.task.prompt().split_whitespace().count();
        let message = json!({ "role": "assistant", "content": format!("{words} words") });
        Ok(Output::Json(Arc::new(json!({ "choices": [{ "message": message }] }))))
    })
}

async fn health(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.status.borrow().is_connected() {
        (StatusCode::OK, "connected\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not connected\n")
    }
}

async fn status(State(app): State<App>) -> Json<Value> {
    let status = app.status.borrow().clone();
    let recent: Vec<_> = app.observers.recent_jobs();
    Json(json!({
        "session": status.session.map(|session| json!({
            "state": session.state,
            "since": session.since.to_string(),
            "workerId": session.worker_id,
            "detail": session.detail,
        })),
        "currentJob": status.current_job.map(|job| json!({ "id": job.job_id.as_str(), "kind": job.kind.name() })),
        "recentJobs": recent.iter().map(|job| json!({
            "id": job.job_id.as_str(),
            "completed": job.outcome == JobOutcome::Completed,
        })).collect::<Vec<_>>(),
    }))
}
