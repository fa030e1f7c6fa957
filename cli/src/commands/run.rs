//! `studio-worker run`.

use std::net::SocketAddr;

use clap::Args;

use crate::{Error, config::ConfigFile, metrics::Listening, runtime, runtimes::Runtime};

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Serve numbers for Prometheus at this address, and the probes `/healthz` and `/readyz`. Nobody is asked who they are.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl Run {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime) -> Result<(), Error> {
        let metrics = self.metrics.map(Listening::on).transpose()?;
        runtime::run_metered(file, on, metrics)
    }
}
