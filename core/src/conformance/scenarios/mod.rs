//! The scenarios. Each panics where the worker does something else.

mod delivery;
mod ending;
mod session;

use std::sync::Arc;

use serde_json::json;

use super::{Host, Running, TestEngine, TestStudio, options, registered};
use crate::drive::MemoryStore;
pub use delivery::*;
pub use ending::*;
pub use session::*;

/// A studio, an engine, and a worker that is registered with that studio.
struct Scene {
    studio: TestStudio,
    engine: Arc<TestEngine>,
    worker: Running,
}

impl Scene {
    fn new(host: &impl Host) -> Self {
        let studio = TestStudio::new();
        let engine = TestEngine::new();
        let options = options(&studio.base(), registered());
        let worker = host.start(options, engine.clone(), Arc::new(MemoryStore::new()));
        Self { studio, engine, worker }
    }
}

fn complete_ack(job: &str) -> serde_json::Value {
    json!({ "type": "completeAck", "jobId": job })
}

fn fail_ack(job: &str) -> serde_json::Value {
    json!({ "type": "failAck", "jobId": job })
}
