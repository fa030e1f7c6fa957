//! The worker's machine, the studio's machine and a small lossy link between them as one transition system, for a
//! model checker to explore over all interleavings.
//!
//! A [`System`] is a value: [`System::moves`] says what can happen next, [`System::after`] gives the system in which
//! it has happened, and equal systems have equal [`System::fingerprint`]s. `core/tests/search` hands it to
//! `stateright`; nothing in here knows that crate.
//!
//! # What can happen
//!
//! See [`Move`]: whatever is on its way arrives, first come first served within a lane (one direction of a
//! connection, an upload, a run of the engine) and in any order between lanes; time passes to the next deadline;
//! the engine ends. And, as often as the [`Budget`] says: a connection breaks for both sides or for one alone, an
//! upload breaks before or after the studio has its bytes, a gateway refuses it, an outcome is reported twice, the
//! engine fails, the network is slow, either process is killed and starts again with what was stored, the owner
//! pauses, resumes, drains and stops, the operator cancels a job, the memory is taken when it is measured.
//!
//! # What must hold
//!
//! *Safety*, in every state that is reached: what [`Oracle`] watches, no violation seen by the studio, no event
//! without a transition on either side, no job that ends twice, and no job that runs again within 15 minutes of its
//! result in the same process ([`System::broken`]).
//!
//! *Liveness*: every accepted job ends. A checker's "eventually" is only sound on paths that end, so this is asked
//! of each state by itself: from every reachable state the *fair* future, in which no more faults strike, everything
//! on its way arrives, the engine makes what it was asked for and then time passes, must come to where every job is
//! over ([`Fairness::holds`]). That future is one path, since fair moves are taken in one order. It is followed
//! until it reaches its end, a state whose future is known, or a state that it was in before: then it would go on
//! for ever, and is reported. So whatever happened within the budget, in whatever order, a job ends once faults are over
//! and what is on its way is taken in that order. (That no other order keeps a job open for ever, although each state
//! on the way has such an end before it, is not shown.) A job is over when the studio has its result, has
//! failed it or took it back, and the worker has recorded its end or merely holds a result that will expire within 15
//! minutes.
//!
//! One thing is let pass, since section 6 wants it: a second 409 ends a job, with its result, also where the 409s were
//! only the sign of a session that is gone.
//!
//! # What is left out
//!
//! To get far with few states, what has no say in jobs is simplified, each time for both machines alike: log batches
//! are not sent, jitter is constant, the socket takes everything at once, the wall clock stands still; heartbeats and
//! their acknowledgements on a connection with nothing else on it take no time, so that time passes to the
//! next thing that is waited for *besides* them. Registration is behind the system: it starts with a worker that is
//! let in and welcomed, and jobs in the queue. The simulation has all of that, at random.
//!
//! # Teeth
//!
//! A [`Sabotage`] is a planted bug: it sits between the worker's machine and the link, and changes what passes. The
//! search must find each.

mod fair;
mod ids;
mod link;
mod moves;
mod sabotage;
mod sides;
mod world;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    sync::Arc,
    vec,
    vec::Vec,
};
use core::{fmt, hash, mem, time::Duration};

pub use fair::{Endless, Fairness};
pub use moves::{Budget, Ending, Move, Room, Seen};
pub use sabotage::Sabotage;

use super::oracle::{Broken, Oracle};
use crate::{
    digested::Digested,
    engine::{Models, Service},
    studio::{self, JobState, NewJob, Record, Studio, WorkerRecord},
    time::{Mono, Now, Wall},
    wire::{
        ApiBase, Capabilities, Finite, JobId, Task, TaskKind, registration::secret_hash, task::AudioSttTask,
    },
    worker::{Identity, Options, Settings, Worker},
};
use link::{Link, Side};
use sabotage::Saboteur;

/// The worker's id and token in every system.
const WORKER: &str = "w";
const TOKEN: &str = "token";

/// What each job states that it wants of the GPU, in GB.
const ESTIMATE: u32 = 4;
/// How long the engine may take: short, so that little else happens meanwhile.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// For how long a result must not be made a second time (section 6).
const MADE_BOUND: Duration = Duration::from_secs(15 * 60);

/// What is explored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The jobs in the queue, in their order.
    pub jobs: Vec<Kind>,
    /// Whether the memory is measured before a job is accepted.
    pub measured: bool,
    /// How often what goes wrong.
    pub budget: Budget,
    /// A planted bug.
    pub sabotage: Option<Sabotage>,
}

