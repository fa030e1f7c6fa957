//! `studio-worker install-service` and `studio-worker uninstall-service`.

use std::{io::Write, path::Path};

use clap::Args;

use crate::{
    Error,
    runtimes::Runtime,
    service::{self, Wanted},
};

/// The arguments of `install-service`.
#[derive(Debug, Args)]
pub struct InstallService {
    /// Install it for the machine, so that it runs without anybody logged in; this needs an administrator.
    #[arg(long)]
    system: bool,
    /// Let it run as this user, with that user's configuration, instead of as who called `sudo`.
    #[arg(long, value_name = "NAME", requires = "system")]
    user: Option<String>,
    /// Print what the service manager would be given, and change nothing.
    #[arg(long)]
    print: bool,
}

impl InstallService {
    pub(super) fn run(self, config: Option<&Path>, on: Runtime, out: &mut dyn Write) -> Result<(), Error> {
        let wanted = Wanted { system: self.system, user: self.user };
        if self.print {
            return Ok(write!(out, "{}", service::print(&wanted, config, on)?)?);
        }
        Ok(writeln!(out, "{}", service::install(&wanted, config, on)?)?)
    }
}

/// The arguments of `uninstall-service`.
#[derive(Debug, Args)]
pub struct UninstallService {
    /// Remove the one that was installed for the machine; this needs an administrator.
    #[arg(long)]
    system: bool,
}

impl UninstallService {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Error> {
        let wanted = Wanted { system: self.system, user: None };
        Ok(writeln!(out, "{}", service::uninstall(&wanted)?)?)
    }
}
