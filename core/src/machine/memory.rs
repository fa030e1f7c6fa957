//! How much memory a model can have.

/// What was measured of this machine's memory, in bytes. What can't be measured is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All memory of the largest GPU.
    pub gpu_total: Option<u64>,
    /// What is free on the GPU that has most.
    pub gpu_free: Option<u64>,
    /// What processes of the host can still have, without swapping.
    pub host_available: Option<u64>,
}
