//! The program in a home directory of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A home directory of its own, and the program in it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
}

/// What a finished program said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Said {
    /// What it printed; all was well.
    #[track_caller]
    pub(crate) fn printed(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// The one line that it said about what was wrong, without what was logged before.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        let Self { out, err, code } = self;
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        let mut lines: Vec<_> = err.lines().filter(|line| !line.starts_with("[20")).collect();
        let line = lines.pop().expect("an error is said");
        assert!(lines.is_empty() && line.starts_with("error: "), "{err}");
        line["error: ".len()..].to_owned()
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(config: &str) -> Self {
        let home = Self::new();
        fs::write(home.config(), config).unwrap();
        home
    }

    /// The configuration that [`Home::program`] names.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Changes it as a good editor does: whoever reads it meanwhile has either the old or the new one.
    pub(crate) fn write(&self, config: &str) {
        let file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        fs::write(file.path(), config).unwrap();
        file.persist(self.config()).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.config()).unwrap()
    }

    /// The program with no configuration named, and nothing of whoever runs the tests.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
        // Of engines that somebody has installed nothing is to be found.
        let path =
            if cfg!(unix) { "/usr/bin:/bin".into() } else { std::env::var_os("PATH").unwrap_or_default() };
        command.env_clear().env("HOME", self.dir.path()).env("PATH", path).stdin(Stdio::null());
        command
    }

    pub(crate) fn program(&self, args: &[&str]) -> Command {
        let mut command = self.bare();
        command.arg("--config").arg(self.config()).args(args);
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

    /// The one line that it says when something is wrong, without what was logged before.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        self.run(args).failed()
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap_or(-1) }
}

/// A program that runs until it is ended; it is killed when a test gives up on it.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    pub(crate) log: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, log: Vec::new() }
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn logs(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout | mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("`{text}` is not logged")
                }
            }
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; everything that it said on stderr, and on stdout.
    pub(crate) fn ends(mut self) -> (ExitStatus, String, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap(), std::mem::take(&mut self.log).join("\n"), out)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.log.extend(self.lines.iter());
            eprintln!("the program said:\n{}", self.log.join("\n"));
        }
    }
}
