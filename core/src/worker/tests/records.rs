//! What a rig has on record, and the disk that it stores to.

use alloc::vec::Vec;

use serde_json::Value;

use super::rig::Rig;
use crate::{
    wire::{LogEntry, WorkerFrame},
    worker::{
        Action, Change, HttpAnswer, HttpRequest, Input, LogLine, Method, Observation, SessionStatus, StoreId,
    },
};

impl Rig {
    /// What was to be stored since the start.
    pub(super) fn stores(&self) -> Vec<Vec<Change>> {
        let of = |action: &Action| match action {
            Action::Store { changes, .. } => Some(changes.clone()),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    pub(super) fn store_id(&self) -> StoreId {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::Store { store, .. } => Some(*store),
            _ => None,
        });
        newest.expect("nothing to store")
    }

    /// The newest that was to be stored is on the disk.
    pub(super) fn stored(&mut self) {
        let store = self.store_id();
        self.input(Input::Stored { store, outcome: Ok(()) });
    }

    /// Everything that was to be stored is on the disk, also what follows from that.
    pub(super) fn stored_all(&mut self) {
        let ids = |rig: &Self| -> Vec<StoreId> {
            let of = |action: &Action| match action {
                Action::Store { store, .. } => Some(*store),
                _ => None,
            };
            rig.history.iter().filter_map(of).collect()
        };
        let mut done = 0;
        while let Some(store) = ids(self).get(done).copied() {
            self.input(Input::Stored { store, outcome: Ok(()) });
            done += 1;
        }
    }

    pub(super) fn store_fails(&mut self, error: &str) {
        let store = self.store_id();
        self.input(Input::Stored { store, outcome: Err(error.into()) });
    }

    /// Lets time pass, with a disk that works, until the worker asks to be registered once more.
    pub(super) fn until_asked(&mut self) {
        let asks = |rig: &Self| rig.requests().iter().filter(|http| http.method == Method::Post).count();
        let before = asks(self);
        for _ in 0..100 {
            self.stored_all();
            if asks(self) > before {
                return;
            }
            self.next_timer();
        }
        panic!("it never asks: {:?}", self.worker.state());
    }

    /// The requests since the start, uploads left out.
    pub(super) fn requests(&self) -> Vec<HttpRequest> {
        let of = |action: &Action| match action {
            Action::Request { http, .. } => Some(http.clone()),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    pub(super) fn answer(&mut self, answer: HttpAnswer) {
        self.answered(Ok(answer));
    }

    /// The newest `hello`.
    pub(super) fn hello(&self) -> Value {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::Send { frame: frame @ WorkerFrame::Hello { .. }, .. } => Some(frame.to_text()),
            _ => None,
        });
        serde_json::from_str(&newest.expect("no hello")).unwrap()
    }

    /// What observers saw of the session.
    pub(super) fn statuses(&self) -> Vec<SessionStatus> {
        let of = |action: &Action| match action {
            Action::Observe(Observation::Session(status)) => Some(status.clone()),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    /// The lines of the worker's own log.
    pub(super) fn log_lines(&self) -> Vec<LogLine> {
        let of = |action: &Action| match action {
            Action::Log(line) => Some(line.clone()),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    /// The log batches that were sent.
    pub(super) fn batches(&self) -> Vec<Vec<LogEntry>> {
        let of = |action: &Action| match action {
            Action::Send { frame: WorkerFrame::LogBatch { entries }, .. } => Some(entries.clone()),
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }
}
