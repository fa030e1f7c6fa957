//! When to look for an update, and what to do about one that is there.

use alloc::{format, string::String};
use core::{fmt, time::Duration};

use semver::Version;

use super::{
    check::CheckFailure,
    feed::{Feed, Release},
};
use crate::time::Mono;

/// How often a worker that has something to wait for looks again (section 9).
pub const AUTO_UPDATE_TICK: Duration = Duration::from_secs(60);

/// The longest pause after failures in a row, unless the interval is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(6 * 60 * 60);
/// An update that was not tried could mend a worker which can't reach its studio. After that long it may.
const HOPELESS: Duration = Duration::from_secs(24 * 60 * 60);

/// When the auto-updater looks (section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopSchedule {
    /// Between two looks at a feed.
    pub interval: Duration,
    /// Before the first look: of many machines that start together, not all look at once.
    pub first: Duration,
    /// Between two looks whether the worker is free.
    pub tick: Duration,
}

impl LoopSchedule {
    /// Looks every `interval`, for the first time within five minutes; `chance` says when, of 0 to 255.
    pub fn every(interval: Duration, chance: u8) -> Self {
        let interval = interval.max(Duration::from_secs(1));
        let first = interval.min(Duration::from_secs(300)) * u32::from(chance) / 255;
        Self { interval, first, tick: AUTO_UPDATE_TICK.min(interval) }
    }
}

/// What the operator wants, as the configuration says it now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether updates are wanted at all, and there is a feed of this program's.
    pub enabled: bool,
    /// Where releases are listed.
    pub feed: String,
    /// Whose signature they must have, if anybody's.
    pub key: Option<String>,
    /// Whether pre-releases are.
    pub prereleases: bool,
    /// Versions that were tried and went back.
    pub refused: alloc::vec::Vec<Version>,
}

/// What the worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// Whether it has a session.
    pub connected: bool,
    /// Since when it has none, or since its start.
    pub apart_since: Mono,
    /// Whether its owner has paused it: another version would not know of that.
    pub paused: bool,
    /// Whether its configuration can't be used as it is now: another version could not start with it.
    pub misconfigured: bool,
}

/// What the auto-updater decided (section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoUpdateDecision {
    /// Updates are not wanted, or there is no feed to take them from.
    Disabled,
    /// A version is ready, and the worker is not free for it: a job, a held result, a pause, a configuration that
    /// can't be used, or no session to try it on.
    SkippedBusy,
    /// There is nothing newer.
    UpToDate,
    /// The feed could not be asked.
    CheckError {
        /// For a person to act on.
        reason: String,
    },
    /// Another version takes over.
    Updated {
        /// Which.
        version: Version,
    },
    /// A newer version could not be had. The one that runs goes on.
    UpdateError {
        /// Which.
        version: Version,
        /// For a person to act on.
        reason: String,
    },
}

impl fmt::Display for AutoUpdateDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("updates are off"),
            Self::SkippedBusy => f.write_str("an update waits until the worker is free"),
            Self::UpToDate => f.write_str("up to date"),
            Self::CheckError { reason } => write!(f, "looking for an update failed: {reason}"),
            Self::Updated { version } => write!(f, "{version} takes over"),
            Self::UpdateError { version, reason } => write!(f, "{version} was not installed: {reason}"),
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing before then.
    Rest(Mono),
    /// Ask the feed, then say what came of it ([`AutoUpdater::checked`]).
    Check,
    /// Get this release ready, then say what came of it ([`AutoUpdater::staged`]).
    Stage(Release),
    /// Have the worker make way: what is ready is to be put in place when it has ended.
    MakeWay(Version),
}

