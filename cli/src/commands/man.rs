//! `studio-worker man`.

use std::io::Write;

use clap::Args;

use crate::Error;

/// The arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The subcommand whose page is wanted, instead of the program's.
    command: Option<String>,
}

impl Man {
    pub(super) fn run(self, mut program: clap::Command, out: &mut dyn Write) -> Result<(), Error> {
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => {
                let found = program.find_subcommand(name).cloned();
                found.ok_or_else(|| Error::Argument(format!("there is no subcommand `{name}`")))?
            }
        };
        Ok(clap_mangen::Man::new(page).render(&mut &mut *out)?)
    }
}
