//! The program in a folder of its own: to try a job, or as a worker of a real studio.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{http, studio::Studio};

/// How long a real engine may take for a job, on a machine that does other things, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A folder with a configuration.
pub(crate) struct Place {
    folder: TempDir,
    on: &'static str,
}

impl Place {
    pub(crate) fn new(on: &'static str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        fs::write(folder.path().join("config.toml"), config).unwrap();
        Self { folder, on }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program on this configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
        command
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(["--runtime", self.on])
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.path("tmp"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What it says when it does it.
    pub(crate) fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its line of error when it can't do it.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        error.lines().find_map(|line| line.strip_prefix("error: ")).unwrap().to_owned()
    }

    /// Files that were left in its folder for temporary ones.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Starts it as a worker of `studio`; it is killed when it is dropped.
    pub(crate) fn worker(&self, studio: &Studio) -> Worker {
        self.start(studio, |_| ())
    }

    /// The same, which finds programs in this place's `bin` before those of the system.
    pub(crate) fn worker_with_bin(&self, studio: &Studio) -> Worker {
        let system = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.path("bin")).chain(std::env::split_paths(&system));
        let path = std::env::join_paths(folders).unwrap();
        self.start(studio, |command| {
            command.env("PATH", path);
        })
    }

    fn start(&self, studio: &Studio, more: impl FnOnce(&mut Command)) -> Worker {
        let config = fs::read_to_string(self.path("config.toml")).unwrap();
        let base = format!("api_base_url = \"http://{}\"\n", studio.address());
        fs::write(self.path("config.toml"), base + &config).unwrap();
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command(&["run"]);
        more(&mut command);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Worker { child, log: self.path("log") }
    }
}

/// A worker as a process.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for its end; its exit code, and none when a signal ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(since.elapsed() < PATIENCE, "the worker does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the worker said:\n{}", self.log());
        }
    }
}

/// Queues a job; its id.
pub(crate) fn queue(studio: &Studio, job: &Value) -> String {
    let headers = [("Content-Type", "application/json")];
    let answer =
        http::request(studio.address(), "POST", "/api/v1/jobs", &headers, job.to_string().as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a job is over.
pub(crate) fn finished(studio: &Studio, id: &str) -> Value {
    let since = Instant::now();
    loop {
        let job = http::request(studio.address(), "GET", &format!("/api/v1/jobs/{id}"), &[], b"").json();
        match job["state"].as_str().unwrap() {
            "completed" | "failed" | "cancelled" => return job,
            state => assert!(since.elapsed() < PATIENCE, "the job is still {state}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The result of a job that must have been delivered.
pub(crate) fn result(studio: &Studio, id: &str) -> Vec<u8> {
    let job = finished(studio, id);
    assert_eq!(job["state"], "completed", "{job}");
    let answer = http::request(studio.address(), "GET", job["output"]["url"].as_str().unwrap(), &[], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A text that a configuration can have in quotes.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}
