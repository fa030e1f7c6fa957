//! `studio-worker run`.

use std::net::SocketAddr;

use clap::Args;

use crate::{
    Error,
    config::ConfigFile,
    runtime::{self, RunArgs},
    runtimes::Runtime,
};

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Serve numbers for Prometheus at this address, and the probes `/healthz` and `/readyz`. Nobody is asked who they are.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl Run {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime) -> Result<(), Error> {
        let Self { metrics } = self;
        runtime::run(file, on, &RunArgs { metrics })
    }
}
