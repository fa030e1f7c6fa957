//! systemd, of the machine or of a user.

mod unit;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    LOOK, START_PATIENCE, STOP_PATIENCE, ServiceError,
    ask::{Answer, PATIENCE, Programs, one_line},
    description::Service,
    look_until,
};
use crate::machine;

pub(super) use unit::unit;

/// The unit's name, which is that of the published programs: one takes the other's place.
pub(super) const NAME: &str = "minis-studio-worker.service";
/// How long the loop may hang.
const WATCHDOG_SECS: u64 = 120;
/// How many lines of the log a failure is told with.
const LOG_LINES: &str = "5";
const SYSTEMCTL: &str = "systemctl";

/// The manager.
pub(super) struct Systemd {
    programs: Programs,
    system: bool,
    /// Where its units are.
    folder: PathBuf,
}

/// What systemd says of a unit, by the names of its properties.
struct State(BTreeMap<String, String>);

impl State {
    fn read(answer: &Answer) -> Self {
        let lines = answer.out.lines().filter_map(|line| line.split_once('='));
        Self(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn of(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.of(name) == value
    }

    fn restarts(&self) -> u64 {
        self.of("NRestarts").parse().unwrap_or(0)
    }

    /// Whether it waits for others before it starts or stops.
    fn is_queued(&self) -> bool {
        !matches!(self.of("Job"), "" | "0")
    }

    /// What becomes of a unit that was started: up, or not; nothing while it can't be told.
    fn verdict(&self) -> Option<bool> {
        match (self.of("ActiveState"), self.of("SubState")) {
            // Its loop runs when it says what it does.
            ("activating", "start") if self.restarts() > 0 => Some(false),
            ("activating", "start") => (!self.of("StatusText").is_empty()).then_some(true),
            ("active", _) => Some(true),
            ("failed" | "inactive", _) if self.is_queued() => None,
            ("activating", "auto-restart" | "auto-restart-queued") | ("failed" | "inactive", _) => {
                Some(false)
            }
            _ => None,
        }
    }

    /// In systemd's words.
    fn words(&self) -> String {
        let mut words = format!("{} ({})", self.of("ActiveState"), self.of("SubState"));
        for name in ["Result", "ExecMainStatus", "StatusText"] {
            let value = self.of(name);
            if !value.is_empty() {
                words = format!("{words}, {name}={value}");
            }
        }
        one_line(&words)
    }
}

impl Systemd {
    pub(super) fn new(programs: Programs, system: bool) -> Result<Self, ServiceError> {
        let folder = if system {
            "/etc/systemd/system".into()
        } else {
            let dirs = directories::BaseDirs::new();
            let dirs = dirs.ok_or_else(|| ServiceError::NoUser(machine::user_name()))?;
            dirs.config_dir().join("systemd/user")
        };
        Ok(Self { programs, system, folder })
    }

    pub(super) fn install(&self, service: &Service) -> Result<String, ServiceError> {
        self.is_there()?;
        let path = self.path();
        self.write(&path, &unit(service))?;
        self.tell(&["daemon-reload"], PATIENCE)?;
        self.tell(&["enable", NAME], PATIENCE)?;
        // What failed before counts no more; there may be nothing to forget.
        self.ask(&["reset-failed", NAME], PATIENCE)?;
        // A start lasts until a studio's welcome, and what runs may have a job to finish.
        self.tell(&["restart", "--no-block", NAME], PATIENCE)?;
        let mut state = self.state()?;
        let verdict = look_until(START_PATIENCE, || {
            state = self.state()?;
            Ok(state.verdict())
        })?;
        let said = match (verdict, state.of("ActiveState")) {
            (None, "deactivating") => {
                "the worker that ran until now finishes its job, then it starts anew".to_owned()
            }
            (None, "inactive" | "failed") => {
                "it starts as soon as what it waits for is there, as the network".to_owned()
            }
            (Some(true), _) | (None, "activating" | "reloading") => self.standing(&state),
            _ => {
                let log = self.log();
                return Err(ServiceError::NotRunning { name: NAME, words: state.words(), log });
            }
        };
        if !self.tell(&["is-enabled", NAME], PATIENCE)?.out.trim().starts_with("enabled") {
            log::warn!("{NAME} is not started with the machine: `systemctl is-enabled` does not say enabled");
        }
        let linger = if self.system { String::new() } else { self.linger() };
        Ok(format!("installed {}; {said}{linger}", path.display()))
    }

    /// Where the service stands, for a person.
    fn standing(&self, state: &State) -> String {
        let status = one_line(state.of("StatusText"));
        let whose = self.whose();
        let show = format!(
            "`systemctl {}status {NAME}` shows how it goes on",
            whose.map_or(String::new(), |flag| format!("{flag} "))
        );
        if status.is_empty() { format!("it runs: {show}") } else { format!("it runs ({status}): {show}") }
    }

    pub(super) fn uninstall(&self) -> Result<String, ServiceError> {
        self.is_there()?;
        let (path, state) = (self.path(), self.state()?);
        if !path.exists() {
            return match state.of("FragmentPath") {
                "" => Ok(format!("there is no {NAME} to remove")),
                from => Err(ServiceError::NotOurs { name: NAME, from: one_line(from) }),
            };
        }
        if !state.is("ActiveState", "inactive") {
            log::info!("stops {NAME}: a running job is finished first, which may take ten minutes");
        }
        self.tell(&["stop", NAME], STOP_PATIENCE)?;
        self.tell(&["disable", NAME], PATIENCE)?;
        fs::remove_file(&path).map_err(ServiceError::file("removed", &path))?;
        self.tell(&["daemon-reload"], PATIENCE)?;
        // There may be nothing to forget.
        self.ask(&["reset-failed", NAME], PATIENCE)?;
        let mut state = self.state()?;
        let gone = look_until(10 * LOOK, || {
            state = self.state()?;
            let over = matches!(state.of("ActiveState"), "inactive" | "failed" | "");
            Ok((over && state.of("FragmentPath") != path.to_string_lossy()).then_some(()))
        })?;
        match gone {
            Some(()) => Ok(format!("removed {}", path.display())),
            None => Err(ServiceError::NotGone { name: NAME, words: state.words() }),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn whose(&self) -> Option<&'static str> {
        (!self.system).then_some("--user")
    }

    fn ask(&self, args: &[&str], patience: Duration) -> Result<Answer, ServiceError> {
        let args: Vec<_> = self.whose().into_iter().chain(args.iter().copied()).collect();
        self.programs.ask(SYSTEMCTL, &args, patience)
    }

    fn tell(&self, args: &[&str], patience: Duration) -> Result<Answer, ServiceError> {
        let answer = self.ask(args, patience)?;
        if answer.well { Ok(answer) } else { Err(answer.refused()) }
    }

    fn state(&self) -> Result<State, ServiceError> {
        let names = "ActiveState,SubState,Result,ExecMainStatus,NRestarts,StatusText,FragmentPath,Job";
        Ok(State::read(&self.tell(&["show", "--property", names, NAME], PATIENCE)?))
    }

    /// Before anything is changed.
    fn is_there(&self) -> Result<(), ServiceError> {
        let answer = self.ask(&["show", "--property", "Version"], PATIENCE)?;
        if answer.well {
            return Ok(());
        }
        let instead = if self.system {
            "have what starts this system start `studio-worker run`"
        } else {
            "log in as this user itself, rather than by `su` or `sudo`, or install it for the machine: \
             `sudo studio-worker install-service --system`"
        };
        Err(ServiceError::NoManager { manager: "systemd", words: answer.words(), instead })
    }

    /// Writes the unit so that there is always the old one or the new one.
    fn write(&self, path: &Path, unit: &str) -> Result<(), ServiceError> {
        fs::create_dir_all(&self.folder).map_err(ServiceError::file("made", &self.folder))?;
        let failed = || ServiceError::file("written", path);
        let mut file =
            tempfile::Builder::new().prefix(".studio-worker.").tempfile_in(&self.folder).map_err(failed())?;
        file.write_all(unit.as_bytes()).map_err(failed())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed())?;
        }
        file.as_file().sync_all().map_err(failed())?;
        file.persist(path).map_err(|error| failed()(error.error))?;
        Ok(())
    }

    /// The end of its log, if it can be had.
    fn log(&self) -> String {
        let unit = if self.system { "--unit" } else { "--user-unit" };
        let args = ["--no-pager", "--output", "cat", "--lines", LOG_LINES, unit, NAME];
        match self.programs.ask("journalctl", &args, PATIENCE) {
            Ok(answer) if answer.well && !answer.out.trim().is_empty() => {
                format!("; its log ends: {}", one_line(&answer.out))
            }
            _ => String::new(),
        }
    }

    /// A user's services end with their last session, unless that user lingers. This worker is to run unattended.
    fn linger(&self) -> String {
        let user = machine::user_name();
        let hint = format!("; it ends when you log out, unless you run `loginctl enable-linger {user}`");
        let shown = self.programs.ask("loginctl", &["show-user", "--property", "Linger", &user], PATIENCE);
        if shown.is_ok_and(|answer| answer.well && answer.out.trim() == "Linger=yes") {
            return String::new();
        }
        match self.programs.ask("loginctl", &["--no-ask-password", "enable-linger", &user], PATIENCE) {
            Ok(answer) if answer.well => {
                format!("; it goes on when you log out, since `loginctl enable-linger {user}` was done, too")
            }
            _ => hint,
        }
    }
}
