//! What goes wrong on the link, and when.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use core::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Link, Way};
use crate::{
    studio::{self, Step},
    time::{Mono, Wall},
    worker::Input,
};

/// Steps after which something that was to come never will.
const PATIENCE: usize = 60_000;

/// The order of things, and the faults among them.
pub(crate) enum Weather {
    /// First come, first served, and no faults.
    Fair,
    /// Any order, and that many faults.
    Foul {
        /// What chooses.
        chance: Box<ChaCha8Rng>,
        /// How many are left.
        faults: u32,
    },
}

impl Weather {
    /// The foul weather of a seed.
    pub(crate) fn foul(seed: u64, faults: u32) -> Self {
        Self::Foul { chance: Box::new(ChaCha8Rng::seed_from_u64(seed)), faults }
    }

    /// A number below `n`.
    fn pick(&mut self, n: usize) -> usize {
        match self {
            Self::Fair => 0,
            // The remainder is below `n`.
            Self::Foul { chance, .. } => usize::try_from(chance.next_u64() % n as u64).unwrap_or(0),
        }
    }

    fn fault(&mut self) -> bool {
        let Self::Foul { chance, faults } = self else {
            return false;
        };
        let strikes = *faults > 0 && chance.next_u64().is_multiple_of(8);
        *faults -= u32::from(strikes);
        strikes
    }
}

impl Link {
    /// Lets things happen in this weather from now on.
    pub(crate) fn under(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Lets things happen until `done` says so.
    ///
    /// # Panics
    /// When that never comes.
    pub(crate) fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("{what} never came: {:?}, jobs {:?}", self.trips, self.studio.jobs().collect::<Vec<_>>());
    }

    fn step(&mut self) {
        if self.weather.fault() {
            return match self.weather.pick(3) {
                0 if self.drops(Way::Both) => {}
                1 if self.drops(Way::Down) => {}
                _ => self.break_exchange(),
            };
        }
        let heads = self.heads();
        // In foul weather time may pass while things are under way.
        let foul = matches!(self.weather, Weather::Foul { .. });
        let choices = heads.len() + usize::from(heads.is_empty() || foul);
        match heads.get(self.weather.pick(choices)) {
            Some(at) => self.arrive_at(*at),
            None => self.pass(if heads.is_empty() { Duration::MAX } else { Duration::from_millis(500) }),
        }
    }

    /// The first trips of each lane, oldest first.
    fn heads(&self) -> Vec<usize> {
        let mut lanes = BTreeSet::new();
        (0..self.trips.len()).filter(|at| lanes.insert(self.trips[*at].lane())).collect()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.trips.is_empty()
    }

    /// Lets one of the first trips arrive; if there are none, time passes.
    pub(crate) fn arrive_nth(&mut self, choice: usize) {
        let heads = self.heads();
        match heads.get(choice % heads.len().max(1)) {
            Some(at) => self.arrive_at(*at),
            None => self.pass(Duration::MAX),
        }
    }

    fn arrive_at(&mut self, at: usize) {
        let trip = self.trips.remove(at);
        self.arrive(trip);
    }

    /// Time passes until somebody waits no longer, but at most for `most`.
    ///
    /// # Panics
    /// When nothing is under way and nobody waits for anything.
    pub(crate) fn pass(&mut self, most: Duration) {
        let Step::Wait { until: studio, .. } = self.studio.next() else {
            panic!("the studio is not drained")
        };
        let due = self.until.min(studio);
        let ends = due < Mono::NEVER || !self.trips.is_empty() || self.exit.is_some();
        assert!(ends, "nothing is under way and nobody waits for anything");
        // Where nothing is waited for, nothing happens in an hour either.
        self.elapse(due.since(self.now.mono).min(most).min(Duration::from_secs(3_600)));
    }

    /// So much time passes, whoever waits: the machine was asleep, say.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        self.now.wall = Wall::from_millis(self.now.wall.as_millis().saturating_add(millis));
        self.now.mono = self.now.mono + span;
        self.tell_worker(Input::Tick);
        self.tell_studio(studio::Input::Tick);
    }

    /// Somebody sets the clock.
    pub(crate) fn set_clock(&mut self, wall: Wall) {
        self.now.wall = wall;
    }
}
