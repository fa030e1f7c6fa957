//! A worker's identity in a file of its own, for services that keep no configuration for it.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde_json::{Map, Value};

use crate::{
    drive::{Store, identity_of, private},
    worker::{Change, Identity},
};

/// Keeps a worker's identity in a JSON file that only this user can read, so that the worker is the same one after a
/// restart. A file is one worker's at a time: a lock on `<file>.lock` beside it is held as long as this lives.
pub struct FileStore {
    path: PathBuf,
    /// Held, and given up with the file.
    _lock: File,
    /// As it is in the file. Keys that this version does not know stay.
    values: Mutex<Map<String, Value>>,
}

impl FileStore {
    /// Reads what is stored in `path`; a file that does not exist yet is that of a new worker, and its folder must exist.
    /// Blocks for a moment, and for a second where another worker uses the file.
    ///
    /// The error names the file and never quotes it. It is of the kind `WouldBlock` when another worker uses the file.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let failed = |kind, why: String| io::Error::new(kind, format!("{}: {why}", path.display()));
        let mut name = path.clone().into_os_string();
        name.push(".lock");
        let lock = private::file().create(true).append(true).open(&name);
        let lock = lock.map_err(|error| failed(error.kind(), format!("it can't be locked: {error}")))?;
        match private::lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(ErrorKind::WouldBlock, "another worker uses it".into()));
            }
            // Some file systems have no locks.
            Err(TryLockError::Error(error)) => log::debug!("{}: no lock: {error}", path.display()),
        }
        let values = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                failed(
                    ErrorKind::InvalidData,
                    format!("not a JSON object of a worker's identity (line {line}, column {column})"),
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(failed(error.kind(), error.to_string())),
        };
        Ok(Self { path, _lock: lock, values: Mutex::new(values) })
    }

    /// Who the worker is, to start it with.
    pub fn identity(&self) -> Identity {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        identity_of(|key| values.get(key.name()).and_then(Value::as_str).map(Into::into))
    }

    fn write(&self, values: &Map<String, Value>) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::Builder::new().prefix(".studio-worker-").tempfile_in(folder)?;
        let text = serde_json::to_string_pretty(values).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|failed| failed.error)?;
        // The new name is on the disk, too. Where a folder can't be opened as a file, the system sees to it.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Store for FileStore {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = values.clone();
        for Change { key, value } in changes {
            match value {
                Some(value) => new.insert(key.name().into(), value.reveal().into()),
                None => new.remove(key.name()),
            };
        }
        self.write(&new).map_err(|error| format!("{}: {error}", self.path.display()))?;
        *values = new;
        Ok(())
    }
}

impl fmt::Debug for FileStore {
    /// Without what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{wire::Secret, worker::Key};

    fn change(key: Key, value: Option<&str>) -> Change {
        Change { key, value: value.map(Secret::from) }
    }

    #[test]
    fn a_worker_is_the_same_one_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.json");
        let store = FileStore::open(&path).unwrap();
        assert_eq!(store.identity(), Identity::default());
        assert!(!path.exists(), "nothing is written before there is something to keep");
        store
            .save(&[
                change(Key::InstallId, Some("i")),
                change(Key::RegistrationSecret, Some("s")),
                change(Key::AuthToken, Some("t")),
            ])
            .unwrap();
        store.save(&[change(Key::RegistrationSecret, None)]).unwrap();
        let wanted =
            Identity { install_id: Some("i".into()), auth_token: Some("t".into()), ..Identity::default() };
        assert_eq!(store.identity(), wanted);
        assert_eq!(FileStore::open(&path).unwrap_err().kind(), ErrorKind::WouldBlock, "it is one worker's");
        drop(store);
        assert_eq!(FileStore::open(&path).unwrap().identity(), wanted);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the file and its lock");
    }

    #[test]
    fn what_a_newer_version_keeps_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.json");
        fs::write(&path, r#"{"worker_id":"w","future":[1]}"#).unwrap();
        FileStore::open(&path).unwrap().save(&[change(Key::WorkerId, Some("v"))]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let kept: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(kept, serde_json::json!({ "worker_id": "v", "future": [1] }));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.json");
        fs::write(&path, "{\"auth_token\": tok-1}").unwrap();
        let error = FileStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("worker.json") && error.contains("line 1"), "{error}");
        assert!(!error.contains("tok-1"), "{error}");

        let nowhere = FileStore::open(folder.path().join("none").join("worker.json")).unwrap_err();
        assert!(nowhere.to_string().contains("worker.json"), "{nowhere}");

        let place = folder.path().join("place");
        fs::create_dir(&place).unwrap();
        let store = FileStore::open(place.join("worker.json")).unwrap();
        fs::remove_dir_all(&place).unwrap();
        let error = store.save(&[change(Key::AuthToken, Some("tok-1"))]).unwrap_err();
        assert!(error.contains("worker.json") && !error.contains("tok-1"), "{error}");
        assert_eq!(store.identity(), Identity::default(), "what was not stored is not there");
        assert!(!format!("{store:?}").contains("tok-1"));
    }
}