/// Decides when to look for an update, and what to do with it. A machine: it is told the time and what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoUpdater {
    own: Version,
    phase: Phase,
    /// Nothing is done before then.
    due: Mono,
    /// Failures in a row.
    failures: u32,
    decided: Option<AutoUpdateDecision>,
    /// How often it looked last.
    interval: Duration,
    /// What was wanted last; none before the first look.
    wanted: Option<Wanted>,
    /// When the feed was asked last.
    asked: Option<Mono>,
    /// Its server wants to be left alone until then.
    not_before: Option<Mono>,
}

/// What it decides by: something else is decided anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    feed: String,
    key: Option<String>,
    prereleases: bool,
}

impl Wanted {
    fn of(policy: &Policy) -> Self {
        Self { feed: policy.feed.clone(), key: policy.key.clone(), prereleases: policy.prereleases }
    }
}

/// The part of an address that names a server.
fn server_of(address: &str) -> &str {
    address.match_indices('/').nth(2).map_or(address, |(end, _)| &address[..end])
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Resting,
    Checking,
    Staging(Release),
    Ready(Version),
    Leaving(Version),
}

impl AutoUpdater {
    /// An updater of a program of version `own`.
    pub fn new(own: Version, schedule: &LoopSchedule, now: Mono) -> Self {
        Self {
            own,
            phase: Phase::Resting,
            due: now + schedule.first,
            failures: 0,
            decided: None,
            interval: schedule.interval,
            wanted: None,
            asked: None,
            not_before: None,
        }
    }

    /// Looks anew at `due`, whatever was found before.
    pub fn begin_anew(&mut self, due: Mono) {
        self.phase = Phase::Resting;
        self.failures = 0;
        self.due = due;
    }

    /// What is to be done now.
    pub fn next(
        &mut self,
        now: Mono,
        schedule: &LoopSchedule,
        policy: &Policy,
        situation: Situation,
    ) -> Order {
        self.heed(now, schedule, policy);
        if !policy.enabled && !matches!(self.phase, Phase::Leaving(_)) {
            self.phase = Phase::Resting;
            self.decided = Some(AutoUpdateDecision::Disabled);
            self.due = (now + schedule.tick).max(self.not_before.unwrap_or(now));
        }
        if now < self.due {
            return Order::Rest(self.due);
        }
        match &self.phase {
            Phase::Resting => {
                self.phase = Phase::Checking;
                self.asked = Some(now);
                Order::Check
            }
            Phase::Staging(release) => Order::Stage(release.clone()),
            Phase::Ready(version) => {
                let hopeless = now.since(situation.apart_since) >= HOPELESS;
                let version = version.clone();
                let held = situation.paused || situation.misconfigured;
                if (situation.connected || hopeless) && !held {
                    self.phase = Phase::Leaving(version.clone());
                    self.decided = Some(AutoUpdateDecision::SkippedBusy);
                    Order::MakeWay(version)
                } else {
                    // Whether it is any good shows at its welcome: without a session that would prove nothing.
                    self.decided = Some(AutoUpdateDecision::SkippedBusy);
                    self.due = now + schedule.tick;
                    Order::Rest(self.due)
                }
            }
            // What is under way says when it is over.
            Phase::Checking | Phase::Leaving(_) => {
                self.due = now + schedule.tick;
                Order::Rest(self.due)
            }
        }
    }

    /// What the operator wants otherwise counts at once: what they mend need not wait until the trouble was to be over. But no
    /// feed is asked more often than once a tick, and no server that wants to be left alone.
    fn heed(&mut self, now: Mono, schedule: &LoopSchedule, policy: &Policy) {
        // What is under way says when it is over.
        if matches!(self.phase, Phase::Checking | Phase::Leaving(_)) {
            return;
        }
        let rests_otherwise = self.phase == Phase::Resting && self.interval != schedule.interval;
        let is_changed = rests_otherwise || self.is_outdated(policy);
        if self.wanted.as_ref().is_some_and(|wanted| server_of(&wanted.feed) != server_of(&policy.feed)) {
            self.not_before = None;
        }
        self.interval = schedule.interval;
        self.wanted = Some(Wanted::of(policy));
        if is_changed {
            let asked = self.asked.map_or(now, |asked| asked + schedule.tick);
            self.begin_anew(now.max(asked).max(self.not_before.unwrap_or(now)));
        }
    }

