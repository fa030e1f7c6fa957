//! How many events may be told: an error that comes again and again must not flood whoever reads about it.

use std::time::{Duration, Instant};

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// The events of one window; those beyond are counted only.
pub(super) const EVENTS: u32 = 30;

/// The window under way.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    told: u32,
}

impl Pace {
    /// Whether another event may be told.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), told: 0 };
        }
        self.told += 1;
        self.told <= EVENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_events_a_minute_are_told() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut told = |second: u64, events: u32| {
            let now = start + Duration::from_secs(second);
            (0..events).filter(|_| pace.admits(now)).count()
        };
        assert_eq!((told(0, 20), told(30, 20), told(59, 1_000)), (20, 10, 0));
        assert_eq!((told(60, 100), told(119, 1), told(1_000, 1)), (30, 0, 1));
    }
}
