use alloc::vec::Vec;

use super::*;

const HALF_HOUR: Duration = Duration::from_secs(1_800);

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn feed(tags: &[&str]) -> Feed {
    let releases: Vec<_> = tags.iter().map(|tag| serde_json::json!({ "tag_name": tag })).collect();
    Feed::parse(serde_json::Value::from(releases).to_string().as_bytes()).unwrap()
}

fn failure(not_before: Option<u64>) -> Result<Feed, CheckFailure> {
    Err(CheckFailure { message: "no route".into(), not_before: not_before.map(Duration::from_secs) })
}

struct Rig {
    updater: AutoUpdater,
    schedule: LoopSchedule,
    policy: Policy,
    situation: Situation,
    now: Mono,
}

impl Rig {
    fn new() -> Self {
        let schedule = LoopSchedule::every(HALF_HOUR, 0);
        Self {
            updater: AutoUpdater::new(version("1.0.0"), &schedule, Mono::ZERO),
            schedule,
            policy: Policy { enabled: true, ..Policy::default() },
            situation: Situation { connected: true, ..Situation::default() },
            now: Mono::ZERO,
        }
    }

    fn next(&mut self) -> Order {
        self.updater.next(self.now, &self.schedule, &self.policy, self.situation)
    }

    /// Rests until something is to be done; how long that was.
    fn rests(&mut self) -> (Duration, Order) {
        let began = self.now;
        for _ in 0..100_000 {
            match self.next() {
                Order::Rest(until) => {
                    assert!(until > self.now, "a rest that is over already is a busy loop");
                    self.now = until;
                }
                order => return (self.now.since(began), order),
            }
        }
        panic!("it rests for ever");
    }

    fn checked(&mut self, outcome: Result<Feed, CheckFailure>) -> Option<AutoUpdateDecision> {
        assert_eq!(self.rests().1, Order::Check);
        self.updater.checked(self.now, &self.schedule, &self.policy, outcome);
        self.updater.take_decision()
    }
}

#[test]
fn a_feed_with_nothing_newer_is_asked_once_an_interval() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        assert_eq!(rig.checked(Ok(feed(&["1.0.0", "v0.9.0"]))), Some(AutoUpdateDecision::UpToDate));
        assert_eq!(rig.updater.next_check(), Some(rig.now + HALF_HOUR));
        let mut later = Rig { updater: rig.updater.clone(), policy: rig.policy.clone(), ..rig };
        assert_eq!(later.rests(), (HALF_HOUR, Order::Check));
        rig.now = rig.now + HALF_HOUR;
    }
}

#[test]
fn machines_that_start_together_do_not_look_together() {
    let first = |chance| LoopSchedule::every(HALF_HOUR, chance).first.as_secs();
    assert_eq!((first(0), first(255)), (0, 300));
    assert!((100..200).contains(&first(128)));
    assert_eq!(LoopSchedule::every(Duration::ZERO, 255).first.as_secs(), 1, "never without a pause");
}

#[test]
fn failures_in_a_row_come_ever_rarer_and_a_success_ends_that() {
    let mut rig = Rig::new();
    for hours in [1, 2, 4, 8, 12, 12, 12] {
        let decided = rig.checked(failure(None));
        assert!(matches!(decided, Some(AutoUpdateDecision::CheckError { .. })));
        let due = rig.updater.next_check().unwrap();
        assert_eq!(due.since(rig.now), HALF_HOUR * hours);
    }
    rig.checked(Ok(feed(&[])));
    assert_eq!(rig.updater.next_check().unwrap().since(rig.now), HALF_HOUR);
}

#[test]
fn a_server_that_wants_to_be_left_alone_is() {
    let mut rig = Rig::new();
    rig.checked(failure(Some(3_600)));
    assert_eq!(rig.updater.next_check().unwrap().since(rig.now).as_secs(), 3_600);
    rig.checked(failure(Some(1)));
    assert_eq!(rig.updater.next_check().unwrap().since(rig.now), HALF_HOUR * 2, "not sooner than by itself");
}

/// What an operator changes while it rests.
type Change = fn(&mut Rig);