/// What sort of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One whose result is JSON, in a frame.
    Json,
    /// One whose result is bytes, uploaded.
    Bytes,
}

/// Both machines, the link, and what is left of the budget.
#[derive(Clone)]
pub struct System {
    worker: Arc<Worker>,
    studio: Arc<Studio>,
    oracle: Oracle,
    saboteur: Saboteur,
    link: Link,
    now: Now,
    /// When the worker wants to be woken.
    until: Mono,
    measured: bool,
    budget: Budget,
    /// The largest number that any process of the worker gave out, and that those before this one did.
    newest: u64,
    base: u64,
    /// Jobs whose result was made in this process, and when.
    made: BTreeMap<JobId, Mono>,
    /// The jobs that are over at the studio.
    over: BTreeMap<JobId, Over>,
    paused: bool,
    draining: bool,
    /// The connection that frames were sent on since the worker was last told that they left.
    unflushed: Option<u64>,
    /// Whether the worker is just told that the studio doesn't hold a job whose result it uploads.
    refused: bool,
    broken: Option<Broken>,
    sealed: Sealed,
}

/// The digests of a state, and of the machines in it as long as nothing happens to them.
#[derive(Debug, Clone, Default)]
struct Sealed {
    whole: [u8; 32],
    worker: Option<[u8; 32]>,
    studio: Option<[u8; 32]>,
    /// When they were taken, and which numbers were known then.
    at: Mono,
    known: BTreeSet<u64>,
}

/// How a job ended at the studio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Over {
    /// As what.
    pub state: JobState,
    /// Attempts that ended without a result.
    pub attempts: u32,
}

impl System {
    /// The system at its start: the worker is welcomed, the jobs are in the queue, and the first is offered.
    pub fn new(plan: &Plan) -> Self {
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_764_054_000_000) };
        let mut system = Self {
            worker: Arc::new(worker(now, plan.measured)),
            studio: Arc::new(studio(vec![], now)),
            oracle: Oracle::new(),
            saboteur: Saboteur::default(),
            link: Link::default(),
            now,
            until: Mono::NEVER,
            measured: plan.measured,
            budget: Budget::default(),
            newest: 0,
            base: 0,
            made: BTreeMap::new(),
            over: BTreeMap::new(),
            paused: false,
            draining: false,
            unflushed: None,
            refused: false,
            broken: None,
            sealed: Sealed::default(),
        };
        system.studio = Arc::new(studio(vec![Record::Worker(Arc::new(member(&system.worker)))], now));
        system.drain_worker();
        while let Some(next) = system.fair_move() {
            system.make(next);
        }
        for (nth, kind) in plan.jobs.iter().enumerate() {
            let job = Box::new(NewJob { id: Some(format!("job-{nth}").into()), ..kind.job() });
            system.tell_studio(studio::Input::QueueJob { call: studio::CallId(0), job });
        }
        system.budget = plan.budget;
        system.saboteur = Saboteur::new(plan.sabotage);
        system.seal();
        system
    }

    /// The system after `next`, which must be one of [`System::moves`].
    #[must_use]
    pub fn after(&self, next: Move) -> Self {
        let mut system = self.clone();
        system.spend(next);
        system.make(next);
        system.seal();
        system
    }

    /// The promise that was broken on the way here.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// A digest of all that decides the future: relative times, numbers by their rank.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.sealed.whole
    }

    /// The worker's machine.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The studio's machine.
    pub fn studio(&self) -> &Studio {
        &self.studio
    }

    /// The jobs that are over at the studio.
    pub fn over(&self) -> &BTreeMap<JobId, Over> {
        &self.over
    }

    /// Whether the worker has ended.
    pub fn exited(&self) -> bool {
        self.oracle.exited()
    }

    /// Whether one side of a connection is gone and the other doesn't know.
    pub fn is_half_open(&self) -> bool {
        self.link.wires.values().any(|wire| wire.is_quiet() && wire.worker != (wire.studio == Side::Open))
    }

    fn worker_mut(&mut self) -> &mut Worker {
        self.sealed.worker = None;
        Arc::make_mut(&mut self.worker)
    }

    fn studio_mut(&mut self) -> &mut Studio {
        self.sealed.studio = None;
        Arc::make_mut(&mut self.studio)
    }

    /// At the end of each move: tidies up and takes the fingerprint.
    fn seal(&mut self) {
        self.link.tidy();
        // Beyond that time it may well run again.
        let now = self.now.mono;
        self.made.retain(|_, at| now.since(*at) < MADE_BOUND);
        let base = self.base;
        let known: BTreeSet<u64> = self
            .worker
            .ids()
            .map(|id| base + id)
            .chain(self.studio.ids())
            .chain(self.oracle.ids())
            .chain(self.link.ids())
            .collect();
        let (at, mut last) = (self.now.mono, mem::take(&mut self.sealed));
        if (last.at, &last.known) != (at, &known) {
            (last.worker, last.studio) = (None, None);
        }
        let rank = |id: u64| known.range(..id).count() as u64;
        let worker = last.worker.unwrap_or_else(|| self.worker.fingerprint_by(|id| rank(base + id)));
        let studio = last.studio.unwrap_or_else(|| self.studio.fingerprint_by(rank));
        let mut digest = Digested::default();
        digest.bytes(&worker);
        digest.bytes(&studio);
        digest.bytes(self.oracle.digest(&rank, now).as_bytes());
        digest.debug(&self.link.renamed(rank));
        digest.debug(&self.budget);
        let made: Vec<_> = self.made.iter().map(|(job, at)| (job, now.since(*at))).collect();
        digest.debug(&(made, &self.over, self.paused, self.draining, &self.saboteur, &self.broken));
        let whole = digest.finish();
        self.sealed = Sealed { whole, worker: Some(worker), studio: Some(studio), at, known };
    }
}

