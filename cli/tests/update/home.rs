//! A home with a program of its own in it, which updates may replace.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{PermissionsExt as _, lchown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{release::Feed, rig::Rig};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a version is tried. It has that long until its welcome, too, and a test to do something meanwhile, on a machine
/// that is busy with other tests and their disks.
const TRIAL_SECS: u32 = 15;

/// A user, and a group, that owns nothing.
pub(crate) const NOBODY: u32 = 65534;

/// Whether the tests may be whoever they want.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) struct Home {
    folder: TempDir,
}

/// What a finished program said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Home {
    /// With this configuration, beside where updates come from.
    pub(crate) fn new(feed: &Feed, config: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(home.folder.path().join("bin")).unwrap();
        // By another process: what this one has open for writing, a thread that starts a program may hold a moment longer, and
        // then it can't be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_studio-worker")).arg(home.program()).status();
        assert!(copied.unwrap().success());
        fs::write(home.config(), format!("auto_update_feed = '{}'\n{config}", feed.url())).unwrap();
        home
    }

    /// The worker of a studio, which looks for updates every second and tries them for [`TRIAL_SECS`].
    pub(crate) fn at(studio: &Rig, feed: &Feed, more: &str) -> Self {
        let who = studio.register();
        let config = format!(
            "api_base_url = 'http://{}'\nworker_id = '{}'\nauth_token = '{}'\nengine = 'synthetic'\n\
             auto_update_interval_secs = 1\nauto_update_trial_secs = {TRIAL_SECS}\n{more}\n",
            studio.address(),
            who.worker_id,
            who.token
        );
        Self::new(feed, &config)
    }

    /// Trials are to last that long.
    pub(crate) fn tries_for(&self, secs: u32) {
        let config = fs::read_to_string(self.config()).unwrap();
        let is = format!("auto_update_trial_secs = {TRIAL_SECS}\n");
        assert!(config.contains(&is), "{config}");
        fs::write(self.config(), config.replace(&is, &format!("auto_update_trial_secs = {secs}\n"))).unwrap();
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("bin/studio-worker")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// Changes the configuration of a worker that runs, in one step.
    pub(crate) fn rewrite(&self, config: &str) {
        let new = self.config().with_file_name("new.toml");
        fs::write(&new, config).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    /// The files beside the program.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("bin")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Whether there is nothing but the program and, perhaps, locks.
    pub(crate) fn is_clean(&self) -> bool {
        let expected = ["studio-worker", ".studio-worker.update.lock", ".studio-worker.update.json.lock"];
        self.files().iter().all(|name| expected.contains(&&**name))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare();
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    fn bare(&self) -> Command {
        let mut command = Command::new(self.program());
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }

    /// What the program in place says of its version.
    pub(crate) fn version(&self) -> String {
        let said = said(Command::new(self.program()).arg("--version"));
        said.out.trim().trim_start_matches("studio-worker ").to_owned()
    }

    pub(crate) fn start(&self) -> Worker {
        self.start_with(&self.config())
    }

    pub(crate) fn start_with(&self, config: &Path) -> Worker {
        let mut command = self.bare();
        Worker::start(command.arg("--config").arg(config).arg("run"))
    }

    /// Another user's worker, if that can be had.
    pub(crate) fn start_as_nobody(&self) -> Worker {
        let mut command = self.command(&["run"]);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Worker::start(&mut command)
    }

    /// Everything in it belongs to nobody.
    pub(crate) fn give_to_nobody(&self) {
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give(self.folder.path(), NOBODY);
    }
}

/// What is at a path, and in it, belongs to a user.
pub(crate) fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), owner);
        }
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap_or(-1) }
}

/// A worker that runs; it is killed when it is dropped, with what it started.
pub(crate) struct Worker {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (stderr, written) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line));
        });
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until this was logged so many times.
    pub(crate) fn logs_times(&self, text: &str, times: usize) {
        wait(
            || self.log().matches(text).count() >= times,
            || format!("`{text}` is not logged: {}", self.log()),
        );
    }

    pub(crate) fn logs(&self, text: &str) {
        self.logs_times(text, 1);
    }

    /// As a power cut does it.
    pub(crate) fn kill(&self) {
        assert!(Command::new("kill").args(["-KILL", &self.pid().to_string()]).status().unwrap().success());
    }

    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // What it watches ends with it, which a kill would not do.
            self.terminate();
            self.terminate();
            let end = Instant::now() + Duration::from_secs(15);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("the program said:\n{}", self.log());
        }
    }
}

/// Waits for something.
pub(crate) fn wait(mut is_so: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        let in_time = Instant::now() < end;
        assert!(in_time, "{}", otherwise());
        thread::sleep(Duration::from_millis(20));
    }
}
