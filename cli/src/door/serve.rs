//! The worker's side of the door.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::{drive::WorkerHandle, time::Wall, worker::Hindrance};

use super::{
    MAX_GUESTS, Updates, lines, now,
    place::Token,
    said::{Answer, Asked, Request, State},
    unsaid,
};
use crate::{
    guests::{Guest, Visit, read_until, stays},
    logging,
};

/// The longest line that is asked.
const MAX_ASKED: usize = 4 * 1024;
/// How long somebody may take to ask, and to read an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long somebody may take to read a line of the log: who stops their terminal for a while misses lines, but stays.
const PATIENCE_WITH_READERS: Duration = Duration::from_secs(60);
/// Between two looks whether there is something to tell.
const TICK: Duration = Duration::from_millis(100);
/// A state is told at least that often, so that who has gone is noticed.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
/// Of those who are served at once, those who may watch or read the log: all others are served in a moment, and find a seat.
const MAX_FOLLOWERS: usize = MAX_GUESTS - 4;
/// How long the worker's loop may take to turn, and to do what it is asked.
const OBEDIENCE: Duration = Duration::from_secs(5);

/// What answers.
pub(super) struct Host {
    handle: WorkerHandle,
    updates: Updates,
    token: Token,
    started_at: Wall,
}

impl Host {
    pub(super) fn new(handle: WorkerHandle, updates: Updates, token: Token) -> Self {
        Self { handle, updates, token, started_at: now() }
    }

    /// Serves one guest to its end.
    pub(super) fn serve(&self, mut guest: Box<dyn Guest>, visit: &Visit) {
        // Whatever goes wrong is the guest's business: it sees that the connection ends.
        if let Err(error) = self.answer(&mut *guest, visit) {
            log::debug!("a guest at the door left early: {error}");
        }
        guest.finish();
    }

