//! Sections 4 and 7: a worker that gives way to a person at the machine.

use alloc::{string::String, vec};

use super::rig::*;
use crate::{
    wire::UserPresence::{Active, Idle},
    worker::{Action, Command, Hindrance, Observation, SessionStatus, Settings},
};

fn giving_way() -> Settings {
    let mut settings = settings(registered());
    settings.capabilities.only_when_idle = Some(true);
    settings
}

fn serving(settings: Settings) -> Rig {
    let mut rig = Rig::new(settings);
    rig.open();
    rig.seen.clear();
    rig
}

fn wants(rig: &mut Rig) -> Option<bool> {
    rig.frames().last().map(|beat| beat["autoEnabled"] == true)
}

fn warnings(rig: &Rig) -> usize {
    let warns =
        |action: &&Action| matches!(action, Action::Log(line) if line.message.contains("can't be told"));
    rig.history.iter().filter(warns).count()
}

fn shown(rig: &Rig) -> SessionStatus {
    let session = |action: &Action| match action {
        Action::Observe(Observation::Session(status)) => Some(status.clone()),
        _ => None,
    };
    rig.history.iter().rev().find_map(session).unwrap()
}

#[test]
fn a_person_who_comes_keeps_jobs_away_until_they_go() {
    let mut rig = serving(giving_way());
    rig.command(Command::Presence(Some(Active)));
    assert_eq!(wants(&mut rig), Some(false));
    assert_eq!(shown(&rig).hindrance, Some(Hindrance::PersonPresent));
    rig.frame(&image("j-1"));
    assert_eq!(rig.frames()[0]["code"], "paused");
    rig.command(Command::Presence(Some(Idle)));
    assert_eq!(wants(&mut rig), Some(true));
    assert_eq!(shown(&rig).hindrance, None);
    rig.frame(&image("j-1"));
    assert_eq!(rig.said(), ["accept"]);
}

#[test]
fn a_job_that_runs_is_finished_when_a_person_comes() {
    let mut rig = running("j-1");
    let mut changed = giving_way();
    changed.label = None;
    rig.command(Command::Reconfigure(changed.into()));
    rig.command(Command::Presence(Some(Active)));
    rig.run_ends(bytes());
    rig.flush();
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    rig.seen.clear();
    rig.frame(&image("j-2"));
    assert_eq!(rig.frames()[0]["code"], "paused");
}

#[test]
fn whether_somebody_is_there_is_said_also_where_it_matters_to_no_job() {
    let mut rig = serving(settings(registered()));
    for presence in [Some(Active), Some(Idle), None] {
        rig.command(Command::Presence(presence));
        assert_eq!(rig.worker.capabilities().user_presence, presence);
        assert_eq!(wants(&mut rig), Some(true), "said at once");
        rig.command(Command::Presence(presence));
        assert!(rig.frames().is_empty(), "and once");
    }
    assert_eq!(warnings(&rig), 0);
}

#[test]
fn no_job_is_taken_before_it_is_known_whether_somebody_is_there() {
    let mut rig = serving(giving_way());
    assert_eq!(shown(&rig).hindrance, Some(Hindrance::PresenceUnknown));
    assert!(!rig.worker.capabilities().auto_enabled, "already as it said hello");
    rig.frame(&image("j-1"));
    assert_eq!(rig.frames()[0]["code"], "paused");
    rig.command(Command::Presence(Some(Active)));
    assert_eq!(shown(&rig).hindrance, Some(Hindrance::PersonPresent));
    rig.frame(&image("j-1"));
    assert_eq!(rig.frames().last().unwrap()["code"], "paused");
    rig.command(Command::Presence(Some(Idle)));
    rig.seen.clear();
    rig.frame(&image("j-1"));
    assert_eq!((rig.said(), warnings(&rig)), (vec![String::from("accept")], 0));
}

#[test]
fn who_never_says_whether_somebody_is_there_is_not_waited_for_longer_than_15_seconds() {
    // From the start of the worker, or from when it matters.
    let later = || {
        let mut rig = serving(settings(registered()));
        rig.pass(secs(60));
        rig.command(Command::Reconfigure(giving_way().into()));
        rig.command(Command::Reconfigure(giving_way().into()));
        rig
    };
    for mut rig in [serving(giving_way()), later()] {
        rig.pass(secs(14));
        assert_eq!(shown(&rig).hindrance, Some(Hindrance::PresenceUnknown));
        rig.pass(secs(1));
        assert_eq!((shown(&rig).hindrance, warnings(&rig)), (None, 1));
        rig.command(Command::Presence(None));
        assert_eq!(warnings(&rig), 1, "that is known");
        rig.seen.clear();
        rig.frame(&image("j-1"));
        assert_eq!(rig.said(), ["accept"]);
    }
    // Where it no longer matters, nothing is waited for or said.
    let mut rig = serving(giving_way());
    rig.command(Command::Reconfigure(settings(registered()).into()));
    assert_eq!(shown(&rig).hindrance, None);
    rig.pass(secs(60));
    assert_eq!(warnings(&rig), 0);
}

#[test]
fn a_worker_that_cannot_tell_takes_jobs_and_says_so_once() {
    let mut rig = serving(giving_way());
    rig.command(Command::Presence(None));
    assert_eq!(warnings(&rig), 1);
    rig.pass(secs(60));
    rig.frame(&image("j-1"));
    assert!(rig.said().contains(&String::from("accept")));
    assert_eq!(warnings(&rig), 1);

    // The same when the configuration comes to want it.
    let mut rig = serving(settings(registered()));
    rig.command(Command::Presence(None));
    assert_eq!(warnings(&rig), 0);
    rig.command(Command::Reconfigure(giving_way().into()));
    rig.command(Command::Reconfigure(giving_way().into()));
    assert_eq!(warnings(&rig), 1);
}

#[test]
fn observers_hear_why_no_jobs_are_taken_also_when_only_that_changes() {
    let mut rig = running("j-1");
    let mut disabled = giving_way();
    disabled.capabilities.auto_enabled = false;
    for (command, why) in [
        (Command::Reconfigure(giving_way().into()), Some(Hindrance::PresenceUnknown)),
        (Command::Presence(Some(Idle)), None),
        (Command::Presence(Some(Active)), Some(Hindrance::PersonPresent)),
        (Command::Reconfigure(disabled.into()), Some(Hindrance::Disabled)),
        (Command::Pause, Some(Hindrance::Paused)),
        (Command::Drain, Some(Hindrance::Draining)),
    ] {
        rig.command(command);
        assert_eq!((shown(&rig).hindrance, shown(&rig).accepting), (why, why.is_none()));
    }
}
