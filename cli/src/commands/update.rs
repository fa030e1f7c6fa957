//! `studio-worker check-update` and `rollback`.

use std::io::Write;

use clap::Args;

use crate::{
    Error,
    config::ConfigFile,
    lock,
    runtimes::Runtime,
    update::{self, Place},
};

/// The arguments of `check-update`.
#[derive(Debug, Args)]
pub struct CheckUpdate {
    /// Install it, too. A worker that runs takes it over once it is free, and goes back if it is no good.
    #[arg(long)]
    install: bool,
}

impl CheckUpdate {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime, out: &mut dyn Write) -> Result<(), Error> {
        let config = file.load_or_create()?;
        let checked = update::check(&config, on)?;
        writeln!(out, "{checked}")?;
        if self.install && checked.newer().is_some() {
            let (running, place) = (lock::running(file), Place::here()?);
            if let Some(pid) = running.as_ref().and_then(|running| running.pid) {
                place.check_for(pid)?;
            }
            writeln!(out, "{}", update::install(&config, on, &place, checked, running.is_some())?)?;
            if let Some(running) = running {
                writeln!(out, "{running} tries it once it is free")?;
            }
        }
        Ok(())
    }
}

/// Goes back to the version before.
pub(super) fn roll_back(file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "{}", update::roll_back(&Place::here()?)?)?;
    if let Some(running) = lock::running(file) {
        writeln!(out, "{running} goes back once it is free")?;
    }
    Ok(())
}