impl hash::Hash for System {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.sealed.whole.hash(state);
    }
}

impl PartialEq for System {
    fn eq(&self, other: &Self) -> bool {
        self.sealed.whole == other.sealed.whole
    }
}

impl Eq for System {}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jobs: Vec<_> = self.worker.jobs().collect();
        let queue: Vec<_> = self.studio.jobs().map(|job| (&job.id, job.state, job.attempts)).collect();
        f.debug_struct("System")
            .field("worker", &(self.worker.state(), jobs))
            .field("studio", &queue)
            .field("over", &self.over)
            .field("link", &self.link)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Kind {
    fn job(self) -> NewJob {
        let task = match self {
            Self::Json => Task::AudioStt(AudioSttTask {
                input_url: "https://h/x.wav".into(),
                language: None,
                translate: None,
                prompt: None,
                vad: None,
                timestamps: None,
            }),
            Self::Bytes => Task::image("a lighthouse".into(), "webp".into()),
        };
        NewJob { vram_gb_estimate: ESTIMATE.into(), ..NewJob::new("synthetic", task) }
    }
}

/// A process of the worker, with what was stored.
fn worker(now: Now, measured: bool) -> Worker {
    let listed =
        |kind| Service { kind, engine: "synthetic".into(), models: Models::Listed(vec!["synthetic".into()]) };
    let settings = Settings {
        api_base: ApiBase::parse("http://studio").unwrap_or_else(|_| unreachable!("a constant address")),
        identity: Identity {
            worker_id: Some(WORKER.into()),
            auth_token: Some(TOKEN.into()),
            ..Identity::default()
        },
        label: None,
        capabilities: Capabilities {
            vram_threshold_gb: Finite::from(8),
            auto_enabled: true,
            model_engines: Some(vec![]),
            ..Capabilities::default()
        },
        services: [TaskKind::Image, TaskKind::AudioStt].into_iter().map(listed).collect(),
        measured_engines: measured.then(|| "synthetic".into()).into_iter().collect(),
        reconnect_attempts: None,
    };
    let options = Options { run_limit: RUN_LIMIT, ..Options::new(settings, "studio-worker/search") };
    Worker::new(options, [0; 32], now)
}

/// A process of the studio, with what was stored.
fn studio(stored: Vec<Record>, now: Now) -> Studio {
    Studio::restore(studio::Options::default(), [0; 32], now, stored)
}

/// The worker as the studio knows it.
fn member(worker: &Worker) -> WorkerRecord {
    WorkerRecord {
        id: WORKER.into(),
        install_id: "install".into(),
        label: None,
        capabilities: worker.capabilities().clone(),
        token_hash: Some(secret_hash(&TOKEN.into())),
        approved_at: Wall::default(),
        seen_at: None,
        revoked_at: None,
    }
}
