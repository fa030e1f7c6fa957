//! What a service manager is told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    STOP_TIME, ServiceError, Wanted,
    account::{self, Account},
    ask::Programs,
};
use crate::{
    config::{Config, ConfigFile, create_dirs, parent},
    runtimes::Runtime,
};

/// A worker as a service. Paths are absolute, and nothing has a control character in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// The program's own file.
    pub(super) program: String,
    pub(super) config: String,
    /// The runtime to name; none: the program's own choice.
    pub(super) runtime: Option<&'static str>,
    /// For the machine rather than for a user.
    pub(super) system: bool,
    /// Whose worker it is.
    pub(super) user: String,
    pub(super) home: String,
    ids: Option<(u32, u32)>,
    /// For all its processes together, in GB; 0: no bound.
    pub(super) memory_max_gb: u32,
    /// The file of variables that it is started with, if it is there.
    pub(super) environment: String,
    /// Where programs are looked for, so that engines are found that whoever asks finds; none: the manager's choice.
    pub(super) path: Option<String>,
    /// Folders that it must be able to write to.
    pub(super) writable: Vec<String>,
}

impl Service {
    /// What the service is to be, by what is there now. Nothing is changed.
    pub(super) fn describe(
        wanted: &Wanted,
        given: Option<&Path>,
        on: Runtime,
        programs: &Programs,
    ) -> Result<Self, ServiceError> {
        let own = Account::own()?;
        let account = match wanted.user.clone().or_else(account::who_called_sudo).filter(|_| wanted.system) {
            Some(name) => Account::find(&name, programs)?,
            None => own.clone(),
        };
        let is_own = account.name == own.name;
        let file = match given {
            None if !is_own => ConfigFile::locate(Some(&default_config(&account.home)))?,
            given => ConfigFile::locate(given)?,
        };
        let config = match file.load() {
            Ok(config) => config,
            Err(error) if error.is_missing() && is_own => Config::parse("", file.path())?,
            Err(error) if error.is_missing() => {
                return Err(ServiceError::NoConfig { path: file.path().to_owned(), user: account.name });
            }
            Err(error) => return Err(error.into()),
        };
        let program = std::env::current_exe().map_err(ServiceError::file("found", "this program"))?;
        let made = Self::made(program, file.path(), &config, on, wanted.system, &account, &own.home)?;
        // Not that of an administrator for somebody else.
        let path = if wanted.system { None } else { search_path() };
        Ok(Self { path, ..made })
    }

    /// The same from what was found out. `own_home` is what a `~` in the configuration was taken for.
    pub(super) fn made(
        program: PathBuf,
        path: &Path,
        config: &Config,
        on: Runtime,
        system: bool,
        account: &Account,
        own_home: &Path,
    ) -> Result<Self, ServiceError> {
        let path = std::path::absolute(path).map_err(ServiceError::file("found", path))?;
        let folder = parent(&path).to_owned();
        // Where models are kept otherwise, and where engines keep what they compile and download.
        let models = match &config.models_root {
            Some(root) => match root.strip_prefix(own_home) {
                Ok(rest) => account.home.join(rest),
                Err(_) => std::path::absolute(root).map_err(ServiceError::file("found", root))?,
            },
            None => account.home.join(".local/share/minis-studio-worker"),
        };
        let mut writable =
            vec![folder.clone(), models, account.home.join(".cache"), account.home.join(".nv")];
        // The program replaces itself there, if its folder is the user's own.
        writable.extend(program.parent().filter(|folder| belongs_to(folder, account)).map(Path::to_owned));
        let writable =
            writable.into_iter().map(|path| value("a folder", path)).collect::<Result<Vec<_>, _>>()?;
        let mut unique: Vec<String> = Vec::new();
        for folder in writable {
            if !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        Ok(Self {
            program: value("the program's path", program)?,
            config: value("the configuration's path", path)?,
            runtime: (on != Runtime::default()).then(|| on.name()),
            system,
            user: value("the user's name", account.name.clone().into())?,
            home: value("the user's home", account.home.clone())?,
            ids: account.ids,
            memory_max_gb: config.memory_max_gb,
            environment: value("a file", folder.join("environment"))?,
            path: None,
            writable: unique,
        })
    }

    /// The arguments that the program is started with.
    pub(super) fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--config", &*self.config];
        arguments.extend(self.runtime.iter().flat_map(|name| ["--runtime", name]));
        arguments.extend(["run", "--service"]);
        arguments
    }

    /// Makes what must be there before it starts: its configuration, and for a service of the machine the folders that
    /// it could not make itself.
    pub(super) fn prepare(&self) -> Result<(), ServiceError> {
        let file = ConfigFile::locate(Some(Path::new(&self.config)))?;
        file.load_or_create()?;
        if self.system {
            for folder in &self.writable {
                self.make(Path::new(folder))?;
            }
        }
        Ok(())
    }

    /// Makes a folder and those above it, as the user's own.
    fn make(&self, folder: &Path) -> Result<(), ServiceError> {
        if folder.exists() {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.make(above)?;
        }
        create_dirs(folder).map_err(ServiceError::file("made", folder))?;
        #[cfg(unix)]
        if let Some((user, group)) = self.ids {
            // The link itself, if somebody put one there meanwhile.
            std::os::unix::fs::lchown(folder, Some(user), Some(group))
                .map_err(ServiceError::file("given to its user", folder))?;
        }
        Ok(())
    }

    /// How long it may take to stop, in seconds.
    pub(super) const fn stop_secs() -> u64 {
        STOP_TIME.as_secs()
    }
}

/// Where the configuration of somebody else is (section 7).
fn default_config(home: &Path) -> PathBuf {
    home.join(if cfg!(target_os = "macos") {
        "Library/Application Support/gg.minis.minis-studio-worker/config.toml"
    } else {
        ".config/minis-studio-worker/config.toml"
    })
}

/// `PATH`, but for what would mean another folder elsewhere.
fn search_path() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let path = std::env::join_paths(folders).ok()?;
    value("PATH", path.into()).ok().filter(|path| !path.is_empty())
}

#[cfg(unix)]
fn belongs_to(folder: &Path, account: &Account) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(folder).is_ok_and(|metadata| account.ids.is_some_and(|(user, _)| metadata.uid() == user))
}

#[cfg(not(unix))]
fn belongs_to(folder: &Path, _: &Account) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| !metadata.permissions().readonly())
}

/// A value that a manager's file can hold.
fn value(what: &'static str, value: PathBuf) -> Result<String, ServiceError> {
    let wrong = |problem, value| Err(ServiceError::Value { what, problem, value });
    match value.into_os_string().into_string() {
        Ok(text) if text.chars().any(char::is_control) => {
            wrong("it has a control character in it", text.into())
        }
        Ok(text) => Ok(text),
        Err(value) => wrong("it is not UTF-8", value.into()),
    }
}
