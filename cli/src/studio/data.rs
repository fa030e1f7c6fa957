//! The data directory: who uses it, the admin token, and the files of results.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use studio_worker_core::wire::Secret;

use crate::lock;

/// How long its lock is waited for. A program that this process is about to start has it, too, until it is that program.
const GLANCE: Duration = Duration::from_secs(1);

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It could not be made, read or written.
    #[error("the data directory {} can't be used: {}: {source}", .dir.display(), .doing)]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another studio has it.
    #[error("the data directory {} is in use by {who}", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// `process N`, or `another studio`.
        who: String,
    },
    /// The platform names no place for data, and none was given.
    #[error("no place for the studio's data is known: give one with --data DIR")]
    NoPlace,
    /// The system gave no randomness, without which there are no secrets.
    #[error("the system gave no randomness")]
    NoRandomness(#[source] getrandom::Error),
}

/// A data directory that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    /// Held for its lock.
    _lock: File,
}

/// Where the data are when nobody says: `~/.local/share/minis-studio-worker/studio` (or under
/// `$XDG_DATA_HOME`), `~/Library/Application Support/gg.minis.minis-studio-worker/studio`,
/// `%APPDATA%\minis\minis-studio-worker\data\studio`.
pub fn default_data_dir() -> Result<PathBuf, DataError> {
    directories::ProjectDirs::from("gg", "minis", "minis-studio-worker")
        .map(|places| places.data_dir().join("studio"))
        .ok_or(DataError::NoPlace)
}

impl DataDir {
    /// Makes the directory if need be, readable by its owner alone, and takes it for this process.
    pub(crate) fn open(root: PathBuf) -> Result<Self, DataError> {
        let failed = |doing| {
            let dir = root.clone();
            move |source| DataError::Io { dir, doing, source }
        };
        make_private_dir(&root).map_err(failed("making it"))?;
        let lock_path = root.join("studio.lock");
        let mut file = private(OpenOptions::new().read(true).write(true).create(true))
            .open(&lock_path)
            .map_err(failed("opening studio.lock"))?;
        match lock::wait(&file, GLANCE) {
            Ok(true) => {}
            Ok(false) => {
                let mut holder = String::new();
                // Some systems let nobody read a locked file: the name of the process is a courtesy.
                let read = file.read_to_string(&mut holder);
                let pid = read.ok().and_then(|_| holder.trim().parse::<u32>().ok());
                let who = pid.map_or_else(|| "another studio".to_owned(), |pid| format!("process {pid}"));
                return Err(DataError::InUse { dir: root, who });
            }
            Err(source) => return Err(failed("locking studio.lock")(source)),
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(pid.as_bytes()))
            .map_err(failed("writing studio.lock"))?;
        make_private_dir(&root.join("results")).map_err(failed("making results"))?;
        Ok(Self { root, _lock: file })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("studio.sqlite")
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    pub(crate) fn admin_token_path(&self) -> PathBuf {
        self.root.join("admin-token")
    }

    /// The admin token, made on the first call: 256 bits as hex, in a file that only its owner can read.
    pub(crate) fn admin_token(&self) -> Result<Secret, DataError> {
        let path = self.admin_token_path();
        let failed = |doing| move |source| DataError::Io { dir: self.root.clone(), doing, source };
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(Secret::from(text.trim())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("reading admin-token")(error)),
        }
        let token = random_hex::<32>().map_err(DataError::NoRandomness)?;
        let temporary = self.root.join("admin-token.part");
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true))
            .open(&temporary)
            .map_err(failed("writing admin-token"))?;
        file.write_all(format!("{token}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_dir(&self.root))
            .map_err(failed("writing admin-token"))?;
        Ok(Secret::new(token))
    }

    /// Deletes what an interrupted upload or discard left among the results: whatever `is_wanted` doesn't know.
    pub(crate) fn sweep(&self, mut is_wanted: impl FnMut(&str) -> bool) -> io::Result<usize> {
        let mut swept = 0;
        for entry in fs::read_dir(self.results())? {
            let entry = entry?;
            let wanted = entry.file_name().to_str().is_some_and(&mut is_wanted);
            if !wanted && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// `N` random bytes as hex.
pub(crate) fn random_hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(2 * N), |hex, byte| hex + &format!("{byte:02x}")))
}

/// Makes what was renamed into `dir` last over a loss of power. Systems that can't sync a directory do
/// without.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// `options` for files that nobody but their owner can read.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_data_directory_has_one_user_at_a_time() {
        let place = place();
        let root = place.path().join("a/b");
        let first = DataDir::open(root.clone()).unwrap();
        let second = DataDir::open(root.clone()).unwrap_err().to_string();
        assert!(second.ends_with(&format!("is in use by process {}", std::process::id())), "{second}");
        drop(first);
        DataDir::open(root).unwrap();
    }

    #[test]
    fn the_admin_token_is_made_once_and_private() {
        let place = place();
        let data = DataDir::open(place.path().to_owned()).unwrap();
        let token = data.admin_token().unwrap();
        assert_eq!(token.reveal().len(), 64);
        assert_eq!(data.admin_token().unwrap(), token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(data.admin_token_path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_sweep_leaves_what_is_wanted() {
        let place = place();
        let data = DataDir::open(place.path().to_owned()).unwrap();
        for name in ["a.png", "b.png", "c.part"] {
            fs::write(data.results().join(name), b"x").unwrap();
        }
        assert_eq!(data.sweep(|name| name == "a.png").unwrap(), 2);
        assert!(data.results().join("a.png").exists());
    }

    #[test]
    fn a_place_that_is_no_directory_is_a_named_error() {
        let place = place();
        let file = place.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = DataDir::open(file.clone()).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains("making it"), "{error}");
    }
}
