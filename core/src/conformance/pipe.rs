//! Connections in memory: an end for a worker, which polls, and one for the studio, which blocks.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    PATIENCE,
    clock::{Clock, Watched},
    stream::Stream,
};

/// What one way of a connection holds before its writer must wait, in bytes.
const ROOM: usize = 64 * 1024;

/// One way of a connection.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// Nobody writes any more.
    ended: bool,
    /// Nobody reads any more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    /// Nothing, when there is nothing yet.
    fn read(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        (!self.bytes.is_empty() || self.ended || self.deaf || buffer.is_empty())
            .then(|| self.bytes.read(buffer))
    }

    /// Nothing, when there is no room.
    fn write(&mut self, buffer: &[u8]) -> Option<io::Result<usize>> {
        if self.ended || self.deaf {
            return Some(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = ROOM - self.bytes.len();
        (room > 0 || buffer.is_empty()).then(|| self.bytes.write(&buffer[..room.min(buffer.len())]))
    }

    fn end(&mut self) {
        self.ended = true;
    }

    fn deafen(&mut self) {
        self.deaf = true;
        self.bytes.clear();
    }
}

/// Both ways, from one end.
struct Ends {
    incoming: Watched<Way>,
    outgoing: Watched<Way>,
}

impl Ends {
    fn end(&self, how: Shutdown) {
        let mut wakers = Vec::new();
        if how != Shutdown::Read {
            wakers.extend(self.outgoing.change(|way| {
                way.end();
                [way.reader.take(), way.writer.take()]
            }));
        }
        if how != Shutdown::Write {
            wakers.extend(self.incoming.change(|way| {
                way.deafen();
                [way.reader.take(), way.writer.take()]
            }));
        }
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.end(Shutdown::Both);
    }
}

/// A new connection.
pub(super) fn pipe(clock: &Clock) -> (Pipe, BlockingPipe) {
    let (there, back) = (Watched::new(clock, Way::default()), Watched::new(clock, Way::default()));
    let worker = Pipe(Ends { incoming: back.clone(), outgoing: there.clone() });
    let ends = Ends { incoming: there, outgoing: back };
    (worker, BlockingPipe { ends, read_timeout: PATIENCE, write_timeout: PATIENCE })
}

/// A worker's end of a connection in memory.
pub struct Pipe(Ends);

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // It must outlive the lock: a waker may be the last of what it would wake.
        let mut _waker = None;
        let outcome = self.0.incoming.attempt(|way| {
            let read = way.read(buffer);
            if read.is_none() {
                _waker = way.reader.replace(cx.waker().clone());
            }
            read
        });
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        // It must outlive the lock: a waker may be the last of what it would wake.
        let mut _waker = None;
        let outcome = self.0.outgoing.attempt(|way| {
            let written = way.write(buffer);
            if written.is_none() {
                _waker = way.writer.replace(cx.waker().clone());
            }
            written
        });
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.end(Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

/// The studio's end of a connection in memory.
pub(super) struct BlockingPipe {
    ends: Ends,
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Read for BlockingPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.ends.incoming.take_within(self.read_timeout, |way| {
            let read = way.read(buffer)?;
            Some((read, way.writer.take()))
        });
        settle(read)
    }
}

impl Write for BlockingPipe {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.ends.outgoing.take_within(self.write_timeout, |way| {
            let written = way.write(buffer)?;
            Some((written, way.reader.take()))
        });
        settle(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Wakes who polls the other end.
fn settle(outcome: Option<(io::Result<usize>, Option<Waker>)>) -> io::Result<usize> {
    let (outcome, other) = outcome.ok_or(ErrorKind::TimedOut)?;
    if let Some(other) = other {
        other.wake();
    }
    outcome
}

impl Stream for BlockingPipe {
    fn set_read_timeout(&mut self, bound: Duration) -> io::Result<()> {
        self.read_timeout = bound;
        Ok(())
    }

    fn set_write_timeout(&mut self, bound: Duration) -> io::Result<()> {
        self.write_timeout = bound;
        Ok(())
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.ends.end(how);
        Ok(())
    }
}
