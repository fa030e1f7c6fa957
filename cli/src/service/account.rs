//! Who a service runs as.

use std::path::PathBuf;

use super::{
    ServiceError,
    ask::{PATIENCE, Programs},
};
use crate::machine;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) home: PathBuf,
    /// User and group, where there are such numbers.
    pub(super) ids: Option<(u32, u32)>,
}

impl Account {
    /// Who asks.
    pub(super) fn own() -> Result<Self, ServiceError> {
        let name = machine::user_name();
        let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
        let home = home.ok_or_else(|| ServiceError::NoUser(name.clone()))?;
        Ok(Self { name, home, ids: own_ids() })
    }

    /// The user of that name, as the system's databases know them.
    pub(super) fn find(name: &str, programs: &Programs) -> Result<Self, ServiceError> {
        let own = Self::own()?;
        if own.name == name || cfg!(windows) {
            return Ok(Self { name: name.into(), ..own });
        }
        let answer = if cfg!(target_os = "macos") {
            programs.ask("id", &["-P", "--", name], PATIENCE)?
        } else {
            programs.ask("getent", &["passwd", "--", name], PATIENCE)?
        };
        Self::read(&answer.out)
            .filter(|account| account.name == name)
            .ok_or_else(|| ServiceError::NoUser(name.into()))
    }

    /// Reads a line of a user database: seven fields, or ten on a BSD.
    pub(super) fn read(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.trim_end().split(':').collect();
        let home = fields.get(fields.len().checked_sub(2)?)?;
        let ids = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let whole = fields.len() >= 7 && home.starts_with('/');
        whole.then(|| Self { name: fields[0].into(), home: home.into(), ids: Some(ids) })
    }
}

/// Who called `sudo`, if somebody did.
pub(super) fn who_called_sudo() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty() && is_root())
}

/// Whether a service can be installed: for the whole machine only by an administrator.
pub(super) fn may_install(system: bool) -> Result<(), ServiceError> {
    if system && !is_root() { Err(ServiceError::NotRoot) } else { Ok(()) }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Windows says itself who may not.
#[cfg(not(unix))]
fn is_root() -> bool {
    true
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere there are none")]
fn own_ids() -> Option<(u32, u32)> {
    Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
}

#[cfg(not(unix))]
fn own_ids() -> Option<(u32, u32)> {
    None
}
