//! A worker that makes way for another version of the program: nothing is lost for it.

use alloc::vec;

use super::{jobs::*, rig::*};
use crate::worker::{Command, Exit};

/// Acknowledges what the worker said, and closes the session as it asked for; how it ended.
fn leaves(rig: &mut Rig) -> Option<Exit> {
    rig.acknowledge();
    assert_eq!(rig.closed_with(), [1000]);
    rig.closed(1000);
    rig.exit()
}

#[test]
fn an_idle_worker_makes_way_at_once() {
    let mut rig = Rig::serving();
    rig.command(Command::MakeWay);
    assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
    assert_eq!(Exit::MadeWay.code(), 0);
}

#[test]
fn a_running_job_has_all_its_time_and_others_find_the_worker_busy() {
    let mut rig = running("j-1");
    rig.command(Command::MakeWay);
    assert_eq!(rig.last_heartbeat(), (false, Some("j-1")));
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    rig.pass(secs(1_500));
    assert!(rig.closed_with().is_empty(), "there is no drain time");
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
}

#[test]
fn a_held_result_is_waited_for_and_its_job_is_taken_back() {
    let mut rig = held(&image("j-1"), bytes());
    rig.command(Command::MakeWay);
    assert_eq!(rig.last_heartbeat(), (true, None), "the studio may offer it again");
    rig.pass(secs(300));
    assert_eq!(rig.answer_to(&image("j-2")), "reject busy");
    assert_eq!(rig.last_heartbeat(), (true, None), "also long after a drain would have given up");
    rig.frame(&image("j-1"));
    assert_eq!((rig.said(), rig.uploads()), (vec!["accept".into()], 1));
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    assert_eq!(rig.runs_of("j-1"), 1);
    assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
}

#[test]
fn a_held_result_that_nobody_asks_for_is_waited_for_until_it_expires() {
    let mut rig = held(&image("j-1"), bytes());
    rig.command(Command::MakeWay);
    rig.pass(secs(14 * 60));
    assert!(rig.closed_with().is_empty());
    rig.pass(secs(2 * 60));
    assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
}

#[test]
fn an_orphan_is_waited_for() {
    let mut rig = running("j-1");
    rig.command(Command::MakeWay);
    rig.reopen();
    assert!(rig.closed_with().is_empty());
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    rig.run_ends(bytes());
    rig.answered(status(200));
    assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
}

#[test]
fn a_signal_counts_more() {
    let mut rig = running("j-1");
    rig.command(Command::MakeWay);
    rig.command(Command::Drain);
    assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
    rig.pass(secs(600));
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Stopped), "the drain time holds");
    let mut rig = running("j-1");
    rig.command(Command::Drain);
    rig.command(Command::MakeWay);
    assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
}

#[test]
fn a_signal_counts_more_also_while_the_session_closes() {
    for (command, exit) in [(Command::Drain, Exit::Drained), (Command::Stop, Exit::Stopped)] {
        let mut rig = Rig::serving();
        rig.command(Command::MakeWay);
        assert_eq!(rig.closed_with(), [1000]);
        rig.command(command);
        rig.closed(1000);
        assert_eq!(rig.exit(), Some(exit));
    }
    let mut rig = Rig::serving();
    rig.command(Command::MakeWay);
    rig.command(Command::Drain);
    rig.command(Command::Drain);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::Drained));
}

/// Another version would not know of the pause.
#[test]
fn a_paused_worker_makes_no_way_before_it_is_resumed_and_asked_again() {
    for commands in [[Command::Pause, Command::MakeWay], [Command::MakeWay, Command::Pause]] {
        let mut rig = running("j-1");
        for command in commands {
            rig.command(command);
        }
        assert_eq!(rig.answer_to(&image("j-2")), "reject paused");
        rig.run_ends(bytes());
        rig.answered(status(200));
        assert!(rig.completed("j-1"));
        rig.pass(secs(3_600));
        assert_eq!((rig.closed_with(), rig.exit()), (vec![], None));
        assert_eq!(rig.answer_to(&image("j-3")), "reject paused");
        rig.command(Command::Resume);
        assert_eq!((rig.closed_with(), rig.exit()), (vec![], None));
        assert_eq!(rig.answer_to(&image("j-4")), "accept");
        rig.run_ends(bytes());
        rig.answered(status(200));
        rig.command(Command::MakeWay);
        assert_eq!(leaves(&mut rig), Some(Exit::MadeWay));
    }
}

#[test]
fn a_pause_takes_back_also_what_closes_its_session_already() {
    let mut rig = Rig::serving();
    rig.command(Command::MakeWay);
    assert_eq!(rig.closed_with(), [1000]);
    rig.command(Command::Pause);
    rig.closed(1000);
    assert_eq!(rig.exit(), None);
    rig.open();
    assert_eq!(rig.answer_to(&image("j-1")), "reject paused");
    rig.command(Command::Resume);
    assert_eq!((rig.closed_with(), rig.exit()), (vec![1000], None));
    rig.command(Command::MakeWay);
    assert_eq!(rig.closed_with(), [1000, 1000]);
    rig.closed(1000);
    assert_eq!(rig.exit(), Some(Exit::MadeWay));
}

#[test]
fn an_offer_that_is_parked_is_given_back() {
    let mut rig = uploading("j-1");
    rig.frame(&image("j-2"));
    rig.frames();
    rig.command(Command::MakeWay);
    let frames = rig.frames();
    assert!(frames.iter().any(|frame| frame["type"] == "reject" && frame["code"] == "busy"), "{frames:?}");
}
