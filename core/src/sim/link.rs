//! The worker's machine and the studio's, with a link between them that keeps what it is told to keep.
//!
//! [`Link`] carries out what both decide: frames, exchanges, runs and stores are trips that are under way until somebody
//! lets them arrive, in an order that a [`Weather`] or a fuzz input chooses, and with the faults of `faults`.

mod carry;
mod faults;
mod trip;
mod weather;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};

use super::{oracle::Oracle, secrecy::Secrecy};
use crate::{
    engine::{Models, Service},
    studio::{self, CallId, JobOutput, JobRecord, JobState, NewJob, Record, Studio},
    time::{Mono, Now, Wall},
    wire::{ApiBase, Capabilities, Finite, JobId, Secret, TaskKind},
    worker::{Change, Command, ConnId, Exit, Identity, Key, Options, RequestId, Settings, StoreId, Worker},
};
pub(crate) use faults::{Meter, Mood, Way};
use trip::Trip;
pub(crate) use weather::Weather;

/// Where the studio is.
const BASE: &str = "http://studio/graphics/api";

/// Two machines and what is between them.
pub(crate) struct Link {
    pub(crate) worker: Worker,
    pub(crate) studio: Studio,
    pub(crate) oracle: Oracle,
    secrecy: Secrecy,
    options: studio::Options,
    now: Now,
    until: Mono,
    trips: Vec<Trip>,
    weather: Weather,
    calls: u64,
    waiting: BTreeMap<CallId, RequestId>,
    upgrades: BTreeMap<CallId, ConnId>,
    /// What follows the heads of uploads that the studio judges.
    bodies: BTreeMap<CallId, studio::Upload>,
    /// The jobs that uploads are for.
    uploads: BTreeMap<RequestId, JobId>,
    /// Jobs whose upload was answered, and the worker never heard it. If nothing but trouble follows, it says at last that
    /// the job failed, as section 6 has it, and can't know that the studio has the result.
    unheard: BTreeSet<JobId>,
    /// Sessions whose worker's side is open.
    open: BTreeSet<ConnId>,
    /// Sessions on which nothing arrives any more, that way.
    silent: BTreeSet<(ConnId, Way)>,
    sent: BTreeMap<ConnId, u64>,
    /// How often the worker's program has started.
    life: u64,
    /// What a configuration has of the worker.
    disk: BTreeMap<Key, String>,
    stores: BTreeMap<StoreId, Vec<Change>>,
    pub(crate) disk_is_full: bool,
    /// How the engine is.
    pub(crate) mood: Mood,
    /// Whether the memory is measured before a job is accepted, and what with.
    measured: bool,
    pub(crate) meter: Meter,
    /// What the studio has stored and isn't over.
    stored: BTreeMap<(&'static str, String), Record>,
    /// Each run of the engine, by its job.
    pub(crate) runs: Vec<JobId>,
    pub(crate) over: BTreeMap<JobId, Arc<JobRecord>>,
    pub(crate) exit: Option<Exit>,
}

impl Link {
    pub(crate) fn new(options: studio::Options, weather: Weather) -> Self {
        Self::with(options, weather, false)
    }

    /// The same with a worker that measures the memory before it accepts a job.
    pub(crate) fn measured(options: studio::Options, weather: Weather) -> Self {
        Self::with(options, weather, true)
    }

