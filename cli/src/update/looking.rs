//! What the thread that looks for updates does, one tick after the other.

use std::{
    convert::Infallible,
    sync::mpsc,
    time::{Duration, Instant},
};

use studio_worker_core::{
    drive::WorkerHandle,
    time::{Mono, Wall},
    transport::{seed, wall_clock},
    update::{
        AutoUpdateDecision, AutoUpdater, Check, CheckFailure, Feed, Found, LoopSchedule, Order, Policy,
        Situation, Version, choose,
    },
};

use super::{
    AFTER_TROUBLE, Before, Locked, Place, Ready, UpdateError,
    attention::{Attention, Unremembered},
    bench::Workbench,
    beside::{FirstAttempt, LOOK_INTERVAL, Told, is_over, lock},
    by_hand::{carry_out, stage},
    feed, own_version, policy, say_news,
};
use crate::{
    config::{Config, ConfigFile, Seen, Watcher},
    door::{Stamp, UpdateStatus},
    engines,
    runtimes::Runtime,
};

/// Between two looks whether the worker still is to make way.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// How long it may take to put a version in place, and to remember that.
const CHANGE_BOUND: Duration = Duration::from_secs(10);

/// Where what takes over is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Feed,
    Hand,
}

/// The loop of that thread.
pub(super) struct Looking {
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
    /// Where what waits for the worker to make way is from, if something does.
    waiting: Option<From>,
    /// Since when somebody else has been seen to hold the place.
    held_since: Option<Mono>,
    attention: Attention,
    decided: Option<AutoUpdateDecision>,
    /// Where that could not be remembered.
    refused: Vec<Unremembered>,
    /// What was said of the last update, until the studio has heard it.
    news: Option<String>,
    welcomed_at: Option<Mono>,
    /// Whether a version went back right before.
    went_back: bool,
    first: FirstAttempt,
}

