//! The trial of a new version: it takes over when it has shown that it can do what the old one did.
//!
//! The old version starts the new one and watches it work. One that gets its welcome and lives on is kept. One that gets none
//! in time, hangs, or ends by itself twice, goes, and the old one takes over again.

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use crate::time::Mono;

/// How long a new version has until its welcome, and how long it must live.
pub const TRIAL_TIME: Duration = Duration::from_secs(300);
/// How often one on trial shows that it turns.
pub const SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// How long one that was welcomed may show no sign of life.
const SILENCE_BOUND: Duration = Duration::from_secs(120);
/// How often it may end by itself.
const MAX_ENDS: u32 = 2;
/// Between its end and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// A version on trial. Say what happened ([`Trial::next`]), beginning with [`Seen::Nothing`], and do what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How long it has.
    time: Duration,
    state: State,
    ends: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Beginning,
    /// It is started then.
    Stopped {
        until: Mono,
    },
    /// Since then, and not welcomed.
    Started {
        at: Mono,
    },
    /// It showed a sign of life then.
    Welcomed {
        alive: Mono,
    },
}

/// What was seen of the version on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing but time passed.
    Nothing,
    /// It got its welcome, and turns.
    Alive,
    /// It ended.
    Ended(End),
    /// It could not be started at all.
    Unstartable(String),
}

/// How a version on trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It has lived through its time, has nothing in its hands, and hands over to itself.
    Passed,
    /// It was told to end, by a signal or by its owner.
    Told,
    /// For something that is no matter of its version: the studio refused the worker, say.
    Refused,
    /// No studio could be reached, and the configuration bounds how often that is tried.
    Unreached,
    /// By itself: for a person to read.
    ByItself(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Start it.
    Start,
    /// Look again by then.
    Wait(Mono),
    /// It is as good as the old one: it takes over for good.
    Keep,
    /// It is not: the old one takes over again.
    GoBack {
        /// Why, for a person.
        why: String,
        /// Whether the studio may be to blame: it ran, and was not welcomed.
        in_doubt: bool,
    },
    /// It could not be tried, through no fault of its own: the old one takes over again.
    Untried,
    /// The owner wants the worker to end.
    Leave,
}

impl Trial {
    /// A version that has `time` until its welcome ([`TRIAL_TIME`]).
    pub fn new(time: Duration) -> Self {
        Self { time, state: State::Beginning, ends: 0 }
    }

    /// What to do about what was seen.
    pub fn next(&mut self, now: Mono, seen: Seen) -> Verdict {
        match seen {
            Seen::Nothing => {}
            Seen::Alive => self.state = State::Welcomed { alive: now },
            Seen::Ended(End::Told) => return Verdict::Leave,
            Seen::Ended(End::Passed) => return Verdict::Keep,
            Seen::Ended(End::Refused) => return Verdict::Untried,
            Seen::Ended(End::Unreached) => return self.unwelcomed("no studio could be reached".into()),
            Seen::Ended(End::ByItself(how)) => {
                self.ends += 1;
                if self.ends >= MAX_ENDS {
                    return back(format!("it ended by itself twice, the last time {how}"));
                }
                self.state = State::Stopped { until: now + PAUSE };
            }
            Seen::Unstartable(why) => return back(format!("it can't be started: {why}")),
        }
        match self.state {
            State::Beginning => self.start(now),
            State::Stopped { until } if now >= until => self.start(now),
            State::Stopped { until } => Verdict::Wait(until),
            State::Started { at } if now >= at + self.time => {
                self.unwelcomed(format!("no studio had welcomed it after {} s", self.time.as_secs()))
            }
            State::Started { at } => Verdict::Wait(at + self.time),
            State::Welcomed { alive } if now >= alive + SILENCE_BOUND => {
                back(format!("it hangs: for {} s it showed no sign of life", SILENCE_BOUND.as_secs()))
            }
            State::Welcomed { alive } => Verdict::Wait(alive + SILENCE_BOUND),
        }
    }

    /// The studio may be to blame, unless the version has ended by itself, too.
    fn unwelcomed(&self, why: String) -> Verdict {
        Verdict::GoBack { why, in_doubt: self.ends == 0 }
    }

    fn start(&mut self, now: Mono) -> Verdict {
        self.state = State::Started { at: now };
        Verdict::Start
    }
}

fn back(why: String) -> Verdict {
    Verdict::GoBack { why, in_doubt: false }
}

