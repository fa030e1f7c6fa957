//! The thread that looks for updates, beside a worker that runs.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use studio_worker_core::{
    drive::WorkerHandle,
    time::{Mono, Wall},
    transport::{seed, wall_clock},
    update::{
        AutoUpdateDecision, AutoUpdater, Check, CheckFailure, Feed, LoopSchedule, Order, Record, Situation,
        Version,
    },
};

use super::{
    AFTER_TROUBLE, Locked, Place, UpdateError,
    bench::Workbench,
    by_hand::{carry_out, stage},
    feed,
    found::{Found, found},
    own_version, policy, say_news,
};
use crate::{
    config::{Config, ConfigFile, Seen, Watcher},
    door::{Stamp, UpdateStatus, Updates},
    engines,
    runtimes::Runtime,
};

/// Between two looks at what a person may have installed meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What takes over once the worker has made way.
#[derive(Debug)]
pub enum Ready {
    /// This version lies ready in the staging folder, which nobody else touches.
    Staged(Version, Locked),
    /// This version is in place already, put there by hand, and was not on trial yet. Nobody else touches it.
    InPlace(Version, Locked),
    /// Another version is in place, which was tried by somebody else, or was put back by hand.
    InUse,
}

/// What came of updates in this process so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// How long nothing is looked for.
    pub quiet: Duration,
    /// Versions that were no good, also where that could not be remembered.
    pub refused: Vec<Version>,
    /// Whether a version went back right before.
    pub went_back: bool,
}

/// Looks for updates as long as it lives.
#[derive(Debug)]
#[must_use = "updates are looked for as long as it lives"]
pub struct AutoUpdates {
    ready: Arc<Mutex<Option<Ready>>>,
    _ends: mpsc::Sender<Infallible>,
}

impl AutoUpdates {
    /// Starts to look, beside the worker of `handle`. What is ready then is for whoever sees the worker end with
    /// [`Exit::MadeWay`](studio_worker_core::worker::Exit::MadeWay).
    ///
    /// Where it stands is said in `seen`; `before` is what came of it in this process so far.
    pub fn start(
        file: ConfigFile,
        handle: WorkerHandle,
        on: Runtime,
        place: Place,
        seen: Updates,
        before: Before,
    ) -> Self {
        let ready = Arc::default();
        let (ends, ended) = mpsc::channel();
        let told = Told { ready: Arc::clone(&ready), seen };
        let first = FirstAttempt::of(&handle);
        let looking = move || {
            // A worker that goes on while its configuration can't be read does so without updates.
            let config = loop {
                match file.load() {
                    Ok(config) => break config,
                    Err(_) if is_over(&ended, LOOK_INTERVAL) => return,
                    Err(_) => {}
                }
            };
            match Looking::new(file, config, handle, on, place, told, first) {
                Ok(looking) => looking.run(&before, &ended),
                Err(error) => log::warn!("updates are off: {error}"),
            }
        };
        if let Err(error) = thread::Builder::new().name("updates".into()).spawn(looking) {
            log::warn!("updates are off, since no thread could be had: {error}");
        }
        Self { ready, _ends: ends }
    }

    /// What takes over.
    pub fn take_ready(&self) -> Option<Ready> {
        lock(&self.ready).take()
    }
}

/// Who is told.
struct Told {
    ready: Arc<Mutex<Option<Ready>>>,
    seen: Updates,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A value is replaced as a whole: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits; whether there is nothing to look for any more.
fn is_over(ended: &mpsc::Receiver<Infallible>, pause: Duration) -> bool {
    ended.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
}

/// Whether a worker's first attempt to reach its studio succeeds.
#[derive(Debug, Clone, Default)]
struct FirstAttempt(Arc<OnceLock<bool>>);

impl FirstAttempt {
    /// Of a worker whose future was not polled yet.
    fn of(handle: &WorkerHandle) -> Self {
        let (first, began) = (Self::default(), AtomicBool::new(false));
        let seen = Arc::clone(&first.0);
        handle.observers().on_change(move |observers| {
            let status = observers.status();
            let state = status.session.map_or("", |session| session.state);
            let is_under_way = ["connecting", "greeting"].contains(&state);
            if is_under_way {
                began.store(true, Ordering::Relaxed);
            } else if began.load(Ordering::Relaxed) {
                // The only one that sets it.
                let _ = seen.set(state == "serving");
            }
            seen.get().is_none()
        });
        first
    }

