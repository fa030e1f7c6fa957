//! Whether a job fits into the memory that is free (section 5).

use alloc::{format, string::String};
use core::fmt;

use crate::{
    machine::Memory,
    wire::{Claim, Finite},
};

/// Bytes of a GiB. A GB of the protocol is one as well: it is what cards are sold by, and the careful reading.
const GIB: u64 = 1 << 30;
/// What stays free on the GPU beside a job, in bytes.
const GPU_SPARE: u64 = GIB;
/// What stays free of the host's memory beside a job's weights, in bytes.
const HOST_SPARE: u64 = 4 * GIB;

/// Memory that a job lacks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// On the GPU.
    Gpu { need: u64, free: u64 },
    /// Of the host.
    Host { need: u64, free: u64 },
}

impl Shortage {
    /// What a job lacks, as far as its need is stated and was measured.
    pub(super) fn of(claim: &Claim, memory: Memory) -> Option<Self> {
        let gpu = gpu_need(claim.vram_gb_estimate).zip(memory.gpu_free);
        let host = host_need(claim).zip(memory.host_available);
        let gpu = gpu.filter(|(need, free)| need > free).map(|(need, free)| Self::Gpu { need, free });
        gpu.or_else(|| host.filter(|(need, free)| need > free).map(|(need, free)| Self::Host { need, free }))
    }

    /// For the studio's people to read.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Gpu { need, free } => {
                format!("the job needs {} of GPU memory, {} are free", Size(need), Size(free))
            }
            Self::Host { need, free } => {
                format!("the job needs {} of the host's memory, {} are free", Size(need), Size(free))
            }
        }
    }
}

/// What must be free on the GPU for an estimate, in bytes. One of nothing states no need.
fn gpu_need(estimate: Finite) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and it is positive"
    )]
    let bytes = |gb: f64| (gb * 1_073_741_824.0) as u64;
    (estimate > Finite::ZERO).then(|| bytes(estimate.get()).saturating_add(GPU_SPARE))
}

/// What the host must have for a job whose weights are read into its memory and kept there.
fn host_need(claim: &Claim) -> Option<u64> {
    let source = claim.model_source.as_ref()?;
    let defaults = &source.cli_defaults;
    let is_kept = defaults.offload_to_cpu == Some(true) && defaults.mmap != Some(true);
    let weights = source.files.iter().filter_map(|file| file.approx_bytes);
    is_kept.then(|| weights.fold(HOST_SPARE, u64::saturating_add))
}

/// The threshold that keeps jobs of this estimate and larger ones away: at least 0, and less than it.
pub(super) fn just_under(estimate: Finite) -> Finite {
    let gb = estimate.get();
    // Of so large a number a hundredth is nothing.
    let under = if gb - 0.01 < gb { gb - 0.01 } else { gb.next_down() };
    Finite::new(under.max(0.0)).unwrap_or(Finite::ZERO)
}

