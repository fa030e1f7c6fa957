//! Updates of this program: looked for beside the session, tried, and taken back if they are no good.
//!
//! What is decided is decided in [`studio_worker_core::update`]. A release is made ready beside the program's file while jobs
//! go on. Then the worker makes way: it takes no new job, delivers what it has, and closes its session. The new file takes
//! the old one's place in one step, and the old version watches the new one work until it has shown what it can do
//! ([`supervise`]); only then is it gone.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`Place`] | the program's file, the one before, and what is remembered |
//! | `bench` | signature, archive, and what a program says of its version |
//! | `by_hand` | `check-update`, `rollback` |
//! | `beside` | the thread that looks, beside a worker |
//! | `looking` | what that thread does |
//! | `attention` | when that thread looks at what others did |
//! | [`supervise`] | the trial |
//! | `on_trial` | what a version on trial says |
//! | `listen` | how that is heard |
//! | `kin` | how it ends, with all that it started |
//! | `owner` | whose the files are that root makes |

mod attention;
mod bench;
mod beside;
mod by_hand;
mod kin;
mod listen;
mod looking;
mod on_trial;
mod owner;
mod place;
pub mod supervise;

use std::{
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use studio_worker_core::{
    drive::WorkerStatus,
    update::{Policy, Version},
    worker::Hindrance,
};

pub use attention::Unremembered;
pub use bench::check_key;
pub use beside::{AutoUpdates, Before, Ready};
pub use by_hand::{Checked, auto_update_tick, check, install, roll_back};
pub use place::{Locked, Place};

use crate::{
    VERSION,
    config::{Config, DEFAULT_UPDATE_FEED},
};

/// The target triple that this program was built for.
pub const TARGET: &str = env!("STUDIO_WORKER_TARGET");

/// After a version that could not be put in place or tried: a worker that makes way costs a session.
pub(crate) const AFTER_TROUBLE: Duration = Duration::from_secs(6 * 60 * 60);

/// The program's file in an archive.
const PROGRAM: &str = if cfg!(windows) { "studio-worker.exe" } else { "studio-worker" };

/// The repository of the published program, whose releases are another program.
const FOREIGN: &str = "/webbertakken/studio-worker/";

/// Why an update did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is no feed to look at.
    #[error(
        "no feed of this program's releases is named: set `auto_update_feed` in the configuration to where they are listed"
    )]
    NoFeed,
    /// The feed could not be asked.
    #[error("{0}")]
    Check(String),
    /// The release could not be had.
    #[error("{version} was not installed: {why}")]
    Stage {
        /// Which.
        version: Version,
        /// For a person to act on.
        why: String,
    },
    /// Nobody knows where the program is.
    #[error("it can't be found out where this program's file is: {0}")]
    Unknown(#[source] io::Error),
    /// The program's folder can't be changed.
    #[error("cannot {what} {}: {source}", path.display())]
    Place {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no version to go back to.
    #[error("there is no earlier version to go back to: {} is not there", .0.display())]
    NothingBefore(PathBuf),
    /// Another process is at it.
    #[error(
        "another process is about to install a version at {}: wait until its worker is free, or end it",
        .0.display()
    )]
    Locked(PathBuf),
    /// A worker runs that could never take over what is made ready for it.
    #[error(
        "the worker that runs is of another user, who can't write to {}: stop it, run this again, and start it",
        .0.display()
    )]
    NotTheirs(PathBuf),
    /// What is there is no program.
    #[error("{0}")]
    NoProgram(String),
    /// This program's own version is none.
    #[error("this program's version can't be compared: {0}")]
    Version(String),
}

impl UpdateError {
    fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Place { what, path: path.to_owned(), source }
    }
}

/// This program's version.
pub fn own_version() -> Result<Version, UpdateError> {
    Version::parse(VERSION).map_err(|error| UpdateError::Version(error.to_string()))
}

/// The feed to look at. That of the published program is none: what it lists is another program, also where a configuration
/// that the published program wrote names it.
pub fn feed(config: &Config) -> Result<&str, UpdateError> {
    let feed = config.auto_update_feed.trim();
    let is_foreign = feed == DEFAULT_UPDATE_FEED || format!("{feed}/").to_ascii_lowercase().contains(FOREIGN);
    if feed.is_empty() || is_foreign { Err(UpdateError::NoFeed) } else { Ok(feed) }
}

/// A pause is its owner's, and ends with the process: nothing takes over before that.
fn is_paused(status: &WorkerStatus) -> bool {
    status.session.as_ref().is_some_and(|session| session.hindrance == Some(Hindrance::Paused))
}

/// Says what became of the last update, to the log, and through it to the studio.
fn say_news(news: &str) {
    if news.starts_with("went back") {
        log::warn!("{news}");
    } else {
        log::info!("{news}");
    }
}

/// What the core is told of a configuration, and of what was tried before.
fn policy(config: &Config, place: &Place) -> Policy {
    Policy {
        enabled: config.auto_update_enabled && feed(config).is_ok(),
        feed: config.auto_update_feed.trim().into(),
        key: config.auto_update_public_key.clone(),
        prereleases: config.auto_update_prerelease,
        refused: place.record().refused.into_iter().map(|refused| refused.version).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_programs_feed_is_none_of_ours() {
        let config = |feed: &str| {
            Config::parse(&format!("auto_update_feed = '{feed}'"), Path::new("config.toml")).unwrap()
        };
        for feed in [
            "",
            "  ",
            DEFAULT_UPDATE_FEED,
            "https://api.github.com/repos/webbertakken/studio-worker/releases/latest",
            "https://api.github.com/repos/WebberTakken/Studio-Worker/releases?per_page=5",
            "https://github.com/webbertakken/studio-worker",
        ] {
            assert!(super::feed(&config(feed)).is_err(), "{feed}");
        }
        assert!(
            super::feed(&Config::parse("", Path::new("config.toml")).unwrap()).is_err(),
            "nor where none is named"
        );
        let own = "https://releases.example/studio-worker/releases";
        assert_eq!(super::feed(&config(own)).unwrap(), own);
    }

    #[test]
    fn the_target_is_a_triple() {
        assert!(TARGET.split('-').count() >= 3, "{TARGET:?}");
    }
}