    fn answer(&self, guest: &mut dyn Guest, visit: &Visit) -> io::Result<()> {
        let closed = visit.closed();
        let line = match read_until(guest, visit, |read| read.contains(&b'\n'), MAX_ASKED, PATIENCE) {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse(guest, "a question is one line of at most 4 KiB");
            }
            Err(error) => return Err(error),
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return refuse(guest, &format!("this question is not known here: {error}")),
        };
        if self.token.is_some() && request.token != self.token {
            return refuse(guest, "the token is wrong");
        }
        if matches!(request.asked, Asked::Watch | Asked::Logs { .. }) && !visit.follows(MAX_FOLLOWERS) {
            return refuse(
                guest,
                "too many watch it or read its log already, and others have to be served, too",
            );
        }
        match request.asked {
            Asked::Status => {
                let reacts = self.turns(Instant::now() + OBEDIENCE);
                self.tell(guest, reacts)
            }
            Asked::Watch => self.watch(guest, closed),
            Asked::Pause => {
                self.handle.pause();
                self.confirm(guest, |why| matches!(why, Some(Hindrance::Paused | Hindrance::Draining)))
            }
            Asked::Resume => {
                self.handle.resume();
                self.confirm(guest, |why| why != Some(Hindrance::Paused))
            }
            Asked::Drain => {
                if self.hindrance() != Some(Hindrance::Draining) {
                    log::info!("asked to drain: no new job is taken");
                }
                self.handle.drain();
                self.confirm(guest, |why| why == Some(Hindrance::Draining))
            }
            Asked::Stop => {
                log::warn!("asked to stop: ending at once");
                self.handle.stop();
                self.confirm(guest, |_| true)
            }
            Asked::Logs { lines, follow } => read_out(guest, lines, follow, closed),
        }
    }

    fn state(&self, reacts: bool) -> State {
        State::of(&self.handle.observers(), self.started_at, reacts, self.updates.status(), now())
    }

    fn hindrance(&self) -> Option<Hindrance> {
        self.handle.observers().session().and_then(|session| session.hindrance)
    }

    fn tell(&self, guest: &mut dyn Guest, reacts: bool) -> io::Result<()> {
        say(guest, &Answer::State(self.state(reacts).into()))
    }

    /// Tells how it is once the worker has taken what it was told just now. That it was so before says nothing.
    fn confirm(&self, guest: &mut dyn Guest, is_taken: impl Fn(Option<Hindrance>) -> bool) -> io::Result<()> {
        let end = Instant::now() + OBEDIENCE;
        if self.turns(end) && self.becomes(end, || is_taken(self.hindrance())) {
            self.tell(guest, true)
        } else if self.handle.has_ended() {
            refuse(guest, "the worker ended before it took that")
        } else {
            refuse(guest, "the worker does not react; look at its log")
        }
    }

    /// Whether the loop turns from now on and before `end`, and has taken what it was told by now; or is over.
    fn turns(&self, end: Instant) -> bool {
        let turns = self.handle.turns();
        self.handle.ring();
        self.becomes(end, || self.handle.turns() != turns) || self.handle.has_ended()
    }

    fn becomes(&self, end: Instant, is_so: impl Fn() -> bool) -> bool {
        loop {
            // Asked in this order: what it took, it took before its end.
            let has_ended = self.handle.has_ended();
            if is_so() {
                return true;
            }
            if has_ended || Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn watch(&self, guest: &mut dyn Guest, closed: &AtomicBool) -> io::Result<()> {
        let (mut told, mut told_at) = (None, Instant::now());
        let mut pulse = Pulse::of(&self.handle);
        loop {
            let over = closed.load(Ordering::SeqCst) || self.handle.has_ended();
            let state = self.state(pulse.beats(&self.handle));
            // But for when it was asked for.
            let timeless = State { at: state.started_at, ..state.clone() };
            if told.as_ref() != Some(&timeless) || told_at.elapsed() >= LONGEST_SILENCE {
                say(guest, &Answer::State(state.into()))?;
                (told, told_at) = (Some(timeless), Instant::now());
            }
            if over {
                return say(guest, &Answer::Over);
            }
            if !stays(guest, TICK, PATIENCE) {
                return Ok(());
            }
        }
    }
}

/// Whether the loop goes on turning, for one who watches.
struct Pulse {
    /// When they were seen to grow, and how many they were.
    grew_at: Instant,
    turns: u32,
    rung_at: Instant,
}

impl Pulse {
    fn of(handle: &WorkerHandle) -> Self {
        let (turns, now) = (handle.turns(), Instant::now());
        handle.ring();
        Self { grew_at: now, turns, rung_at: now }
    }

    fn beats(&mut self, handle: &WorkerHandle) -> bool {
        let (turns, now) = (handle.turns(), Instant::now());
        if turns != self.turns {
            (self.turns, self.grew_at) = (turns, now);
        }
        if now.duration_since(self.rung_at) >= LONGEST_SILENCE {
            handle.ring();
            self.rung_at = now;
        }
        handle.has_ended() || now.duration_since(self.grew_at) < OBEDIENCE
    }
}

/// Reads out what was logged.
fn read_out(guest: &mut dyn Guest, lines: usize, follow: bool, closed: &AtomicBool) -> io::Result<()> {
    guest.bound(TICK, PATIENCE_WITH_READERS)?;
    let mut next = lines::last(lines);
    loop {
        let over = closed.load(Ordering::SeqCst);
        if let Some(since) = lines::since(next) {
            if since.missed > 0 {
                say(guest, &Answer::Missed { lines: since.missed })?;
            }
            for text in since.lines {
                say(guest, &Answer::Line { text })?;
            }
            next = since.next;
        }
        if over && follow {
            return say(guest, &Answer::Over);
        }
        if !follow || !stays(guest, TICK, PATIENCE_WITH_READERS) {
            return Ok(());
        }
    }
}

fn refuse(guest: &mut dyn Guest, why: &str) -> io::Result<()> {
    say(guest, &Answer::Refused { why: why.into() })
}

fn say(guest: &mut dyn Guest, answer: &Answer) -> io::Result<()> {
    let line = unsaid::line(answer, &logging::scrub).map_err(io::Error::other)?;
    // In one write.
    guest.write_all(format!("{line}\n").as_bytes())?;
    guest.flush()
}