const WANTED_OTHERWISE: [Change; 4] = [
    |rig| rig.policy.feed = "https://releases.example/feed".into(),
    |rig| rig.policy.key = Some("RW…".into()),
    |rig| rig.policy.prereleases = true,
    |rig| rig.schedule = LoopSchedule::every(HALF_HOUR / 2, 0),
];

#[test]
fn what_is_wanted_otherwise_counts_at_once() {
    for change in WANTED_OTHERWISE {
        let mut rig = Rig::new();
        for _ in 0..6 {
            rig.checked(failure(None));
        }
        rig.now = rig.now + Duration::from_secs(120);
        assert!(matches!(rig.next(), Order::Rest(_)));
        change(&mut rig);
        assert_eq!(rig.next(), Order::Check);
        rig.updater.checked(rig.now, &rig.schedule, &rig.policy, failure(None));
        let due = rig.updater.next_check().unwrap();
        assert_eq!(due.since(rig.now), rig.schedule.interval, "what failed before counts no more");
        assert!(matches!(rig.next(), Order::Rest(until) if until == due), "once");
    }
}

#[test]
fn who_changes_it_all_the_time_has_the_feed_asked_once_a_tick() {
    let mut rig = Rig::new();
    rig.checked(failure(None));
    let asked = rig.now;
    for step in 1..5 {
        rig.now = asked + Duration::from_secs(10 * step);
        rig.policy.feed.push('!');
        assert_eq!(rig.next(), Order::Rest(asked + AUTO_UPDATE_TICK));
    }
    assert_eq!(rig.rests().1, Order::Check);
    assert_eq!(rig.now, asked + AUTO_UPDATE_TICK);
}

#[test]
fn a_server_that_wants_to_be_left_alone_is_unless_another_one_is_asked() {
    let mut rig = Rig::new();
    rig.policy.feed = "https://busy.example/feed".into();
    rig.checked(failure(Some(7_200)));
    let until = rig.now + Duration::from_secs(7_200);
    rig.now = rig.now + HALF_HOUR;
    for enabled in [false, true] {
        rig.policy.enabled = enabled;
        assert_eq!(rig.next(), Order::Rest(until));
    }
    rig.policy.feed = "https://busy.example/another".into();
    assert_eq!(rig.next(), Order::Rest(until));
    rig.schedule = LoopSchedule::every(HALF_HOUR / 2, 0);
    assert_eq!(rig.next(), Order::Rest(until));
    rig.policy.prereleases = true;
    assert_eq!(rig.next(), Order::Rest(until));
    rig.policy.feed = "https://releases.example/feed".into();
    assert_eq!(rig.next(), Order::Check);
}

#[test]
fn what_lies_ready_is_what_is_wanted() {
    for (which, change) in WANTED_OTHERWISE.into_iter().enumerate() {
        for is_leaving in [false, true] {
            let mut rig = Rig::new();
            rig.checked(Ok(feed(&["1.1.0"])));
            assert!(matches!(rig.next(), Order::Stage(_)));
            rig.updater.staged(rig.now, &rig.schedule, Ok(version("1.1.0")));
            if is_leaving {
                assert!(matches!(rig.next(), Order::MakeWay(_)));
            }
            rig.now = rig.now + AUTO_UPDATE_TICK;
            assert!(!rig.updater.is_outdated(&rig.policy));
            change(&mut rig);
            // How often it is looked is nothing to what was found.
            let stays = which == 3;
            assert_eq!(rig.updater.is_outdated(&rig.policy), !stays);
            if is_leaving {
                rig.updater.stays(rig.now, &rig.schedule);
                rig.now = rig.now + AUTO_UPDATE_TICK;
            }
            let order = rig.next();
            assert_eq!(matches!(order, Order::MakeWay(_)), stays, "{order:?}");
            assert_eq!(order == Order::Check, !stays, "{order:?}");
        }
    }
}

