//! Making a move: both machines are told what happened, and what they say is put on the link.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::time::Duration;

use serde_json::json;

use super::{
    Ending, Move, Room, Seen, System,
    link::{Down, Exchange, Link, Run, Side, Stage, Up, Wire},
};
use crate::{
    engine::{EngineError, Output},
    machine::Memory,
    studio::{self, CallId},
    time::Mono,
    wire::CloseCode,
    worker::{
        Command, ConnId, ConnectFailure, HttpAnswer, HttpFailure, Input, MeasureId, RequestId, RunId,
        SessionEnd, states::SessionState,
    },
};

/// The shortest time that there is.
const TICK: Duration = Duration::from_micros(1);
fn wires(link: &Link) -> Vec<u64> {
    link.wires.keys().copied().collect()
}

fn exchanges(link: &Link) -> Vec<u64> {
    link.exchanges.keys().copied().collect()
}

fn runs(link: &Link) -> Vec<u64> {
    link.runs.keys().copied().collect()
}

fn measures(link: &Link) -> Vec<u64> {
    link.measures.iter().copied().collect()
}

impl System {
    /// Makes a move, whatever it costs.
    pub(super) fn make(&mut self, next: Move) {
        match next {
            Move::Up(nth) => self.at(wires, nth, Self::up),
            Move::Down(nth) => self.at(wires, nth, Self::down),
            Move::Exchange(nth) => self.at(exchanges, nth, Self::exchange),
            Move::RunEnds(nth, ending) => self.at(runs, nth, |system, run| system.end_run(run, ending)),
            Move::Measured(nth, room) => self.at(measures, nth, |system, id| system.measured(id, room)),
            Move::Pass => self.pass(),
            Move::Drop(nth, seen) => self.at(wires, nth, |system, conn| system.drop_wire(conn, seen)),
            Move::Break(nth, seen) => {
                self.at(exchanges, nth, |system, request| system.break_exchange(request, seen));
            }
            Move::Refuse(nth) => self.at(exchanges, nth, |system, request| {
                if let Some(exchange) = system.link.exchanges.get_mut(&request) {
                    exchange.stage = Stage::Answer(HttpAnswer { status: 503, ..HttpAnswer::default() });
                }
            }),
            Move::Echo => {
                if let Some(input) = self.link.echo.take() {
                    self.tell_worker(input);
                }
            }
            Move::RestartWorker(seen) => self.restart_worker(seen),
            Move::RestartStudio => self.restart_studio(),
            Move::Pause | Move::Resume => {
                self.paused = next == Move::Pause;
                self.command(if self.paused { Command::Pause } else { Command::Resume });
            }
            Move::Drain => {
                self.draining = true;
                self.command(Command::Drain);
            }
            Move::Stop => self.command(Command::Stop),
            Move::Cancel(nth) => {
                let job = self.studio.jobs().nth(usize::from(nth)).map(|job| job.id.clone());
                if let Some(job_id) = job {
                    self.tell_studio(studio::Input::CancelJob { call: CallId(0), job_id });
                }
            }
        }
    }

    /// Does something with what is `nth` on the link.
    fn at(&mut self, of: fn(&Link) -> Vec<u64>, nth: u8, act: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = of(&self.link).get(usize::from(nth)) {
            act(self, *id);
        }
    }

    fn up(&mut self, conn: u64) {
        let Some(trip) = self.link.wires.get_mut(&conn).and_then(|wire| wire.up.pop_front()) else { return };
        let of = studio::ConnId(conn);
        match trip {
            Up::Upgrade { worker_id, bearer } => {
                let (call, bearer) = (CallId(conn), Some(bearer));
                self.tell_studio(studio::Input::Upgrade { call, conn: of, worker_id, bearer });
            }
            Up::Frame(text) => {
                self.tell_studio(studio::Input::Text { conn: of, text });
            }
            Up::Close => {
                self.on_wire(conn, |wire| {
                    wire.lose_studio();
                    wire.push_down(Down::Close(CloseCode::NORMAL));
                });
                self.tell_studio(studio::Input::Closed { conn: of });
            }
            Up::Reset => {
                self.on_wire(conn, Wire::lose_studio);
                self.tell_studio(studio::Input::Closed { conn: of });
            }
        }
    }

    fn down(&mut self, conn: u64) {
        let Some(trip) = self.link.wires.get_mut(&conn).and_then(|wire| wire.down.pop_front()) else {
            return;
        };
        let of = ConnId(conn);
        match trip {
            Down::Upgraded => {
                self.on_wire(conn, |wire| wire.upgraded = true);
                self.tell_worker(Input::Connected { conn: of });
            }
            Down::Refused(answer) => {
                self.on_wire(conn, |wire| wire.worker = false);
                self.tell_worker(Input::ConnectFailed { conn: of, failure: ConnectFailure::Refused(answer) });
            }
            Down::Frame(text) => self.tell_worker(Input::Text { conn: of, text }),
            Down::Close(code) => {
                self.on_wire(conn, Wire::lose_worker);
                let end = SessionEnd::Closed { code, reason: String::new() };
                self.tell_worker(Input::Closed { conn: of, end });
            }
            Down::Reset => self.lose_for_worker(conn),
        }
    }

