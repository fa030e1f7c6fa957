//! The worker's side of a scenario.

use std::time::Duration;

use super::{Network, PATIENCE, Session, TestStudio};
use crate::worker::{Exit, Identity};

/// Starts workers: on the runtime under test, or as a program of their own.
pub trait Host {
    /// What its workers reach studios over.
    fn network(&self) -> &Network;
    /// Starts a worker, which goes on by itself. It is ended when it is dropped.
    fn start(&self, start: Start<'_>) -> Box<dyn Hosted>;
}

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// `api_base_url`.
    pub base: &'a str,
    /// Who it is.
    pub identity: Identity,
    /// Whether its engine makes nothing until [`Hosted::let_go`].
    pub held: bool,
}

/// A worker that runs. Its engine serves the model `synthetic` in every kind.
pub trait Hosted {
    /// The engine's runs end from now on, those under way too.
    fn let_go(&self);
    /// What the worker has stored.
    fn identity(&self) -> Identity;
    /// The owner wants no jobs.
    fn pause(&self);
    /// The owner wants jobs again.
    fn resume(&self);
    /// The owner changes the largest estimate that is accepted, in GB.
    fn set_threshold(&self, gb: f64);
    /// The owner ends it gently.
    fn drain(&self);
    /// The owner ends it at once.
    fn stop(&self);
    /// Waits until it has ended.
    fn ended(self: Box<Self>) -> Ended;
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// As the program's exit code.
    pub code: u8,
    /// What it said of its end, and of itself until then, if that was heard.
    pub said: String,
    /// How many runs of the engine have begun.
    pub runs: usize,
    /// The jobs that were over by then, oldest first, and whether each was delivered.
    pub jobs: Vec<(String, bool)>,
}

impl Ended {
    /// Fails unless these jobs were over, oldest first, each delivered or not.
    pub fn expect_jobs(&self, jobs: &[(&str, bool)]) {
        let found: Vec<_> = self.jobs.iter().map(|(job, delivered)| (job.as_str(), *delivered)).collect();
        assert_eq!(found, jobs, "{}", self.said);
    }
}

/// The exit that a worker's owner asked for, as every host reports it.
pub(super) const DRAINED: u8 = Exit::Drained.code();

/// A worker's identity after its approval.
pub fn registered() -> Identity {
    Identity {
        install_id: Some("11111111-1111-4111-8111-111111111111".into()),
        worker_id: Some("w-1".into()),
        auth_token: Some("tok-1".into()),
        ..Identity::default()
    }
}

/// A studio, and a worker that is registered with it.
pub struct Scene {
    /// The studio.
    pub studio: TestStudio,
    /// The worker.
    pub worker: Box<dyn Hosted>,
}

impl Scene {
    /// A worker whose jobs are done at once.
    pub fn new(host: &dyn Host) -> Self {
        Self::start(host, false)
    }

    /// A worker whose jobs run until [`Hosted::let_go`].
    pub fn held(host: &dyn Host) -> Self {
        Self::start(host, true)
    }

    fn start(host: &dyn Host, held: bool) -> Self {
        let studio = host.network().studio();
        let worker = host.start(Start { base: &studio.base(), identity: registered(), held });
        Self { studio, worker }
    }
}

impl Scene {
    /// Drains the worker, which has nothing in hand, and waits until it has ended well.
    pub fn drained(self, session: &mut Session) -> Ended {
        self.worker.drain();
        assert_eq!(session.closed().0, 1000);
        let ended = self.worker.ended();
        assert_eq!(ended.code, DRAINED, "{}", ended.said);
        ended
    }

    /// Opens a session, in which a job is delivered, and drains the worker.
    pub fn serves_once(self) {
        let mut session = self.studio.session();
        session.delivers("j-9");
        let ended = self.drained(&mut session);
        assert!(ended.jobs.contains(&("j-9".into(), true)), "{}", ended.said);
    }

    /// Waits until the worker says that it has no job in hand.
    pub fn has_no_job(&self, session: &mut Session) {
        let since = self.studio.clock().stopwatch();
        loop {
            self.heartbeats_go_on(session);
            if session.heartbeats.last().unwrap().get("currentJobId").is_none() {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "the job is not over");
            self.studio.clock().sleep(Duration::from_millis(1));
        }
    }

    /// Fails unless the worker goes on to say what the studio must know.
    pub fn heartbeats_go_on(&self, session: &mut Session) {
        let gb = 12.5 + f64::from(u32::try_from(session.heartbeats.len()).unwrap());
        self.worker.set_threshold(gb);
        session.heartbeat_with("vramThresholdGb", gb);
    }
}
