//! The program as a process, as a host of the scenarios too.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use studio_worker::config::{Config, ConfigFile, Edit};
use studio_worker_core::{
    conformance::{self, Ended, Hosted, Network, PATIENCE, Start},
    wire::Secret,
    worker::Identity,
};
use tempfile::TempDir;

/// Whom it trusts, in its home.
const ROOTS: &str = "roots.pem";
/// The same, for a configuration that names it.
const CA_FILE: &str = "ca.pem";
/// The same, as a folder of files.
const FOLDER: &str = "certificates";
/// Longer than any test.
const LONG_MS: i64 = 1_800_000;

/// Starts the program for each scenario.
pub(crate) struct Host {
    network: Network,
    /// `--runtime`.
    on: &'static str,
    /// How it is told whom to trust.
    trust: Trust,
}

/// What says whom to trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// `SSL_CERT_FILE`.
    File,
    /// `SSL_CERT_DIR`.
    Folder,
    /// `ca_file`.
    Key,
}

impl Host {
    /// On sockets without TLS, and this runtime.
    pub(crate) fn new(on: &'static str) -> Self {
        Self::over(Network::loopback(), on)
    }

    pub(crate) fn over(network: Network, on: &'static str) -> Self {
        Self { network, on, trust: Trust::File }
    }

    /// Over TLS.
    pub(crate) fn trusting_by(trust: Trust, on: &'static str) -> Self {
        Self { trust, ..Self::over(Network::loopback_tls(), on) }
    }

    pub(crate) fn program(&self, start: &Start<'_>) -> Program {
        Program::launch(self, start, "", BECOME)
    }
}

impl conformance::Host for Host {
    fn network(&self) -> &Network {
        &self.network
    }

    fn start(&self, start: Start<'_>) -> Box<dyn Hosted> {
        Box::new(self.program(&start))
    }
}

/// A line of shell that becomes the program.
const BECOME: &str = "exec \"$0\" \"$@\"";

/// `studio-worker run` in a directory of its own; it is killed when it is dropped.
pub(crate) struct Program {
    home: TempDir,
    on: &'static str,
    /// More variables of its environment.
    variables: Vec<(&'static str, String)>,
    child: Child,
    log: Arc<Log>,
    reader: Option<thread::JoinHandle<()>>,
}

/// What the program says on stderr, line by line.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Program {
    pub(crate) fn start(on: &'static str, start: &Start<'_>) -> Self {
        Host::new(on).program(start)
    }

    /// Starts it with more lines in its configuration, by a line of shell that ends by becoming the program.
    pub(crate) fn start_with(on: &'static str, start: &Start<'_>, more: &str, shell: &str) -> Self {
        Self::launch(&Host::new(on), start, more, shell)
    }

    fn launch(host: &Host, start: &Start<'_>, more: &str, shell: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = config(start);
        if let Some(roots) = host.network.roots_pem() {
            let folder = home.path().join(FOLDER);
            let path = match host.trust {
                Trust::File => home.path().join(ROOTS),
                Trust::Key => home.path().join(CA_FILE),
                Trust::Folder => {
                    fs::create_dir(&folder).unwrap();
                    folder.join("0a1b2c3d.0")
                }
            };
            fs::write(&path, roots).unwrap();
            if host.trust == Trust::Key {
                writeln!(config, "ca_file = \"{}\"", path.display()).unwrap();
            }
        }
        fs::write(home.path().join("config.toml"), config + more).unwrap();
        Self::spawn(home, host.on, host.network.proxy_variables(), shell)
    }

