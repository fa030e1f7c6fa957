//! Private files for results that are too large for memory.

use std::{
    env,
    future::Future,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempPath;

use super::Platform;
use crate::engine::SpilledFile;

/// Where large results go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Path>);

impl Folder {
    /// The system's folder for temporary files.
    pub fn temporary() -> Self {
        Self::at(env::temp_dir())
    }

    /// Another one. It must exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into().into())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a result to a file that only this user can read, as [`Runtime::spill`](crate::drive::Runtime::spill).
    pub fn spill<P: Platform>(
        &self,
        platform: &P,
        bytes: Arc<Vec<u8>>,
    ) -> impl Future<Output = io::Result<SpilledFile>> + Send + 'static {
        let (folder, platform) = (self.clone(), platform.clone());
        // Kept only here: when nobody waits any more, the file goes with the thread's answer.
        async move { platform.block(move || folder.write(&bytes)).await?.keep() }
    }

    /// Deletes the file of a result, as [`Runtime::discard`](crate::drive::Runtime::discard).
    pub fn discard<P: Platform>(
        platform: &P,
        file: SpilledFile,
    ) -> impl Future<Output = ()> + Send + 'static {
        platform.block(move || delete(&file.path))
    }

    /// Writes `bytes` to a new file that only this user can read. It is deleted again unless it is kept.
    fn write(&self, bytes: &[u8]) -> io::Result<Written> {
        let mut file = tempfile::Builder::new().prefix("studio-worker-").tempfile_in(&self.0)?;
        file.write_all(bytes)?;
        Ok(Written { path: file.into_temp_path(), bytes: bytes.len() as u64 })
    }
}

/// A file that is deleted when this is dropped.
pub(super) struct Written {
    pub(super) path: TempPath,
    pub(super) bytes: u64,
}

impl Written {
    /// From now on it belongs to the result.
    pub(super) fn keep(self) -> io::Result<SpilledFile> {
        let Some(path) = self.path.to_str().map(Into::into) else {
            return Err(io::Error::other("the folder for temporary files has a name that is not UTF-8"));
        };
        self.path.keep().map_err(|kept| kept.error)?;
        Ok(SpilledFile { path, bytes: self.bytes })
    }
}

/// Deletes a result's file.
fn delete(path: &str) {
    match std::fs::remove_file(Path::new(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("the file of a result can't be deleted, {path}: {error}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_deleted_unless_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = Folder::at(folder.path());
        let count = || std::fs::read_dir(folder.path()).unwrap().count();
        drop(files.write(b"unwanted").unwrap());
        assert_eq!(count(), 0);

        let kept = files.write(b"wanted").unwrap().keep().unwrap();
        assert_eq!((count(), kept.bytes), (1, 6));
        assert_eq!(std::fs::read(&*kept.path).unwrap(), b"wanted");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&*kept.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        delete(&kept.path);
        assert_eq!(count(), 0);
        delete(&kept.path);
    }
}
