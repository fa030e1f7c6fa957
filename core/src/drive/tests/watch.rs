//! Whether the loop is alive, as a watchdog asks.

use super::*;

#[test]
fn a_loop_that_is_rung_turns_and_one_that_hangs_does_not() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    assert!(!driven.is_woken());
    for _ in 0..3 {
        let turns = handle.turns();
        handle.ring();
        // As while whoever polls the loop is busy with something else.
        assert!(driven.is_woken() && handle.turns() == turns);
        assert!(driven.settle().is_pending());
        assert_ne!(handle.turns(), turns);
    }
}

#[test]
fn ringing_changes_nothing_of_what_the_worker_does() {
    let world = World::new(Timers::Exact);
    let (handle, mut driven) = serving(&world);
    let (said, sleeps) = (world.texts().len(), world.state().sleeps);
    for _ in 0..10 {
        handle.ring();
        assert!(driven.settle().is_pending());
    }
    assert_eq!((world.texts().len(), world.state().sleeps), (said, sleeps));
    drop(driven);
    let turns = handle.turns();
    handle.ring();
    assert!(handle.has_ended() && handle.turns() <= turns, "one that is over does not turn");
}
