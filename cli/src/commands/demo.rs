//! `studio-worker demo`

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Args;

use super::trial;
use crate::{
    Error,
    config::{ConfigError, ConfigFile},
    demo::{self, Cast},
    runtimes::Runtime,
};

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Write the results to this folder, which must be new or empty, instead of a new one under the current folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Play with this engine, as the configuration sets it up, instead of made-up results.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
}

impl Demo {
    pub(super) fn run(
        self,
        file: impl FnOnce() -> Result<ConfigFile, ConfigError>,
        on: Runtime,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        if std::env::var_os("RUST_LOG").is_none() {
            // What happens is said anyway; lines about it would be in the way.
            log::set_max_level(log::LevelFilter::Warn);
        }
        // Without an engine of theirs, a person's own configuration is none of the demo's business.
        let cast = self.engine.map(|name| {
            let file = file()?;
            let on = on.configured(&file)?;
            let (engine, config) = trial::engine(&file, Some(&name), on)?;
            let job_limit = Duration::from_secs(config.job_limit_secs.into());
            Ok::<_, Error>((Cast { engine, job_limit }, on))
        });
        let (cast, on) = cast.transpose()?.map_or((None, on), |(cast, on)| (Some(cast), on));
        match demo::play(self.out, cast, on, out) {
            Ok(_) => Ok(()),
            Err(demo::DemoError::Io(error)) => Err(Error::Output(error)),
            Err(error) => Err(Error::Other(Box::new(error))),
        }
    }
}
