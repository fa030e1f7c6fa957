//! What can be wrong with a configuration.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a configuration can't be read or changed. Each text is one line and quotes nothing of the file that could
/// be a credential.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The system names no home directory to look in.
    #[error("there is no home directory to keep a configuration in: say where it is with `--config PATH`")]
    NoHome,
    /// There is no file.
    #[error("{}: there is no such file", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory, a device, or a file far too large.
    #[error("{} is not a configuration: {problem}", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        problem: &'static str,
    },
    /// Nothing in it that could be meant: it was cut off or damaged.
    #[error("{}, line {line}: {problem}: restore it, or remove it to start with the defaults", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found.
        problem: &'static str,
    },
    /// Not TOML.
    #[error("{}, line {line}{}: {problem}", path.display(), key.map(|key| format!(", key `{key}`")).unwrap_or_default())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key on that line, if it is one that we know.
        key: Option<&'static str>,
        /// What the TOML reader says; it quotes nothing.
        problem: String,
    },
    /// A value that can't be used.
    #[error("{}, line {line}, key `{key}`: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process holds the lock that saves are made under.
    #[error("{} is being changed by another process that does not finish: try again", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The text that a merge made does not say what it was to say.
    #[error("key `{key}` can't be changed in {}: it is not written as one plain value", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
}

impl ConfigError {
    /// For `map_err`: the system refused to do something with `path`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether there simply is no file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
