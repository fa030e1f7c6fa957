//! `studio-worker status`.

use std::io::Write;

use clap::Args;

use crate::{Error, config::ConfigFile, lock, runtime};

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON for programs, with the process that runs a worker, if one does.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let config = file.load_or_create()?;
        if self.json {
            let status = runtime::status(&config, file.path(), lock::running(file));
            writeln!(out, "{status:#}")?;
        } else {
            // With the empty line at the end that the published programs print, too.
            writeln!(out, "{}", runtime::format_status(&config, file.path()))?;
        }
        Ok(())
    }
}