    fn succeeded(&self) -> bool {
        self.0.get() == Some(&true)
    }
}

struct Looking {
    file: ConfigFile,
    handle: WorkerHandle,
    on: Runtime,
    place: Place,
    told: Told,
    own: Version,
    /// As it could be read last.
    config: Config,
    began: Instant,
    apart_since: Mono,
    chance: u8,
    is_settled: bool,
    /// What lies ready is kept so.
    locked: Option<Locked>,
    /// Of what is remembered, as it was seen last; none before the first look.
    stamp: Option<SystemTime>,
    decided: Option<AutoUpdateDecision>,
    /// So long after the beginning, what was seen and led to nothing is looked at again.
    quiet: Option<Duration>,
    /// Also where that could not be remembered.
    refused: Vec<Version>,
    /// What was said of the last update, until the studio has heard it.
    news: Option<String>,
    welcomed_at: Option<Mono>,
    /// Whether a version went back right before.
    went_back: bool,
    first: FirstAttempt,
}

impl Looking {
    fn new(
        file: ConfigFile,
        config: Config,
        handle: WorkerHandle,
        on: Runtime,
        place: Place,
        told: Told,
        first: FirstAttempt,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let [chance, ..] = seed()?;
        Ok(Self {
            config,
            stamp: None,
            own: own_version()?,
            file,
            handle,
            on,
            place,
            told,
            began: Instant::now(),
            apart_since: Mono::ZERO,
            chance,
            is_settled: false,
            locked: None,
            decided: None,
            quiet: None,
            refused: Vec::new(),
            news: None,
            welcomed_at: None,
            went_back: false,
            first,
        })
    }

    fn now(&self) -> Mono {
        Mono::ZERO + self.began.elapsed()
    }

    fn schedule(&self) -> LoopSchedule {
        LoopSchedule::every(Duration::from_secs(self.config.auto_update_interval_secs), self.chance)
    }

    fn situation(&mut self) -> Situation {
        let status = self.handle.observers().status();
        let connected = status.is_connected();
        if connected {
            self.apart_since = self.now();
            self.settle_doubts();
            self.forget_news();
        }
        // Looked at only where it matters, since that costs more than the rest.
        let misconfigured = self.locked.is_some() && engines::usable(&self.file).is_err();
        let paused = super::is_paused(&status);
        Situation { connected, apart_since: self.apart_since, paused, misconfigured }
    }

    /// This version is welcomed. What went back since no studio welcomed it may be judged by that, if it went back right
    /// before: of what another process saw, this one knows too little.
    fn settle_doubts(&mut self) {
        if self.is_settled {
            return;
        }
        self.is_settled = true;
        let at_once = self.went_back && self.first.succeeded();
        if self.place.record().is_in_doubt()
            && let Err(error) = self.place.note(|record| record.settle_doubts(at_once))
        {
            log::debug!("{error}");
        }
    }

    /// What was said at the start is not said again once it has had a moment to reach the studio. What another worker of this
    /// program has to say is its own.
    fn forget_news(&mut self) {
        let now = self.now();
        let welcomed_at = *self.welcomed_at.get_or_insert(now);
        if now.since(welcomed_at) < LOOK_INTERVAL {
            return;
        }
        let Some(said) = self.news.take() else { return };
        let forget = |record: &mut Record| record.news = record.news.take().filter(|news| *news != said);
        if let Err(error) = self.place.note(forget) {
            log::debug!("{error}");
        }
    }

