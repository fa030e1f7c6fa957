//! What the workers' process asks of the studio's echo, a line each, and what that answers.

use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// Each is answered once it is done, by a [`Report`] of all since the one before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Wait until that many sessions have said their first heartbeat.
    Await { sessions: usize },
    /// Offer nothing.
    Watch { seconds: f64 },
    /// Offer jobs at a rate, to one session after the other.
    Pace { a_second: f64, offers: u64 },
    /// Offer jobs until each session has had that many, so many at a time.
    Finish { jobs_each: u32, in_flight: usize },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    /// Jobs that were done.
    pub(crate) jobs: usize,
    /// By how much more than 5 s a heartbeat came after the one before.
    pub(crate) late: Spread,
    /// From an offer to its accept.
    pub(crate) accepted: Spread,
    /// From an offer to its result.
    pub(crate) answered: Spread,
    /// The echo's own processor time, in seconds.
    pub(crate) cpu: f64,
    /// What no worker should have done.
    pub(crate) faults: u64,
    /// The first of them.
    pub(crate) first_fault: Option<String>,
}
