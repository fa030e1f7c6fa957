//! Telling systemd where the worker stands, by the socket that it names in `NOTIFY_SOCKET`: ready at the first welcome,
//! a line of status at every change, and that the loop is alive.
//!
//! It is the loop that feeds the watchdog. The thread here only rings it and looks whether it turned: when the loop hangs,
//! nothing is said, and systemd restarts the worker. systemd looks from the first welcome on.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::drive::{WorkerHandle, WorkerStatus};

use crate::logging;

#[cfg(unix)]
use unix::Socket;

/// Longer lines of status, in characters, are cut.
const MAX_STATUS: usize = 200;
/// Between two looks while nobody watches.
const LONG: Duration = Duration::from_secs(3_600);

/// Tells the manager of this process about a worker until that has ended, if there is a manager that wants to hear it.
pub(crate) fn attend(handle: &WorkerHandle) {
    let Some(socket) = Socket::from_environment() else { return };
    let interval = watchdog_interval();
    let attendant = Attendant::new(socket, interval, handle.clone());
    if let Err(error) = thread::Builder::new().name("manager".into()).spawn(move || attendant.run()) {
        log::warn!("the service manager hears nothing of this worker, since no thread could be had: {error}");
    }
}

/// Tells the manager that the worker ends, since it was told to.
pub(crate) fn stopping() {
    if let Some(socket) = Socket::from_environment() {
        socket.tell("STOPPING=1\nSTATUS=draining: a running job is finished and delivered\n");
    }
}

/// Feeds the watchdog while this process waits for something else than the loop, as often as it is told that this is so.
pub(crate) struct Pulse {
    socket: Option<Socket>,
    interval: Option<Duration>,
    fed: Cell<Option<Instant>>,
    is_ready: Cell<bool>,
}

impl Pulse {
    pub(crate) fn of_this_process() -> Self {
        Self {
            socket: Socket::from_environment(),
            interval: watchdog_interval(),
            fed: Cell::new(None),
            is_ready: Cell::new(false),
        }
    }

    /// Says what is waited for.
    pub(crate) fn say(&self, status: &str) {
        if let Some(socket) = &self.socket {
            socket.tell(&status_line(status));
        }
    }

    /// A worker that it watches is welcomed.
    pub(crate) fn ready(&self) {
        if let Some(socket) = &self.socket
            && !self.is_ready.replace(true)
        {
            socket.tell("READY=1\n");
        }
    }

    /// It still waits.
    pub(crate) fn beat(&self) {
        let (Some(socket), Some(interval)) = (&self.socket, self.interval) else { return };
        if self.fed.get().is_none_or(|fed| fed.elapsed() >= interval) {
            socket.tell("WATCHDOG=1\n");
            self.fed.set(Some(Instant::now()));
        }
    }
}

/// How often the watchdog wants to be fed, so that one time in three may be late.
fn watchdog_interval() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    if variable("WATCHDOG_PID").is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros) / 3)
}

/// A line of status as systemd shows it.
fn status_line(text: &str) -> String {
    let text = logging::scrub(text.replace(char::is_control, " "));
    let end = text.char_indices().nth(MAX_STATUS).map_or(text.len(), |(at, _)| at);
    format!("STATUS={}\n", &text[..end])
}

/// Stands beside a worker.
struct Attendant {
    socket: Socket,
    interval: Option<Duration>,
    handle: WorkerHandle,
    changes: Receiver<()>,
    /// Whether a studio has welcomed the worker.
    welcomed: Arc<AtomicBool>,
}

impl Attendant {
    pub(super) fn new(socket: Socket, interval: Option<Duration>, handle: WorkerHandle) -> Self {
        let welcomed = Arc::new(AtomicBool::new(false));
        let (change, changes) = mpsc::sync_channel(1);
        let seen = Arc::clone(&welcomed);
        handle.observers().on_change(move |observers| {
            // Noted here, since a session may be over before the other thread looks.
            if !seen.load(Ordering::Relaxed) && observers.status().is_connected() {
                seen.store(true, Ordering::Release);
            }
            !matches!(change.try_send(()), Err(mpsc::TrySendError::Disconnected(())))
        });
        Self { socket, interval, handle, changes, welcomed }
    }