    fn run(mut self, before: &Before, ended: &mpsc::Receiver<Infallible>) {
        let mut schedule = self.schedule();
        schedule.first += before.quiet;
        if !before.quiet.is_zero() {
            // What is there now led to nothing. What a person does from now on counts at once.
            (self.quiet, self.stamp) = (Some(before.quiet), self.place.record_stamp());
        }
        self.refused.clone_from(&before.refused);
        self.news = self.place.record().news;
        if let Some(news) = &self.news {
            say_news(news);
        }
        self.went_back = before.went_back;
        let mut updater = AutoUpdater::new(self.own.clone(), &schedule, self.now());
        let mut watcher = Watcher::new(self.file.clone(), self.config.clone());
        loop {
            // One that can't be read now, or is being written, says what it said before.
            if let Seen::Changed(config) = watcher.look() {
                self.config = *config;
            }
            let pause = match self.tick(&mut updater) {
                Some(pause) => pause.min(LOOK_INTERVAL),
                None => return,
            };
            if is_over(ended, pause) {
                return;
            }
        }
    }

    /// Does what is due; how long it may rest then, or none when the worker makes way.
    fn tick(&mut self, updater: &mut AutoUpdater) -> Option<Duration> {
        // What is new by hand stays so until the configuration can be used.
        if self.stamp != self.place.record_stamp()
            && engines::usable(&self.file).is_ok()
            && let Some(ready) = self.by_hand()
        {
            self.make_way(ready);
            return None;
        }
        let (schedule, situation) = (self.schedule(), self.situation());
        let mut policy = policy(&self.config, &self.place);
        policy.refused.extend(self.refused.iter().cloned());
        if !policy.enabled {
            // What lies ready is not wanted any more.
            self.locked = None;
        }
        let order = updater.next(self.now(), &schedule, &policy, situation);
        let pause = match order {
            Order::Rest(until) => until.since(self.now()),
            Order::Check => {
                let outcome = self.ask();
                updater.checked(self.now(), &schedule, &policy, outcome);
                Duration::ZERO
            }
            Order::Stage(release) => {
                log::info!("{} is there: it is fetched and checked", release.version);
                let key = self.config.auto_update_public_key.clone();
                let bench = Workbench { place: self.place.clone(), key };
                self.locked = None;
                let outcome = self.place.lock().map_err(|error| error.to_string()).and_then(|locked| {
                    let staged = stage(&self.config, self.on, bench, release);
                    match &staged {
                        Ok(_) => self.locked = Some(locked),
                        Err(_) => self.place.clear(),
                    }
                    staged
                });
                updater.staged(self.now(), &schedule, outcome);
                Duration::ZERO
            }
            Order::MakeWay(version) => {
                // It is there since the version was made ready.
                let locked = self.locked.take()?;
                if let Err(error) = self.place.check_all(&locked) {
                    self.place.clear();
                    self.stay(&version, &error);
                    let schedule = LoopSchedule { first: AFTER_TROUBLE, ..schedule };
                    *updater = AutoUpdater::new(self.own.clone(), &schedule, self.now());
                    return Some(LOOK_INTERVAL);
                }
                self.tell(updater);
                self.make_way(Ready::Staged(version, locked));
                return None;
            }
        };
        self.tell(updater);
        Some(pause)
    }

    fn ask(&self) -> Result<Feed, CheckFailure> {
        let failed = |message| CheckFailure { message, not_before: None };
        let feed = feed(&self.config).map_err(|error| failed(error.to_string()))?;
        carry_out(self.on, Box::new(Check::new(feed))).map_err(failed)?.outcome
    }

