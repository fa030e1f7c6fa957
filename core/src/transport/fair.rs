//! A stream that does not keep everybody else waiting.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};

/// Reads without a pause, before others have their turn.
const IN_A_ROW: u8 = 32;

/// A byte stream that has its reader pause now and then.
///
/// Whoever is at the other end may send without an end what means nothing: answers on the way to one that never comes, empty
/// frames, records of TLS without a byte in them. A library that reads on until something comes of it would never return to the
/// loop then, with all its timers, unless the runtime sees to that. So it is seen to here, beneath all of them.
#[derive(Debug)]
pub struct Fair<S> {
    stream: S,
    in_a_row: u8,
}

impl<S> Fair<S> {
    /// Over this one.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, in_a_row: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.in_a_row == IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.in_a_row = if read.is_ready() { self.in_a_row + 1 } else { 0 };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin};

    use futures::{executor::block_on, stream::StreamExt as _, task::noop_waker_ref};

    use super::*;
    use crate::{
        http::HttpRequest,
        transport::{Connection, Connector, Socket, tests::Dials},
    };

    /// Says the second text again and again after the first, and never has its reader wait once it has begun.
    #[derive(Clone)]
    struct Endless {
        first: &'static [u8],
        then: &'static [u8],
        /// It waits to be asked.
        waits: bool,
        reads: usize,
    }

    impl Endless {
        fn new(first: &'static [u8], then: &'static [u8]) -> Self {
            Self { first, then, waits: false, reads: 0 }
        }
    }

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.waits {
                return Poll::Pending;
            }
            self.reads += 1;
            assert!(self.reads < 10_000, "nobody else has a turn");
            let then = self.then;
            let said = if self.first.is_empty() { then } else { std::mem::take(&mut self.first) };
            buffer[..said.len()].copy_from_slice(said);
            Poll::Ready(Ok(said.len()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.waits = false;
            Poll::Ready(Ok(buffer.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(noop_waker_ref())
    }

    #[test]
    #[cfg(feature = "http")]
    fn an_answer_that_never_comes_leaves_others_their_turn() {
        let endless = Endless { waits: true, ..Endless::new(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n") };
        let platform = Dials::new(move |_: &str, _| Ok(endless.clone()));
        let http = crate::transport::Http::new(Connector::new(platform));
        let mut exchange = pin!(http.exchange(HttpRequest::get("http://studio/"), "test".into()));
        for _ in 0..30 {
            assert!(exchange.as_mut().poll(&mut cx()).is_pending());
        }
    }

    #[test]
    fn a_message_that_never_ends_leaves_others_their_turn() {
        // The beginning of a text, and then nothing more of it, again and again.
        let connection = Connection::plain(Endless::new(&[1, 0], &[0, 0]));
        let mut socket = block_on(Socket::new(connection, Vec::new()));
        for _ in 0..3 {
            assert!(socket.poll_next_unpin(&mut cx()).is_pending());
        }
    }
}
