//! Downloads on disk. Everything here blocks.
#![allow(clippy::disallowed_methods, reason = "part of the driver that runs on threads of the runtime")]

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    drive::{LOG_TARGET, private},
    machine::{
        FileWanted,
        files::{End, Found, Part, Write, Written},
    },
};

/// The folder beside files in which it is remembered what is known of them, and where their locks are.
const FOLDER: &str = ".studio-worker";
/// What is hashed at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// Where a file is to be, and what belongs to it.
pub(super) struct Place {
    path: PathBuf,
    part: PathBuf,
    lock: PathBuf,
    memory: PathBuf,
    /// Where it comes from.
    source: Option<String>,
    /// What is worth remembering: the file and its copies.
    paths: Vec<String>,
}

/// Held as long as it lives. None where the file system has no locks.
pub(super) struct Lock(#[expect(dead_code, reason = "held")] Option<File>);

/// What is remembered of a file.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    #[serde(default)]
    hashed: BTreeMap<String, Hashed>,
    #[serde(default)]
    part: Option<Note>,
}

/// A file that was hashed. With another size or time it is another file.
#[derive(Serialize, Deserialize)]
struct Hashed {
    bytes: u64,
    modified_ns: u64,
    sha256: [u8; 32],
    /// Where it was downloaded from; none: it is somebody's own.
    #[serde(default)]
    source: Option<String>,
}

/// What a part is a part of.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Note {
    validator: Option<String>,
    total: Option<u64>,
    #[serde(default)]
    source: Option<String>,
}

impl Place {
    pub(super) fn of(wanted: &FileWanted) -> Self {
        let path = PathBuf::from(&wanted.path);
        let name = path.file_name().unwrap_or_default();
        let with = |ending: &str| {
            let mut name = name.to_owned();
            name.push(ending);
            name
        };
        let own = path.with_file_name(FOLDER);
        Self {
            part: path.with_file_name(with(".part")),
            lock: own.join(with(".lock")),
            memory: own.join(with(".json")),
            source: wanted.origin.as_ref().map(|origin| origin.source().to_owned()),
            paths: std::iter::once(&wanted.path).chain(&wanted.copies).cloned().collect(),
            path,
        }
    }

    /// The folder that it is in, as far as that is there.
    pub(super) fn folder(&self) -> String {
        let there = self.path.ancestors().skip(1).find(|folder| folder.is_dir());
        there.unwrap_or(Path::new(".")).to_string_lossy().into_owned()
    }

    pub(super) fn look(&self, paths: &[String]) -> Vec<Option<Found>> {
        let memory = self.memory();
        let found = |path: &String| {
            let metadata = fs::metadata(path).ok().filter(Metadata::is_file)?;
            let (bytes, modified_ns) = (metadata.len(), modified_ns(&metadata));
            let is_same = |hashed: &&Hashed| (hashed.bytes, hashed.modified_ns) == (bytes, modified_ns);
            let remembered = memory.hashed.get(path).filter(is_same);
            let sha256 = remembered.map(|hashed| hashed.sha256);
            let source = remembered.and_then(|hashed| hashed.source.clone());
            Some(Found { bytes, modified_ns, sha256, source })
        };
        paths.iter().map(found).collect()
    }

    pub(super) fn hash(&self, path: &str, unwanted: &AtomicBool) -> Result<[u8; 32], String> {
        let failed = |error: io::Error| format!("{path}: {error}");
        let mut file = File::open(path).map_err(failed)?;
        // Whoever changes it meanwhile changes the time.
        let before = file.metadata().map_err(failed)?;
        let sha256 = hash(&mut file, unwanted).map_err(failed)?.finalize().into();
        self.remember(|memory| memory.hash_is(path, &before, sha256, None));
        Ok(sha256)
    }

    /// Takes the lock, unless somebody else has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>, String> {
        let failed = |error: io::Error| format!("{}: {error}", self.lock.display());
        if let Some(folder) = self.lock.parent() {
            private::create_dirs(folder).map_err(failed)?;
        }
        let lock = private::file().create(true).append(true).open(&self.lock).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Lock(Some(lock)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                log::debug!(target: LOG_TARGET, "{}: no lock: {error}", self.lock.display());
                Ok(Some(Lock(None)))
            }
        }
    }

    pub(super) fn part_bytes(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |metadata| metadata.len())
    }

    /// Opens the part, and hashes what there is of it.
    pub(super) fn open(&self, unwanted: &AtomicBool) -> Result<OpenPart, String> {
        let failed = |error: io::Error| self.trouble(&error);
        let mut file = private::file()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.part)
            .map_err(failed)?;
        let hasher = hash(&mut file, unwanted).map_err(failed)?;
        let bytes = file.stream_position().map_err(failed)?;
        Ok(OpenPart { file, hasher, bytes, note: self.memory().part.unwrap_or_default() })
    }

    /// The part is gone.
    pub(super) fn clear(&self) -> crate::machine::files::Seen {
        let _ = fs::remove_file(&self.part);
        crate::machine::files::Seen::Emptied
    }

    fn trouble(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.part.display())
    }

    fn memory(&self) -> Memory {
        fs::read(&self.memory).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Changes what is remembered. Where that can't be written it is found out again.
    fn remember(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory();
        memory.hashed.retain(|path, _| self.paths.contains(path));
        change(&mut memory);
        let new = self.memory.with_extension("new");
        let written = serde_json::to_vec(&memory).map_err(io::Error::other).and_then(|text| {
            if let Some(folder) = new.parent() {
                private::create_dirs(folder)?;
            }
            private::file().write(true).create(true).truncate(true).open(&new)?.write_all(&text)?;
            fs::rename(&new, &self.memory)
        });
        if let Err(error) = written {
            log::debug!(target: LOG_TARGET, "{}: not written: {error}", self.memory.display());
        }
    }
}

