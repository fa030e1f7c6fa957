//! Every bound in time that the worker keeps, in one table.

use alloc::vec::Vec;
use core::time::Duration;

use super::jobs::JobKey;
use crate::{http::HttpRequest, time::Mono};

/// Between two heartbeats (section 3).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Connecting and the upgrade together (section 1).
pub const CONNECT_BOUND: Duration = Duration::from_secs(15);
/// From `hello` to `welcome` (section 1).
pub const WELCOME_BOUND: Duration = Duration::from_secs(15);
/// Without any frame, after which the peer is gone (section 3).
pub const SILENCE_BOUND: Duration = Duration::from_secs(20);
/// A small HTTP exchange (section 1).
pub const HTTP_BOUND: Duration = HttpRequest::SMALL_TIMEOUT;
/// An upload of which no byte moves (section 1).
pub const UPLOAD_STALL_BOUND: Duration = Duration::from_secs(60);
/// How long an upload that fails is tried again (section 6).
pub const UPLOAD_RETRY_BOUND: Duration = Duration::from_secs(3_600);
/// From `completeJson` or `fail` to its acknowledgement (section 6).
pub const ACK_BOUND: Duration = Duration::from_secs(30);
/// How long a result is held (section 6).
pub const HELD_BOUND: Duration = Duration::from_secs(15 * 60);
/// From a welcome until an orphan is given up (section 6).
pub const ORPHAN_BOUND: Duration = Duration::from_secs(60);
/// How long a session must stay welcomed for the back-off to start anew (section 6).
pub const STABLE_AFTER: Duration = Duration::from_secs(60);
/// The same after somebody else used this worker's id (section 6).
pub const UNCONTESTED_AFTER: Duration = Duration::from_secs(600);
/// From an engine's time limit until the program gives up on its thread.
pub const STUCK_BOUND: Duration = Duration::from_secs(60);
/// From an offer that needs memory until it is admitted unmeasured (section 5).
pub const MEASURE_BOUND: Duration = Duration::from_secs(5);
/// How long an offer that the GPU has no room for keeps the advertised threshold low (section 5).
pub const LOWERED_BOUND: Duration = Duration::from_secs(300);
/// Between two looks whether there is room again, while it is low.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a worker that gives way to people waits for the first word on whether one is there.
pub const PRESENCE_BOUND: Duration = Duration::from_secs(15);
/// A download of which no byte moves: the clock of its run stands still no longer than that at a time.
pub const DOWNLOAD_STALL_BOUND: Duration = Duration::from_secs(60);
/// How long the clock of a run stands still for downloads altogether.
pub const DOWNLOAD_BOUND: Duration = Duration::from_secs(24 * 3_600);
/// From this side's close frame to the peer's.
pub const LINGER_BOUND: Duration = Duration::from_secs(2);
/// The same when the program ends: idle, it is out within a second (section 6). With the time that an offer on its way was
/// waited for.
pub const FAREWELL_BOUND: Duration = Duration::from_millis(900);
/// From when nothing is in hand until a session is closed on which an offer may still be on its way.
pub(super) const PARTING_BOUND: Duration = Duration::from_millis(650);
/// Between two log batches (section 3).
pub const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// From a registration request to the first poll (section 2).
pub const FIRST_POLL: Duration = Duration::from_secs(2);
/// The longest pause between two polls (section 2).
pub const MAX_POLL: Duration = Duration::from_secs(30);

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    Connect,
    Welcome,
    Silence,
    Heartbeat,
    Reconnect,
    Linger,
    Parting,
    Ack,
    Stable,
    Uncontested,
    Orphan,
    Recover,
    Drain,
    LogBatch,
    Register,
    Exchange,
    StoreRetry,
    RunLimit,
    Stuck,
    Measure,
    Lowered,
    Look,
    Presence,
    UploadStall(JobKey),
    UploadRetry(JobKey),
    UploadGiveUp(JobKey),
    Expire(JobKey),
}

