//! The program in a home of its own, beside stand-ins of what it asks.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use studio_worker_core::conformance::TestStudio;
use tempfile::TempDir;

use crate::home::{Said, said};
pub(crate) use crate::{
    home::{PATIENCE, Running},
    script::write_script,
};

pub(crate) const TOKEN: &str = "tok-5e7f1ce0";
/// The unit's name.
pub(crate) const UNIT: &str = "minis-studio-worker.service";

pub(crate) struct Home {
    pub(crate) dir: TempDir,
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
        said(&mut self.program(args))
    }

    /// What it prints when all is well.
    #[track_caller]
    pub(crate) fn prints(&self, args: &[&str]) -> String {
        self.run(args).printed()
    }

    /// The one line that it says when something is wrong.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        self.run(args).failed()
    }
}