impl Memory {
    fn hash_is(&mut self, path: &str, metadata: &Metadata, sha256: [u8; 32], source: Option<String>) {
        let (bytes, modified_ns) = (metadata.len(), modified_ns(metadata));
        self.hashed.insert(path.to_owned(), Hashed { bytes, modified_ns, sha256, source });
    }
}

fn modified_ns(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The part of a file that is being downloaded, and its hash so far.
pub(super) struct OpenPart {
    file: File,
    hasher: Sha256,
    bytes: u64,
    note: Note,
}

/// The part, and why nothing more can be written to it.
type Stopped = Box<(OpenPart, End)>;

impl OpenPart {
    /// An empty one.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self { file, hasher: Sha256::new(), bytes: 0, note: Note::default() }
    }

    pub(super) fn seen(&self) -> Part {
        Part {
            bytes: self.bytes,
            sha256: self.sha256(),
            validator: self.note.validator.clone(),
            total: self.note.total,
            source: self.note.source.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn written(&self, end: End) -> Written {
        Written { bytes: self.bytes, sha256: self.sha256(), end }
    }

    fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// What comes is appended to the first `from` bytes.
    pub(super) fn begin(mut self, place: &Place, write: &Write) -> Result<Self, Stopped> {
        if write.from != self.bytes
            && let Err(error) = self.cut(write.from)
        {
            let end = End::Trouble(place.trouble(&error));
            return Err(Box::new((self, end)));
        }
        let Write { validator, total, .. } = write.clone();
        place.remember(|memory| memory.part = Some(Note { validator, total, source: place.source.clone() }));
        Ok(self)
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.file.rewind()?;
        self.hasher = hash(&mut self.file, &AtomicBool::new(false))?;
        self.bytes = bytes;
        Ok(())
    }

    pub(super) fn append(mut self, place: &Place, piece: &[u8]) -> Result<Self, Stopped> {
        let mut rest = piece;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(length) if length > 0 => {
                    self.hasher.update(&rest[..length]);
                    self.bytes += length as u64;
                    rest = &rest[length..];
                }
                Ok(_) => {
                    let why = io::Error::from(ErrorKind::WriteZero).to_string();
                    return Err(Box::new((self, End::DiskFull(why))));
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        return Err(Box::new((self, End::DiskFull(error.to_string()))));
                    }
                    _ => {
                        let why = format!("{} can't be written: {error}", place.part.display());
                        return Err(Box::new((self, End::Trouble(why))));
                    }
                },
            }
        }
        Ok(self)
    }

    pub(super) fn emptied(mut self, place: &Place) -> Result<Self, String> {
        self.cut(0).map_err(|error| place.trouble(&error))?;
        self.note = Note::default();
        place.remember(|memory| memory.part = None);
        Ok(self)
    }

    /// Puts the file in its place. What is remembered of it must hold after a power cut, too.
    pub(super) fn finish(self, place: &Place) -> Result<(), String> {
        let path = place.path.display();
        let failed = |error: io::Error| format!("{path}: {error}");
        self.file.sync_all().map_err(failed)?;
        fs::rename(&place.part, &place.path).map_err(failed)?;
        #[cfg(unix)]
        if let Some(folder) = place.path.parent() {
            // Not every file system can; the file is in its place nonetheless.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        let sha256 = self.sha256();
        let metadata = self.file.metadata().map_err(failed)?;
        place.remember(|memory| {
            memory.part = None;
            if let Some(path) = place.paths.first() {
                memory.hash_is(path, &metadata, sha256, place.source.clone());
            }
        });
        Ok(())
    }
}

/// Hashes a file from its beginning to its end, which is where it is afterwards.
fn hash(file: &mut File, unwanted: &AtomicBool) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        if unwanted.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher),
            Ok(length) => hasher.update(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