impl Timer {
    fn rekeyed(self, rekey: impl Fn(JobKey) -> JobKey) -> Self {
        match self {
            Self::UploadStall(key) => Self::UploadStall(rekey(key)),
            Self::UploadRetry(key) => Self::UploadRetry(rekey(key)),
            Self::UploadGiveUp(key) => Self::UploadGiveUp(rekey(key)),
            Self::Expire(key) => Self::Expire(rekey(key)),
            other => other,
        }
    }

    /// What is waited for, in words.
    const fn reason(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Welcome => "welcome",
            Self::Silence => "silence",
            Self::Heartbeat => "heartbeat",
            Self::Reconnect => "back-off",
            Self::Linger => "close",
            Self::Parting => "offer on its way",
            Self::Ack => "acknowledgement",
            Self::Stable => "stable session",
            Self::Uncontested => "uncontested session",
            Self::Orphan => "offer of an orphan",
            Self::Recover => "offer of an unconfirmed job",
            Self::Drain => "drain time",
            Self::LogBatch => "log batch",
            Self::Register => "registration",
            Self::Exchange => "HTTP exchange",
            Self::StoreRetry => "storing again",
            Self::RunLimit => "run limit",
            Self::Stuck => "stuck engine",
            Self::Measure => "measurement",
            Self::Lowered => "lowered threshold",
            Self::Look => "look at the memory",
            Self::Presence => "word of a person",
            Self::UploadStall(_) => "upload progress",
            Self::UploadRetry(_) => "upload back-off",
            Self::UploadGiveUp(_) => "upload bound",
            Self::Expire(_) => "held result",
        }
    }
}

/// The timers that are set: a handful, the next one first. Of those for one moment the order is that of [`Timer`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Timers {
    set: Vec<(Mono, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Mono) {
        self.clear(timer);
        let place = self.set.partition_point(|set| *set < (at, timer));
        self.set.insert(place, (at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(place) = self.set.iter().position(|(_, set)| *set == timer) {
            self.set.remove(place);
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.set.iter().any(|(_, set)| *set == timer)
    }

    /// When a timer is due, if it is set.
    pub(super) fn at(&self, timer: Timer) -> Option<Mono> {
        self.set.iter().find(|(_, set)| *set == timer).map(|(at, _)| *at)
    }

    /// When the next timer is due that is none of `others`.
    #[cfg(any(feature = "sim", test))]
    pub(super) fn next_without(&self, others: &[Timer]) -> Option<Mono> {
        self.set.iter().find(|(_, timer)| !others.contains(timer)).map(|(at, _)| *at)
    }

    /// Takes the timer that is due first, if one is.
    pub(super) fn due(&mut self, now: Mono) -> Option<Timer> {
        self.set.first().filter(|(at, _)| *at <= now)?;
        Some(self.set.remove(0).1)
    }

    /// Takes a timer that is set for exactly this moment, if one is.
    pub(super) fn due_at(&mut self, now: Mono) -> Option<Timer> {
        let place = self.set.iter().position(|(at, _)| *at == now)?;
        Some(self.set.remove(place).1)
    }

    /// When the next timer is due, and what it waits for.
    pub(super) fn next(&self) -> (Mono, &'static str) {
        self.set.first().map_or((Mono::NEVER, "nothing"), |(at, timer)| (*at, timer.reason()))
    }

    /// The same timers on a clock that starts at `origin`, to compare states by.
    pub(super) fn relative_to(&self, origin: Mono) -> Self {
        let shift = |at: Mono| if at == Mono::NEVER { at } else { Mono::ZERO + at.since(origin) };
        self.set.iter().map(|(at, timer)| (shift(*at), *timer)).collect()
    }

    /// The same timers for jobs with other keys, to compare states by.
    pub(super) fn rekey(&mut self, rekey: impl Fn(JobKey) -> JobKey) {
        *self = self.set.iter().map(|(at, timer)| (*at, timer.rekeyed(&rekey))).collect();
    }

    pub(super) fn clear_all(&mut self) {
        self.set.clear();
    }
}

impl FromIterator<(Mono, Timer)> for Timers {
    fn from_iter<I: IntoIterator<Item = (Mono, Timer)>>(set: I) -> Self {
        let mut set: Vec<_> = set.into_iter().collect();
        set.sort_unstable();
        Self { set }
    }
}
