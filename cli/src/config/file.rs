//! Where the configuration lies, and how it is read and changed there.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use directories::ProjectDirs;
use studio_worker_core::worker::Identity;
use tempfile::NamedTempFile;

use super::{
    Config, ConfigError,
    document::{Document, Edit, line_of},
    read::{self, KEYS},
    template::TEMPLATE,
};
use crate::lock;

/// Larger files, in bytes, are not configurations.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long other processes may take to save: each waits for a disk that may be busy, and whoever comes may have to wait for
/// several of them.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How many links to links are followed.
const MAX_LINKS: usize = 16;

/// A configuration's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    /// The file at `given` (`--config`), or at the place that section 7 names for this system.
    pub fn locate(given: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = given {
            return Ok(Self { path: path.to_owned() });
        }
        let dirs = ProjectDirs::from("gg", "minis", "minis-studio-worker").ok_or(ConfigError::NoHome)?;
        Ok(Self { path: dirs.config_dir().join("config.toml") })
    }

    /// The path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; a missing file is an error.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.read().and_then(|text| Config::parse(&text, &self.path))
    }

    /// Reads it; a missing file is made with the defaults.
    pub fn load_or_create(&self) -> Result<Config, ConfigError> {
        match self.load() {
            Err(error) if error.is_missing() => {
                self.create()?;
                self.load()
            }
            outcome => outcome,
        }
    }

    /// Reads who the worker is, also where something else in it can't be used.
    pub(crate) fn identity(&self) -> Result<Identity, ConfigError> {
        let text = self.read()?;
        let document = Document::parse(&text).map_err(|syntax| syntax.at(&self.path))?;
        read::identity(&document, &self.path)
    }

    /// The keys at the top level that this program doesn't know, each with its line: they are kept, and mean nothing.
    pub fn unknown_keys(&self) -> Result<Vec<(usize, String)>, ConfigError> {
        let text = self.read()?;
        let document = Document::parse(&text).map_err(|syntax| syntax.at(&self.path))?;
        let unknown = document.keys().filter(|key| !KEYS.contains(key));
        Ok(unknown.map(|key| (document.line_of(key), key.to_owned())).collect())
    }

    /// Merges `edits` into the file as it is now, made with the defaults if there is none. What comes of it is
    /// written only if it is a configuration without errors.
    pub fn edit(&self, edits: &[Edit]) -> Result<Config, ConfigError> {
        self.load_or_create_text()?;
        self.merge(edits, |text| Config::parse(text, &self.path))
    }

    /// The same for a worker that runs: the file must be there, since one with defaults would name another studio,
    /// and a value in it that can't be used does not keep the edits from being stored.
    pub(super) fn store(&self, edits: &[Edit]) -> Result<(), ConfigError> {
        self.merge(edits, |_| Ok(()))
    }

    /// The text, if it can be one of a configuration.
    pub(super) fn read(&self) -> Result<String, ConfigError> {
        let path = &self.path;
        let not_a_file = |problem| ConfigError::NotAFile { path: path.clone(), problem };
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.clone() },
            _ => ConfigError::io("read", path)(error),
        };
        // Looked at before it is opened, since opening a pipe waits.
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(not_a_file("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(not_a_file("it is larger than 1 MiB"));
        }
        text_of(bytes, path)
    }

    fn load_or_create_text(&self) -> Result<(), ConfigError> {
        match self.read() {
            Err(error) if error.is_missing() => self.create(),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    fn create(&self) -> Result<(), ConfigError> {
        let target = resolve(&self.path);
        let dir = parent(&target);
        create_dirs(dir).map_err(ConfigError::io("create", dir))?;
        let _lock = self.lock(&target)?;
        let failed = |error| ConfigError::io("create", &self.path)(error);
        let file = filled(dir, TEMPLATE).map_err(failed)?;
        match file.persist_noclobber(&target) {
            Ok(_) => {
                sync_dir(dir);
                log::info!("there was no configuration: made {} with the defaults", self.path.display());
                Ok(())
            }
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error.error)),
        }
    }

    fn merge<T>(
        &self,
        edits: &[Edit],
        check: impl FnOnce(&str) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let target = resolve(&self.path);
        let _lock = self.lock(&target)?;
        let text = self.read()?;
        let document = Document::parse(&text).map_err(|syntax| syntax.at(&self.path))?;
        let merged =
            document.merge(edits).map_err(|key| ConfigError::Merge { path: self.path.clone(), key })?;
        let checked = check(&merged)?;
        if merged != text {
            replace(&target, &merged).map_err(ConfigError::io("write", &self.path))?;
        }
        Ok(checked)
    }

    /// Keeps other processes of ours from saving.
    fn lock(&self, target: &Path) -> Result<File, ConfigError> {
        let path = lock::beside(target, "lock");
        let file = lock::open(&path).map_err(ConfigError::io("write", &path))?;
        match lock::wait(&file, LOCK_PATIENCE) {
            Ok(true) => Ok(file),
            Ok(false) => Err(ConfigError::Busy { path: self.path.clone() }),
            Err(error) => Err(ConfigError::io("lock", &path)(error)),
        }
    }
}

/// The text of a file with these bytes, if it can be one of a configuration.
pub(super) fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, ConfigError> {
    let damaged = |line, problem| ConfigError::Damaged { path: path.to_owned(), line, problem };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(damaged(1, "the file is empty"));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(damaged(line_of(&bytes, at), "there are NUL bytes, as after a crash"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        damaged(line, "it is not UTF-8 text")
    })
}

/// The file itself where `path` is a link, so that the link stays one.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        match fs::read_link(&path) {
            // A link to nothing, yet.
            Ok(to) => path = parent(&path).join(to),
            Err(_) => break,
        }
    }
    path
}

/// The directory that `path` is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes a directory and those above it, for their owner alone.
pub(crate) fn create_dirs(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Writes `text` to `target` so that there is always either the old or the new one, for its owner alone.
fn replace(target: &Path, text: &str) -> std::io::Result<()> {
    let dir = parent(target);
    let file = filled(dir, text)?;
    keep_owner(target, &file);
    file.persist(target).map_err(|error| error.error)?;
    sync_dir(dir);
    Ok(())
}

/// A new file beside the target, with its bytes on the disk. It is made with mode 0600.
fn filled(dir: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".config.toml.").tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Leaves the file to whom it belonged: an administrator who changes another user's configuration must not lock
/// that user's worker out of it.
#[cfg(unix)]
fn keep_owner(target: &Path, file: &NamedTempFile) {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let (Ok(old), Ok(new)) = (fs::metadata(target), file.as_file().metadata()) else { return };
    if (old.uid(), old.gid()) != (new.uid(), new.gid())
        && let Err(error) = fchown(file.as_file(), Some(old.uid()), Some(old.gid()))
    {
        log::warn!("{} belongs to you now, since its owner could not be kept: {error}", target.display());
    }
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &NamedTempFile) {}

/// Makes a rename in `dir` durable, where the system can.
fn sync_dir(dir: &Path) {
    if cfg!(unix)
        && let Err(error) = File::open(dir).and_then(|dir| dir.sync_all())
    {
        log::debug!("{} can't be synced: {error}", dir.display());
    }
}