    /// Whether what was decided was decided by something else than what is wanted: what lies ready is not wanted any more.
    pub fn is_outdated(&self, policy: &Policy) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| *wanted != Wanted::of(policy))
    }

    /// The feed was asked.
    pub fn checked(
        &mut self,
        now: Mono,
        schedule: &LoopSchedule,
        policy: &Policy,
        outcome: Result<Feed, CheckFailure>,
    ) {
        match outcome {
            Err(CheckFailure { message, not_before }) => {
                self.fail(now, schedule, not_before);
                self.decided = Some(AutoUpdateDecision::CheckError { reason: message });
            }
            Ok(feed) => {
                if let Some(release) = choose(&feed, &self.own, policy) {
                    self.phase = Phase::Staging(release.clone());
                    self.due = now;
                } else {
                    self.rest(now, schedule);
                    self.decided = Some(AutoUpdateDecision::UpToDate);
                }
            }
        }
    }

    /// A release is ready, or can't be had.
    pub fn staged(&mut self, now: Mono, schedule: &LoopSchedule, outcome: Result<Version, String>) {
        let Phase::Staging(release) = &self.phase else { return };
        let version = release.version.clone();
        match outcome {
            Ok(_) => {
                self.phase = Phase::Ready(version);
                self.due = now;
            }
            Err(reason) => {
                self.fail(now, schedule, None);
                self.decided = Some(AutoUpdateDecision::UpdateError { version, reason });
            }
        }
    }

    /// Whether a version lies ready, and waits.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// The worker does not make way after all, or not yet: what lies ready waits on.
    pub fn stays(&mut self, now: Mono, schedule: &LoopSchedule) {
        if let Phase::Leaving(version) = &self.phase {
            self.phase = Phase::Ready(version.clone());
            self.due = now + schedule.tick;
        }
    }

    /// What was decided since this was asked last.
    pub fn take_decision(&mut self) -> Option<AutoUpdateDecision> {
        self.decided.take()
    }

    /// When the feed is looked at next; none while something is under way.
    pub fn next_check(&self) -> Option<Mono> {
        matches!(self.phase, Phase::Resting).then_some(self.due)
    }

    fn rest(&mut self, now: Mono, schedule: &LoopSchedule) {
        self.begin_anew(now + schedule.interval);
    }

    /// After each failure in a row the pause doubles, so that a feed or a disk in trouble is left alone.
    fn fail(&mut self, now: Mono, schedule: &LoopSchedule, not_before: Option<Duration>) {
        let most = LONGEST_BACKOFF.max(schedule.interval);
        let pause = schedule.interval.saturating_mul(1 << self.failures.min(16)).min(most);
        // Whatever a server says.
        let alone = not_before.unwrap_or_default().min(most);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Resting;
        self.not_before = Some(now + alone);
        self.due = now + pause.max(alone);
    }
}

/// The newest release, if it is newer than `own`. One that went back is not tried again, and nothing older is taken in its
/// place: the next is what the feed has above it.
pub fn choose<'a>(feed: &'a Feed, own: &Version, policy: &Policy) -> Option<&'a Release> {
    let newest = feed.newest(own, policy.prereleases)?;
    let is_refused = policy.refused.iter().any(|refused| newest.version.cmp_precedence(refused).is_eq());
    (!is_refused).then_some(newest)
}

/// What `check-update` says of the newest release above `own` (section 8).
pub fn format_check_outcome(own: &Version, newest: Option<&Version>) -> String {
    match newest {
        Some(newest) => format!("update available: {own} -> {newest}"),
        None => format!("up to date: {own}"),
    }
}

#[cfg(test)]
mod tests;
