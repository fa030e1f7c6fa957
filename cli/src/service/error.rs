//! What goes wrong with a service.

use std::{io, path::PathBuf};

use crate::config::ConfigError;

/// Why a service was not installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration of whom the service is for is not there.
    #[error(
        "there is no configuration at {}: run `studio-worker register` as {user} first, or name one with `--config`",
        path.display()
    )]
    NoConfig {
        /// Where it was looked for.
        path: PathBuf,
        /// Whose it is.
        user: String,
    },
    /// A manager's program isn't there.
    #[error(
        "`{program}` can't be run ({problem}): this system is not run by {manager}; have its own service manager start `studio-worker run`"
    )]
    NoProgram {
        /// Which program.
        program: String,
        /// Of which manager.
        manager: &'static str,
        /// The system's word.
        problem: io::Error,
    },
    /// It is there, and nobody answers it.
    #[error("no {manager} answers here ({words}): {instead}")]
    NoManager {
        /// Which manager.
        manager: &'static str,
        /// Its program's words.
        words: String,
        /// What to do.
        instead: &'static str,
    },
    /// A manager refused, in its own words.
    #[error("`{asked}` failed: {words}")]
    Refused {
        /// What it was asked.
        asked: String,
        /// What it said.
        words: String,
    },
    /// A manager's program did not end.
    #[error("`{asked}` took longer than {seconds} s and was ended")]
    Slow {
        /// What it was asked.
        asked: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It was installed and does not run.
    #[error(
        "{name} is installed, but it does not run: {words}{log}; `studio-worker uninstall-service` removes it"
    )]
    NotRunning {
        /// The service's name.
        name: &'static str,
        /// The manager's words.
        words: String,
        /// The last lines of its log, if they could be had.
        log: String,
    },
    /// It was to be removed and is still there.
    #[error("{name} is still there: {words}")]
    NotGone {
        /// The service's name.
        name: &'static str,
        /// The manager's words.
        words: String,
    },
    /// There is one of that name that somebody else installed.
    #[error(
        "{name} comes from {from}, which `install-service` did not write: remove it with what installed it"
    )]
    NotOurs {
        /// The service's name.
        name: &'static str,
        /// Which file it is from.
        from: String,
    },
    /// Only an administrator can do that.
    #[error(
        "a service of the whole machine needs an administrator: run it with `sudo`, or without `--system`"
    )]
    NotRoot,
    /// There is no such user.
    #[error("there is no user `{0}` here: name one that there is with `--user`")]
    NoUser(String),
    /// A value that no service manager takes.
    #[error("{what} can't be told to a service manager, since {problem}: {value:?}")]
    Value {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// The value.
        value: PathBuf,
    },
    /// A file or folder can't be written, read or removed.
    #[error("{} can't be {what}: {problem}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's word.
        #[source]
        problem: io::Error,
    },
}

impl ServiceError {
    /// An error about `path`, which can't be `what`.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |problem| Self::File { path, what, problem }
    }
}
