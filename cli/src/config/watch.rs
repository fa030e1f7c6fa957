//! Sees when the configuration of a running worker changes.

use std::{
    fs::{self, Metadata},
    time::{Duration, SystemTime},
};

use super::{Config, ConfigError, ConfigFile};

/// A file that was changed this recently may be changed again without its stamp showing it: some file systems count
/// in whole seconds.
const STAMP_GRAIN: Duration = Duration::from_secs(3);

/// What a look at the file showed.
#[derive(Debug)]
pub enum Seen {
    /// Nothing that matters.
    Nothing,
    /// It says something else now.
    Changed(Box<Config>),
    /// It can't be used as it is now; said once.
    Broken(ConfigError),
    /// It was broken, and says again what counts.
    Mended,
}

/// Looks at the file now and then. A look costs one system call as long as nothing changes.
#[derive(Debug)]
pub struct Watcher {
    file: ConfigFile,
    /// What counts.
    config: Config,
    stamp: Option<Stamp>,
    /// Whether what the stamp stands for has been read for good.
    settled: bool,
    /// The last complaint.
    complaint: Option<String>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Watcher {
    /// Watches `file`, which said `config` when it was read last.
    pub fn new(file: ConfigFile, config: Config) -> Self {
        Self { file, config, stamp: None, settled: false, complaint: None }
    }

    /// What counts: as it was seen last without an error.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Looks once. A change counts at the second look that finds it, so that an editor is not caught in the middle
    /// of its writing.
    pub fn look(&mut self) -> Seen {
        let stamp = fs::metadata(self.file.path()).ok().map(|metadata| Stamp::of(&metadata));
        if stamp != self.stamp {
            self.stamp = stamp;
            self.settled = false;
            return Seen::Nothing;
        }
        if self.settled {
            return Seen::Nothing;
        }
        // Asked before the file is read, so that what is written meanwhile is read by the next look.
        self.settled = stamp.is_none_or(|stamp| stamp.is_old());
        match self.file.load() {
            Ok(config) => {
                let mended = self.complaint.take().is_some();
                if config != self.config {
                    self.config = config.clone();
                    Seen::Changed(Box::new(config))
                } else if mended {
                    Seen::Mended
                } else {
                    Seen::Nothing
                }
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() == Some(&complaint) {
                    return Seen::Nothing;
                }
                self.complaint = Some(complaint);
                Seen::Broken(error)
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode }
    }

    fn is_old(&self) -> bool {
        // A clock that went back, or a file from the future: its stamp tells nothing, and is believed.
        self.modified.and_then(|at| at.elapsed().ok()).is_none_or(|age| age > STAMP_GRAIN)
    }
}