/// How a program that ended by itself ended, for a person to read.
pub fn ending(code: Option<i32>) -> String {
    code.map_or_else(|| "by a signal".to_string(), |code| format!("with the exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::from_micros(secs * 1_000_000)
    }

    fn by_itself() -> Seen {
        Seen::Ended(End::ByItself(ending(Some(1))))
    }

    fn started() -> Trial {
        let mut trial = Trial::new(TRIAL_TIME);
        assert_eq!(trial.next(at(10), Seen::Nothing), Verdict::Start);
        trial
    }

    #[test]
    fn one_that_is_welcomed_and_lives_on_is_kept() {
        let mut trial = started();
        assert_eq!(trial.next(at(10), Seen::Nothing), Verdict::Wait(at(310)));
        for secs in (12..10_000).step_by(60) {
            assert!(matches!(trial.next(at(secs), Seen::Alive), Verdict::Wait(until) if until > at(secs)));
            assert!(matches!(trial.next(at(secs + 59), Seen::Nothing), Verdict::Wait(_)));
        }
        assert_eq!(trial.next(at(10_001), Seen::Ended(End::Passed)), Verdict::Keep);
    }

    #[test]
    fn one_that_gets_no_welcome_goes_back() {
        let mut trial = started();
        assert!(matches!(trial.next(at(309), Seen::Nothing), Verdict::Wait(_)));
        let Verdict::GoBack { why, in_doubt } = trial.next(at(310), Seen::Nothing) else { panic!() };
        assert!(why.contains("300 s") && in_doubt, "{why}");
    }

    #[test]
    fn one_that_hangs_goes_back() {
        let mut trial = started();
        trial.next(at(12), Seen::Alive);
        trial.next(at(100), Seen::Alive);
        assert_eq!(trial.next(at(219), Seen::Nothing), Verdict::Wait(at(220)));
        let Verdict::GoBack { why, in_doubt } = trial.next(at(220), Seen::Nothing) else { panic!() };
        assert!(!in_doubt && why.contains("it hangs"), "{why}");
    }

    #[test]
    fn one_that_ends_by_itself_twice_goes_back() {
        let mut trial = started();
        assert_eq!(trial.next(at(11), by_itself()), Verdict::Wait(at(12)));
        assert_eq!(trial.next(at(12), Seen::Nothing), Verdict::Start);
        let Verdict::GoBack { why, in_doubt } = trial.next(at(13), by_itself()) else { panic!() };
        assert!(!in_doubt && why.contains("twice") && why.contains("exit code 1"), "{why}");
    }

    #[test]
    fn also_when_it_was_welcomed_before() {
        let mut trial = started();
        trial.next(at(11), Seen::Alive);
        trial.next(at(50), by_itself());
        assert_eq!(trial.next(at(51), Seen::Nothing), Verdict::Start);
        assert_eq!(
            trial.next(at(52), Seen::Nothing),
            Verdict::Wait(at(351)),
            "the first welcome is not its own"
        );
        assert!(matches!(trial.next(at(60), by_itself()), Verdict::GoBack { .. }));
    }

    #[test]
    fn a_second_start_has_its_time_and_no_third_one_follows() {
        let mut trial = started();
        trial.next(at(200), by_itself());
        assert_eq!(trial.next(at(201), Seen::Nothing), Verdict::Start);
        assert!(matches!(trial.next(at(500), Seen::Nothing), Verdict::Wait(_)));
        assert!(matches!(trial.next(at(501), Seen::Nothing), Verdict::GoBack { in_doubt: false, .. }));
    }

    #[test]
    fn one_that_cannot_be_started_goes_back_at_once() {
        let mut trial = started();
        let unstartable = Seen::Unstartable("Exec format error".into());
        assert!(matches!(trial.next(at(10), unstartable), Verdict::GoBack { .. }));
    }

    #[test]
    fn one_that_reached_no_studio_goes_back_in_doubt() {
        let unreached = || Seen::Ended(End::Unreached);
        let mut welcomed = started();
        welcomed.next(at(11), Seen::Alive);
        for mut trial in [started(), welcomed] {
            let Verdict::GoBack { why, in_doubt } = trial.next(at(12), unreached()) else { panic!() };
            assert!(in_doubt && why.contains("could be reached"), "{why}");
        }
        let mut ended = started();
        ended.next(at(11), by_itself());
        ended.next(at(12), Seen::Nothing);
        assert!(matches!(ended.next(at(13), unreached()), Verdict::GoBack { in_doubt: false, .. }));
    }

    #[test]
    fn one_that_was_told_to_end_is_not_started_again() {
        assert_eq!(started().next(at(11), Seen::Ended(End::Told)), Verdict::Leave);
    }

    #[test]
    fn a_worker_that_the_studio_refuses_says_nothing_about_its_version() {
        assert_eq!(started().next(at(11), Seen::Ended(End::Refused)), Verdict::Untried);
    }
}
