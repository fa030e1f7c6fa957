//! What can go wrong.

use alloc::{collections::BTreeSet, string::String};

use super::{
    Link,
    trip::{Lane, Trip},
};
use crate::{
    engine::EngineError,
    http::{HttpAnswer, HttpFailure},
    machine::Memory,
    sim::{oracle::Oracle, secrecy::Secrecy},
    studio::{self, Studio},
    worker::{ConnId, ConnectFailure, Input, RequestId, SessionEnd},
};

/// The ways that something can go, or be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To the studio.
    Up,
    /// To the worker.
    Down,
    Both,
}

/// How an engine is when a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// It fails, and may not the next time.
    Transient,
    /// It fails, and always will.
    Permanent,
}

impl Mood {
    /// The error that it makes.
    pub(super) fn error(self) -> Option<EngineError> {
        match self {
            Self::Well => None,
            Self::Transient => Some(EngineError::transient("out of memory")),
            Self::Permanent => Some(EngineError::permanent("not a picture")),
        }
    }
}

/// What the memory's meter says, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meter {
    /// There is room for every job.
    Room,
    /// Others have the GPU's memory.
    GpuTaken,
    /// Others have the host's.
    HostTaken,
    /// Others have all of it, and the job's own model is a part of that.
    Resident,
    /// It finds no memory that it knows.
    Blind,
    /// It never answers.
    Silent,
}

impl Meter {
    /// What is measured, and whether the model is loaded already.
    pub(super) fn reads(self) -> Option<(Memory, bool)> {
        let gib = |n: u64| Some(n << 30);
        let memory = |gpu, host| Memory { gpu_total: gib(24), gpu_free: gib(gpu), host_available: gib(host) };
        match self {
            Self::Room => Some((memory(23, 64), false)),
            Self::GpuTaken => Some((memory(4, 64), false)),
            Self::HostTaken => Some((memory(23, 11), false)),
            Self::Resident => Some((memory(1, 1), true)),
            Self::Blind => Some((Memory::default(), false)),
            Self::Silent => None,
        }
    }
}

impl Link {
    /// The oldest session drops, for the worker alone ([`Way::Down`]) or for both; whether there was one.
    pub(crate) fn drops(&mut self, way: Way) -> bool {
        let Some(conn) = self.open.iter().next().copied() else { return false };
        self.sever(conn);
        if way == Way::Both {
            self.tell_studio(studio::Input::Closed { conn: self.theirs(conn) });
        }
        true
    }

    /// From now on nothing arrives on the oldest session, that way, and nobody is told.
    pub(crate) fn silence(&mut self, way: Way) {
        if let Some(conn) = self.open.iter().next() {
            self.silent.insert((*conn, way));
        }
    }

    /// Whether a trip is lost on a silent session.
    pub(super) fn is_lost(&self, trip: &Trip) -> bool {
        let (conn, way) = match trip.lane() {
            Lane::Up(conn) => (conn, Way::Up),
            Lane::Down(conn) => (conn, Way::Down),
            _ => return false,
        };
        self.silent.contains(&(conn, way)) || self.silent.contains(&(conn, Way::Both))
    }

