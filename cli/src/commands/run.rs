//! `studio-worker run`.

use clap::Args;

use crate::{Error, config::ConfigFile, runtime, runtimes::Runtime, service::Hold};

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Wait before ending after a refusal, since a service manager starts this again at once.
    #[arg(long, hide = true)]
    service: bool,
}

impl Run {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime) -> Result<(), Error> {
        let hold = self.service.then(Hold::prepare).transpose().map_err(Error::Signals)?;
        let outcome = runtime::run(file, on);
        if let (Some(hold), Err(error)) = (hold, &outcome) {
            hold.after(error, file);
        }
        outcome
    }
}
