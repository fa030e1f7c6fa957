//! The studio's rules that can be set.

use core::time::Duration;

/// How a studio behaves. [`Options::default`] has the numbers of the protocol document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Let every worker in without an operator (false).
    pub auto_approve: bool,
    /// How many attempts a job has (3).
    pub max_attempts: u32,
    /// From the upgrade to `hello` (15 s).
    pub hello_bound: Duration,
    /// From one heartbeat to the next, after which the worker is gone (30 s).
    pub heartbeat_bound: Duration,
    /// How long a job that a worker rejected for now is not offered to it again, unless a heartbeat shows that
    /// the worker changed (15 s).
    pub rest_after_reject: Duration,
    /// Registration requests of one peer address in a minute (10).
    pub registrations_per_minute: u32,
    /// Registrations that may wait for a decision (1,000). Those that nobody polled for
    /// [`Options::abandoned_after`] make room.
    pub max_pending: usize,
    /// From the last poll of a pending registration until it may make room for another (10 minutes).
    pub abandoned_after: Duration,
    /// Jobs that may be queued or held (10,000).
    pub max_jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auto_approve: false,
            max_attempts: 3,
            hello_bound: Duration::from_secs(15),
            heartbeat_bound: Duration::from_secs(30),
            rest_after_reject: Duration::from_secs(15),
            registrations_per_minute: 10,
            max_pending: 1_000,
            abandoned_after: Duration::from_secs(600),
            max_jobs: 10_000,
        }
    }
}
