//! `studio-worker studio`, as a person or a service manager starts it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::wire::multipart::Envelope;

use crate::{
    http,
    rig::{Rig, complete},
};

/// The program, killed when it is dropped.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", data, more)
    }

    fn start_on(listen: &str, data: &Path, more: &[&str]) -> Self {
        let mut child = command(data).args(["--listen", listen]).args(more).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("no address: {line:?}"));
        Self { address: ([127, 0, 0, 1], port).into(), child, out }
    }

    /// Sends a signal, waits for the end, and gives back the exit code and what else was said.
    #[cfg(unix)]
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A program that says nothing, killed when it is dropped.
struct Mute(Child);

impl Drop for Mute {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill(); // it may have ended
    let _ = child.wait();
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
    command.arg("studio").arg("--data").arg(data).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let place = tempfile::tempdir().unwrap();
        let program = Program::start(place.path(), &[]);
        let rig = Rig::at(program.address);
        let worker = rig.register();
        let mut session = rig.connect(&worker);
        let (code, said) = program.end(signal);
        assert_eq!(code, Some(0));
        assert_eq!(session.closed(), 1001);
        for said_of in ["data:", "for workers:  studio-worker register --api-base-url http://127.0.0.1:"] {
            assert!(said.contains(said_of), "{said}");
        }
        assert!(!said.contains("token"), "none is wanted on loopback: {said}");
    }
}

#[cfg(unix)]
#[test]
fn the_place_of_the_admin_token_is_said_and_the_token_is_not() {
    let place = tempfile::tempdir().unwrap();
    let program = Program::start_on("0.0.0.0:0", place.path(), &[]);
    let (_, said) = program.end("-TERM");
    let path = place.path().join("admin-token");
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    assert!(!said.contains(std::fs::read_to_string(path).unwrap().trim()), "{said}");
}

#[test]
fn it_serves_on_when_nobody_reads_what_it_says() {
    let data = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // Where no other test gets a port by chance meanwhile, as far as the system has such an address.
    let ip = if cfg!(target_os = "linux") { "127.0.0.2" } else { "127.0.0.1" };
    let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let listen = address.to_string();
    let child = command(data.path()).args(["--listen", &listen]).stdout(writer).spawn().unwrap();
    let _studio = Mute(child);
    let since = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody listens");
        thread::sleep(Duration::from_millis(10));
    }
    let answer = http::request(address, "GET", "/api/v1/jobs", &[], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn with_auto_approve_nobody_is_asked() {
    let place = tempfile::tempdir().unwrap();
    let program = Program::start(place.path(), &["--auto-approve", "--host", "studio.lan"]);
    let rig = Rig::at(program.address);
    let (request_id, secret) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3958");
    assert_eq!(rig.poll(&request_id, &secret).json()["status"], "approved");
    let named = http::request(program.address, "GET", "/api/v1/jobs", &[("Host", "studio.lan")], b"");
    assert_eq!(named.status, 200);
}

#[test]
fn a_port_in_use_is_an_error_of_one_line() {
    let place = tempfile::tempdir().unwrap();
    let program = Program::start(place.path(), &[]);
    let other = tempfile::tempdir().unwrap();
    let address = program.address.to_string();
    for (data, reason) in [(other.path(), "--listen"), (place.path(), "in use by process")] {
        let output = command(data).args(["--listen", &address]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(reason), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_upload_is_streamed_to_the_disk() {
    const CHUNK: usize = 1024 * 1024;
    const CHUNKS: usize = 200;
    let place = tempfile::tempdir().unwrap();
    let program = Program::start(place.path(), &[]);
    let rig = Rig::at(program.address);
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    rig.job_is(&id, "running");

    let envelope = Envelope::new(&id.as_str().into(), "large", "png", 1);
    let headers =
        [("Authorization", &*format!("Bearer {}", worker.token)), ("Content-Type", &*envelope.content_type)];
    let length = envelope.length((CHUNK * CHUNKS) as u64);
    let before = peak(&program.child);
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // However long a slow disk takes, the worker is there.
        scope.spawn(move || {
            session.heartbeat();
            while is_over.recv_timeout(Duration::from_secs(2)) == Err(mpsc::RecvTimeoutError::Timeout) {
                session.heartbeat();
            }
        });
        let mut stream = http::begin(rig.address(), "POST", &complete(&worker, &id), &headers, length);
        stream.write_all(&envelope.head).unwrap();
        for n in 0..CHUNKS {
            stream.write_all(&vec![u8::try_from(n % 251).unwrap(); CHUNK]).unwrap();
        }
        stream.write_all(&envelope.tail).unwrap();
        assert_eq!(http::finish(stream).status, 200);
        drop(over);
    });
    let grown = peak(&program.child) - before;
    assert!(grown < 16 * 1024, "{grown} KiB more were resident");

    let mut stream = http::begin(rig.address(), "GET", &format!("/api/v1/jobs/{id}/result"), &[], 0);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let body = &bytes[bytes.len() - CHUNK * CHUNKS..];
    assert!(
        body.chunks(CHUNK)
            .enumerate()
            .all(|(n, chunk)| chunk.iter().all(|byte| usize::from(*byte) == n % 251))
    );
}

/// The most memory that a process had at a time, in KiB.
#[cfg(target_os = "linux")]
fn peak(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
