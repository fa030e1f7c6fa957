//! Files and folders for their owner alone, whatever this process would make by itself (`umask`).
#![allow(clippy::disallowed_methods, reason = "part of the runtimes, which touch the world")]

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    path::Path,
};

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
