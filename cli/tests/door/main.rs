//! A worker that runs, and the commands that ask and steer it: the program itself, against a studio on a loopback port.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod control;
mod guests;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../program/home.rs"]
mod home;
mod logs;
mod metrics;
mod presence;
#[path = "../program/script.rs"]
mod script;
mod status;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use home::{Home, PATIENCE, Running};
use serde_json::Value;
use studio_worker_core::conformance::{Session, TestStudio};

const TOKEN: &str = "tok-7f3a9c5e";

/// A worker whose session is open, unless it was started without one.
struct Rig {
    // Dropped in this order: the program ends before its home is gone.
    worker: Running,
    home: Home,
    studio: TestStudio,
}

impl Rig {
    /// A worker that the studio knows; its jobs wait until [`Rig::release`].
    fn start(on: &str, more: &str, args: &[&str]) -> (Self, Session) {
        let rig = Self::alone(on, more, args);
        let session = rig.studio.session();
        (rig, session)
    }

    /// The same; the studio has not answered yet.
    fn alone(on: &str, more: &str, args: &[&str]) -> Self {
        let studio = TestStudio::new();
        let home = Home::with(&format!(
            "api_base_url = \"{}\"\nworker_id = \"w-1\"\nauth_token = \"{TOKEN}\"\nsynthetic_delay_ms = 600000\n{more}",
            studio.base()
        ));
        let args = [&["--runtime", on, "run"], args].concat();
        let worker = Running::start(home.program(&args).env("PATH", path(&home)));
        Self { worker, home, studio }
    }

    fn folder(&self) -> PathBuf {
        self.home.dir.path().join(".config.toml.door")
    }

    /// What `status --json` says of the worker; none before it has something to tell.
    fn live(&self) -> Option<Value> {
        let status: Value = serde_json::from_str(&self.home.prints(&["status", "--json"])).unwrap();
        status.get("live").cloned()
    }

    /// Waits until what `status --json` says is so.
    fn lives(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        until(|| self.live().filter(&is_so))
    }

    /// Offers a job and has it accepted.
    fn begin(&self, session: &mut Session, job: &str) {
        session.offer(job, "llm", "hello");
        session.expect("accept", job);
        self.lives(|live| live["currentJob"]["jobId"] == job);
    }

    /// Lets the job that waits be made, and takes its result.
    fn release(&self, session: &mut Session, job: &str) {
        let text = self.home.text().replace("synthetic_delay_ms = 600000", "synthetic_delay_ms = 0");
        self.home.write(&text);
        session.expect("completeJson", job);
        session.complete_ack(job);
    }

    /// The program ends by itself, and well; what it logged.
    fn ends(self, session: &mut Session) -> String {
        assert_eq!(session.closed().0, 1000);
        let folder = self.folder();
        let (status, log, _) = self.worker.ends();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!folder.exists(), "nothing of the door is left");
        assert!(!log.contains(TOKEN), "{log}");
        log
    }
}

/// The worker answers at once, whatever else is asked of it.
fn is_quick(session: &mut Session) {
    session.send_message(tungstenite::Message::Ping(vec![7].into()));
    assert_eq!(session.pong(), [7]);
}

/// Where programs are found: those that a test plays first.
fn path(home: &Home) -> String {
    let usual = std::env::var("PATH").unwrap_or_default();
    format!("{}:{usual}", home.dir.path().join("bin").display())
}

/// Waits until there is something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}