    fn exchange(&mut self, request: u64) {
        let Some(exchange) = self.link.exchanges.get(&request).cloned() else { return };
        let call = CallId(request);
        let outcome = match exchange.stage {
            Stage::Head => {
                let Exchange { worker_id, job_id, bearer, .. } = exchange;
                let bearer = Some(bearer);
                return self.tell_studio(studio::Input::UploadBegins { call, worker_id, job_id, bearer });
            }
            Stage::Body => {
                let (file, ext, prompt) = (String::new(), "webp".into(), String::new());
                let upload = studio::Upload { file, bytes: 3, ext, prompt };
                return self.tell_studio(studio::Input::UploadEnds { call, upload });
            }
            Stage::Answer(answer) => Ok(answer),
            Stage::Broken => Err(HttpFailure("broken pipe".into())),
        };
        self.link.exchanges.remove(&request);
        self.tell_worker(Input::Answered { request: RequestId(request), outcome });
    }

    fn end_run(&mut self, run: u64, ending: Ending) {
        let Some(Run { json, .. }) = self.link.runs.get(&run) else { return };
        let outcome = match ending {
            Ending::Made if *json => Ok(Output::Json(Arc::new(json!({ "text": "made" })))),
            Ending::Made => Ok(Output::Bytes { ext: "webp".into(), payload: vec![1, 2, 3].into() }),
            Ending::Transient => Err(EngineError::transient("out of memory")),
            Ending::Permanent => Err(EngineError::permanent("not a picture")),
        };
        self.tell_worker(Input::RunEnded { run: RunId(run), outcome });
        self.link.runs.remove(&run);
    }

    fn measured(&mut self, measure: u64, room: Room) {
        let free = if room == Room::Enough { u64::MAX } else { 0 };
        let memory = Memory { gpu_total: None, gpu_free: Some(free), host_available: None };
        self.link.measures.remove(&measure);
        self.tell_worker(Input::Measured { measure: MeasureId(measure), memory, resident: false });
    }

    fn drop_wire(&mut self, conn: u64, seen: Seen) {
        match seen {
            Seen::Both => {
                let studio = self.link.wires.get(&conn).map(|wire| wire.studio);
                self.on_wire(conn, Wire::lose_studio);
                if studio == Some(Side::Open) {
                    self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn) });
                }
                self.lose_for_worker(conn);
            }
            Seen::Worker => self.lose_for_worker(conn),
            Seen::Studio => {
                let studio = self.link.wires.get(&conn).map(|wire| wire.studio);
                self.on_wire(conn, Wire::lose_studio);
                if studio == Some(Side::Open) {
                    self.tell_studio(studio::Input::Closed { conn: studio::ConnId(conn) });
                }
            }
        }
    }

    /// The worker sees that a connection is gone, or that there will be none.
    fn lose_for_worker(&mut self, conn: u64) {
        let Some(wire) = self.link.wires.get_mut(&conn).filter(|wire| wire.worker) else { return };
        wire.lose_worker();
        let (of, upgraded) = (ConnId(conn), wire.upgraded);
        self.tell_worker(if upgraded {
            Input::Closed { conn: of, end: SessionEnd::Dropped("reset".into()) }
        } else {
            Input::ConnectFailed { conn: of, failure: ConnectFailure::Trouble("reset".into()) }
        });
    }

    fn break_exchange(&mut self, request: u64, seen: Seen) {
        let Some(exchange) = self.link.exchanges.get_mut(&request) else { return };
        if seen == Seen::Worker {
            // It goes on all the same, and its answer is nobody's.
            exchange.awaited = false;
        } else {
            self.forget_exchange(request);
        }
        if seen != Seen::Studio {
            let outcome = Err(HttpFailure("broken pipe".into()));
            self.tell_worker(Input::Answered { request: RequestId(request), outcome });
        }
    }

    /// When either side wants to be woken, or the worker besides for heartbeats where they are answered.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let at = match self.healthy() {
            Some(conn) => {
                let of = Some(studio::ConnId(conn));
                let both = [self.worker.next_besides_heartbeats(), self.studio.next_besides_heartbeats(of)];
                both.into_iter().flatten().min()?
            }
            None => self.next_tick(),
        };
        Some(at.max(self.now.mono + TICK)).filter(|at| *at < Mono::NEVER)
    }

    /// When either side wants to be woken.
    fn next_tick(&self) -> Mono {
        let studio = self.studio.next_besides_heartbeats(None).unwrap_or(Mono::NEVER);
        self.until.min(studio).max(self.now.mono + TICK)
    }

    /// The connection on which heartbeats are all that is sent.
    fn healthy(&self) -> Option<u64> {
        let serves = |wire: &Wire| wire.worker && wire.studio == Side::Open && wire.is_quiet();
        let serving = self.worker.state() == SessionState::Serving;
        let conn = self.oracle.conn().filter(|_| serving)?.0;
        self.link.wires.get(&conn).is_some_and(serves).then_some(conn)
    }

    fn pass(&mut self) {
        let Some(until) = self.deadline() else { return };
        while self.now.mono < until && self.broken.is_none() {
            let healthy = self.healthy();
            self.now.mono = self.next_tick().min(until);
            self.tell_worker(Input::Tick);
            self.tell_studio(studio::Input::Tick);
            let Some(conn) = healthy.filter(|_| self.now.mono < until) else { return };
            // Nothing but a heartbeat can have been due.
            self.up(conn);
            self.down(conn);
        }
    }
}
