//! Locks between processes: one for saving the configuration, and one that a running worker holds.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::config::{ConfigError, ConfigFile, create_dirs, parent, resolve};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// How long another process may hold the worker's lock only to look whether it is held, also one that gets little of a busy
/// machine. A program that this process is about to start has it, too, until it is that program.
const GLANCE: Duration = Duration::from_secs(1);
/// How long a worker may take to write into its lock who it is.
const INTRODUCTION: Duration = Duration::from_millis(200);

/// The hidden file beside a configuration that a lock is on. It stays: removing it could remove another's lock.
pub(crate) fn beside(target: &Path, what: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    parent(target).join(format!(".{name}.{what}"))
}

/// Opens a lock file, and makes it if need be.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Opens a lock file that is there already, also where nothing can be written.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // A link in its place may be somebody else's, and lead anywhere.
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

/// Locks `file` alone, waiting for at most `patience`; whether that succeeded.
pub(crate) fn wait(file: &File, patience: Duration) -> io::Result<bool> {
    retry(patience, || file.try_lock())
}

fn retry(patience: Duration, mut lock: impl FnMut() -> Result<(), TryLockError>) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        match lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
}

/// Why this process may not run a worker.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// One runs already.
    #[error(
        "another studio-worker{} runs with {} already: stop it first, or give this one another `--config`",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        config.display()
    )]
    Running {
        /// With which configuration.
        config: PathBuf,
        /// Which process, when it could be read.
        pid: Option<u32>,
    },
    /// The system refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Held by the one worker that runs with a configuration. The system gives it up with the process, however that
/// ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock for this process and writes its id into it.
    pub fn acquire(config: &ConfigFile) -> Result<Self, LockError> {
        let target = resolve(config.path());
        let path = beside(&target, "run");
        // A directory that can't be made is reported by what needs it more than a lock does.
        let opened = create_dirs(parent(&target)).and_then(|()| open(&path));
        let (mut file, takes_pid) = match opened {
            Ok(file) => (file, true),
            // Nobody can save here, so the file stays the one that it is, and can bear the lock itself.
            Err(error) => {
                log::warn!("{} can't be written, so nothing can be stored: {error}", path.display());
                (File::open(&target).map_err(ConfigError::io("open", config.path()))?, false)
            }
        };
        if !wait(&file, GLANCE).map_err(ConfigError::io("lock", &path))? {
            return Err(LockError::Running { config: config.path().to_owned(), pid: holder(&path) });
        }
        if takes_pid {
            let noted =
                file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
            noted.map_err(ConfigError::io("write", &path))?;
        }
        Ok(Self { _file: file })
    }
}

/// A worker that runs. Shown, it stands in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its process, unless it had no place to write that down.
    pub pid: Option<u32>,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker that runs")?;
        self.pid.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

/// The worker that runs with `config` now, if one does.
pub fn running(config: &ConfigFile) -> Option<Running> {
    let target = resolve(config.path());
    let path = beside(&target, "run");
    if is_locked(&path) {
        return Some(Running { pid: holder(&path) });
    }
    // That of a worker which could not make a file there. What an earlier one left there names nobody now.
    is_locked(&target).then_some(Running { pid: None })
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The process id in a lock file; its holder may be just about to write it.
fn holder(path: &Path) -> Option<u32> {
    let end = Instant::now() + INTRODUCTION;
    loop {
        let mut text = String::new();
        let read =
            File::open(path).and_then(|mut file| file.rewind().and_then(|()| file.read_to_string(&mut text)));
        match (read, text.trim().parse()) {
            (Ok(_), Ok(pid)) => return Some(pid),
            _ if Instant::now() >= end => return None,
            _ => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody runs, or soon nobody does: a program that another test is about to start has this one's files until it is that
    /// program.
    fn nobody_runs(config: &ConfigFile) {
        let end = Instant::now() + Duration::from_secs(30);
        while let Some(running) = running(config) {
            assert!(Instant::now() < end, "{running}");
            thread::sleep(PAUSE);
        }
    }

    /// As where the folder can't be written, also for users to whom every folder is open.
    #[test]
    fn a_worker_that_can_write_nothing_down_is_seen_to_run() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        std::fs::write(&path, "").unwrap();
        let config = ConfigFile::locate(Some(&path)).unwrap();
        assert_eq!(running(&config), None);
        std::fs::create_dir(beside(&resolve(&path), "run")).unwrap();
        let lock = InstanceLock::acquire(&config).unwrap();
        assert_eq!(running(&config), Some(Running { pid: None }));
        assert!(matches!(InstanceLock::acquire(&config), Err(LockError::Running { pid: None, .. })));
        drop(lock);
        nobody_runs(&config);
        std::fs::remove_dir(beside(&resolve(&path), "run")).unwrap();
        let _lock = InstanceLock::acquire(&config).unwrap();
        assert_eq!(running(&config), Some(Running { pid: Some(std::process::id()) }));
    }
}
