//! `studio-worker run`.

use std::net::SocketAddr;

use clap::Args;

use crate::{
    Error,
    config::ConfigFile,
    runtime::{self, RunArgs},
    runtimes::Runtime,
    service::Hold,
    update::supervise::OnTrial,
};

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Serve numbers for Prometheus at this address, and the probes `/healthz` and `/readyz`. Nobody is asked who they are.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Wait before ending after a refusal, since a service manager starts this again at once.
    #[arg(long, hide = true)]
    service: bool,
}

impl Run {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime) -> Result<(), Error> {
        let Self { metrics, service } = self;
        // A version on trial must not wait: who watches it decides.
        let waits = service && !OnTrial::is_here();
        let hold = waits.then(Hold::prepare).transpose().map_err(Error::Signals)?;
        let outcome = runtime::run(file, on, &RunArgs { metrics });
        if let (Some(hold), Err(error)) = (hold, &outcome) {
            hold.after(error, file);
        }
        outcome
    }
}