#[test]
fn a_newer_release_is_got_ready_and_then_the_worker_makes_way() {
    let mut rig = Rig::new();
    assert_eq!(rig.checked(Ok(feed(&["1.1.0", "1.2.0"]))), None);
    let Order::Stage(release) = rig.next() else { panic!() };
    assert_eq!(release.version, version("1.2.0"));
    rig.updater.staged(rig.now, &rig.schedule, Ok(version("1.2.0")));
    assert_eq!(rig.next(), Order::MakeWay(version("1.2.0")));
    assert_eq!(rig.updater.take_decision(), Some(AutoUpdateDecision::SkippedBusy));
    assert!(matches!(rig.next(), Order::Rest(_)), "it is told once");
}

#[test]
fn what_lies_ready_waits_on_where_the_worker_makes_no_way_after_all() {
    let mut rig = Rig::new();
    rig.checked(Ok(feed(&["1.1.0"])));
    assert!(matches!(rig.next(), Order::Stage(_)));
    rig.updater.staged(rig.now, &rig.schedule, Ok(version("1.1.0")));
    assert!(rig.updater.is_ready());
    assert!(matches!(rig.next(), Order::MakeWay(_)));
    assert!(!rig.updater.is_ready());
    rig.updater.stays(rig.now, &rig.schedule);
    assert!(rig.updater.is_ready());
    let Order::Rest(until) = rig.next() else { panic!() };
    rig.now = until;
    assert_eq!(rig.next(), Order::MakeWay(version("1.1.0")));
    // Switched off meanwhile, it is not wanted any more.
    rig.updater.stays(rig.now, &rig.schedule);
    rig.policy.enabled = false;
    assert!(matches!(rig.next(), Order::Rest(_)));
    assert_eq!(rig.updater.take_decision(), Some(AutoUpdateDecision::Disabled));
    assert!(!rig.updater.is_ready());
}

#[test]
fn without_a_session_an_update_waits_for_one_but_not_for_ever() {
    let mut rig = Rig::new();
    rig.situation.connected = false;
    rig.checked(Ok(feed(&["1.1.0"])));
    assert!(matches!(rig.next(), Order::Stage(_)));
    rig.updater.staged(rig.now, &rig.schedule, Ok(version("1.1.0")));
    assert!(matches!(rig.next(), Order::Rest(_)));
    assert_eq!(rig.updater.take_decision(), Some(AutoUpdateDecision::SkippedBusy));
    let mut comes_back = Rig { updater: rig.updater.clone(), policy: rig.policy.clone(), ..rig };
    comes_back.now = rig.now + AUTO_UPDATE_TICK;
    comes_back.situation.connected = true;
    assert!(matches!(comes_back.next(), Order::MakeWay(_)));
    let (waited, order) = rig.rests();
    assert_eq!(
        (waited.as_secs() / 3_600, order),
        (24, Order::MakeWay(version("1.1.0"))),
        "it may be the cure"
    );
}

#[test]
fn the_end_of_a_pause_and_a_configuration_that_can_be_used_are_waited_for() {
    for (paused, misconfigured) in [(true, false), (false, true)] {
        let mut rig = Rig::new();
        rig.situation = Situation { paused, misconfigured, ..rig.situation };
        rig.checked(Ok(feed(&["1.1.0"])));
        assert!(matches!(rig.next(), Order::Stage(_)));
        rig.updater.staged(rig.now, &rig.schedule, Ok(version("1.1.0")));
        for _ in 0..2_000 {
            let Order::Rest(until) = rig.next() else { panic!("it does not wait") };
            rig.now = until;
        }
        rig.situation = Situation { paused: false, misconfigured: false, ..rig.situation };
        assert!(matches!(rig.next(), Order::MakeWay(_)));
    }
}

#[test]
fn what_cannot_be_had_is_not_tried_in_a_loop() {
    let mut rig = Rig::new();
    for hours in [1, 2, 4] {
        rig.checked(Ok(feed(&["1.1.0"])));
        assert!(matches!(rig.next(), Order::Stage(_)));
        rig.updater.staged(rig.now, &rig.schedule, Err("the hash is wrong".into()));
        let decided = rig.updater.take_decision().unwrap();
        assert_eq!(
            decided,
            AutoUpdateDecision::UpdateError { version: version("1.1.0"), reason: "the hash is wrong".into() }
        );
        assert_eq!(decided.to_string(), "1.1.0 was not installed: the hash is wrong");
        assert_eq!(rig.updater.next_check().unwrap().since(rig.now), HALF_HOUR * hours);
    }
}

