//! Serving a few others at once, each on a thread of its own with blocking connections, beside whatever async runtime drives
//! the worker.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What a guest's thread needs at most.
const STACK: usize = 256 * 1024;
/// After a connection that could not be accepted: descriptors may be short for a while.
const TROUBLE: Duration = Duration::from_millis(200);
/// How long a new guest may have to wait for a seat, where all are taken by some who have asked: those leave soon.
const QUEUEING: Duration = Duration::from_secs(5);
/// How long guests have to leave when it is over, and to be told so: a moment, but for a busy machine.
const FAREWELL: Duration = Duration::from_secs(3);

/// A connection that blocks.
pub(crate) trait Guest: Read + Write + Send + 'static {
    /// Bounds each read and each write from now on.
    fn bound(&self, read: Duration, write: Duration) -> io::Result<()>;

    /// Says that nothing more will be written.
    fn finish(&self);

    /// What ends the connection from another thread, also while it is read from.
    fn ender(&self) -> io::Result<Ender>;
}

/// Ends a connection.
pub(crate) type Ender = Box<dyn Fn() + Send + Sync>;

macro_rules! guest {
    ($stream:ty) => {
        impl Guest for $stream {
            fn bound(&self, read: Duration, write: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(read))?;
                self.set_write_timeout(Some(write))
            }

            fn finish(&self) {
                // One that has gone has gone.
                let _ = self.shutdown(Shutdown::Write);
            }

            fn ender(&self) -> io::Result<Ender> {
                let same = self.try_clone()?;
                Ok(Box::new(move || {
                    let _ = same.shutdown(Shutdown::Both);
                }))
            }
        }
    };
}

guest!(TcpStream);
#[cfg(unix)]
guest!(std::os::unix::net::UnixStream);

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

/// Those who are served. Dropped, no more come, those who have asked for nothing yet are sent away, and the others get a
/// moment to leave.
pub(crate) struct Guests {
    listener: Arc<dyn Listener>,
    closed: Arc<AtomicBool>,
    seats: Arc<Seats>,
    accepting: Option<JoinHandle<()>>,
}

impl Guests {
    /// Calls `serve` for each guest, with its visit. Where there would be more than `most`, the one leaves that has been
    /// there longest without having asked for anything; if there is none, the new one waits for a seat, though not for ever.
    /// So that there soon is one, whoever serves a guest for long asks first whether that [leaves seats](Visit::follows).
    pub(crate) fn serve(
        name: &'static str,
        listener: Arc<dyn Listener>,
        most: usize,
        serve: impl Fn(Box<dyn Guest>, &Visit) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (closed, seats) = (Arc::new(AtomicBool::new(false)), Arc::new(Seats::default()));
        let (inside, over, taken) = (Arc::clone(&listener), Arc::clone(&closed), Arc::clone(&seats));
        let serve = Arc::new(serve);
        let accepting = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let accepted = inside.accept().and_then(|guest| {
                    let ender = guest.ender()?;
                    Ok((guest, ender))
                });
                let (guest, ender) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        log::debug!("{name}: nobody can be let in: {error}");
                        thread::sleep(TROUBLE);
                        continue;
                    }
                };
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Some(seat) = taken.wait_for(most, ender, &over) else {
                    log::debug!("{name}: {most} are served already, so another one was turned away");
                    continue;
                };
                let visit = Visit { closed: Arc::clone(&over), seat };
                let serve = Arc::clone(&serve);
                let served = thread::Builder::new()
                    .name(name.into())
                    .stack_size(STACK)
                    .spawn(move || serve(guest, &visit));
                if let Err(error) = served {
                    log::debug!("{name}: no thread can be had: {error}");
                }
            }
        })?;
        Ok(Self { listener, closed, seats, accepting: Some(accepting) })
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
        while self.seats.dismiss() > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("present", &self.seats.lock().len()).finish_non_exhaustive()
    }
}

/// One guest's visit.
pub(crate) struct Visit {
    closed: Arc<AtomicBool>,
    seat: Seat,
}

impl Visit {
    /// Whether it is over.
    pub(crate) fn closed(&self) -> &AtomicBool {
        &self.closed
    }

    /// Whether this guest may be served as long as it likes: at most `most` are, so that others find a seat.
    pub(crate) fn follows(&self, most: usize) -> bool {
        let mut seated = self.seat.seats.lock();
        let is_free = seated.iter().filter(|seated| seated.follows).count() < most;
        let own = seated.iter_mut().find(|seated| seated.number == self.seat.number);
        own.is_some_and(|own| {
            own.follows |= is_free;
            own.follows
        })
    }
}

/// Who is there, in the order in which they came.
#[derive(Default)]
struct Seats(Mutex<Vec<Seated>>);

struct Seated {
    number: u64,
    /// What sends it away; none once it has asked for something, or was sent away.
    ender: Option<Ender>,
    /// Whether it stays as long as it likes.
    follows: bool,
}