    fn with(options: studio::Options, weather: Weather, measured: bool) -> Self {
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_764_054_000_000) };
        let mut link = Self {
            worker: start(&BTreeMap::new(), 1, now, measured),
            studio: Studio::new(options.clone(), [2; 32], now),
            oracle: Oracle::new(),
            secrecy: Secrecy::default(),
            options,
            now,
            until: Mono::NEVER,
            trips: Vec::new(),
            weather,
            calls: 0,
            waiting: BTreeMap::new(),
            upgrades: BTreeMap::new(),
            bodies: BTreeMap::new(),
            uploads: BTreeMap::new(),
            unheard: BTreeSet::new(),
            open: BTreeSet::new(),
            silent: BTreeSet::new(),
            sent: BTreeMap::new(),
            life: 1,
            disk: BTreeMap::new(),
            stores: BTreeMap::new(),
            disk_is_full: false,
            mood: Mood::Well,
            measured,
            meter: Meter::Room,
            stored: BTreeMap::new(),
            runs: Vec::new(),
            over: BTreeMap::new(),
            exit: None,
        };
        link.drain_worker();
        link
    }

    /// Puts a job into the studio's queue.
    pub(crate) fn queue(&mut self, job: NewJob) -> JobId {
        let id = JobId::from(format!("job {}/%", self.calls));
        let call = self.call();
        let job = NewJob { id: Some(id.clone()), ..job }.into();
        self.tell_studio(studio::Input::QueueJob { call, job });
        id
    }

    /// Asks the studio for something.
    pub(crate) fn ask(&mut self, input: impl FnOnce(CallId) -> studio::Input) {
        let call = self.call();
        self.tell_studio(input(call));
    }

    /// Tells the worker what its owner wants. One that has ended does not hear it.
    pub(crate) fn command(&mut self, command: Command) {
        if self.worker.command(self.now, command).is_ok() {
            self.drain_worker();
        }
    }

    /// Whether every worker that there is has refused a job for good, so that it waits for another one.
    pub(crate) fn is_refused(&self, job: &JobId) -> bool {
        let workers = || self.studio.workers().filter(|worker| worker.revoked_at.is_none());
        let job = self.studio.jobs().find(|known| known.id == *job);
        job.is_some_and(|job| workers().all(|worker| job.refused_by.contains(&worker.id)))
            && workers().next().is_some()
    }

    /// What must hold whatever happened.
    ///
    /// # Panics
    /// When it doesn't.
    pub(crate) fn check(&self) {
        let excused: Vec<_> = self
            .unheard
            .iter()
            .map(|job| format!("`fail` for the job {:?}, which this worker does not hold", job.as_str()))
            .collect();
        let violations = self.studio.violations().filter(|violation| !excused.contains(&violation.what));
        assert_eq!(violations.collect::<Vec<_>>(), Vec::<&studio::Violation>::new());
        assert_eq!(self.studio.counters().impossible, 0);
        assert_eq!(self.worker.counters().impossible, 0);
        for job in self.studio.jobs() {
            assert!(job.attempts < self.options.max_attempts, "{} has no attempt left, and goes on", job.id);
        }
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// The studio's name for a session: the worker's ids begin anew when it does.
    fn theirs(&self, conn: ConnId) -> studio::ConnId {
        studio::ConnId(self.life << 32 | conn.0)
    }

    /// The worker's name for a session, if it is one of this life's.
    fn ours(&self, conn: studio::ConnId) -> Option<ConnId> {
        let own = ConnId(conn.0 & 0xffff_ffff);
        (conn.0 >> 32 == self.life && self.open.contains(&own)).then_some(own)
    }

    /// Takes note of what the studio stores.
    fn save(&mut self, record: Record) {
        let (kind, id) = record.key();
        let key = (kind, String::from(id));
        let Record::Job(job) = &record else {
            self.stored.insert(key, record);
            return;
        };
        if !job.state.is_over() {
            self.stored.insert(key, record);
            return;
        }
        self.stored.remove(&key);
        check_end(job, self.options.max_attempts);
        assert!(self.over.insert(job.id.clone(), Arc::clone(job)).is_none(), "a job ends once");
    }
}

/// What a job that is over must be: the result is its own, and an attempt too many is none.
fn check_end(job: &JobRecord, max_attempts: u32) {
    assert!(job.attempts <= max_attempts, "{} had {} attempts", job.id, job.attempts);
    let (made_for, prompt) = match &job.output {
        Some(JobOutput::Json { result, prompt }) => (result["job"].as_str().unwrap_or_default(), prompt),
        Some(JobOutput::File { file, prompt, .. }) => (file.as_str(), prompt),
        None => return assert_ne!(job.state, JobState::Completed, "{} has no result", job.id),
    };
    assert_eq!(made_for, job.id.as_str(), "the result of another job");
    assert_eq!(prompt, job.task.prompt(), "the prompt of another job");
}

/// A worker's program that starts with what is on the disk.
fn start(disk: &BTreeMap<Key, String>, life: u8, now: Now, measured: bool) -> Worker {
    let value = |key| disk.get(&key).cloned();
    let listed = |kind| Service {
        kind,
        engine: "synthetic".into(),
        models: Models::Listed(["synthetic".into()].into()),
    };
    let Ok(api_base) = ApiBase::parse("http://studio") else { unreachable!("a constant address") };
    let settings = Settings {
        api_base,
        identity: Identity {
            install_id: value(Key::InstallId),
            registration_secret: value(Key::RegistrationSecret).map(Secret::from),
            registration_request_id: value(Key::RegistrationRequestId),
            registration_rejected: value(Key::RegistrationRejected),
            worker_id: value(Key::WorkerId),
            auth_token: value(Key::AuthToken).map(Secret::from),
        },
        label: Some("box".into()),
        capabilities: Capabilities {
            vram_threshold_gb: Finite::from(12),
            auto_enabled: true,
            model_engines: Some(Vec::new()),
            ..Capabilities::default()
        },
        services: TaskKind::ALL.into_iter().map(listed).collect(),
        measured_engines: measured.then(|| "synthetic".into()).into_iter().collect(),
        reconnect_attempts: None,
    };
    Worker::new(Options::new(settings, "studio-worker/test"), [life; 32], now)
}