    /// Tells until the worker has ended.
    pub(super) fn run(self) {
        let (mut ready, mut said) = (false, String::new());
        // Whoever was this process before may have fed it last long ago.
        if self.interval.is_some() {
            self.socket.tell("WATCHDOG=1\n");
        }
        let mut turns = self.ring();
        let mut due = Instant::now() + self.interval.unwrap_or(LONG);
        loop {
            let status = self.handle.observers().status();
            if self.handle.has_ended() || status.has_ended() {
                return;
            }
            let mut message = String::new();
            if !ready && (self.welcomed.load(Ordering::Acquire) || status.is_connected()) {
                ready = true;
                message.push_str("READY=1\n");
            }
            let line = status_line(&standing(&status));
            if line != said {
                message.push_str(&line);
                said = line;
            }
            if !message.is_empty() {
                self.socket.tell(&message);
            }
            match self.changes.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if due > Instant::now() {
                continue;
            }
            if self.interval.is_some() {
                if self.handle.turns() == turns {
                    log::error!(
                        "the loop that drives the worker hangs: the watchdog is not told that it is alive"
                    );
                } else {
                    self.socket.tell("WATCHDOG=1\n");
                }
            }
            turns = self.ring();
            due = Instant::now() + self.interval.unwrap_or(LONG);
        }
    }

    /// How many turns the loop had made before it was rung.
    fn ring(&self) -> u32 {
        let turns = self.handle.turns();
        if self.interval.is_some() {
            self.handle.ring();
        }
        turns
    }
}

/// Where a worker stands, in a line.
fn standing(status: &WorkerStatus) -> String {
    let Some(session) = &status.session else { return "starting".into() };
    let mut line = match session.state {
        "unregistered" => "not registered yet".to_owned(),
        state => state.to_owned(),
    };
    if let Some(detail) = &session.detail {
        line = format!("{line}: {detail}");
    }
    if !session.accepting {
        line.push_str(", takes no jobs");
    }
    if let Some(job) = &status.current_job {
        line = format!("{line}, {} job {}", job.kind, job.job_id);
    }
    line
}

#[cfg(unix)]
mod unix {
    //! The socket.

    use std::{
        ffi::{OsStr, OsString},
        io,
        os::unix::net::{SocketAddr, UnixDatagram},
        time::Duration,
    };

    /// How long the manager may take to read.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// What the manager listens on.
    #[derive(Debug)]
    pub(in crate::service) struct Socket {
        socket: UnixDatagram,
        to: SocketAddr,
    }

    impl Socket {
        /// The one that the environment names.
        pub(in crate::service) fn from_environment() -> Option<Self> {
            let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
            match Self::open(&name) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    log::warn!("the service manager can't be told anything at {}: {error}", name.display());
                    None
                }
            }
        }

        /// The one of that name: a path, or behind an `@` one that is in no folder.
        pub(in crate::service) fn open(name: &OsStr) -> io::Result<Self> {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Self { socket, to: address(name)? })
        }

        /// Tells the manager. That it doesn't listen changes nothing.
        pub(in crate::service) fn tell(&self, message: &str) {
            if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.to) {
                log::debug!("the service manager was not told {message:?}: {error}");
            }
        }
    }

    fn address(name: &OsStr) -> io::Result<SocketAddr> {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        match name.as_bytes() {
            #[cfg(target_os = "linux")]
            [b'@', rest @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(OsString::from_vec(name.as_bytes().to_vec())),
            _ => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name"))
            }
        }
    }
}

/// There is no such manager here.
#[cfg(not(unix))]
#[allow(dead_code, reason = "so there is none to be had")]
pub(super) struct Socket;

