//! What can happen next, and how often.

use alloc::{format, string::String, vec::Vec};

use super::{
    System,
    link::{Side, Stage, Wire},
};

/// How often something that need not happen may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Connections that break, and both sides see it.
    pub drops: u8,
    /// Connections that break, and one side doesn't see it: half-open.
    pub half_open: u8,
    /// Uploads that break.
    pub breaks: u8,
    /// Uploads that a gateway answers with 503.
    pub refusals: u8,
    /// Outcomes that are reported to the worker twice.
    pub echoes: u8,
    /// Runs of the engine that fail.
    pub failures: u8,
    /// Deadlines that pass while something is on its way.
    pub slow: u8,
    /// Times that the worker is killed and started again.
    pub worker_restarts: u8,
    /// Times that the studio is killed and started again.
    pub studio_restarts: u8,
    /// Commands of the owner.
    pub commands: u8,
    /// Jobs that the operator cancels.
    pub cancels: u8,
    /// Measurements that find the memory taken.
    pub taken: u8,
}

/// What can happen. Connections, uploads, runs and jobs are counted from the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// What the worker sent first on a connection arrives.
    Up(u8),
    /// What the studio sent first on a connection arrives.
    Down(u8),
    /// An upload gets one step further.
    Exchange(u8),
    /// The engine ends a run.
    RunEnds(u8, Ending),
    /// The memory is measured.
    Measured(u8, Room),
    /// Time passes to the next deadline.
    Pass,
    /// A connection breaks.
    Drop(u8, Seen),
    /// An upload breaks.
    Break(u8, Seen),
    /// A gateway answers an upload with 503.
    Refuse(u8),
    /// The last outcome is reported a second time.
    Echo,
    /// The worker is killed and started again; whether the studio sees its connections end.
    RestartWorker(bool),
    /// The studio is killed and started again.
    RestartStudio,
    /// The owner takes the worker out of service.
    Pause,
    /// The owner takes it into service again.
    Resume,
    /// The owner wants it to end when it is done.
    Drain,
    /// And then at once.
    Stop,
    /// The operator cancels a job.
    Cancel(u8),
}

/// What a measurement of the memory finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Room {
    /// Room for any job.
    Enough,
    /// Too little for any.
    Taken,
}

/// How a run of the engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With the result.
    Made,
    /// With an error that another attempt may not meet.
    Transient,
    /// With one that it will.
    Permanent,
}

/// Who sees that something broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Both sides; what was on its way is lost.
    Both,
    /// The worker alone; what it sent still arrives.
    Worker,
    /// The studio alone; what it sent still arrives.
    Studio,
}

