//! The workers, in this process, and what they take of it.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use serde_json::json;
use studio_worker_core::{
    engine::{Engine, EngineError, Models, Output, Service},
    wire::{ApiBase, Capabilities, Finite, TaskKind},
    worker::{Identity, Options, Settings},
};
use studio_worker_tokio::{MemoryStore, Store, Tokio, Worker, WorkerBuilder, engine_fn};
use tokio::{
    runtime,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Problem,
    orders::{Order, Report},
    plan::Plan,
    process::{self, Child},
    row::Row,
};

/// Sessions that are there before memory is measured for the first time: what they all share is theirs.
const FIRST: usize = 10;

/// Measures a row.
pub(crate) fn measure(plan: &Plan) -> Result<Row, Problem> {
    process::check_descriptors(plan.sessions)?;
    let mut echo = Echo(Child::start(&plan.to_args("--echo"))?);
    let port: u16 = echo.0.line()?.trim().parse()?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(available_parallelism()?.get())
        .enable_all()
        .build()?;
    let mut fleet = Fleet::new(port);
    let machine = process::machine_seconds()?;

    // Until all code has run, and memory is as it stays.
    let first = FIRST.min(plan.sessions.div_ceil(2));
    runtime.block_on(fleet.grow_to(first, plan.opened_a_second))?;
    echo.order(Order::Await { sessions: first })?;
    let finish = Order::Finish { jobs_each: plan.jobs_each, in_flight: plan.in_flight };
    let warm = echo.order(finish)?;
    let settle = Order::Watch { seconds: if plan.rehearsal { 0.1 } else { 6.0 } };
    echo.order(settle)?;
    let at_first = process::resident_kib()?;

    let sessions = plan.sessions;
    runtime.block_on(fleet.grow_to(sessions, plan.opened_a_second))?;
    let opened = echo.order(Order::Await { sessions })?;
    let settled = echo.order(settle)?;
    let welcomed = process::resident_kib()?;

    let (idle, idle_cpu) = timed(|| echo.order(Order::Watch { seconds: plan.idle_seconds }))?;
    let pace = Order::Pace { a_second: plan.offers_a_second, offers: plan.paced_offers() };
    let paced = echo.order(pace)?;
    let (finished, finish_cpu) = timed(|| echo.order(finish))?;
    let rest = echo.order(settle)?;
    let worked = process::resident_kib()?;

    let spent = process::machine_seconds()?;
    let reports = [&warm, &opened, &settled, &idle, &paced, &finished, &rest];
    let own = process::cpu_seconds()? + reports.iter().map(|report| report.cpu).sum::<f64>();
    let idle_a_second = idle_cpu / idle.seconds.max(f64::MIN_POSITIVE);
    let (sessions, more) = (count(sessions), count((sessions - first).max(1)));
    let ended = fleet.workers.iter().filter(|worker| worker.has_ended()).count();
    Ok(Row {
        sessions: plan.sessions,
        late: settled.late.worse(idle.late).worse(paced.late).worse(rest.late),
        late_busy: finished.late,
        accepted: paced.accepted,
        answered: paced.answered,
        answered_busy: finished.answered,
        jobs_a_second: count(finished.jobs) / finished.seconds,
        kib_welcomed: (welcomed - at_first) / more,
        kib_worked: (worked - at_first) / more,
        kib_first: at_first,
        idle_cpu_an_hour: idle_a_second * 3_600.0 / sessions,
        // Heartbeats go on meanwhile, and are not the jobs' cost.
        job_cpu_micros: (finish_cpu - idle_a_second * finished.seconds).max(0.0) * 1e6
            / count(finished.jobs.max(1)),
        echo_cpu: finished.cpu / finished.seconds,
        threads: process::threads()?,
        descriptors: process::descriptors()?,
        others: (spent.0 - machine.0 - own).max(0.0) / (spent.1 - machine.1).max(f64::MIN_POSITIVE),
        faults: rest.faults + ended as u64,
        first_fault: rest.first_fault.or_else(|| (ended > 0).then(|| format!("{ended} workers ended"))),
    })
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn count(number: usize) -> f64 {
    number as f64
}

/// What this process spent of the processor meanwhile, in seconds.
fn timed<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<(T, f64), Problem> {
    let before = process::cpu_seconds()?;
    let done = work()?;
    Ok((done, process::cpu_seconds()? - before))
}

struct Echo(Child);

impl Echo {
    /// Has an order carried out.
    fn order(&mut self, order: Order) -> Result<Report, Problem> {
        self.0.tell(&order)?;
        Ok(serde_json::from_str(&self.0.line()?)?)
    }
}

/// Workers that share what can be shared, as a service would have them.
struct Fleet {
    base: String,
    tokio: Tokio,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    workers: Vec<Worker>,
}

impl Fleet {
    fn new(port: u16) -> Self {
        let engine = engine_fn("echo", services(), |claim| async move {
            Ok::<_, EngineError>(Output::Json(Arc::new(json!({ "answer": claim.task.prompt() }))))
        });
        Self {
            base: format!("http://127.0.0.1:{port}"),
            tokio: Tokio::new(),
            engine,
            store: Arc::new(MemoryStore::new()),
            workers: Vec::new(),
        }
    }

    async fn grow_to(&mut self, sessions: usize, opened_a_second: f64) -> Result<(), Problem> {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / opened_a_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while self.workers.len() < sessions {
            ticks.tick().await;
            let Self { base, tokio, engine, store, workers } = self;
            let options = options(base, workers.len())?;
            let worker =
                WorkerBuilder::new(options, Arc::clone(engine), Arc::clone(store)).runtime(tokio.clone());
            workers.push(worker.spawn()?);
        }
        Ok(())
    }
}

fn services() -> Vec<Service> {
    let models = ["echo-1", "echo-1-large", "echo-2"].map(str::to_owned).to_vec();
    vec![Service { kind: TaskKind::Llm, engine: "echo".into(), models: Models::Listed(models) }]
}

/// A worker that is registered, and says what one says of a real machine.
fn options(base: &str, number: usize) -> Result<Options, Problem> {
    let settings = Settings {
        api_base: ApiBase::parse(base)?,
        identity: Identity {
            install_id: Some(format!("11111111-1111-4111-8111-{number:012}")),
            worker_id: Some(format!("worker-{number:012}")),
            auth_token: Some(format!("{number:064x}").as_str().into()),
            ..Identity::default()
        },
        label: Some(format!("rack 7, slot {number}")),
        capabilities: Capabilities {
            machine_name: format!("render-node-{number:05}"),
            username: "studio".into(),
            agent_version: "1.0.0".into(),
            engine: "multi".into(),
            vram_total_gb: Finite::from(24),
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            auto_start: true,
            auto_update: Some(false),
            model_engines: Some(vec!["echo".into()]),
            ..Capabilities::default()
        },
        services: services(),
        measured_engines: Vec::new(),
        reconnect_attempts: None,
    };
    Ok(Options::new(settings, "studio-worker/1.0.0"))
}