#[test]
fn a_version_that_went_back_is_not_tried_again_until_there_is_a_newer_one() {
    let policy = Policy { enabled: true, refused: [version("1.1.0")].into(), ..Policy::default() };
    for (tags, chosen) in [
        (&["1.1.0"][..], None),
        (&["1.1.0", "1.0.5"], None),
        (&["1.2.0", "1.1.0"], Some("1.2.0")),
        (&["1.0.5"], Some("1.0.5")),
        (&["1.0.0", "0.9.0"], None),
    ] {
        let feed = feed(tags);
        let release = choose(&feed, &version("1.0.0"), &policy);
        assert_eq!(release.map(|release| release.version.to_string()).as_deref(), chosen, "{tags:?}");
    }
}

#[test]
fn switched_off_it_rests_and_says_so() {
    let mut rig = Rig::new();
    rig.policy.enabled = false;
    assert!(matches!(rig.next(), Order::Rest(_)));
    assert_eq!(rig.updater.take_decision(), Some(AutoUpdateDecision::Disabled));
    rig.policy.enabled = true;
    assert_eq!(rig.rests().1, Order::Check);
    // Also with an update in hand.
    rig.updater.checked(rig.now, &rig.schedule, &rig.policy, Ok(feed(&["2.0.0"])));
    rig.policy.enabled = false;
    assert!(matches!(rig.next(), Order::Rest(_)));
}

#[test]
fn check_update_prints_what_scripts_read() {
    assert_eq!(format_check_outcome(&version("1.0.0"), None), "up to date: 1.0.0");
    let newer = version("1.1.0-rc.1");
    assert_eq!(
        format_check_outcome(&version("1.0.0"), Some(&newer)),
        "update available: 1.0.0 -> 1.1.0-rc.1"
    );
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a feed, a disk and an operator do: each rest ends later than now, and the feed is asked once a tick at the
        /// very most, which takes an operator who switches updates off and on all the time.
        #[test]
        fn nothing_makes_it_loop(steps in proptest::collection::vec((0_u8..8, 0_u32..5_000), 1..200), chance: u8) {
            let mut rig = Rig::new();
            rig.schedule = LoopSchedule::every(HALF_HOUR, chance);
            let mut asked = None;
            for (what, secs) in steps {
                match what {
                    0 => rig.policy.enabled = secs % 3 != 0,
                    1 => rig.situation.connected = secs % 2 == 0,
                    2 => rig.situation.apart_since = rig.now,
                    3 => rig.policy.prereleases = secs % 2 == 0,
                    4 => rig.policy.feed = secs.to_string(),
                    _ => {}
                }
                match rig.next() {
                    Order::Rest(until) => {
                        prop_assert!(until > rig.now);
                        rig.now = rig.now + Duration::from_secs(secs.into());
                    }
                    Order::Check => {
                        if let Some(asked) = asked {
                            prop_assert!(rig.now.since(asked) >= rig.schedule.tick);
                        }
                        asked = Some(rig.now);
                        let outcome = match what {
                            0 | 1 => failure(Some(secs.into())),
                            2 | 3 => failure(None),
                            4 | 5 => Ok(feed(&["1.0.0"])),
                            _ => Ok(feed(&["1.1.0", "nonsense", "1.2.0-rc.1"])),
                        };
                        rig.updater.checked(rig.now, &rig.schedule, &rig.policy, outcome);
                    }
                    Order::Stage(release) => {
                        prop_assert!(release.version > version("1.0.0") && (rig.policy.prereleases || !release.prerelease));
                        let outcome = if what % 2 == 0 { Ok(release.version) } else { Err("no".into()) };
                        rig.updater.staged(rig.now, &rig.schedule, outcome);
                    }
                    Order::MakeWay(_) => break,
                }
            }
        }
    }
}
