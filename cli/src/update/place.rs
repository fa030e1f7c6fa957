//! Where the program's file is, and how another one takes its place: at each moment there is a whole program at that path.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use studio_worker_core::update::{Record, Version};
use tempfile::NamedTempFile;

use super::{PROGRAM, UpdateError, owner};
use crate::lock;

/// How long another process may take to put a version in place.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long another process may take to change what is remembered.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// What a version was started from, when that is not where it belongs: a version that watches another one.
pub(super) const SUPERVISED: &str = "STUDIO_WORKER_SUPERVISES";

/// The program's file, and what lies beside it: the one before, and the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    program: PathBuf,
}

/// A place that nobody else changes.
#[derive(Debug)]
pub struct Locked {
    _file: fs::File,
}

impl Place {
    /// The place of the program that runs. To be asked for before anything is put there.
    pub fn here() -> Result<Self, UpdateError> {
        let program = match env::var_os(SUPERVISED) {
            Some(program) => program.into(),
            None => env::current_exe().and_then(|path| path.canonicalize()).map_err(UpdateError::Unknown)?,
        };
        Ok(Self::at(program))
    }

    /// The place of the program at a path. The one before is there to take the place of the program, and has none of its own.
    pub fn at(program: PathBuf) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(env::consts::EXE_SUFFIX).unwrap_or(&name);
        match stem.strip_suffix(".old") {
            Some(stem) => {
                Self { program: program.with_file_name(format!("{stem}{}", env::consts::EXE_SUFFIX)) }
            }
            None => Self { program },
        }
    }

    /// The program's file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program's file before the last update.
    pub fn old(&self) -> PathBuf {
        let name = self.program.file_stem().unwrap_or_default().to_string_lossy();
        self.folder().join(format!("{name}.old{}", env::consts::EXE_SUFFIX))
    }

    /// Where the next version is made ready. On the same file system, so that it takes its place in one step.
    pub(super) fn staging(&self) -> PathBuf {
        self.beside("update")
    }

    /// Keeps others from making a version ready, or putting one in place, as long as what comes back lives.
    pub(crate) fn lock(&self) -> Result<Locked, UpdateError> {
        let path = self.beside("update.lock");
        let file = self.lock_file(&path)?;
        match lock::wait(&file, LOCK_PATIENCE) {
            Ok(true) => Ok(Locked { _file: file }),
            Ok(false) => Err(UpdateError::Locked(self.program.clone())),
            Err(error) => Err(UpdateError::at("lock", &path)(error)),
        }
    }

    /// A file to lock, which its owner alone can open: who could would hold up everybody.
    fn lock_file(&self, path: &Path) -> Result<fs::File, UpdateError> {
        match lock::open(path) {
            Ok(file) => {
                owner::give(&file, self.folder());
                Ok(file)
            }
            // Where nothing can be written any more, it may be there all the same.
            Err(error) => lock::open_existing(path).map_err(|_| UpdateError::at("write", path)(error)),
        }
    }

    /// Gives what this process has made there to whom the program's folder belongs, if this process is root.
    pub(super) fn give(&self, path: &Path) {
        owner::give_all(path, self.folder());
    }

    fn record_path(&self) -> PathBuf {
        self.beside("update.json")
    }

    fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("."))
    }

    /// A hidden name beside the program.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        self.folder().join(format!(".{name}.{what}"))
    }

    /// What is remembered; nothing where nothing is, or it can't be read.
    pub fn record(&self) -> Record {
        fs::read_to_string(self.record_path()).map(|text| Record::parse(&text)).unwrap_or_default()
    }

    /// Changes what is remembered, all or nothing.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record)) -> Result<(), UpdateError> {
        let _alone = self.alone()?;
        let mut record = self.record();
        let before = record.clone();
        change(&mut record);
        if record == before { Ok(()) } else { self.write(&record.to_text()) }
    }

    /// Keeps others from changing what is remembered, for the moment that a change takes.
    fn alone(&self) -> Result<fs::File, UpdateError> {
        let path = self.beside("update.json.lock");
        let file = self.lock_file(&path)?;
        match lock::wait(&file, RECORD_PATIENCE) {
            Ok(true) => {}
            Ok(false) => log::debug!("{} is held for long, and is passed over", path.display()),
            Err(error) => return Err(UpdateError::at("lock", &path)(error)),
        }
        Ok(file)
    }

    fn write(&self, record: &str) -> Result<(), UpdateError> {
        let path = self.record_path();
        let write = || {
            let mut file = NamedTempFile::new_in(self.folder())?;
            file.write_all(record.as_bytes())?;
            file.as_file().sync_all()?;
            // There is nothing in it that others may not see, and a worker of another user has to.
            shared(file.path(), 0o644)?;
            owner::give(file.as_file(), self.folder());
            file.persist(&path).map_err(|error| error.error)?;
            self.sync();
            Ok(())
        };
        write().map_err(UpdateError::at("write", &path))
    }

    /// Another number after each change of what is remembered.
    pub(super) fn record_stamp(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.record_path()).and_then(|metadata| metadata.modified()).ok()
    }

    /// Whether what is in place says that it is of this very version.
    pub(crate) fn is_own(&self) -> bool {
        self.version() == super::own_version().ok()
    }

    /// The version of the program that is in place now, if it says one.
    pub(super) fn version(&self) -> Option<Version> {
        says(&self.program)
    }

    /// Whether it is this version that lies ready. An error: what lies there can't be asked now.
    pub(super) fn is_staged(&self, version: &Version) -> Result<bool, UpdateError> {
        let program = self.staged();
        if !program.exists() {
            return Ok(false);
        }
        let said = super::bench::version_of(&program).map_err(UpdateError::NoProgram)?;
        Ok(version_in(&said).as_ref() == Some(version))
    }

    /// Whether another program can take its place: its folder can be written.
    pub(super) fn check(&self) -> Result<(), UpdateError> {
        // What permissions say is not what a file system does: only trying tells.
        tempfile::tempfile_in(self.folder()).map(drop).map_err(UpdateError::at("write to", self.folder()))
    }

    /// Whether the worker that runs as the process of this id could put another program in place, too, where whoever asks can:
    /// else [`UpdateError::NotTheirs`], or what keeps whoever asks from it.
    pub fn check_for(&self, pid: u32) -> Result<(), UpdateError> {
        self.check()?;
        let folder = self.folder();
        if owner::may_write(pid, folder) { Ok(()) } else { Err(UpdateError::NotTheirs(folder.to_owned())) }
    }

    /// Whether what follows a trial can be done here: another program takes its place, and what came of it is remembered.
    pub(super) fn check_all(&self, _locked: &Locked) -> Result<(), UpdateError> {
        self.check()?;
        let _alone = self.alone()?;
        // The folder may be written to, and this one file not, or the disk be full.
        match fs::read_to_string(self.record_path()) {
            Ok(record) => self.write(&record),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(UpdateError::at("read", &self.record_path())(error)),
        }
    }

    /// Puts the version that lies ready in place, which has passed its trial, or is put there untried since no worker runs.
    pub(crate) fn put_ready(
        &self,
        version: &Version,
        tried: bool,
        _locked: &Locked,
    ) -> Result<(), UpdateError> {
        let own = super::own_version()?;
        let record = self.record();
        // Remembered first: what is in place and was never tried must not pass for the one that was.
        if !tried {
            self.note(|record| record.put_in_place(version.clone(), own.clone()))?;
        }
        // What was never tried is no way back: the one before it stays that.
        let put = self.put(&self.staged(), record.on_trial.is_none());
        self.clear();
        let remembered = match (&put, tried) {
            (Ok(()), true) => self.note(|record| record.keep(version, own)),
            (Ok(()), false) | (Err(_), true) => Ok(()),
            (Err(_), false) => self.note(|now| {
                (now.pending, now.on_trial, now.previous) =
                    (record.pending, record.on_trial, record.previous);
                now.refused.extend(record.refused.into_iter().filter(|refused| refused.version == *version));
            }),
        };
        // What became of the program's file counts.
        if let Err(error) = remembered {
            log::warn!("what became of an update can't be remembered: {error}");
        }
        put
    }

    /// The program that was made ready.
    pub(super) fn staged(&self) -> PathBuf {
        self.staging().join(PROGRAM)
    }

    /// Puts `program` in place, in one step. What was there is kept as [`Place::old`], if it is worth that.
    pub(super) fn put(&self, program: &Path, keep_old: bool) -> Result<(), UpdateError> {
        let (old, kept, new) = (self.old(), self.beside("kept"), self.beside("new"));
        // Brought here first, whoever made it: nothing is touched for what isn't there.
        let bring = || {
            let _ = fs::remove_file(&new);
            fs::rename(program, &new).or_else(|_| fs::copy(program, &new).map(drop))?;
            shared(&new, 0o755)?;
            self.give(&new);
            Ok(())
        };
        bring().map_err(UpdateError::at("take", program))?;
        let keep = || {
            let _ = fs::remove_file(&kept);
            fs::hard_link(&self.program, &kept).or_else(|_| fs::copy(&self.program, &kept).map(drop))?;
            fs::rename(&kept, &old)
        };
        let kept_old =
            if keep_old { keep().map_err(UpdateError::at("keep the program as", &old)) } else { Ok(()) };
        let put = kept_old
            .and_then(|()| replace(&new, &self.program).map_err(UpdateError::at("replace", &self.program)));
        if put.is_err() {
            gone(fs::remove_file(&new));
        }
        self.give(&old);
        self.sync();
        put
    }

    /// Puts the one before back, in one step.
    pub(crate) fn put_back(&self) -> Result<(), UpdateError> {
        let old = self.old();
        replace(&old, &self.program).map_err(UpdateError::at("put back", &old))?;
        self.sync();
        Ok(())
    }

    /// What took its place is there after a power cut, too.
    fn sync(&self) {
        #[cfg(unix)]
        if let Err(error) = fs::File::open(self.folder()).and_then(|folder| folder.sync_all()) {
            log::debug!("{} can't be synchronised: {error}", self.folder().display());
        }
    }

    /// Deletes what was made ready and is not wanted any more, under the lock.
    pub(crate) fn clear(&self) {
        gone(fs::remove_dir_all(self.staging()));
    }

    /// The same, if nobody wants it tried.
    pub(crate) fn clear_unwanted(&self, _locked: &Locked) {
        if self.record().pending.is_none() {
            self.clear();
        }
    }

    /// Has what is in place lie ready, too: whether it does.
    pub(crate) fn set_aside(&self) -> bool {
        self.clear();
        let (from, to) = (&self.program, self.staged());
        let set = fs::create_dir(self.staging())
            .and_then(|()| fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)));
        self.give(&self.staging());
        set.is_ok()
    }

    /// Deletes the programs that others have taken the place of while they ran, under the lock: where it matters, a program
    /// that runs can't be deleted.
    pub(crate) fn clear_away(&self, _locked: &Locked) {
        let Ok(entries) = fs::read_dir(self.folder()) else { return };
        let stem = format!("{}.{AWAY}.", self.program.file_stem().unwrap_or_default().to_string_lossy());
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&stem) {
                gone(fs::remove_file(entry.path()));
            }
        }
    }
}

