//! Many seeds, each a history of its own.

use super::*;

/// Seeds that the ordinary test run plays, in four parts that run side by side. The example `simulate` plays thousands in
/// a minute.
const SEEDS: u64 = 480;

fn play(part: u64) {
    let mut sum = Report::default();
    for seed in (part..SEEDS).step_by(4) {
        sum += simulate(&Scenario::mixed(seed), false);
    }
    println!("{sum:?}");
    // A world in which nothing happens proves nothing.
    assert!(sum.completed > SEEDS / 2 && sum.sessions > SEEDS && sum.faults > SEEDS, "{sum:?}");
}

#[test]
fn a_quarter_of_the_seeds_keeps_every_promise() {
    play(0);
}

#[test]
fn another_quarter_of_the_seeds_keeps_every_promise() {
    play(1);
}

#[test]
fn a_third_quarter_of_the_seeds_keeps_every_promise() {
    play(2);
}

#[test]
fn the_last_quarter_of_the_seeds_keeps_every_promise() {
    play(3);
}

#[test]
fn a_seed_is_one_history() {
    for seed in [3, 77] {
        assert_eq!(simulate(&Scenario::mixed(seed), false), simulate(&Scenario::mixed(seed), false));
    }
}

#[test]
fn an_idle_worker_says_one_heartbeat_in_five_seconds_and_stays_connected() {
    let report = simulate(&Scenario::idle(Duration::from_secs(3_600)), false);
    assert_eq!((report.sessions, report.jobs), (1, 0));
    // A heartbeat and its acknowledgement, there and back.
    let heartbeats = 3_600 / 5;
    assert!((heartbeats..heartbeats * 6).contains(&report.inputs), "{report:?}");
}
