//! Section 6: every way in which a session ends, the back-off, and the end of the worker.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::json;

use super::rig::*;
use crate::worker::{Action, Command, CommandError, ConnectFailure, Exit, HttpAnswer, Input, SessionEnd};

fn trouble(rig: &mut Rig) {
    let conn = rig.connecting();
    rig.input(Input::ConnectFailed { conn, failure: ConnectFailure::Trouble("no route".into()) });
}

fn closes(rig: &Rig) -> Vec<u16> {
    let of = |action: &Action| match action {
        Action::Close { code, .. } => Some(code.0),
        _ => None,
    };
    rig.history.iter().filter_map(of).collect()
}

fn assert_about(gap: Duration, base: Duration) {
    assert!((base / 2..=base * 3 / 2).contains(&gap), "{base:?}: {gap:?}");
}

fn error(code: &str) -> serde_json::Value {
    json!({ "type": "error", "code": code, "message": "because" })
}

#[test]
fn a_refused_token_stops_the_worker_and_says_how_to_register_again() {
    for how in 0..3 {
        let mut rig = Rig::new(settings(registered()));
        match how {
            0 => rig.refuse(body(401, "bad token")),
            1 => {
                rig.open();
                rig.closed(4001);
            }
            _ => {
                rig.open();
                rig.frame(&error("auth_failed"));
                rig.closed(4001);
            }
        }
        let exit = rig.exit().unwrap();
        assert!(matches!(exit, Exit::Unauthorized { .. }), "{exit:?}");
        assert_eq!(exit.code(), 1);
        assert!(exit.to_string().contains("register --reset"), "{exit}");
        assert!(rig.stores().is_empty(), "the stored token stays");
    }
}

#[test]
fn an_error_ends_the_session_also_when_the_studio_never_closes() {
    let mut rig = Rig::serving();
    rig.frame(&error("auth_failed"));
    assert_eq!(rig.exit(), None);
    rig.pass_in_silence(secs(3));
    assert!(matches!(rig.exit(), Some(Exit::Unauthorized { .. })));
}

#[test]
fn a_contested_id_is_left_alone_for_30_s_and_at_the_fifth_time_for_good() {
    for by_error in [false, true] {
        let mut rig = Rig::new(settings(registered()));
        for nth in 1..=5 {
            rig.open();
            if by_error {
                rig.frame(&error("duplicate_worker"));
            }
            rig.closed(4003);
            if nth < 5 {
                assert!(rig.gap() >= secs(30));
            }
        }
        let exit = rig.exit().unwrap();
        assert_eq!((exit.code(), &exit), (1, &Exit::DuplicateWorker));
        let said = rig.log_lines().iter().filter(|line| line.message.contains("somebody else")).count();
        assert_eq!(said, 4);
    }
}

#[test]
fn ten_minutes_without_a_contest_forgive_those_before() {
    let mut rig = Rig::new(settings(registered()));
    for _ in 0..3 {
        for _ in 0..4 {
            rig.open();
            rig.pass(secs(590));
            rig.closed(4003);
        }
        rig.open();
        rig.pass(secs(601));
        rig.closed(4003);
        assert_eq!(rig.exit(), None);
        rig.open();
        rig.pass(secs(601));
        rig.break_connection();
    }
}

#[test]
fn any_other_end_is_followed_by_a_reconnect() {
    type End = fn(&mut Rig);
    let ends: [End; 9] = [
        |rig| {
            rig.frame(&error("internal_error"));
            rig.closed(1011);
        },
        |rig| {
            rig.frame(&error("protocol_violation"));
            rig.closed(4002);
        },
        |rig| rig.closed(4002),
        |rig| rig.closed(1000),
        |rig| rig.closed(1001),
        |rig| rig.closed(1005),
        |rig| rig.closed(1009),
        Rig::break_connection,
        |rig| {
            let conn = rig.conn();
            rig.input(Input::Closed { conn, end: SessionEnd::TooLarge });
        },
    ];
    for end in ends {
        let mut rig = Rig::serving();
        end(&mut rig);
        assert_about(rig.gap(), secs(1));
        rig.open();
        assert_eq!(rig.exit(), None);
    }
}

// Back-off.

#[test]
fn the_back_off_doubles_to_30_s() {
    let mut rig = Rig::new(settings(registered()));
    for base in [1, 2, 4, 8, 16, 30, 30, 30, 30] {
        trouble(&mut rig);
        assert_about(rig.gap(), secs(base));
    }
}

#[test]
fn a_fleet_does_not_return_in_step() {
    let mut gaps: Vec<_> = (0..20)
        .map(|seed| {
            let mut rig = Rig::seeded(settings(registered()), [seed; 32]);
            for _ in 0..6 {
                trouble(&mut rig);
            }
            rig.gap()
        })
        .collect();
    gaps.sort();
    assert!(gaps[19] > gaps[0] + secs(10), "{gaps:?}");
    gaps.dedup();
    assert_eq!(gaps.len(), 20);
}

#[test]
fn an_upgrade_that_succeeds_and_is_closed_before_the_welcome_does_not_reset_the_back_off() {
    let mut rig = Rig::new(settings(registered()));
    for base in [1, 2, 4, 8, 16, 30] {
        let conn = rig.connecting();
        rig.input(Input::Connected { conn });
        rig.closed(1000);
        assert_about(rig.gap(), secs(base));
    }
}

#[test]
fn the_back_off_starts_anew_only_after_a_minute_of_welcome() {
    let mut rig = Rig::new(settings(registered()));
    for base in [1, 2, 4, 8] {
        rig.open();
        rig.pass(secs(59));
        rig.break_connection();
        assert_about(rig.gap(), secs(base));
    }
    rig.open();
    rig.pass(secs(60));
    rig.break_connection();
    assert_about(rig.gap(), secs(1));
}

