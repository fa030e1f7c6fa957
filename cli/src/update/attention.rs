//! When what others may have made ready or put in place is worth a look.

use std::time::SystemTime;

use studio_worker_core::{time::Mono, update::Version};

use super::Place;

/// What of it was looked at, by the stamp of what is remembered.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// None before the first look.
    seen: Option<SystemTime>,
    /// From then on, what was seen and led to nothing is looked at again.
    again: Option<Mono>,
    /// Why that leads to nothing was said.
    said: Option<SystemTime>,
}

impl Attention {
    /// Whether there is something to look at.
    pub(super) fn is_due(&mut self, now: Mono, stamp: Option<SystemTime>) -> bool {
        if self.again.is_some_and(|again| now >= again) {
            self.is_over();
        }
        self.seen != stamp
    }

    /// Whether there is something to look at, now or once it has rested.
    pub(super) fn is_open(&self, stamp: Option<SystemTime>) -> bool {
        self.again.is_some() || self.seen != stamp
    }

    /// That was looked at.
    pub(super) fn looked(&mut self, stamp: Option<SystemTime>) {
        self.seen = stamp;
    }

    /// What was looked at led to nothing, and may do so for a while.
    pub(super) fn rests(&mut self, until: Mono) {
        self.again = Some(until);
    }

    /// What was looked at counts again.
    pub(super) fn is_over(&mut self) {
        (self.seen, self.again) = (None, None);
    }

    /// Whether it was said already why this leads to nothing.
    pub(super) fn has_said(&self, stamp: Option<SystemTime>) -> bool {
        stamp.is_some() && self.said == stamp
    }

    /// That is said now.
    pub(super) fn says(&mut self, stamp: Option<SystemTime>) {
        self.said = stamp;
    }
}

/// A version that was no good, where that could not be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unremembered {
    pub(super) version: Version,
    /// Of what is remembered, which still says what it said before the version was tried.
    stamp: Option<SystemTime>,
}

impl Unremembered {
    /// `version` was no good just now.
    pub(crate) fn now(version: Version, place: &Place) -> Self {
        Self { version, stamp: place.record_stamp() }
    }

    /// Whether it counts: for what is remembered by now, `wanted` by hand, it does not.
    pub(super) fn counts(&self, stamp: Option<SystemTime>, wanted: &[Option<&Version>]) -> bool {
        self.stamp == stamp || !wanted.contains(&Some(&self.version))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::from_micros(secs * 1_000_000)
    }

    fn stamp(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn what_led_to_nothing_is_looked_at_again_after_a_while_and_what_is_new_at_once() {
        let mut attention = Attention::default();
        assert!(attention.is_due(at(0), Some(stamp(1))) && attention.is_open(Some(stamp(1))));
        attention.looked(Some(stamp(1)));
        assert!(!attention.is_open(Some(stamp(1))) && attention.is_open(Some(stamp(2))));
        attention.rests(at(100));
        assert!(!attention.is_due(at(99), Some(stamp(1))) && attention.is_open(Some(stamp(1))));
        assert!(attention.is_due(at(99), Some(stamp(2))), "it is new");
        attention.looked(Some(stamp(2)));
        assert!(!attention.is_due(at(99), Some(stamp(2))));
        assert!(attention.is_due(at(100), Some(stamp(2))), "whatever it was that hindered may be over");
        attention.looked(Some(stamp(2)));
        assert!(!attention.is_due(at(1_000), Some(stamp(2))), "once");
    }

    #[test]
    fn what_could_not_be_remembered_counts_until_somebody_wants_it_anew() {
        let (version, other) = (Version::new(1, 0, 1), Version::new(1, 0, 2));
        let refused = Unremembered { version: version.clone(), stamp: Some(stamp(1)) };
        assert!(refused.counts(Some(stamp(1)), &[Some(&version)]), "that it was wanted is why it was tried");
        assert!(refused.counts(Some(stamp(2)), &[Some(&other), None]));
        assert!(!refused.counts(Some(stamp(2)), &[None, Some(&version)]));
    }
}
