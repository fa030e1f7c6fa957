//! The studio's end of a connection: blocking, whatever it goes over.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};

/// The studio's end of a connection.
pub trait Stream: Read + Write + Send {
    /// How long a read may wait for something.
    fn set_read_timeout(&mut self, bound: Duration) -> io::Result<()>;
    /// How long a write may wait for room.
    fn set_write_timeout(&mut self, bound: Duration) -> io::Result<()>;
    /// Ends it one way, as is due there, or both ways, as a connection breaks.
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_read_timeout(&mut self, bound: Duration) -> io::Result<()> {
        TcpStream::set_read_timeout(self, Some(bound))
    }

    fn set_write_timeout(&mut self, bound: Duration) -> io::Result<()> {
        TcpStream::set_write_timeout(self, Some(bound))
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        TcpStream::shutdown(self, how)
    }
}

/// The handshake comes with the first read or write.
impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn set_read_timeout(&mut self, bound: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(bound))
    }

    fn set_write_timeout(&mut self, bound: Duration) -> io::Result<()> {
        self.sock.set_write_timeout(Some(bound))
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Write {
            self.conn.send_close_notify();
            self.flush()?;
        }
        self.sock.shutdown(how)
    }
}
