//! What goes wrong in the program as a whole.

use std::{io, path::PathBuf};

use studio_worker_core::{transport::NoRandomness, worker::Exit};

use crate::{
    config::ConfigError, door::CallError, engines::SetupError, lock::LockError, secrets::SecretError,
    service::ServiceError, trial::TrialError, update::UpdateError,
};

/// Why a subcommand did not do what it was asked to do: one line for a person, and exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be read or changed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A worker runs already, or nobody can tell.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine of the configuration can't be served.
    #[error("{}, {problem}", path.display())]
    Engine {
        /// The configuration.
        path: PathBuf,
        /// Which engine, and what to do.
        problem: SetupError,
    },
    /// A credential that is there can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A job can't be tried.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A service was not installed or removed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A value on the command line that can't be used.
    #[error("{0}")]
    Argument(String),
    /// A subcommand that the published programs have and this one doesn't have yet.
    #[error("`{command}` is not in this version of studio-worker; {instead}")]
    Later {
        /// The subcommand.
        command: &'static str,
        /// What to do meanwhile.
        instead: &'static str,
    },
    /// The worker ended for a reason that is not a success.
    #[error("{0}")]
    Ended(Exit),
    /// Another version can't be had, or not put in place.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A version on trial ended as its owner wanted, but not well.
    #[error("the worker ended with the exit code {0}")]
    OnTrial(u8),
    /// The worker could not be started.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// This program is built without the runtime that was asked for.
    #[error(
        "this program is built without {name}: use `--runtime {other}`, or build it with `--features {name}`"
    )]
    NoSuchRuntime {
        /// The one that was asked for.
        name: &'static str,
        /// The one that there is.
        other: &'static str,
    },
    /// The runtime could not be started.
    #[error("the runtime can't be started: {0}")]
    Runtime(#[source] io::Error),
    /// The worker that runs can't be asked, or doesn't do what it was asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What there is to say was said, on stdout: the program ends with this code.
    #[error("exit code {0}")]
    Said(u8),
    /// Signals can't be had.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// The result could not be written to stdout.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the reader of stdout has gone, which is nobody's mistake: `studio-worker config | head -1`.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
