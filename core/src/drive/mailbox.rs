//! What reaches the loop from other threads: the owner's wishes and the program's log lines, both bounded.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Waker,
};

use futures::task::AtomicWaker;

use super::Meter;
use crate::{
    engine::Engine,
    wire::UserPresence,
    worker::{LogLine, Settings},
};

/// Log lines that wait for the loop.
const MAX_LINES: usize = 1_000;

/// Wakes the loop.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicWaker);

impl Bell {
    pub(super) fn ring(&self) {
        self.0.wake();
    }

    pub(super) fn hand_to(&self, waker: &Waker) {
        self.0.register(waker);
    }
}

/// What the owner wants.
pub(super) enum Wish {
    Pause,
    Resume,
    Threshold(f64),
    Drain,
    Stop,
    MakeWay,
    Reconfigure(Box<Settings>, Option<Arc<dyn Engine>>),
    Presence(Option<UserPresence>),
}

impl Wish {
    /// Whether a `newer` one adds nothing to this one, whose place before others counts.
    fn is_the_same_as(&self, newer: &Self) -> bool {
        matches!((self, newer), (Self::Drain, Self::Drain) | (Self::Stop, Self::Stop))
    }

    /// Whether `newer` makes this one void.
    fn is_superseded_by(&self, newer: &Self) -> bool {
        matches!(
            (self, newer),
            (Self::Pause | Self::Resume, Self::Pause | Self::Resume)
                | (Self::Threshold(_), Self::Threshold(_))
                | (Self::MakeWay, Self::MakeWay)
                | (Self::Reconfigure(..), Self::Reconfigure(..))
                | (Self::Presence(_), Self::Presence(_))
        )
    }
}

#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    pub(super) bell: Arc<Bell>,
    /// Who keeps count of what happens, if anybody does.
    pub(super) meter: OnceLock<Arc<dyn Meter>>,
}

#[derive(Default)]
struct State {
    wishes: VecDeque<Wish>,
    lines: VecDeque<LogLine>,
    dropped: u64,
    /// How often the loop has looked in.
    taken: u32,
    closed: bool,
}

/// What was in the mailbox.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) wishes: VecDeque<Wish>,
    pub(super) lines: VecDeque<LogLine>,
    /// Lines that found no room.
    pub(super) dropped: u64,
}

impl Mailbox {
    /// Puts a wish in, unless the worker has ended: then it says false. Of wishes of one kind one is kept, so that
    /// their number is bounded without one being lost.
    pub(super) fn wish(&self, mut wish: Wish) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if state.wishes.iter().any(|older| older.is_the_same_as(&wish)) {
            return true;
        }
        state.wishes.retain_mut(|older| {
            if !older.is_superseded_by(&wish) {
                return true;
            }
            // Settings without an engine leave the engine as it was wanted before.
            if let (Wish::Reconfigure(_, old), Wish::Reconfigure(_, new @ None)) = (older, &mut wish) {
                *new = old.take();
            }
            false
        });
        state.wishes.push_back(wish);
        drop(state);
        self.bell.ring();
        true
    }

    pub(super) fn line(&self, line: LogLine) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.lines.len() < MAX_LINES {
            state.lines.push_back(line);
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.bell.ring();
    }

    pub(super) fn take(&self) -> Mail {
        let mut state = self.lock();
        state.taken = state.taken.wrapping_add(1);
        Mail {
            wishes: mem::take(&mut state.wishes),
            lines: mem::take(&mut state.lines),
            dropped: mem::take(&mut state.dropped),
        }
    }

    /// How often the loop has looked in, counted anew after 2³² times.
    pub(super) fn taken(&self) -> u32 {
        self.lock().taken
    }

    /// Nobody looks any more.
    pub(super) fn close(&self) {
        *self.lock() = State { closed: true, ..State::default() };
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock is given up: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LogLevel;

    fn line(message: &str) -> LogLine {
        LogLine { level: LogLevel::Info, category: "test".into(), message: message.into(), job_id: None }
    }

    #[test]
    fn lines_are_bounded_and_counted() {
        let mailbox = Mailbox::default();
        for n in 0..MAX_LINES + 7 {
            mailbox.line(line(&n.to_string()));
        }
        let mail = mailbox.take();
        assert_eq!((mail.lines.len(), mail.dropped), (MAX_LINES, 7));
        assert_eq!(mail.lines[0].message, "0");
        let mail = mailbox.take();
        assert_eq!((mail.lines.len(), mail.dropped), (0, 0));
    }

    #[test]
    fn the_newest_wish_of_a_kind_counts_and_none_waits_twice() {
        let mailbox = Mailbox::default();
        for _ in 0..100 {
            for wish in [Wish::Pause, Wish::Threshold(1.0), Wish::Drain, Wish::Resume, Wish::Threshold(2.0)] {
                assert!(mailbox.wish(wish));
            }
        }
        let wishes = mailbox.take().wishes;
        assert_eq!(wishes.len(), 3);
        assert!(matches!(wishes[0], Wish::Drain));
        assert!(matches!(wishes[1], Wish::Resume));
        assert!(matches!(wishes[2], Wish::Threshold(gb) if gb > 1.5));
    }

    /// One that made way before it drained would leave the drain to nobody.
    #[test]
    fn another_drain_does_not_take_the_first_ones_place() {
        let mailbox = Mailbox::default();
        for wish in [Wish::Drain, Wish::MakeWay, Wish::Drain, Wish::Stop, Wish::MakeWay, Wish::Stop] {
            assert!(mailbox.wish(wish));
        }
        let mut wishes = mailbox.take().wishes;
        assert!(matches!(wishes.make_contiguous(), [Wish::Drain, Wish::Stop, Wish::MakeWay]));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let mailbox = Mailbox::default();
        mailbox.wish(Wish::Pause);
        mailbox.close();
        assert!(!mailbox.wish(Wish::Stop));
        mailbox.line(line("late"));
        let mail = mailbox.take();
        assert!(mail.wishes.is_empty() && mail.lines.is_empty());
    }
}
