//! Keeping count of what a driven worker does, for those who want numbers of it.

use crate::{
    time::{Mono, Now},
    worker::{Action, Input, Worker},
};

/// Hears what a driven worker is told and what it decides, in the order in which that happens. It is called in the loop that
/// drives the worker: it must neither block nor panic. A worker without one pays nothing for it.
pub trait Meter: Send + Sync + 'static {
    /// The worker is about to be told this.
    fn told(&self, now: Now, input: &Input) {
        let _ = (now, input);
    }

    /// The worker decided this, and it is about to be carried out.
    fn decided(&self, now: Now, action: &Action) {
        let _ = (now, action);
    }

    /// The worker has nothing left to do before `until`, unless something happens. A loop that works says this at least as
    /// often as that.
    fn rests(&self, now: Now, until: Mono, worker: &Worker) {
        let _ = (now, until, worker);
    }

    /// A frame of that many bytes was handed to the session.
    fn sent_frame(&self, bytes: usize) {
        let _ = bytes;
    }

    /// That many log lines of the program came faster than the loop could take them, and are lost.
    fn dropped_lines(&self, lines: u64) {
        let _ = lines;
    }

    /// That many more bytes of a result's upload have left.
    fn uploaded(&self, bytes: u64) {
        let _ = bytes;
    }
}
