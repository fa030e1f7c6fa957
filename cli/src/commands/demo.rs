//! `studio-worker demo`

use std::{io::Write, path::PathBuf};

use clap::Args;

use crate::{Error, demo, runtimes::Runtime};

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Write the results to this folder, which must be new or empty, instead of a new one under the current folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(self, on: Runtime, out: &mut dyn Write) -> Result<(), Error> {
        if std::env::var_os("RUST_LOG").is_none() {
            // What happens is said anyway; lines about it would be in the way.
            log::set_max_level(log::LevelFilter::Warn);
        }
        match demo::play(self.out, on, out) {
            Ok(_) => Ok(()),
            Err(demo::DemoError::Io(error)) => Err(Error::Output(error)),
            Err(error) => Err(Error::Other(Box::new(error))),
        }
    }
}