/// Bytes for people to read.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1_024 {
            return write!(f, "{} B", self.0);
        }
        // Tenths, rounded, so that what is shown as 1024.0 of one unit is 1.0 of the next.
        let tenths = |unit: usize| (u128::from(self.0) * 10 + (1 << (10 * unit + 9))) >> (10 * (unit + 1));
        let unit = (0..UNITS.len() - 1).find(|unit| tenths(*unit) < 10_240).unwrap_or(UNITS.len() - 1);
        write!(f, "{}.{} {}", tenths(unit) / 10, tenths(unit) % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CliDefaults, ModelFile, ModelSource, Task};
    use alloc::{string::ToString, vec::Vec};

    fn claim(estimate: f64, files: &[Option<u64>], offload: Option<bool>, mmap: Option<bool>) -> Claim {
        let file = |bytes: &Option<u64>| ModelFile { approx_bytes: *bytes, ..ModelFile::default() };
        Claim {
            job_id: "j".into(),
            game_id: String::new(),
            asset_name: String::new(),
            model: "m".into(),
            vram_gb_estimate: Finite::new(estimate).unwrap(),
            task: Task::image("p".into(), "webp".into()),
            model_source: Some(ModelSource {
                engine: "sd-cpp".into(),
                files: files.iter().map(file).collect::<Vec<_>>(),
                cli_defaults: CliDefaults { offload_to_cpu: offload, mmap, ..CliDefaults::default() },
            }),
        }
    }

    fn free(gpu: Option<u64>, host: Option<u64>) -> Memory {
        Memory { gpu_total: None, gpu_free: gpu, host_available: host }
    }

    #[test]
    fn an_estimate_and_a_gib_must_be_free_on_the_gpu() {
        let job = claim(7.5, &[], None, None);
        let need = 17 * GIB / 2;
        assert_eq!(Shortage::of(&job, free(Some(need), Some(0))), None);
        let short = Shortage::Gpu { need, free: need - 1 };
        assert_eq!(Shortage::of(&job, free(Some(need - 1), None)), Some(short));
        assert_eq!(Shortage::of(&job, free(None, None)), None, "what can't be measured is admitted");
        for nothing in [0.0, -3.0] {
            assert_eq!(Shortage::of(&claim(nothing, &[], None, None), free(Some(0), None)), None);
        }
        let endless = claim(f64::MAX, &[], None, None);
        assert!(Shortage::of(&endless, free(Some(u64::MAX - 1), None)).is_some());
    }

    #[test]
    fn weights_that_are_kept_in_the_hosts_memory_and_4_gib_must_fit_into_it() {
        let files = [Some(6 * GIB), None, Some(GIB)];
        let need = 11 * GIB;
        for (offload, mmap, kept) in [
            (Some(true), None, true),
            (Some(true), Some(false), true),
            (Some(true), Some(true), false),
            (Some(false), None, false),
            (None, None, false),
        ] {
            let job = claim(1.0, &files, offload, mmap);
            assert_eq!(Shortage::of(&job, free(None, Some(need))), None);
            let short = kept.then_some(Shortage::Host { need, free: need - 1 });
            assert_eq!(Shortage::of(&job, free(None, Some(need - 1))), short, "{offload:?} {mmap:?}");
            assert_eq!(Shortage::of(&job, free(None, None)), None);
            // The GPU has its part of it in any case.
            let both = Shortage::of(&job, free(Some(GIB), Some(0)));
            assert!(matches!(both, Some(Shortage::Gpu { .. })), "{both:?}");
        }
        let huge = claim(0.0, &[Some(u64::MAX), Some(u64::MAX)], Some(true), None);
        assert_eq!(Shortage::of(&huge, free(None, Some(u64::MAX))), None, "as much as can be said");
    }

    #[test]
    fn a_threshold_just_under_an_estimate_keeps_it_away() {
        for (gb, under) in [(16.0, 15.99), (7.5, 7.49), (0.01, 0.0), (0.001, 0.0)] {
            let found = just_under(Finite::new(gb).unwrap());
            assert!((found.get() - under).abs() < 1e-9 && found.get() < gb, "{gb}: {found}");
        }
        for gb in [f64::MAX, 1e300, 1e18] {
            assert!(just_under(Finite::new(gb).unwrap()).get() < gb, "{gb}");
        }
    }

    #[test]
    fn sizes_are_said_in_a_unit_that_fits() {
        for (bytes, said) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_075, "1.0 KiB"),
            (1_076, "1.1 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (24_564 << 20, "24.0 GiB"),
            (19 * GIB / 2, "9.5 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), said, "{bytes}");
        }
    }

    #[test]
    fn what_a_card_has_is_said_to_the_mib() {
        assert!((Finite::gigabytes(24_564 << 20).get() - 24_564.0 / 1_024.0).abs() < f64::EPSILON);
        assert_eq!(Finite::gigabytes(0), Finite::ZERO);
    }
}