impl Looking {
    pub(super) fn new(
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
            held_since: None,
            attention: Attention::default(),
            waiting: None,
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

    fn situation(&mut self, is_ready: bool) -> Situation {
        let status = self.handle.observers().status();
        let connected = status.is_connected();
        if connected {
            self.apart_since = self.now();
            self.settle_doubts();
            self.forget_news();
        }
        // Looked at only where it matters, since that costs more than the rest.
        let misconfigured = is_ready && engines::usable(&self.file).is_err();
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
        if !self.place.record().is_in_doubt() {
            return;
        }
        match self.place.note(|record| record.settle_doubts(at_once)) {
            // It lay ready until now.
            Ok(()) if at_once => {
                if let Ok(locked) = self.place.lock() {
                    self.place.clear_unwanted(&locked);
                }
            }
            // It is tried again, and not at once: a studio that comes and goes would lose each session to that.
            Ok(()) => {
                self.attention.looked(self.place.record_stamp());
                let interval = Duration::from_secs(self.config.auto_update_interval_secs);
                self.attention.rests(self.now() + interval);
            }
            Err(error) => log::debug!("{error}"),
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
        if let Err(error) = self.place.note(|record| record.forget_news(&said)) {
            log::debug!("{error}");
        }
    }

    pub(super) fn run(mut self, before: &Before, ended: &mpsc::Receiver<Infallible>) {
        let mut schedule = self.schedule();
        schedule.first += before.quiet;
        if !before.quiet.is_zero() {
            // What is there now led to nothing. What a person does from now on counts at once.
            self.attention.looked(self.place.record_stamp());
            self.attention.rests(self.now() + before.quiet);
        }
        self.refused.clone_from(&before.refused);
        self.news = self.place.record().news_of(&self.own).map(Into::into);
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

    /// Does what is due; how long it may rest then, or none when the worker has ended.
    fn tick(&mut self, updater: &mut AutoUpdater) -> Option<Duration> {
        if self.handle.has_ended() {
            return None;
        }
        if self.waits(updater) {
            return Some(WAIT_INTERVAL);
        }
        if let Some(ready) = self.by_hand() {
            return Some(self.make_way(ready, From::Hand));
        }
        let (schedule, situation) = (self.schedule(), self.situation(updater.is_ready()));
        let mut policy = policy(&self.config, &self.place);
        policy.refused.extend(self.refused.iter().map(|refused| refused.version.clone()));
        if !policy.enabled {
            self.clear_ready();
        } else if situation.paused {
            // It is not to hold up for long what a person does meanwhile.
            self.locked = None;
        }
        let order = updater.next(self.now(), &schedule, &policy, situation);
        let pause = match order {
            Order::Rest(until) => until.since(self.now()),
            Order::Check => {
                self.clear_ready();
                let outcome = self.ask();
                if let Ok(feed) = &outcome
                    && let Some(newest) = choose(feed, &self.own, &policy).map(|newest| &newest.version)
                    && self.was_put_in_place(newest)
                {
                    // It takes over once it can be started, and is not fetched again for that.
                    policy.refused.push(newest.clone());
                }
                updater.checked(self.now(), &schedule, &policy, outcome);
                Duration::ZERO
            }
            Order::Stage(release) => {
                self.locked = None;
                let locked = self.place.lock();
                // Another worker of this program may have done all of that since the feed was asked.
                if locked.is_ok() && self.was_put_in_place(&release.version) {
                    updater.begin_anew(self.now());
                    return Some(Duration::ZERO);
                }
                log::info!("{} is there: it is fetched and checked", release.version);
                let key = self.config.auto_update_public_key.clone();
                let bench = Workbench { place: self.place.clone(), key };
                let outcome = locked.map_err(|error| error.to_string()).and_then(|locked| {
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
                self.tell(updater);
                return Some(self.take_ready(updater, &policy, version));
            }
        };
        self.tell(updater);
        Some(pause)
    }

    /// What lay ready, if anything did, is not wanted any more.
    fn clear_ready(&mut self) {
        if let Some(locked) = self.locked.take() {
            self.place.clear_unwanted(&locked);
        }
    }

    /// Has what came from the feed take over; how long it may rest then.
    fn take_ready(&mut self, updater: &mut AutoUpdater, policy: &Policy, version: Version) -> Duration {
        let (now, schedule) = (self.now(), self.schedule());
        let locked = match self.locked.take() {
            Some(locked) => Ok(locked),
            // It was left alone meanwhile.
            None => match self.place.lock() {
                Err(UpdateError::Locked(_)) => {
                    updater.stays(now, &schedule);
                    return LOOK_INTERVAL;
                }
                Ok(_)
                    if policy.refused.contains(&version)
                        || !self.place.is_staged(&version).unwrap_or_default() =>
                {
                    updater.begin_anew(now);
                    return Duration::ZERO;
                }
                locked => locked,
            },
        };
        let error = match locked {
            Ok(locked) => match self.place.check_all(&locked) {
                Ok(()) => return self.make_way(Ready::Staged(version, locked), From::Feed),
                Err(error) => {
                    self.place.clear();
                    error
                }
            },
            Err(error) => error,
        };
        updater.begin_anew(now + AFTER_TROUBLE);
        self.stay(&version, &error);
        LOOK_INTERVAL
    }

    /// Whether somebody has put this version in place, and remembered that, and it was not looked at yet.
    fn was_put_in_place(&self, version: &Version) -> bool {
        self.attention.is_open(self.place.record_stamp()) && self.place.version().as_ref() == Some(version)
    }

    fn ask(&self) -> Result<Feed, CheckFailure> {
        let failed = |message| CheckFailure { message, not_before: None };
        let feed = feed(&self.config).map_err(|error| failed(error.to_string()))?;
        carry_out(self.on, Box::new(Check::new(feed))).map_err(failed)?.outcome
    }

    /// What a person, or another worker of this program, has made ready or put in place meanwhile.
    fn by_hand(&mut self) -> Option<Ready> {
        let (stamp, status) = (self.place.record_stamp(), self.handle.observers().status());
        if !self.attention.is_due(self.now(), stamp) || super::is_paused(&status) {
            return None;
        }
        // What is new by hand stays so until the configuration can be used.
        let unusable = engines::usable(&self.file).err();
        if unusable.is_some() && self.attention.has_said(stamp) {
            return None;
        }
        // Whether another version is any good shows at its welcome. Where this one gets none for as long as the other one would
        // have for it, there is nothing to lose.
        let apart = self.now().since(self.apart_since);
        let is_time =
            status.is_connected() || apart >= Duration::from_secs(self.config.auto_update_trial_secs.into());
        let record = self.place.record();
        let wanted = [record.pending.as_ref(), record.on_trial.as_ref()];
        let refused = self.refused.iter().filter(|refused| refused.counts(stamp, &wanted));
        let refused: Vec<_> = refused.map(|refused| refused.version.clone()).collect();
        let found = record.found(&self.own, &refused, is_time, || self.place.version());
        // Whoever puts it there remembers that a moment later: what is in use is told as a whole, or not yet.
        if found == Found::InUse && (self.is_changing() || self.place.record_stamp() != stamp) {
            return None;
        }
        // And whoever puts one there untried remembers that a moment before.
        let comes = record.found(&self.own, &refused, is_time, || record.on_trial.clone());
        if found == Found::Nothing
            && matches!(comes, Found::InPlace(_))
            && (self.is_changing() || self.place.version() == record.on_trial)
        {
            return None;
        }
        if let Some(error) = unusable
            && !matches!(found, Found::Nothing | Found::NotYet)
        {
            log::warn!(
                "what was installed or put back by hand waits until the configuration can be used: {error}"
            );
            self.attention.says(stamp);
            return None;
        }
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
                self.attention.looked(stamp);
                self.held_since = None;
                ready
            }
            // Whoever is at it is waited for: it is looked at again then.
            Err((_, UpdateError::Locked(_))) => None,
            Err((version, error)) => {
                self.attention.looked(stamp);
                self.stay(&version, &error);
                None
            }
        }
    }

    /// Whether somebody seems to be putting a version in place. Who goes on holding the place has something else in mind.
    fn is_changing(&mut self) -> bool {
        let (now, is_own) = (self.now(), self.locked.is_some());
        let is_held = !is_own && matches!(self.place.lock(), Err(UpdateError::Locked(_)));
        self.held_since = is_held.then(|| self.held_since.unwrap_or(now));
        self.held_since.is_some_and(|since| now.since(since) < CHANGE_BOUND)
    }

    fn staged(&self, version: &Version) -> Result<Option<Ready>, UpdateError> {
        let locked = self.lock()?;
        if self.place.is_staged(version)? {
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
        self.attention.rests(self.now() + AFTER_TROUBLE);
    }

    /// Has the worker make way; how long it may rest then.
    fn make_way(&mut self, ready: Ready, from: From) -> Duration {
        match &ready {
            Ready::Staged(version, _) | Ready::InPlace(version, _) => {
                log::info!("{version} takes over once the worker is free");
            }
            Ready::InUse => log::info!("the version that is in place takes over once the worker is free"),
        }
        *lock(&self.told.ready) = Some(ready);
        (self.locked, self.waiting) = (None, Some(from));
        self.handle.make_way();
        WAIT_INTERVAL
    }

    /// Whether something goes on waiting for the worker to make way. A pause lets go of it, so that nobody has to wait for the
    /// end of that, and what was decided is decided anew then; so does one who wants no updates any more, or others, of what the
    /// feed has.
    fn waits(&mut self, updater: &mut AutoUpdater) -> bool {
        let Some(from) = self.waiting else { return false };
        let is_paused = self.situation(false).paused;
        let policy = policy(&self.config, &self.place);
        if !is_paused && (from == From::Hand || policy.enabled && !updater.is_outdated(&policy)) {
            // A pause that came and went has taken it back.
            self.handle.make_way();
            return true;
        }
        self.waiting = None;
        let ready = lock(&self.told.ready).take();
        if !is_paused && let Some(Ready::Staged(_, locked)) = &ready {
            self.place.clear_unwanted(locked);
        }
        drop(ready);
        self.attention.is_over();
        let (now, schedule) = (self.now(), self.schedule());
        updater.stays(now, &schedule);
        false
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