impl System {
    /// Everything that can happen next; nothing once a promise is broken.
    pub fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        if self.broken.is_some() {
            return moves;
        }
        let Budget {
            drops,
            half_open,
            breaks,
            refusals,
            echoes,
            failures,
            slow,
            worker_restarts,
            studio_restarts,
            commands,
            cancels,
            taken,
        } = self.budget;
        for (nth, wire) in (0..).zip(self.link.wires.values()) {
            Self::moves_of_wire(nth, wire, drops > 0, half_open > 0, &mut moves);
        }
        for (nth, exchange) in (0..).zip(self.link.exchanges.values()) {
            moves.push(Move::Exchange(nth));
            if exchange.awaited && !matches!(exchange.stage, Stage::Broken) {
                if breaks > 0 {
                    moves.extend([Seen::Both, Seen::Worker, Seen::Studio].map(|seen| Move::Break(nth, seen)));
                }
                if refusals > 0 && matches!(exchange.stage, Stage::Head) {
                    moves.push(Move::Refuse(nth));
                }
            }
        }
        for (nth, run) in (0..).zip(self.link.runs.values()) {
            moves.push(Move::RunEnds(nth, Ending::Made));
            if run.cancelled {
                moves.push(Move::RunEnds(nth, Ending::Transient));
            } else if failures > 0 {
                moves.extend([Ending::Transient, Ending::Permanent].map(|end| Move::RunEnds(nth, end)));
            }
        }
        for nth in (0..).take(self.link.measures.len()) {
            moves.push(Move::Measured(nth, Room::Enough));
            if taken > 0 {
                moves.push(Move::Measured(nth, Room::Taken));
            }
        }
        if self.deadline().is_some() && (slow > 0 || self.link.is_quiet()) {
            moves.push(Move::Pass);
        }
        if echoes > 0 && self.link.echo.is_some() {
            moves.push(Move::Echo);
        }
        if worker_restarts > 0 {
            moves.extend([Move::RestartWorker(true), Move::RestartWorker(false)]);
        }
        if studio_restarts > 0 {
            moves.push(Move::RestartStudio);
        }
        if commands > 0 && !self.exited() {
            // A second signal ends a drain.
            let end = if self.draining { Move::Stop } else { Move::Drain };
            moves.extend([if self.paused { Move::Resume } else { Move::Pause }, end]);
        }
        if cancels > 0 {
            moves.extend((0..).zip(self.studio.jobs()).map(|(nth, _)| Move::Cancel(nth)));
        }
        moves
    }

    fn moves_of_wire(nth: u8, wire: &Wire, drops: bool, half_open: bool, moves: &mut Vec<Move>) {
        if !wire.up.is_empty() {
            moves.push(Move::Up(nth));
        }
        if !wire.down.is_empty() {
            moves.push(Move::Down(nth));
        }
        // Only one that both still have can break.
        if wire.worker && wire.studio != Side::Gone {
            if drops {
                moves.push(Move::Drop(nth, Seen::Both));
            }
            if half_open {
                moves.extend([Move::Drop(nth, Seen::Worker), Move::Drop(nth, Seen::Studio)]);
            }
        }
    }

    /// A move in words, as it would be made now.
    pub fn describe(&self, next: Move) -> String {
        let wire = |nth: u8| self.link.wires.values().nth(nth.into());
        let exchange = |nth: u8| self.link.exchanges.values().nth(nth.into());
        let run = |nth: u8| self.link.runs.values().nth(nth.into());
        let on = match next {
            Move::Up(nth) => wire(nth).and_then(|wire| wire.up.front()).map(|trip| format!("{trip:?}")),
            Move::Down(nth) => wire(nth).and_then(|wire| wire.down.front()).map(|trip| format!("{trip:?}")),
            Move::Exchange(nth) | Move::Break(nth, _) | Move::Refuse(nth) => {
                exchange(nth).map(|upload| format!("{:?} of {}", upload.stage, upload.job_id))
            }
            Move::RunEnds(nth, _) => run(nth).map(|run| format!("of {}", run.job_id)),
            Move::Pass => self.deadline().map(|at| format!("{:?}", at.since(self.now.mono))),
            _ => None,
        };
        let on: String = on.unwrap_or_default().chars().take(120).collect();
        format!("{next:?} {on}")
    }

    /// Pays for a move.
    pub(super) fn spend(&mut self, next: Move) {
        let slow = !self.link.is_quiet();
        let cancelled = |nth: u8| self.link.runs.values().nth(nth.into()).is_some_and(|run| run.cancelled);
        let Budget { drops, half_open, breaks, refusals, echoes, failures, .. } = &mut self.budget;
        let left = match next {
            Move::Drop(_, Seen::Both) => drops,
            Move::Drop(..) => half_open,
            Move::Break(..) => breaks,
            Move::Refuse(_) => refusals,
            Move::Echo => echoes,
            Move::RunEnds(nth, Ending::Transient | Ending::Permanent) if !cancelled(nth) => failures,
            Move::Pass if slow => &mut self.budget.slow,
            Move::RestartWorker(_) => &mut self.budget.worker_restarts,
            Move::RestartStudio => &mut self.budget.studio_restarts,
            Move::Pause | Move::Resume | Move::Drain | Move::Stop => &mut self.budget.commands,
            Move::Cancel(_) => &mut self.budget.cancels,
            Move::Measured(_, Room::Taken) => &mut self.budget.taken,
            Move::Up(_)
            | Move::Down(_)
            | Move::Exchange(_)
            | Move::RunEnds(..)
            | Move::Measured(..)
            | Move::Pass => return,
        };
        *left = left.saturating_sub(1);
    }

    /// The next move of the fair future: what is on its way arrives, then runs end well, then time passes. `None`
    /// when nobody waits for anything.
    pub(super) fn fair_move(&self) -> Option<Move> {
        let wires = || (0..).zip(self.link.wires.values());
        let up = || wires().find(|(_, wire)| !wire.up.is_empty()).map(|(nth, _)| Move::Up(nth));
        let down = || wires().find(|(_, wire)| !wire.down.is_empty()).map(|(nth, _)| Move::Down(nth));
        let exchange = || self.link.exchanges.keys().next().map(|_| Move::Exchange(0));
        let run = || self.link.runs.keys().next().map(|_| Move::RunEnds(0, Ending::Made));
        let measure = || self.link.measures.first().map(|_| Move::Measured(0, Room::Enough));
        let time = || self.deadline().map(|_| Move::Pass);
        if self.broken.is_some() {
            return None;
        }
        up().or_else(down).or_else(exchange).or_else(measure).or_else(run).or_else(time)
    }
}
