//! Serving a few others at once, each on a thread of its own with blocking connections, beside whatever async runtime drives
//! the worker.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What a guest's thread needs at most.
const STACK: usize = 256 * 1024;
/// After a connection that could not be accepted: descriptors may be short for a while.
const TROUBLE: Duration = Duration::from_millis(200);
/// How long guests have to leave when it is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that blocks.
pub(crate) trait Guest: Read + Write + Send + 'static {
    /// Bounds each read and each write from now on.
    fn bound(&self, read: Duration, write: Duration) -> io::Result<()>;

    /// Says that nothing more will be written.
    fn finish(&self);
}

impl Guest for TcpStream {
    fn bound(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }

    fn finish(&self) {
        // One that has gone has gone.
        let _ = self.shutdown(Shutdown::Write);
    }
}

#[cfg(unix)]
impl Guest for std::os::unix::net::UnixStream {
    fn bound(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }

    fn finish(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Where connections come from.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Waits for the next one.
    fn accept(&self) -> io::Result<Box<dyn Guest>>;

    /// Makes one that waits return.
    fn knock(&self);
}

impl Listener for TcpListener {
    fn accept(&self) -> io::Result<Box<dyn Guest>> {
        let (stream, _) = TcpListener::accept(self)?;
        Ok(Box::new(stream))
    }

    fn knock(&self) {
        if let Ok(mut address) = self.local_addr() {
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            let _ = TcpStream::connect_timeout(&address, TROUBLE);
        }
    }
}

/// Those who are served. Dropped, no more come, and those who are there get a moment to leave.
pub(crate) struct Guests {
    listener: Arc<dyn Listener>,
    closed: Arc<AtomicBool>,
    present: Arc<AtomicUsize>,
    accepting: Option<JoinHandle<()>>,
}

impl Guests {
    /// Calls `serve` for each guest, with whether it is over. Those beyond `most` are turned away.
    pub(crate) fn serve(
        name: &'static str,
        listener: Arc<dyn Listener>,
        most: usize,
        serve: impl Fn(Box<dyn Guest>, &AtomicBool) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (closed, present) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (inside, over, count) = (Arc::clone(&listener), Arc::clone(&closed), Arc::clone(&present));
        let serve = Arc::new(serve);
        let accepting = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let guest = match inside.accept() {
                    Ok(guest) => guest,
                    Err(error) => {
                        log::debug!("{name}: nobody can be let in: {error}");
                        thread::sleep(TROUBLE);
                        continue;
                    }
                };
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let seat = Seat::take(&count);
                if count.load(Ordering::SeqCst) > most {
                    log::debug!("{name}: {most} are served already, so another one was turned away");
                    continue;
                }
                let (serve, over) = (Arc::clone(&serve), Arc::clone(&over));
                let served = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
                    let _seat = seat;
                    serve(guest, &over);
                });
                if let Err(error) = served {
                    log::debug!("{name}: no thread can be had: {error}");
                }
            }
        })?;
        Ok(Self { listener, closed, present, accepting: Some(accepting) })
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let end = Instant::now() + FAREWELL;
        if let Some(accepting) = self.accepting.take() {
            // Knocked at again, should the first knock be lost in a full queue.
            while !accepting.is_finished() && Instant::now() < end {
                self.listener.knock();
                thread::sleep(Duration::from_millis(5));
            }
        }
        while self.present.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("present", &self.present).finish_non_exhaustive()
    }
}

/// A guest's place among those who are served, also when serving panics.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Reads up to and with what ends it, at most `bytes` and for at most `patience`, however slowly it comes.
pub(crate) fn read_until(
    guest: &mut dyn Guest,
    is_whole: impl Fn(&[u8]) -> bool,
    bytes: usize,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let (end, mut read, mut piece) = (Instant::now() + patience, Vec::new(), [0; 512]);
    while !is_whole(&read) {
        if read.len() >= bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        guest.bound(left, patience)?;
        match guest.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => read.extend(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Waits for `span`, or until the guest has gone: whether it is still there. What it says meanwhile is nobody's business.
pub(crate) fn stays(guest: &mut dyn Guest, span: Duration, write: Duration) -> bool {
    let mut said = [0; 64];
    if guest.bound(span, write).is_err() {
        return false;
    }
    match guest.read(&mut said) {
        Ok(0) => false,
        Ok(_) => {
            // One that talks all the time must not make this a busy loop.
            thread::sleep(span);
            true
        }
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
        ),
    }
}