/// The version that a program says it is of, if it says one.
fn says(program: &Path) -> Option<Version> {
    version_in(&super::bench::version_of(program).ok()?)
}

fn version_in(said: &str) -> Option<Version> {
    Version::parse(said.split_whitespace().last()?).ok()
}

fn gone(deleted: io::Result<()>) {
    match deleted {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::debug!("what is left of an update can't be deleted: {error}");
        }
        _ => {}
    }
}

/// Lets others than the owner see a file, or run it, whatever the umask is.
pub(super) fn shared(path: &Path, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    return fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    {
        let _ = (path, mode);
        Ok(())
    }
}

/// What a program is called that had to leave its place while it ran.
const AWAY: &str = "away";

/// Renames over what is there.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    // A program that runs can't be overwritten there, but renamed.
    if cfg!(windows) { replace_aside(from, to) } else { fs::rename(from, to) }
}

/// Renames to where something is, which is renamed first, and comes back if nothing takes its place.
fn replace_aside(from: &Path, to: &Path) -> io::Result<()> {
    let away = to.with_extension(format!("{AWAY}.{}.exe", std::process::id()));
    let _ = fs::remove_file(&away);
    fs::rename(to, &away)?;
    fs::rename(from, to).inspect_err(|_| {
        if let Err(error) = fs::rename(&away, to) {
            log::error!("{} is at {} now: {error}", to.display(), away.display());
        }
    })
}

#[cfg(test)]
mod tests;