    fn spawn(home: TempDir, on: &'static str, variables: Vec<(&'static str, String)>, shell: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", shell, env!("CARGO_BIN_EXE_studio-worker"), "--config"])
            .arg(home.path().join("config.toml"))
            .args(["--runtime", on])
            .arg("run")
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "info,studio_worker=debug")
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let roots = home.path().join(ROOTS);
        if roots.exists() {
            command.env("SSL_CERT_FILE", roots);
        }
        let folder = home.path().join(FOLDER);
        if folder.exists() {
            command.env("SSL_CERT_DIR", folder);
        }
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, written) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                written.lines.lock().unwrap().push(line);
                written.more.notify_all();
            }
        });
        Self { home, on, variables, child, log, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.home.path().join("config.toml")
    }

    pub(crate) fn config_text(&self) -> String {
        fs::read_to_string(self.config_path()).unwrap()
    }

    fn edit(&self, edit: Edit) {
        ConfigFile::locate(Some(&self.config_path())).unwrap().edit(&[edit]).unwrap();
    }

    /// Runs another command of the program on the same configuration.
    fn command(&self, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
        command.arg("--config").arg(self.config_path()).args(args);
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{args:?}");
    }

    /// Waits for a line of its log that contains `text`.
    pub(crate) fn logs(&self, text: &str) -> String {
        let found = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let lines = self.log.lines.lock().unwrap();
        let (lines, _) =
            self.log.more.wait_timeout_while(lines, PATIENCE, |lines| found(lines).is_none()).unwrap();
        let line = found(&lines);
        drop(lines); // what was said is shown when this panics
        line.unwrap_or_else(|| panic!("`{text}` is not logged"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it, and starts it again with what it had stored.
    pub(crate) fn kill_and_restart(mut self) -> Self {
        self.signal("-KILL");
        self.wait();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        Self::spawn(home, self.on, std::mem::take(&mut self.variables), BECOME)
    }

    /// Waits for its end, and for the last line that it said.
    fn wait(&mut self) -> ExitStatus {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(since.elapsed() < PATIENCE, "the program does not end");
            thread::sleep(Duration::from_millis(5));
        };
        self.reader.take().unwrap().join().unwrap();
        status
    }

    /// Waits for its end. Whatever happened: it said no credential, and no more than one line of error.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.wait();
        let lines = std::mem::take(&mut *self.log.lines.lock().unwrap());
        let said = lines.join("\n");
        let code = status.code().unwrap_or_else(|| panic!("{status}: {said}"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("error: ")).count(), usize::from(code == 1));
        assert!(!said.contains("panicked"), "{said}");
        for secret in Config::parse(&self.config_text(), &self.config_path()).unwrap().secrets() {
            assert!(!said.contains(secret.reveal()), "{said}");
        }
        let runs = lines.iter().filter(|line| line.contains("the synthetic engine begins the job ")).count();
        let jobs = lines.iter().filter_map(|line| {
            let (id, what) = line.split_once(" job: job ")?.1.split_once(": ")?;
            let delivered = what == "completed";
            (delivered || what.starts_with("ended without a result")).then(|| (id.to_owned(), delivered))
        });
        Ended { code: code.try_into().unwrap(), runs, jobs: jobs.collect(), said }
    }
}

fn config(Start { base, identity, held }: &Start<'_>) -> String {
    let delay = if *held { LONG_MS } else { 0 };
    let mut config = format!("api_base_url = \"{base}\"\nsynthetic_delay_ms = {delay}\n");
    let Identity { install_id, worker_id, auth_token, .. } = identity;
    let values = [
        ("install_id", install_id.as_deref()),
        ("worker_id", worker_id.as_deref()),
        ("auth_token", auth_token.as_ref().map(Secret::reveal)),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            writeln!(config, "{key} = \"{value}\"").unwrap();
        }
    }
    config
}

impl Hosted for Program {
    fn let_go(&self) {
        self.edit(Edit::set("synthetic_delay_ms", 0));
    }

    fn identity(&self) -> Identity {
        Config::parse(&self.config_text(), &self.config_path()).unwrap().identity
    }

    fn pause(&self) {
        self.command(&["disable"]);
    }

    fn resume(&self) {
        self.command(&["enable"]);
    }

    fn set_threshold(&self, gb: f64) {
        self.command(&["set-threshold", &gb.to_string()]);
    }

    fn drain(&self) {
        self.signal("-TERM");
    }

    fn stop(&self) {
        self.signal("-TERM");
        // Two of a kind that wait together are one.
        self.logs("a signal came");
        self.signal("-TERM");
    }

    fn ended(self: Box<Self>) -> Ended {
        Program::ended(*self)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.log.lines.lock().unwrap().join("\n");
            eprintln!("the program said:\n{lines}");
        }
    }
}

/// Memory that it has for itself, in bytes. How much of its file the system has in memory says nothing of it.
#[cfg(target_os = "linux")]
pub(crate) fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Nothing is known of it here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resident(_: &Program) -> u64 {
    0
}
