//! `studio-worker run`.

use clap::Args;

use crate::{
    Error, config::ConfigFile, runtime, runtimes::Runtime, service::Hold, update::supervise::OnTrial,
};

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Wait before ending after a refusal, since a service manager starts this again at once.
    #[arg(long, hide = true)]
    service: bool,
}

impl Run {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime) -> Result<(), Error> {
        // A version on trial must not wait: who watches it decides.
        let waits = self.service && !OnTrial::is_here();
        let hold = waits.then(Hold::prepare).transpose().map_err(Error::Signals)?;
        let outcome = runtime::run(file, on);
        if let (Some(hold), Err(error)) = (hold, &outcome) {
            hold.after(error, file);
        }
        outcome
    }
}
