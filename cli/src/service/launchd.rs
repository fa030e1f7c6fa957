//! launchd, of macOS.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{
    START_PATIENCE, STOP_PATIENCE, ServiceError,
    account::Account,
    ask::{Answer, PATIENCE, Programs, one_line},
    description::Service,
    look_until,
    xml::escaped,
};

/// The job's label, which is that of the published programs: one takes the other's place.
pub(super) const LABEL: &str = "gg.minis.studio-worker";
/// Between two starts, in seconds.
const THROTTLE_SECS: u32 = 30;
const LAUNCHCTL: &str = "launchctl";

/// The manager.
pub(super) struct Launchd {
    programs: Programs,
    /// Where its job descriptions are.
    folder: PathBuf,
    /// Whose jobs: `system`, or `gui/` and a user's number.
    domain: String,
}

/// The job description of a service.
pub(super) fn plist(service: &Service) -> String {
    let mut plist = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- Made by `studio-worker install-service`, which also replaces it. -->\n\
         <plist version=\"1.0\">\n<dict>\n",
    );
    let text = |text: &str| format!("<string>{}</string>", escaped(text));
    let number = |number: u64| format!("<integer>{number}</integer>");
    let mut entry = |key: &str, value: String| {
        // Writing to a text can't fail.
        let _ = writeln!(plist, "\t<key>{key}</key>\n\t{value}");
    };
    let arguments = service.arguments();
    let words: String = std::iter::once(&*service.program).chain(arguments).map(text).collect();
    entry("Label", text(LABEL));
    entry("ProgramArguments", format!("<array>{words}</array>"));
    if service.system {
        entry("UserName", text(&service.user));
    }
    if let Some(path) = &service.path {
        entry("EnvironmentVariables", format!("<dict><key>PATH</key>{}</dict>", text(path)));
    }
    entry("RunAtLoad", "<true/>".into());
    entry("KeepAlive", "<dict><key>SuccessfulExit</key><false/></dict>".into());
    entry("ThrottleInterval", number(THROTTLE_SECS.into()));
    entry("ExitTimeOut", number(Service::stop_secs()));
    entry("ProcessType", text("Standard"));
    entry("Umask", number(0o077));
    entry("StandardErrorPath", text(&format!("{}/Library/Logs/studio-worker.log", service.home)));
    plist.push_str("</dict>\n</plist>\n");
    plist
}

impl Launchd {
    pub(super) fn new(programs: Programs, system: bool) -> Result<Self, ServiceError> {
        if system {
            return Ok(Self { programs, folder: "/Library/LaunchDaemons".into(), domain: "system".into() });
        }
        let Account { name, home, ids } = Account::own()?;
        let (user, _) = ids.ok_or(ServiceError::NoUser(name))?;
        Ok(Self { programs, folder: home.join("Library/LaunchAgents"), domain: format!("gui/{user}") })
    }

    #[cfg(test)]
    pub(super) fn within(programs: Programs, folder: &Path) -> Self {
        Self { programs, folder: folder.to_owned(), domain: "gui/501".into() }
    }

    /// `runs` says whether a worker runs with the service's configuration.
    pub(super) fn install(&self, service: &Service, runs: &dyn Fn() -> bool) -> Result<String, ServiceError> {
        let path = self.path();
        self.write(&path, &plist(service))?;
        if self.is_loaded()? {
            self.unload()?;
        }
        let (target, file) = (self.target(), path.to_string_lossy().into_owned());
        // Somebody may have switched it off for ever.
        self.tell(&["enable", &target])?;
        self.tell(&["bootstrap", &self.domain, &file])?;
        let running = look_until(START_PATIENCE, || {
            let state = self.ask(&["print", &target])?;
            let ended = state.well && state.out.lines().any(ended_badly);
            Ok(if ended { Some(false) } else { (state.well && runs()).then_some(true) })
        })?;
        if running == Some(true) {
            return Ok(format!(
                "installed {}; it runs: `launchctl print {target}` shows how it goes on",
                path.display()
            ));
        }
        let words = self.ask(&["print", &target])?.words();
        Err(ServiceError::NotRunning { name: LABEL, words, log: last_lines(service) })
    }

    pub(super) fn uninstall(&self) -> Result<String, ServiceError> {
        let path = self.path();
        let loaded = self.is_loaded()?;
        if !loaded && !path.exists() {
            return Ok(format!("there is no {LABEL} to remove"));
        }
        if loaded {
            self.unload()?;
        }
        if path.exists() {
            fs::remove_file(&path).map_err(ServiceError::file("removed", &path))?;
        }
        Ok(format!("removed {}", path.display()))
    }

    fn unload(&self) -> Result<(), ServiceError> {
        log::info!("stops {LABEL}: a running job is finished first, which may take ten minutes");
        let answer = self.programs.ask(LAUNCHCTL, &["bootout", &self.target()], STOP_PATIENCE)?;
        // It may say that it is not done yet.
        match look_until(STOP_PATIENCE, || Ok((!self.is_loaded()?).then_some(())))? {
            Some(()) => Ok(()),
            None => Err(ServiceError::NotGone { name: LABEL, words: answer.words() }),
        }
    }

    fn is_loaded(&self) -> Result<bool, ServiceError> {
        Ok(self.ask(&["print", &self.target()])?.well)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{LABEL}.plist"))
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    fn ask(&self, args: &[&str]) -> Result<Answer, ServiceError> {
        self.programs.ask(LAUNCHCTL, args, PATIENCE)
    }

    fn tell(&self, args: &[&str]) -> Result<Answer, ServiceError> {
        self.programs.tell(LAUNCHCTL, args, PATIENCE)
    }

    fn write(&self, path: &Path, plist: &str) -> Result<(), ServiceError> {
        fs::create_dir_all(&self.folder).map_err(ServiceError::file("made", &self.folder))?;
        let failed = || ServiceError::file("written", path);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(failed())?;
        file.write_all(plist.as_bytes()).map_err(failed())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed())?;
        }
        file.persist(path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

/// Whether a line of `launchctl print` says that the program ended with an error.
fn ended_badly(line: &str) -> bool {
    let code = line.trim().strip_prefix("last exit code = ");
    code.is_some_and(|code| !code.starts_with("(never exited)") && code != "0")
}

/// The end of its log, if it can be read.
fn last_lines(service: &Service) -> String {
    let text =
        fs::read_to_string(format!("{}/Library/Logs/studio-worker.log", service.home)).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    let lines: Vec<_> = lines.into_iter().rev().collect();
    if lines.is_empty() { String::new() } else { format!("; its log ends: {}", one_line(&lines.join(" "))) }
}
