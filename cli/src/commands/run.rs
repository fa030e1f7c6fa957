//! `studio-worker run`.

use crate::{Error, config::ConfigFile, runtime};

pub(super) fn run(file: &ConfigFile) -> Result<(), Error> {
    runtime::run(file)
}