    /// What a person, or another worker of this program, has made ready or put in place meanwhile.
    fn by_hand(&mut self) -> Option<Ready> {
        if self.quiet.is_some_and(|quiet| self.began.elapsed() >= quiet) {
            (self.quiet, self.stamp) = (None, None);
        }
        let (stamp, status) = (self.place.record_stamp(), self.handle.observers().status());
        if self.stamp == stamp || super::is_paused(&status) {
            return None;
        }
        // Whether another version is any good shows at its welcome. Where this one gets none for as long as the other one would
        // have for it, there is nothing to lose.
        let apart = self.now().since(self.apart_since);
        let is_time =
            status.is_connected() || apart >= Duration::from_secs(self.config.auto_update_trial_secs.into());
        let found = found(&self.place.record(), &self.own, &self.refused, is_time, || self.place.version());
        let ready = match found {
            Found::Nothing => Ok(None),
            Found::NotYet => return None,
            Found::InUse => Ok(Some(Ready::InUse)),
            Found::Staged(version) => self.staged(&version).map_err(|error| (version, error)),
            Found::InPlace(version) => self
                .lock()
                .map(|locked| Some(Ready::InPlace(version.clone(), locked)))
                .map_err(|error| (version, error)),
        };
        match ready {
            Ok(ready) => {
                self.stamp = stamp;
                ready
            }
            // Whoever is at it is waited for: it is looked at again then.
            Err((_, UpdateError::Locked(_))) => None,
            Err((version, error)) => {
                self.stamp = stamp;
                self.stay(&version, &error);
                None
            }
        }
    }

    fn staged(&self, version: &Version) -> Result<Option<Ready>, UpdateError> {
        let locked = self.lock()?;
        if self.place.staged().exists() {
            return Ok(Some(Ready::Staged(version.clone(), locked)));
        }
        self.place.note(|record| record.pending = None)?;
        Ok(None)
    }

    /// The place, if what follows can be done there: a worker that makes way costs a session.
    fn lock(&self) -> Result<Locked, UpdateError> {
        let locked = self.place.lock()?;
        self.place.check_all(&locked)?;
        Ok(locked)
    }

    /// The worker does not make way.
    fn stay(&mut self, version: &Version, error: &UpdateError) {
        log::warn!("{version} can't take over: {error}; this version goes on");
        self.quiet = Some(self.began.elapsed() + AFTER_TROUBLE);
    }

    fn make_way(&self, ready: Ready) {
        match &ready {
            Ready::Staged(version, _) | Ready::InPlace(version, _) => {
                log::info!("{version} takes over once the worker is free");
            }
            Ready::InUse => log::info!("the version that is in place takes over once the worker is free"),
        }
        *lock(&self.told.ready) = Some(ready);
        self.handle.make_way();
    }

    /// Says what was decided, once.
    fn tell(&mut self, updater: &mut AutoUpdater) {
        let next_check = updater.next_check().map(|at| {
            let millis = i64::try_from(at.since(self.now()).as_millis()).unwrap_or(i64::MAX);
            Wall::from_millis(wall_clock().as_millis().saturating_add(millis))
        });
        let decided = updater.take_decision();
        let is_wanted = policy(&self.config, &self.place).enabled;
        let last = decided.as_ref().map(|decided| match (decided, feed(&self.config)) {
            (AutoUpdateDecision::Disabled, Err(_)) if self.config.auto_update_enabled => {
                "no feed of this program's releases is named".into()
            }
            _ => decided.to_string(),
        });
        self.told.seen.set(UpdateStatus {
            next_check_at: next_check.filter(|_| is_wanted).map(Stamp),
            last: last.or_else(|| self.told.seen.status()?.last),
        });
        let Some(decided) = decided.filter(|decided| self.decided.as_ref() != Some(decided)) else { return };
        match &decided {
            AutoUpdateDecision::CheckError { .. } | AutoUpdateDecision::UpdateError { .. } => {
                log::warn!("{decided}; this version goes on");
            }
            AutoUpdateDecision::Disabled => match feed(&self.config) {
                Err(error) if self.config.auto_update_enabled => log::info!("{decided}: {error}"),
                _ => log::info!("{decided}"),
            },
            AutoUpdateDecision::UpToDate => log::debug!("{decided}"),
            AutoUpdateDecision::SkippedBusy | AutoUpdateDecision::Updated { .. } => log::info!("{decided}"),
        }
        self.decided = Some(decided);
    }
}
