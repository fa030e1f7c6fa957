//! The worker as a service of this system: what starts it with the machine, keeps it up, and ends it.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `description` | what a service manager is told: which program, whose configuration, which bounds |
//! | `systemd`, `launchd`, `windows` | that in each manager's words, which is text only; and the order of asking it |
//! | `account` | as whom it runs |
//! | `ask` | running a manager's program: by lists of arguments, within a bound, and never through a shell |
//! | `notify` | the other way: telling systemd where the worker stands, and that its loop is alive |
//! | `hold` | a worker that was refused is not started again at once, whichever manager does it |
//!
//! Texts are made here for every system on any system, so that tests see them all.

mod account;
mod ask;
mod description;
mod error;
mod hold;
mod launchd;
mod notify;
mod systemd;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod windows;
mod xml;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

pub use error::ServiceError;
pub(crate) use hold::Hold;
pub(crate) use notify::{Pulse, attend, stopping};

use ask::Programs;
use description::Service;

use crate::{config::ConfigFile, lock, runtimes::Runtime};

/// How long a manager has until the service must be seen to run, or to be gone.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long a worker may take to end: it drains for ten minutes (section 6), and then closes.
const STOP_TIME: Duration = Duration::from_secs(660);
/// How long a manager may take to stop it.
const STOP_PATIENCE: Duration = Duration::from_secs(STOP_TIME.as_secs() + 30);

/// What is to be installed or removed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// For the machine, rather than for the user who asks.
    pub system: bool,
    /// As whom a service of the machine runs; none: who called `sudo`, else who asks.
    pub user: Option<String>,
}

/// The manager of this system.
enum Manager {
    Systemd(systemd::Systemd),
    Launchd(launchd::Launchd),
    Windows(windows::Tasks),
}

impl Manager {
    fn of_this_system(system: bool) -> Result<Self, ServiceError> {
        let programs = Programs::of_this_system();
        Ok(if cfg!(target_os = "macos") {
            Self::Launchd(launchd::Launchd::new(programs, system)?)
        } else if cfg!(windows) {
            Self::Windows(windows::Tasks::new(programs))
        } else {
            Self::Systemd(systemd::Systemd::new(programs, system)?)
        })
    }
}

/// What `install-service --print` prints: what the manager would be given. Nothing is changed or asked.
pub fn print(wanted: &Wanted, given: Option<&Path>, on: Runtime) -> Result<String, ServiceError> {
    let service = Service::describe(wanted, given, on, &Programs::of_this_system())?;
    Ok(if cfg!(target_os = "macos") {
        launchd::plist(&service)
    } else if cfg!(windows) {
        windows::task(&service)
    } else {
        systemd::unit(&service)
    })
}

/// Installs the service or replaces it, starts it, and sees that it runs. Gives back what to tell the person.
pub fn install(wanted: &Wanted, given: Option<&Path>, on: Runtime) -> Result<String, ServiceError> {
    let programs = Programs::of_this_system();
    account::may_install(wanted.system)?;
    let manager = Manager::of_this_system(wanted.system)?;
    let service = Service::describe(wanted, given, on, &programs)?;
    service.prepare()?;
    let file = ConfigFile::locate(Some(Path::new(&service.config)))?;
    let runs = || lock::running(&file).is_some();
    match manager {
        Manager::Systemd(systemd) => systemd.install(&service),
        Manager::Launchd(launchd) => launchd.install(&service, &runs),
        Manager::Windows(tasks) => tasks.install(&service, &runs),
    }
}

/// Stops the service, removes it, and sees that it is gone. Gives back what to tell the person.
pub fn uninstall(wanted: &Wanted) -> Result<String, ServiceError> {
    account::may_install(wanted.system)?;
    match Manager::of_this_system(wanted.system)? {
        Manager::Systemd(systemd) => systemd.uninstall(),
        Manager::Launchd(launchd) => launchd.uninstall(),
        Manager::Windows(tasks) => tasks.uninstall(),
    }
}

/// Looks until something is there to say, or for as long as `patience` lasts.
fn look_until<T>(
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>, ServiceError>,
) -> Result<Option<T>, ServiceError> {
    let end = Instant::now() + patience;
    loop {
        if let Some(seen) = look()? {
            return Ok(Some(seen));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}
