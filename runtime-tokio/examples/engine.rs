//! An engine of one's own, as a worker of a studio:
//! `cargo run -p studio-worker-tokio --example engine -- http://127.0.0.1:8700`.

use std::{env, error::Error, io, sync::Arc};

use serde_json::json;
use studio_worker_core::engine::{Models, Output, Service};
use studio_worker_core::wire::{ApiBase, TaskKind};
use studio_worker_core::worker::{Options, Settings};
use studio_worker_tokio::{FileStore, WorkerBuilder, engine_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let models = Models::Listed(vec!["loud".into()]);
    let services = vec![Service { kind: TaskKind::Llm, engine: "shout".into(), models }];
    let engine = engine_fn("shout", services, |claim| async move {
        let message = json!({ "role": "assistant", "content": claim.task.prompt().to_uppercase() });
        Ok(Output::Json(Arc::new(json!({ "choices": [{ "message": message }] }))))
    });
    let studio = env::args().nth(1).ok_or("usage: engine URL-OF-A-STUDIO [IDENTITY-FILE]")?;
    let store = FileStore::open(env::args().nth(2).unwrap_or("shout-worker.json".into()))?;
    let settings = Settings::new(ApiBase::parse(&studio)?, store.identity());
    let worker =
        WorkerBuilder::new(Options::new(settings, "shout/1.0.0"), engine, Arc::new(store)).spawn()?;
    println!("shouting for {studio}, once its operator has approved");
    let handle = worker.handle().clone();
    tokio::spawn(async move {
        tokio::signal::ctrl_c().await?;
        handle.drain(); // what runs is finished and delivered
        tokio::signal::ctrl_c().await?;
        handle.stop(); // at once
        io::Result::Ok(())
    });
    println!("{}", worker.await?);
    Ok(())
}
