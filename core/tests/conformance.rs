//! What every worker must do, on the simulated runtime: over pipes in memory, by the system's clock and by one of its own.

use studio_worker_core::conformance::{Network, in_process, run, simulated};

fn main() {
    run(in_process(&[Network::memory, Network::virtual_time], simulated));
}