#[test]
fn reconnect_attempts_that_are_absent_or_0_mean_for_ever() {
    for attempts in [None, Some(0)] {
        let mut settings = settings(registered());
        settings.reconnect_attempts = attempts;
        let mut rig = Rig::new(settings);
        for _ in 0..50 {
            trouble(&mut rig);
        }
        assert_eq!(rig.exit(), None);
    }
}

#[test]
fn n_reconnect_attempts_end_the_worker_at_failure_n_plus_1() {
    let mut settings = settings(registered());
    settings.reconnect_attempts = Some(3);
    let mut rig = Rig::new(settings);
    for _ in 0..3 {
        trouble(&mut rig);
        assert_eq!(rig.exit(), None);
    }
    trouble(&mut rig);
    let exit = rig.exit().unwrap();
    assert_eq!(exit, Exit::AttemptsExhausted { attempts: 4, last: "no route".into() });
    assert_eq!(exit.code(), 1);
}

#[test]
fn a_stable_session_between_failures_counts_them_anew() {
    let mut settings = settings(registered());
    settings.reconnect_attempts = Some(2);
    let mut rig = Rig::new(settings);
    for _ in 0..5 {
        trouble(&mut rig);
        rig.open();
        rig.pass(secs(61));
        rig.break_connection();
        assert_eq!(rig.exit(), None);
        rig.open();
        rig.pass(secs(61));
    }
}

#[test]
fn a_busy_studio_says_when_to_come_back() {
    for status in [429, 503] {
        let mut rig = Rig::new(settings(registered()));
        rig.refuse(HttpAnswer { status, retry_after: Some("90".into()), ..HttpAnswer::default() });
        let gap = rig.gap();
        assert!((secs(90)..=secs(92)).contains(&gap), "{gap:?}");
        rig.refuse(HttpAnswer { status, retry_after: Some("later".into()), ..HttpAnswer::default() });
        assert_about(rig.gap(), secs(2));
    }
}

// The end of the worker.

#[test]
fn an_idle_worker_is_out_within_a_second() {
    for command in [Command::Drain, Command::Stop] {
        let mut rig = Rig::serving();
        let end = rig.now.mono + secs(1);
        rig.command(command);
        assert_eq!(closes(&rig), [1000]);
        while rig.exit().is_none() {
            rig.next_timer();
        }
        assert!(rig.now.mono < end);
        assert_eq!(rig.exit().unwrap().code(), 0);
    }
}

#[test]
fn the_exit_does_not_wait_longer_than_the_studios_close() {
    let mut rig = Rig::serving();
    rig.command(Command::Drain);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Drained));
}

#[test]
fn a_stop_ends_the_worker_in_every_state() {
    let stops: [fn() -> Rig; 5] = [
        || Rig::new(settings(registered())),
        || {
            let mut rig = Rig::new(settings(registered()));
            let conn = rig.connecting();
            rig.input(Input::Connected { conn });
            rig
        },
        || {
            let mut rig = Rig::new(settings(registered()));
            trouble(&mut rig);
            rig
        },
        || {
            let mut rig = Rig::serving();
            rig.frame(&error("internal_error"));
            rig
        },
        || running("j-1"),
    ];
    for start in stops {
        let mut rig = start();
        let end = rig.now.mono + secs(1);
        rig.command(Command::Stop);
        while rig.exit().is_none() {
            rig.next_timer();
        }
        assert!(rig.now.mono < end);
        assert_eq!(rig.exit(), Some(Exit::Stopped));
    }
}

#[test]
fn nothing_comes_after_the_exit() {
    let mut rig = Rig::serving();
    rig.command(Command::Stop);
    rig.closed(1000);
    let conn = rig.conn();
    for input in [
        Input::Tick,
        Input::Connected { conn },
        Input::Text { conn, text: image("j-1").to_string() },
        Input::Closed { conn, end: SessionEnd::Dropped(String::new()) },
    ] {
        rig.input(input);
    }
    rig.leap(secs(100_000));
    assert_eq!(rig.exit(), Some(Exit::Stopped));
    for command in [
        Command::Pause,
        Command::Resume,
        Command::SetThreshold(1.0),
        Command::Drain,
        Command::Stop,
        Command::Reconfigure(settings(registered()).into()),
    ] {
        assert_eq!(rig.worker.command(rig.now, command), Err(CommandError::Ended));
    }
    assert_eq!(rig.wait().1, "nothing");
}

#[test]
fn a_refused_token_ends_a_drain_at_once() {
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    assert_eq!(rig.exit(), None);
    rig.closed(4001);
    assert!(matches!(rig.exit(), Some(Exit::Unauthorized { .. })));
}

#[test]
fn a_second_signal_ends_the_farewell_too() {
    let mut rig = Rig::serving();
    rig.command(Command::Drain);
    rig.command(Command::Drain);
    assert_eq!(rig.exit(), None, "a drain leaves it its moment");
    rig.command(Command::Stop);
    assert_eq!(rig.exit(), Some(Exit::Drained));
}

#[test]
fn a_threshold_out_of_range_is_refused_and_changes_nothing() {
    let mut rig = Rig::serving();
    for gb in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let refused = rig.worker.command(rig.now, Command::SetThreshold(gb));
        assert!(matches!(refused, Err(CommandError::Threshold(_))), "{gb}");
    }
    assert!(rig.frames().is_empty());
    assert_eq!(vec![12.0], vec![rig.worker.capabilities().vram_threshold_gb.get()]);
}
