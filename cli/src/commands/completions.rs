//! `studio-worker completions`.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::Error;

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to complete in.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut command: clap::Command, out: &mut dyn Write) -> Result<(), Error> {
        let name = command.get_name().to_owned();
        // Made in memory, since the generator panics when it can't write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        Ok(out.write_all(&script)?)
    }
}
