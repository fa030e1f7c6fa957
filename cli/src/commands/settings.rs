//! The subcommands that show or change the configuration.

use std::io::Write;

use clap::Args;
use studio_worker_core::wire::Finite;

use crate::{
    Error,
    config::ConfigFile,
    runtime::{self, RegisterArgs},
};

/// The arguments of `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// The studio to register with: an http, https, ws or wss address.
    #[arg(long, value_name = "URL")]
    api_base_url: Option<String>,
    /// What the studio's operators see this machine called; an empty text removes it.
    #[arg(long)]
    label: Option<String>,
    /// Forget who this worker is, so that it registers anew, also after a rejection.
    #[arg(long)]
    reset: bool,
}

impl Register {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let Self { api_base_url, label, reset } = self;
        let said = runtime::register(file, &RegisterArgs { api_base_url, label, reset })?;
        Ok(writeln!(out, "{said}")?)
    }
}

/// The arguments of `set-threshold`.
#[derive(Debug, Args)]
pub struct SetThreshold {
    /// The largest estimate in GB, at least 0.
    #[arg(allow_negative_numbers = true, value_parser = gigabytes)]
    gb: Finite,
}

impl SetThreshold {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        Ok(writeln!(out, "{}", runtime::set_threshold(file, self.gb)?)?)
    }
}

/// A threshold on the command line.
fn gigabytes(text: &str) -> Result<Finite, String> {
    text.parse()
        .ok()
        .and_then(Finite::new)
        .filter(|gb| *gb >= Finite::ZERO)
        .ok_or_else(|| "it must be a number of GB, at least 0, such as 12 or 12.5".into())
}

pub(super) fn show(file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
    Ok(write!(out, "{}", runtime::show_config(file)?)?)
}

pub(super) fn set_enabled(file: &ConfigFile, enabled: bool, out: &mut dyn Write) -> Result<(), Error> {
    Ok(writeln!(out, "{}", runtime::set_enabled(file, enabled)?)?)
}
