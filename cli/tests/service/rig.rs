//! The program in a home of its own, beside stand-ins of what it asks.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use studio_worker_core::conformance::TestStudio;
use tempfile::TempDir;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TOKEN: &str = "tok-5e7f1ce0";
/// The unit's name.
pub(crate) const UNIT: &str = "minis-studio-worker.service";

pub(crate) struct Home {
    pub(crate) dir: TempDir,
}

/// What a finished program said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Home {
    pub(crate) fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("config.toml"), config).unwrap();
        Self { dir }
    }

    /// One whose worker is registered with a studio.
    pub(crate) fn registered(studio: &TestStudio) -> Self {
        let base = studio.base();
        Self::with(&format!("api_base_url = '{base}'\nworker_id = 'w-1'\nauth_token = '{TOKEN}'\n"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Where a user's units are.
    pub(crate) fn unit(&self) -> PathBuf {
        self.path(".config/systemd/user").join(UNIT)
    }

    /// A stand-in of a program, found before the system's own.
    pub(crate) fn stand_in(&self, name: &str, script: &str) {
        let script = format!("cd \"$HOME\"\necho \"{name} $*\" >> asked\n{script}");
        write_script(&self.path("bin").join(name), &script);
    }

    /// What stand-ins were asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.text("asked");
        let _ = fs::remove_file(self.path("asked")); // nobody may have been asked
        asked.lines().map(str::to_owned).collect()
    }

    pub(crate) fn program(&self, args: &[&str]) -> Command {
        let mut path = OsString::from(self.path("bin"));
        path.push(":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let mut command = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
        command.arg("--config").arg(self.path("config.toml")).args(args);
        command.env_clear().env("HOME", self.dir.path()).env("PATH", path).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let output = self.program(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap_or(-1) }
    }

    /// What it prints when all is well.
    pub(crate) fn prints(&self, args: &[&str]) -> String {
        let Said { out, err, code } = self.run(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }

    /// The one line that it says when something is wrong.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let Said { out, err, code } = self.run(args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {err}");
        let lines: Vec<_> = err.lines().filter(|line| !line.starts_with("[20")).collect();
        assert_eq!(lines.len(), 1, "{err}");
        lines[0].strip_prefix("error: ").unwrap().to_owned()
    }
}

/// Writes a program. By another process: one that this process has written can't be run while a child of another thread,
/// which is about to become another program, still has it open.
pub(crate) fn write_script(path: &Path, script: &str) {
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(text.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
    let written = Command::new("install").args(["-m", "755"]).arg(text.path()).arg(path).status().unwrap();
    assert!(written.success());
}

/// A program that runs until it is ended; it is killed when a test gives up on it.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, log: Vec::new() }
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn logs(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{text}` is not logged"));
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; everything that it said.
    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.log).join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        if thread::panicking() {
            self.log.extend(self.lines.iter());
            eprintln!("the program said:\n{}", self.log.join("\n"));
        }
    }
}
