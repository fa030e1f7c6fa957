//! The real programs that engines are tested with: what of them is here, and one of them as a process.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a real program may take to answer after its start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where `.ci/real` has put what it could get.
fn folder() -> PathBuf {
    let cache = || {
        let home = env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
        env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from)
    };
    env::var_os("STUDIO_WORKER_REAL").map_or_else(|| cache().join("studio-worker-real"), PathBuf::from)
}

/// A file of it; none when it isn't there.
pub(crate) fn file(name: &str) -> Option<PathBuf> {
    Some(folder().join(name)).filter(|path| path.exists())
}

/// A program of this machine; none when it isn't there.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The Python of a virtual environment.
pub(crate) fn python(environment: &str) -> Option<PathBuf> {
    file(&format!("{environment}/complete"))?;
    file(&format!("{environment}/bin/python"))
}

/// A script of these tests.
pub(crate) fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "engines", name].iter().collect()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A server as a process; it is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it, and waits until it listens on `port`.
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, port };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended before it listened");
            assert!(since.elapsed() < PATIENCE, "the server does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// The processes whose command line has `text` in it.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(text)
    })
    .collect()
}
