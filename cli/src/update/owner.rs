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

/// Whether a process can make files in `folder`, as far as owners and modes tell; where they don't, it may.
pub(super) fn may_write(process: u32, folder: &Path) -> bool {
    #[cfg(unix)]
    return unix::may_write(process, folder).unwrap_or(true);
    #[cfg(not(unix))]
    {
        let _ = (process, folder);
        true
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, File},
        io,
        os::{
            fd::AsFd,
            unix::fs::{MetadataExt as _, fchown},
        },
        path::Path,
    };

    use rustix::{
        fs::{CWD, Dir, Mode, OFlags, openat},
        path::Arg,
    };

    pub(super) fn give(file: &File, folder: &Path) -> io::Result<()> {
        let (is, owner) = (file.metadata()?, fs::metadata(folder)?);
        // What has another name may be somebody's file elsewhere.
        let is_here_alone = is.is_dir() || is.is_file() && is.nlink() == 1;
        if is.uid() == 0 && owner.uid() != 0 && is_here_alone {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    pub(super) fn may_write(process: u32, folder: &Path) -> io::Result<bool> {
        // As whom it runs, where the system shows that so.
        let (process, folder) = (fs::metadata(format!("/proc/{process}"))?, fs::metadata(folder)?);
        let has = |bits| folder.mode() & bits == bits;
        Ok(match process.uid() {
            0 => true,
            uid if uid == folder.uid() => has(0o300),
            // Who else is in that group only the system knows.
            _ => has(0o003) || has(0o030),
        })
    }

    pub(super) fn give_all(path: &Path, folder: &Path) -> io::Result<()> {
        give_in(CWD, path, folder)
    }

    fn give_in(at: impl AsFd, name: impl Arg, folder: &Path) -> io::Result<()> {
        // The owner of the folder could put a link there that leads elsewhere, or a pipe that never opens.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(at, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // One that can't be given keeps none of the others.
        let mut given = give(&file, folder);
        if file.metadata()?.is_dir() {
            for entry in Dir::read_from(&file)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    given = given.and(give_in(&file, entry.file_name(), folder));
                }
            }
        }
        given
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, lchown, symlink},
    };

    /// Needs to be root, as it is about what root does.
    #[test]
    fn what_root_makes_is_given_and_nothing_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, secret) = (place.path(), elsewhere.path().join("secret"));
        lchown(folder, Some(65534), Some(65534)).unwrap();
        fs::write(&secret, "").unwrap();
        fs::create_dir_all(folder.join("made/deep")).unwrap();
        for name in ["made/file", "made/deep/file", "made/theirs"] {
            fs::write(folder.join(name), "").unwrap();
        }
        lchown(folder.join("made/theirs"), Some(65533), Some(65533)).unwrap();
        symlink(elsewhere.path(), folder.join("made/deep/link")).unwrap();
        fs::hard_link(&secret, folder.join("made/name")).unwrap();
        let owner = |name: &str| fs::symlink_metadata(folder.join(name)).unwrap().uid();
        super::give_all(&folder.join("made"), folder);
        super::give_all(&folder.join("made/deep/link"), folder);
        super::give_all(&folder.join("nothing"), folder);
        for name in ["made", "made/deep", "made/file", "made/deep/file"] {
            assert_eq!(owner(name), 65534, "{name}");
        }
        assert_eq!((owner("made/theirs"), owner("made/name"), owner("made/deep/link")), (65533, 0, 0));
        assert_eq!(
            (fs::metadata(elsewhere.path()).unwrap().uid(), fs::metadata(secret).unwrap().uid()),
            (0, 0)
        );
    }
}
