//! What section 5 says of memory, once more and in other words: for the oracle.

use core::time::Duration;

use crate::{
    machine::Memory,
    time::Mono,
    wire::{Claim, JobId},
    worker::MeasureId,
};

/// How long an offer may wait for the memory to be measured.
const BOUND: Duration = Duration::from_secs(5);
const GIB: f64 = 1_073_741_824.0;

/// A measurement for an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) measure: MeasureId,
    pub(super) job_id: JobId,
    pub(super) at: Mono,
    /// What was measured, and whether the model is loaded already.
    pub(super) answer: Option<(Memory, bool)>,
}

impl Asked {
    /// When the offer is admitted unmeasured.
    pub(super) fn deadline(&self) -> Mono {
        self.at + BOUND
    }

    /// Whether somebody who waits until then answers the offer in time, or as soon as there is any.
    pub(super) fn is_bounded(&self, now: Mono, until: Mono) -> bool {
        until <= self.deadline().max(now + Duration::from_micros(1))
    }
}

/// Whether a job fits, as far as that is known.
#[allow(clippy::cast_precision_loss, reason = "a byte of a GiB")]
pub(super) fn fits(claim: &Claim, memory: Memory) -> bool {
    let has = |free: Option<u64>, need: f64| free.is_none_or(|free| free as f64 + 2.0 >= need);
    let estimate = claim.vram_gb_estimate.get();
    let gpu = estimate <= 0.0 || has(memory.gpu_free, (estimate + 1.0) * GIB);
    let host = claim.model_source.as_ref().is_none_or(|source| {
        let defaults = &source.cli_defaults;
        let weights: f64 = source.files.iter().filter_map(|file| file.approx_bytes).map(|n| n as f64).sum();
        !defaults.offload_to_cpu.unwrap_or(false)
            || defaults.mmap.unwrap_or(false)
            || has(memory.host_available, weights + 4.0 * GIB)
    });
    gpu && host
}
