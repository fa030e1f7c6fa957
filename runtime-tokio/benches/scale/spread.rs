//! Many times, and what they come to.

use std::{mem, time::Duration};

use serde::{Deserialize, Serialize};

/// Times as they were taken.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u32>);

/// Times in milliseconds; all zero where there were none.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Samples {
    pub(crate) fn take(&mut self, time: Duration) {
        self.0.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    /// What was taken since this was last asked.
    pub(crate) fn spread(&mut self) -> Spread {
        let mut times = mem::take(&mut self.0);
        times.sort_unstable();
        // The nearest rank: no time is made up between two that were taken.
        let at = |percent: usize| match times.len() {
            0 => 0.0,
            count => f64::from(times[(count * percent).div_ceil(100).max(1) - 1]) / 1_000.0,
        };
        Spread { count: times.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl Spread {
    /// The worse of both in each respect; what is the median of all can't be told any more.
    pub(crate) fn worse(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            p50: self.p50.max(other.p50),
            p99: self.p99.max(other.p99),
            max: self.max.max(other.max),
        }
    }
}
