//! Files and folders for their owner alone, whatever this process would make by itself (`umask`).
#![allow(clippy::disallowed_methods, reason = "part of the runtimes, which touch the world")]

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long a lock is waited for that nobody should have: a program that this process is about to start has a copy of every
/// file that is open, and of the locks on them, until it is that program.
const GLANCE: Duration = Duration::from_secs(1);

/// To open a file by: one that is made is for its owner to read and to write.
pub(crate) fn file() -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "elsewhere files have no mode"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder and those above it, as far as they are not there.
pub(crate) fn create_dirs(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Locks `file`, unless somebody else has that lock for more than a moment.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    let end = Instant::now() + GLANCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}
