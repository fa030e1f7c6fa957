//! `studio-worker run`.

use crate::{Error, config::ConfigFile, runtime, runtimes::Runtime};

pub(super) fn run(file: &ConfigFile, on: Runtime) -> Result<(), Error> {
    runtime::run(file, on)
}
