//! What a world is like: how many workers, what goes wrong and how often.

use std::time::Duration;

use super::dice::Dice;

/// One thing that strikes from outside, at a moment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A session breaks, and both sides see it.
    Reset,
    /// A session breaks, and only the worker sees it.
    WorkerReset,
    /// A session breaks, and only the studio sees it.
    StudioReset,
    /// A session goes silent, and nobody sees it.
    HalfOpen,
    /// A session breaks after a few more bytes, wherever in a frame that is.
    CutAtByte,
    /// The studio reads nothing for a while.
    SlowReader,
    /// Nothing comes from the studio for a while, then all of it.
    SlowStudio,
    /// The studio's server closes a session for no reason of the protocol's.
    Closed,
    /// The studio sends what a newer one might: unknown frames, binary frames, pings.
    Oddities,
    /// A worker's process is killed, and started again later with what was saved.
    Kill,
    /// A worker is told to drain, and started again later.
    Drain,
    /// A worker is told to stop at once, and started again later.
    Stop,
    /// A worker is paused for a while.
    Pause,
    /// A worker's threshold is lowered below what jobs want, for a while.
    Threshold,
    /// Others have the memory of a worker's GPU for a while.
    GpuTaken,
    /// Others have the memory of a worker's host for a while.
    HostTaken,
    /// A worker's wall clock jumps, forwards or back, by up to two days.
    WallJump,
    /// A worker's machine sleeps, and its monotonic clock with it.
    Suspend,
    /// A worker's machine sleeps, and its monotonic clock does not.
    SuspendCounted,
    /// Nothing can be stored for a while.
    DiskFull,
    /// The program logs a flood of lines.
    LogFlood,
    /// The studio's program is killed, and started again later with what was saved.
    StudioKill,
    /// The studio's program is shut down, and started again later.
    StudioShutDown,
    /// An operator takes a worker's registration back.
    Revoke,
    /// Somebody doesn't want a job any more.
    Cancel,
}

impl Fault {
    /// How often of a thousand times it is spared: what stops everything for long would hide all else.
    pub(super) fn rarity(self) -> u32 {
        match self {
            Self::Cancel | Self::Suspend | Self::SuspendCounted => 900,
            Self::Drain
            | Self::Stop
            | Self::Pause
            | Self::Revoke
            | Self::StudioKill
            | Self::StudioShutDown => 700,
            Self::Kill
            | Self::Threshold
            | Self::GpuTaken
            | Self::HostTaken
            | Self::DiskFull
            | Self::LogFlood => 400,
            _ => 0,
        }
    }

    const ALL: [Self; 23] = [
        Self::Reset,
        Self::WorkerReset,
        Self::StudioReset,
        Self::HalfOpen,
        Self::CutAtByte,
        Self::SlowReader,
        Self::SlowStudio,
        Self::Closed,
        Self::Oddities,
        Self::Kill,
        Self::Drain,
        Self::Stop,
        Self::Pause,
        Self::Threshold,
        Self::WallJump,
        Self::Suspend,
        Self::SuspendCounted,
        Self::DiskFull,
        Self::LogFlood,
        Self::StudioKill,
        Self::StudioShutDown,
        Self::Revoke,
        Self::Cancel,
    ];
}

/// A world and its weather. Equal scenarios have equal histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many workers there are; 1 to 8.
    pub workers: usize,
    /// How long jobs come and faults strike. After that the weather is fair, and all jobs must end.
    pub span: Duration,
    /// Between two new jobs, about.
    pub job_gap: Option<Duration>,
    /// How many jobs come at most.
    pub jobs: u32,
    /// What strikes.
    pub faults: Vec<Fault>,
    /// Between two strikes, about.
    pub fault_gap: Duration,
    /// How long bytes are under way, at least and at most.
    pub delay: (Duration, Duration),
    /// How many bytes a connection takes before its writer has to wait.
    pub window: usize,
    /// Bytes of an upload that move in a second.
    pub bandwidth: u64,
    /// Upgrades of a thousand that get a wrong answer, or none.
    pub bad_upgrades: u32,
    /// HTTP exchanges of a thousand that break, are answered wrongly or twice, or never.
    pub bad_exchanges: u32,
    /// Runs of a thousand that fail, panic or hang.
    pub bad_runs: u32,
    /// How long a run takes, at most.
    pub run_time: Duration,
    /// Whether registrations wait for an operator.
    pub operator: bool,
    /// Whether workers measure the memory before they accept a job.
    pub measured: bool,
    /// Measurements of a thousand that find nothing, take too long or never end.
    pub bad_measurements: u32,
}

impl Scenario {
    /// The fault mix of a seed: which kinds strike, and how often, is chance as well, since a world in which
    /// everything happens all the time never gets far into anything.
    pub fn mixed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5ce7_a110);
        let ms = Duration::from_millis;
        let secs = Duration::from_secs;
        let often = dice.pick(&[4, 8, 12, 20]);
        let faults = Fault::ALL.into_iter().filter(|_| dice.below(24) < often).collect();
        let slowest = dice.pick(&[ms(1), ms(40), ms(400), secs(3)]);
        let wrong = [0, 0, 20, 100, 300];
        let mut scenario = Self {
            seed,
            workers: dice.pick(&[1, 1, 1, 2, 3]),
            span: secs(dice.pick(&[120, 300, 600, 1_200])),
            job_gap: Some(dice.pick(&[secs(2), secs(15), secs(40)])),
            jobs: dice.pick(&[4, 8, 20]),
            faults,
            fault_gap: dice.pick(&[ms(700), secs(4), secs(15), secs(60)]),
            delay: (ms(0), slowest),
            window: dice.pick(&[97, 2_048, 65_536, 65_536]),
            bandwidth: dice.pick(&[20_000, 1_000_000, 100_000_000]),
            bad_upgrades: dice.pick(&wrong),
            bad_exchanges: dice.pick(&wrong),
            bad_runs: dice.pick(&wrong),
            run_time: dice.pick(&[ms(5), secs(2), secs(30), secs(90)]),
            operator: dice.below(2) == 0,
            measured: dice.below(3) == 0,
            bad_measurements: dice.pick(&wrong),
        };
        if scenario.measured {
            let taken = [Fault::GpuTaken, Fault::HostTaken];
            scenario.faults.extend(taken.into_iter().filter(|_| dice.below(24) < often));
        }
        scenario
    }

    /// One worker with nothing to do and nothing going wrong.
    pub fn idle(span: Duration) -> Self {
        Self {
            workers: 1,
            span,
            job_gap: None,
            jobs: 0,
            faults: Vec::new(),
            bad_upgrades: 0,
            bad_exchanges: 0,
            bad_runs: 0,
            ..Self::soak(0, span)
        }
    }

    /// A job a second and a drop every few seconds, on and on.
    pub fn soak(seed: u64, span: Duration) -> Self {
        Self {
            seed,
            workers: 1,
            span,
            job_gap: Some(Duration::from_secs(1)),
            jobs: u32::MAX,
            faults: vec![
                Fault::Reset,
                Fault::WorkerReset,
                Fault::StudioReset,
                Fault::HalfOpen,
                Fault::CutAtByte,
                Fault::Closed,
            ],
            fault_gap: Duration::from_secs(5),
            delay: (Duration::from_millis(1), Duration::from_millis(40)),
            window: 65_536,
            bandwidth: 10_000_000,
            bad_upgrades: 50,
            bad_exchanges: 50,
            bad_runs: 0,
            run_time: Duration::from_millis(500),
            operator: false,
            measured: false,
            bad_measurements: 0,
        }
    }
}
