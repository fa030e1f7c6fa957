//! Whose the files beside a program are. Root may update the program of another user, whose worker then goes on with what it
//! finds: what root makes there belongs to the owner of the folder.

use std::{fs::File, path::Path};

/// Gives a file that root has made in `folder` to the folder's owner. What can't be given stays root's, as everything does
/// where files have no owners.
pub(super) fn give(file: &File, folder: &Path) {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root()
        && let Err(error) = unix::give(file, folder)
    {
        log::debug!("what was made in {} stays root's: {error}", folder.display());
    }
    #[cfg(not(unix))]
    let _ = (file, folder);
}

/// The same for what is at a path, and, if that is a folder, for all in it.
pub(super) fn give_all(path: &Path, folder: &Path) {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root()
        && let Err(error) = unix::give_all(path, folder)
    {
        log::debug!("{} stays root's: {error}", path.display());
    }
    #[cfg(not(unix))]
    let _ = (path, folder);
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, File},
        io,
        os::unix::fs::{MetadataExt as _, fchown},
        path::Path,
    };

    use rustix::fs::{Mode, OFlags};

    pub(super) fn give(file: &File, folder: &Path) -> io::Result<()> {
        let (is, owner) = (file.metadata()?, fs::metadata(folder)?);
        // What has another name may be somebody's file elsewhere.
        let is_here_alone = is.is_dir() || is.is_file() && is.nlink() == 1;
        if is.uid() == 0 && owner.uid() != 0 && is_here_alone {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    pub(super) fn give_all(path: &Path, folder: &Path) -> io::Result<()> {
        // The owner of the folder could put a link there that leads elsewhere, or a pipe that never opens.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        give(&file, folder)?;
        if file.metadata()?.is_dir() {
            for entry in fs::read_dir(path)? {
                give_all(&entry?.path(), folder)?;
            }
        }
        Ok(())
    }
}