    /// The worker's side of a session, or of an attempt at one, breaks.
    fn sever(&mut self, conn: ConnId) {
        self.forget(conn);
        if self.oracle.conn() == Some(conn) && self.oracle.is_connecting() {
            let failure = ConnectFailure::Trouble("reset".into());
            self.tell_worker(Input::ConnectFailed { conn, failure });
        } else {
            self.tell_worker(Input::Closed { conn, end: SessionEnd::Dropped("reset".into()) });
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.trips.retain(|trip| !trip.is_of(conn));
    }

    /// The oldest exchange that has a trip under way.
    fn exchange(&self) -> Option<RequestId> {
        self.trips.iter().find_map(|trip| match trip.lane() {
            Lane::Http(request) => Some(request),
            _ => None,
        })
    }

    /// The oldest exchange breaks, on its way there or back.
    pub(crate) fn break_exchange(&mut self) {
        if let Some(request) = self.exchange() {
            self.give_up(request);
            self.tell_worker(Input::Answered { request, outcome: Err(HttpFailure("broken pipe".into())) });
        }
    }

    /// Something between the two answers the oldest exchange or attempt to connect, and the studio never hears of it, or the
    /// worker not of the studio's answer.
    pub(crate) fn gateway_answers(&mut self, status: u16, retry_after: Option<String>) {
        let answer = HttpAnswer { status, retry_after, body: b"<html>".to_vec(), ..HttpAnswer::default() };
        let connect = self.trips.iter().find_map(|trip| match trip {
            Trip::Connect { conn, .. } => Some(*conn),
            _ => None,
        });
        if let Some(conn) = connect {
            self.forget(conn);
            self.tell_worker(Input::ConnectFailed { conn, failure: ConnectFailure::Refused(answer) });
        } else if let Some(request) = self.exchange()
            && self.may_be_answered(request, &answer)
        {
            self.give_up(request);
            self.tell_worker(Input::Answered { request, outcome: Ok(answer) });
        }
    }

    /// Whether a gateway says such a thing: not that an upload went well, and nothing but trouble of its own once the
    /// studio has answered. Those would be lies that nobody can see through.
    fn may_be_answered(&self, request: RequestId, answer: &HttpAnswer) -> bool {
        let under_way = || self.trips.iter().filter(|trip| trip.lane() == Lane::Http(request));
        let uploads = |trip: &Trip| matches!(trip, Trip::UploadHead { .. } | Trip::UploadBody { .. });
        let answered = under_way().any(|trip| matches!(trip, Trip::Answer { .. }));
        answer.status >= 500 || !(answered || answer.is_success() && under_way().any(uploads))
    }

    pub(super) fn give_up(&mut self, request: RequestId) {
        let body = self.trips.iter().find_map(|trip| match trip {
            Trip::UploadBody { request: of, call, .. } if *of == request => Some(*call),
            _ => None,
        });
        if self.trips.iter().any(|trip| matches!(trip, Trip::Answer { request: of, .. } if *of == request)) {
            self.unheard.extend(self.uploads.get(&request).cloned());
        }
        self.trips.retain(|trip| trip.lane() != Lane::Http(request));
        if let Some(call) = body {
            self.tell_studio(studio::Input::UploadBreaks { call });
        }
    }

    /// The worker's program is killed and starts again with what is on its disk. The studio hears of it, or the whole
    /// machine went down and it doesn't.
    pub(crate) fn restart_worker(&mut self, studio_hears: bool) {
        for trip in core::mem::take(&mut self.trips) {
            if let Trip::UploadBody { call, .. } = trip {
                self.tell_studio(studio::Input::UploadBreaks { call });
            }
        }
        for conn in core::mem::take(&mut self.open) {
            if studio_hears {
                self.tell_studio(studio::Input::Closed { conn: self.theirs(conn) });
            }
        }
        // What the studio said to that was on its way to nobody.
        self.trips.clear();
        self.waiting.clear();
        self.upgrades.clear();
        self.uploads.clear();
        self.silent.clear();
        self.sent.clear();
        self.stores.clear();
        self.exit = None;
        self.life += 1;
        // Fewer lives than a byte has values are lived in one input.
        let seed = u8::try_from(self.life & 0xff).unwrap_or(0);
        self.worker = super::start(&self.disk, seed, self.now, self.measured);
        self.oracle = Oracle::new();
        self.secrecy = Secrecy::default();
        self.drain_worker();
    }

    /// The studio's program is killed and starts again with what it stored.
    pub(crate) fn restart_studio(&mut self) {
        self.check();
        let snapshot = self.stored.values().cloned().collect();
        self.calls += 1;
        // Never a seed that it had before.
        let seed = core::array::from_fn(|at| self.calls.to_le_bytes()[at % 8] ^ 0x55);
        self.studio = Studio::restore(self.options.clone(), seed, self.now, snapshot);
        let under_way = self.trips.iter().filter_map(|trip| match trip.lane() {
            Lane::Http(request) => Some(request),
            _ => None,
        });
        let requests: BTreeSet<_> = under_way.collect();
        for request in requests {
            self.give_up(request);
            self.tell_worker(Input::Answered {
                request,
                outcome: Err(HttpFailure("connection reset".into())),
            });
        }
        for conn in self.open.clone() {
            self.sever(conn);
        }
        self.tell_studio(studio::Input::Tick);
    }
}