impl Seats {
    /// A place for another one, which `ender` sends away as long as it asks for nothing: at once, or as soon as there is
    /// one.
    fn wait_for(self: &Arc<Self>, most: usize, ender: Ender, over: &AtomicBool) -> Option<Seat> {
        let (end, mut ender) = (Instant::now() + QUEUEING, Some(ender));
        loop {
            if let Some(seat) = self.take(most, &mut ender) {
                return Some(seat);
            }
            if Instant::now() >= end || over.load(Ordering::SeqCst) {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn take(self: &Arc<Self>, most: usize, ender: &mut Option<Ender>) -> Option<Seat> {
        let mut seated = self.lock();
        // Those who were sent away need a moment to leave.
        if seated.len() >= 2 * most {
            return None;
        }
        if seated.len() >= most {
            seated.iter_mut().find_map(|seated| seated.ender.take())?();
        }
        let number = seated.last().map_or(0, |last| last.number + 1);
        seated.push(Seated { number, ender: ender.take(), follows: false });
        Some(Seat { seats: Arc::clone(self), number })
    }

    /// Sends away those who have asked for nothing; how many are there.
    fn dismiss(&self) -> usize {
        let mut seated = self.lock();
        seated.iter_mut().filter_map(|seated| seated.ender.take()).for_each(|ender| ender());
        seated.len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seated>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's place among those who are served. It is free again afterwards, also when serving panics.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
}

impl Seat {
    /// It has asked for something.
    fn keep(&self) {
        let mut seated = self.seats.lock();
        seated
            .iter_mut()
            .filter(|seated| seated.number == self.number)
            .for_each(|seated| seated.ender = None);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().retain(|seated| seated.number != self.number);
    }
}

/// Reads what a guest asks for, up to and with what ends it, at most `bytes` and for at most `patience`, however slowly it
/// comes.
pub(crate) fn read_until(
    guest: &mut dyn Guest,
    visit: &Visit,
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
    visit.seat.keep();
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 3;

    /// Guests who are answered with what they ask, and stay; all but one may.
    fn echo() -> (Guests, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let guests = Guests::serve("test", Arc::new(listener), MOST, |mut guest, visit| {
            let patience = Duration::from_secs(60);
            if let Ok(line) = read_until(&mut *guest, visit, |read| read.ends_with(b"\n"), 64, patience) {
                // Asked before the answer, as the door does: who has it may count on a seat.
                let may_stay = line != b"stay\n" || visit.follows(MOST - 1);
                let _ = guest.write_all(&line);
                while may_stay
                    && !visit.closed().load(Ordering::SeqCst)
                    && stays(&mut *guest, Duration::from_millis(5), patience)
                {}
            }
            guest.finish();
        });
        (guests.unwrap(), address)
    }

    fn come(address: std::net::SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Asks, and waits for the answer.
    fn ask(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"hello\n")?;
        stream.read_exact(&mut [0; 6])
    }

    #[test]
    fn those_who_stay_leave_a_seat_and_it_is_waited_for() {
        let (guests, address) = echo();
        let stay = |stream: &mut TcpStream| {
            stream.write_all(b"stay\n").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        };
        let mut staying: Vec<_> = (0..MOST - 1).map(|_| come(address)).collect();
        staying.iter_mut().for_each(stay);
        // One more may not, and one that does not want to leaves nobody waiting for long.
        let mut refused = come(address);
        stay(&mut refused);
        assert_eq!(refused.read(&mut [0; 8]).unwrap(), 0);
        let mut short = come(address);
        ask(&mut short).unwrap();
        let (going, waited) = (Instant::now(), Duration::from_millis(300));
        let leaving = thread::spawn(move || {
            thread::sleep(waited);
            drop(short);
        });
        let mut next = come(address);
        ask(&mut next).unwrap();
        assert!(going.elapsed() >= waited, "it waited for the seat");
        leaving.join().unwrap();
        // Who stays is still there, and who leaves makes room for another one of them.
        staying[0].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(staying[0].read(&mut [0; 8]).is_err(), "it was sent away");
        drop((staying, next));
        let mut again = come(address);
        ask(&mut again).unwrap();
        drop(guests);
    }

    #[test]
    fn who_has_said_nothing_for_longest_makes_room_and_who_has_asked_stays() {
        let (guests, address) = echo();
        let mut first = come(address);
        ask(&mut first).unwrap();
        let mut silent: Vec<_> = (0..2).map(|_| come(address)).collect();
        let mut third = come(address);
        ask(&mut third).unwrap();
        assert_eq!(silent[0].read(&mut [0; 8]).unwrap(), 0, "the oldest of those was sent away");
        ask(&mut silent[1]).unwrap();
        // All of them have asked now.
        let mut fourth = come(address);
        assert!(ask(&mut fourth).is_err());
        drop((first, third, silent));
        drop(guests);
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_at_the_end() {
        let (guests, address) = echo();
        let silent: Vec<_> = (0..MOST).map(|_| come(address)).collect();
        let seats = Arc::clone(&guests.seats);
        while seats.lock().len() < MOST {
            thread::sleep(Duration::from_millis(5));
        }
        drop(guests);
        assert_eq!(seats.lock().len(), 0, "all have left");
        drop(silent);
    }
}
