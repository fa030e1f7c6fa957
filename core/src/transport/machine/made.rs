//! What a program made.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Seek as _},
    path::Path,
};

use tempfile::{Builder, NamedTempFile, TempPath};

use super::run::PREFIX;
use crate::{
    machine::{Ended, Keep, Made, ProgramFailure, Ran},
    transport::files::Written,
};

/// How much of a file is shown, in bytes.
const HEAD: u64 = 4 * 1024;

/// A program that ran, and whose result is deleted unless it is kept.
pub(super) struct Unkept {
    pub(super) ended: Ended,
    pub(super) made: Option<Product>,
}

/// What it made.
pub(super) enum Product {
    Memory(Vec<u8>),
    File { file: Written, head: Vec<u8> },
}

impl Unkept {
    /// From now on the result belongs to who asked for it.
    pub(super) fn keep(self, program: &str) -> Result<Ran, ProgramFailure> {
        let made = match self.made {
            None => None,
            Some(Product::Memory(bytes)) => Some(Made::Memory(bytes)),
            Some(Product::File { file, head }) => Some(Made::File {
                file: file.keep().map_err(|error| ProgramFailure::Trouble {
                    program: program.into(),
                    why: format!("its result can't be kept: {error}"),
                })?,
                head,
            }),
        };
        Ok(Ran { ended: self.ended, made })
    }
}

impl Product {
    /// What was written to a file of ours.
    pub(super) fn poured(mut file: File, path: TempPath) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        file.rewind()?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        Ok(Self::File { file: Written { path, bytes }, head })
    }

    /// What the program left in a file of its own; nothing where there is none. A link may lead anywhere, and who opens
    /// a FIFO waits: only a file is taken.
    pub(super) fn left(path: &Path, keep: Keep, limit: u64, folder: &Path) -> Result<Option<Self>, Refused> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(Refused::NoFile),
        }
        let file = open(path)?;
        let metadata = file.metadata()?;
        // What was opened is what counts.
        if !metadata.is_file() {
            return Err(Refused::NoFile);
        }
        if metadata.len() > limit {
            return Err(Refused::TooLarge);
        }
        if keep == Keep::Memory {
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes)?;
            return Ok(Some(Self::Memory(bytes)));
        }
        let place = Builder::new().prefix(PREFIX).tempfile_in(folder)?;
        if is_ours_alone(&metadata) && fs::rename(path, &place).is_ok() {
            make_private(&file)?;
            // The name leads to what was moved there.
            return Ok(Some(Self::poured(file, place.into_temp_path())?));
        }
        let (mut copy, path) = NamedTempFile::into_parts(place);
        io::copy(&mut file.take(limit), &mut copy)?;
        Ok(Some(Self::poured(copy, path)?))
    }
}

/// Why what a program left is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    NoFile,
    TooLarge,
    Unread(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;
    // The bits are the system's, whatever type they come in.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Whether the file has no other name: one that has is somebody else's, too.
#[cfg(unix)]
fn is_ours_alone(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    metadata.nlink() == 1
}

#[cfg(not(unix))]
fn is_ours_alone(_: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn make_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn make_private(_: &File) -> io::Result<()> {
    Ok(())
}
