//! How long a studio waits for a worker: from an offer to its accept, and to its JSON result, over loopback,
//! beside a bare echo of the same frames on the same sockets in the same run.
//!
//! `cargo bench -p studio-worker-async-std`. Target: medians of at most twice the echo's, with an engine that
//! answers at once. One that computes does so on a thread; what it costs to wake that and then the loop is
//! shown beside it.
//! The studio is a blocking socket on a thread of its own in all of them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program that measures, and stops where it can't"
)]

use std::{
    env,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use studio_worker_async_std::{AsyncStd, MemoryStore, Runtime as _, block_on, start};
use studio_worker_core::{
    conformance::{Network, Running, Session, TestEngine, TestStudio, options, registered},
    drive::{Connect, Outgoing, Received},
    engine::{Effect, Engine, Happened, Models, Output, Recipe, Service},
    wire::{Claim, TaskKind},
};

/// Between two rounds, so that each offer finds its peer waiting: the worker has dealt with the acknowledgement before
/// it, and the echo is no warmer than the worker.
const REST: Duration = Duration::from_millis(1);

fn main() {
    // Without `--bench`, as `cargo test --benches` calls it, a few rounds show that it works.
    let rounds = if env::args().any(|arg| arg == "--bench") { 5_000 } else { 50 };
    // Alternating slices, so that what else the machine does hits all alike.
    let slices = 10;
    let mut echo = Echo::new();
    let mut at_once = Worker::new(Arc::new(AtOnce));
    let mut computing = Worker::new(TestEngine::new(Network::loopback().clock()));
    let [mut echoes, mut accepts, mut results, mut computed] = [const { Vec::new() }; 4];
    echo.rounds(rounds / slices, &mut Vec::new());
    at_once.rounds(rounds / slices, &mut Vec::new(), &mut Vec::new());
    computing.rounds(rounds / slices, &mut Vec::new(), &mut Vec::new());
    for _ in 0..slices {
        echo.rounds(rounds / slices, &mut echoes);
        at_once.rounds(rounds / slices, &mut accepts, &mut results);
        computing.rounds(rounds / slices, &mut Vec::new(), &mut computed);
    }
    println!("{rounds} rounds each               median       p99");
    let base = report("echo of the offer", echoes, None);
    report("offer to accept", accepts, Some(base));
    report("offer to JSON result", results, Some(base));
    report("the same, computed", computed, Some(base));
}

fn report(what: &str, mut times: Vec<Duration>, base: Option<Duration>) -> Duration {
    times.sort_unstable();
    let median = times[times.len() / 2];
    let p99 = times[times.len() * 99 / 100];
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let ratio = base.map(|base| format!("   {:.2} times the echo", micros(median) / micros(base)));
    println!("{what:<24} {:>8.1} µs {:>8.1} µs{}", micros(median), micros(p99), ratio.unwrap_or_default());
    median
}

/// An engine that answers at once.
struct AtOnce;

impl Engine for AtOnce {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn services(&self) -> Vec<Service> {
        let models = Models::Listed(vec!["synthetic".into()]);
        vec![Service { kind: TaskKind::Llm, engine: "synthetic".into(), models }]
    }

    fn recipe(&self, claim: &Arc<Claim>) -> Box<dyn Recipe> {
        Box::new(Answer(Arc::clone(claim)))
    }
}

struct Answer(Arc<Claim>);

impl Recipe for Answer {
    fn next(&mut self, _: Happened) -> Effect {
        Effect::Done(Ok(Output::Json(Arc::new(json!({ "said": self.0.task.prompt() })))))
    }
}

/// The worker as it is.
struct Worker {
    session: Session,
    jobs: usize,
    _running: Running,
    _studio: TestStudio,
}

impl Worker {
    fn new(engine: Arc<dyn Engine>) -> Self {
        let network = Network::loopback();
        let studio = network.studio();
        let options = options(&studio.base(), registered());
        let (handle, driving) = start(options, engine, Arc::new(MemoryStore::new())).unwrap();
        let running = Running::new(&network, handle, || block_on(driving));
        Self { session: studio.session(), jobs: 0, _running: running, _studio: studio }
    }

    fn rounds(&mut self, rounds: usize, accepts: &mut Vec<Duration>, results: &mut Vec<Duration>) {
        for _ in 0..rounds {
            self.jobs += 1;
            let job = format!("job-{}", self.jobs);
            let offer = offer(&job);
            let began = Instant::now();
            self.session.send(&offer);
            self.session.expect("accept", &job);
            accepts.push(began.elapsed());
            self.session.expect("completeJson", &job);
            results.push(began.elapsed());
            self.session.send(&json!({ "type": "completeAck", "jobId": job }));
            thread::sleep(REST);
        }
    }
}

/// The worker's socket, and nothing behind it.
struct Echo {
    session: Session,
    _studio: TestStudio,
}

impl Echo {
    fn new() -> Self {
        let studio = TestStudio::new();
        let connect = Connect {
            url: studio.base().replace("http://", "ws://"),
            bearer: "tok".into(),
            user_agent: "studio-worker/bench".into(),
        };
        thread::spawn(move || {
            block_on(async {
                let Ok(mut socket) = AsyncStd::new().connect(connect).await else { panic!("no session") };
                while let Some(Ok(received)) = socket.next().await {
                    if let Received::Text(text) = received {
                        socket.send(Outgoing::Text(text)).await.unwrap();
                    }
                }
            });
        });
        Self { session: studio.upgrade().accept(), _studio: studio }
    }

    fn rounds(&mut self, rounds: usize, echoes: &mut Vec<Duration>) {
        for round in 0..rounds {
            let offer = offer(&format!("job-{round}"));
            let began = Instant::now();
            self.session.send(&offer);
            self.session.text();
            echoes.push(began.elapsed());
            thread::sleep(REST);
        }
    }
}

fn offer(job: &str) -> Value {
    json!({ "type": "offer", "claim": {
        "jobId": job, "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": "hello" }] },
    }})
}
