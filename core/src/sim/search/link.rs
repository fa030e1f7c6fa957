//! What is under way between the two machines. Things of one lane keep their order; between lanes anything goes.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
};

use crate::{
    wire::{CloseCode, JobId, Secret},
    worker::{HttpAnswer, Input, Upload},
};

/// Everything that is under way, by the number that the worker's machine gave it.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) exchanges: BTreeMap<u64, Exchange>,
    pub(super) runs: BTreeMap<u64, Run>,
    /// Measurements of the memory.
    pub(super) measures: BTreeSet<u64>,
    /// What the worker was last told the outcome of: it may come a second time.
    pub(super) echo: Option<Input>,
}

/// A connection, and what is on its way on it.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// Whether the worker's side is open, or about to be.
    pub(super) worker: bool,
    /// Whether the worker knows that the upgrade succeeded.
    pub(super) upgraded: bool,
    pub(super) studio: Side,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Down>,
}

/// The studio's side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The upgrade has not come.
    Ahead,
    Open,
    Gone,
}

#[derive(Debug, Clone)]
pub(super) enum Up {
    Upgrade {
        worker_id: String,
        bearer: Secret,
    },
    Frame(String),
    /// A close frame.
    Close,
    /// The connection ends without one.
    Reset,
}

#[derive(Debug, Clone)]
pub(super) enum Down {
    Upgraded,
    Refused(HttpAnswer),
    Frame(String),
    Close(CloseCode),
    Reset,
}

/// An upload.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) worker_id: String,
    pub(super) job_id: JobId,
    pub(super) bearer: Secret,
    /// Whether anybody waits for the answer.
    pub(super) awaited: bool,
    pub(super) stage: Stage,
}

/// How far an upload has come; what is named is on its way.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Head,
    Body,
    Answer(HttpAnswer),
    /// The news that there will be no answer.
    Broken,
}

/// A run of the engine.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) job_id: JobId,
    pub(super) json: bool,
    pub(super) cancelled: bool,
}

impl Wire {
    pub(super) fn new(worker_id: String, bearer: Secret) -> Self {
        let up = VecDeque::from([Up::Upgrade { worker_id, bearer }]);
        Self { worker: true, upgraded: false, studio: Side::Ahead, up, down: VecDeque::new() }
    }

    /// What the worker sends; a studio that is gone never sees it.
    pub(super) fn push_up(&mut self, trip: Up) {
        if self.studio != Side::Gone {
            self.up.push_back(trip);
        }
    }

    /// What the studio sends; a worker that is gone never sees it.
    pub(super) fn push_down(&mut self, trip: Down) {
        if self.worker {
            self.down.push_back(trip);
        }
    }

    /// The worker is not there any more; what it sent still arrives.
    pub(super) fn lose_worker(&mut self) {
        self.worker = false;
        self.down.clear();
    }

    /// The studio is not there any more; what it sent still arrives.
    pub(super) fn lose_studio(&mut self) {
        self.studio = Side::Gone;
        self.up.clear();
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }
}

impl Exchange {
    /// `None` when the address is not one for uploads.
    pub(super) fn new(upload: &Upload) -> Option<Self> {
        let (before, job) = upload.url.strip_suffix("/complete")?.rsplit_once("/jobs/")?;
        let (_, worker_id) = before.rsplit_once("/workers/")?;
        let job_id = percent_encoding::percent_decode_str(job).decode_utf8().ok()?.into_owned().into();
        let (worker_id, bearer) = (worker_id.into(), upload.bearer.clone());
        Some(Self { worker_id, job_id, bearer, awaited: true, stage: Stage::Head })
    }
}

impl Link {
    /// Forgets what is over.
    pub(super) fn tidy(&mut self) {
        self.wires.retain(|_, wire| wire.worker || wire.studio != Side::Gone);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.exchanges.is_empty() && self.measures.is_empty() && self.wires.values().all(Wire::is_quiet)
    }

    /// Every number that is known.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let echo = self.echo.clone().and_then(|mut input| super::ids::of_input(&mut input).map(|id| *id));
        self.wires
            .keys()
            .chain(self.exchanges.keys())
            .chain(self.runs.keys())
            .chain(&self.measures)
            .copied()
            .chain(echo)
    }

    /// The same with other numbers, to compare states by.
    pub(super) fn renamed(&self, rank: impl Fn(u64) -> u64) -> Self {
        fn keys<T: Clone>(map: &BTreeMap<u64, T>, rank: impl Fn(u64) -> u64) -> BTreeMap<u64, T> {
            map.iter().map(|(id, value)| (rank(*id), value.clone())).collect()
        }
        let mut echo = self.echo.clone();
        if let Some(id) = echo.as_mut().and_then(super::ids::of_input) {
            *id = rank(*id);
        }
        Self {
            wires: keys(&self.wires, &rank),
            exchanges: keys(&self.exchanges, &rank),
            runs: keys(&self.runs, &rank),
            measures: self.measures.iter().map(|id| rank(*id)).collect(),
            echo,
        }
    }
}