#[cfg(not(unix))]
impl Socket {
    pub(super) fn from_environment() -> Option<Self> {
        None
    }

    pub(super) fn tell(&self, _: &str) {}
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        future::poll_fn,
        os::unix::net::UnixDatagram,
        sync::{Mutex, PoisonError},
    };

    use studio_worker_core::{
        drive::MemoryStore,
        engine::{EngineError, FnEngine, Output},
        wire::{ApiBase, TaskKind},
        worker::{Identity, Options, Settings},
    };

    use super::*;
    use crate::runtimes::Runtime;

    /// How often the watchdog is fed here.
    const INTERVAL: Duration = Duration::from_millis(20);

    #[test]
    fn a_loop_that_hangs_does_not_feed_the_watchdog() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let fed = || {
            let mut bytes = [0; 512];
            while !bytes.starts_with(b"WATCHDOG=1") {
                manager.recv(&mut bytes).unwrap();
            }
        };

        let engine = FnEngine::new("none", Vec::new(), |_| {
            Err::<Output, _>(EngineError::transient(TaskKind::Image.name()))
        });
        // Nobody is there: it goes on trying.
        let settings = Settings::new(ApiBase::parse("http://127.0.0.1:9").unwrap(), Identity::default());
        let on = Runtime::default();
        let options = Options::new(settings, "studio-worker/test");
        let (handle, mut driving) =
            on.start(options, Arc::new(engine), Arc::new(MemoryStore::new())).unwrap();
        let gate = Arc::new(Mutex::new(()));
        let closed = Arc::clone(&gate);
        let loop_thread = thread::spawn(move || {
            on.block_on(poll_fn(move |cx| {
                let _open = closed.lock().unwrap_or_else(PoisonError::into_inner);
                driving.as_mut().poll(cx)
            }))
        });
        let socket = Socket::open(path.as_os_str()).unwrap();
        let attendant = Attendant::new(socket, Some(INTERVAL), handle.clone());
        let attending = thread::spawn(move || attendant.run());
        (0..3).for_each(|_| fed());

        let held = gate.lock().unwrap();
        // What was under way when it began to hang is still said, and then nothing more, for many intervals.
        manager.set_read_timeout(Some(20 * INTERVAL)).unwrap();
        let mut bytes = [0; 512];
        let late = std::iter::repeat_with(|| manager.recv(&mut bytes)).take_while(Result::is_ok);
        assert!(late.take(1_000).count() < 1_000, "it is fed on and on");
        drop(held);
        manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        fed();

        handle.stop();
        attending.join().unwrap();
        loop_thread.join().unwrap().unwrap();
    }

    #[test]
    fn who_waits_feeds_the_watchdog_no_more_often_than_it_wants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = || {
            let mut bytes = [0; 512];
            std::iter::from_fn(|| manager.recv(&mut bytes).ok()).count()
        };
        let pulse = |interval| Pulse {
            is_ready: Cell::new(false),
            socket: Some(Socket::open(path.as_os_str()).unwrap()),
            interval,
            fed: Cell::new(None),
        };
        let watched = pulse(Some(Duration::from_secs(3_600)));
        (0..3).for_each(|_| watched.beat());
        assert_eq!(heard(), 1);
        watched.fed.set(Instant::now().checked_sub(Duration::from_secs(3_600)));
        (0..3).for_each(|_| watched.beat());
        assert_eq!(heard(), 1);
        pulse(None).beat();
        assert_eq!(heard(), 0, "nobody watches");
    }

    #[test]
    fn a_line_of_status_is_one_line_of_bounded_length() {
        logging::learn(&"tok-of-a-status".into());
        let line = status_line(&format!("a\nREADY=1 tok-of-a-status {}", "ä".repeat(1_000)));
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains("tok-of-a-status"), "{line}");
        assert_eq!(line.chars().count(), "STATUS=\n".len() + MAX_STATUS);
    }
}
