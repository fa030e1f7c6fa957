//! A session's socket: WebSocket messages as the driver knows them.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};
use futures::{AsyncRead, AsyncWrite, FutureExt as _, Sink, Stream};

use super::followed::Followed;
use crate::{
    drive::{Outgoing, Received, SocketError},
    wire::{CloseCode, MAX_FRAME_BYTES},
};

/// What is read at a time, in bytes, and held by a socket at rest: there may be thousands of them.
const READ_BUFFER: usize = 1024;
/// What is buffered before it is written without a flush, in bytes.
const WRITE_BUFFER: usize = 16 * 1024;
/// A frame that is larger leaves no buffer behind, in bytes.
const KEPT: u64 = 1024;
/// A close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: CloseCode = CloseCode(1005);

/// An open session over a byte stream. It answers pings by itself.
#[derive(Debug)]
pub struct Socket<S> {
    /// Always there, but while it is exchanged.
    inner: Option<WebSocketStream<Followed<S>>>,
    /// The largest frame that was sent, in bytes.
    largest_sent: u64,
    /// Nothing waits to be written.
    flushed: bool,
    /// A close frame was said or heard.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket on a connection that was upgraded; `read` is what came after the head of the answer.
    pub async fn new(connection: S, read: Vec<u8>) -> Self {
        let connection = Followed::new(connection, &read);
        let socket =
            WebSocketStream::from_partially_read(connection, read, Role::Client, Some(config())).await;
        Self { inner: Some(socket), largest_sent: 0, flushed: true, closing: false }
    }

    fn socket(&mut self) -> Result<Pin<&mut WebSocketStream<Followed<S>>>, SocketError> {
        // None only if the library does not make one at once.
        self.inner.as_mut().map(Pin::new).ok_or_else(|| SocketError::Broken("the socket is gone".into()))
    }

    /// Lets buffers go that grew with a large frame, since the library never does. This is done when nothing is in them:
    /// between two messages, with all written. Whether it was.
    fn let_go(&mut self) -> bool {
        let Some(socket) = &mut self.inner else { return false };
        if self.closing || !self.flushed || !socket.get_ref().is_between_messages() {
            return false;
        }
        let largest = mem::take(&mut self.largest_sent).max(socket.get_mut().take_largest());
        if largest <= KEPT {
            return false;
        }
        self.inner = self.inner.take().and_then(|socket| {
            WebSocketStream::from_raw_socket(socket.into_inner(), Role::Client, Some(config())).now_or_never()
        });
        true
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // The driver hands over one frame after the other, and flushes when the socket can't keep up.
        .max_write_buffer_size(MAX_FRAME_BYTES + 2 * WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Socket<S> {
    type Item = Result<Received, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = loop {
            match self.socket()?.poll_next(cx) {
                Poll::Ready(received) => break received,
                // The new one is asked again, so that it knows whom to wake.
                Poll::Pending if self.let_go() => {}
                Poll::Pending => return Poll::Pending,
            }
        };
        Poll::Ready(match received {
            Some(Ok(message)) => Some(Ok(match message {
                Message::Text(text) => Received::Text(text.as_str().to_owned()),
                // A raw frame is never read.
                Message::Binary(_) | Message::Frame(_) => Received::Binary,
                Message::Ping(_) => {
                    self.flushed = false;
                    Received::Ping
                }
                Message::Pong(_) => Received::Pong,
                Message::Close(said) => {
                    self.closing = true;
                    self.flushed = false;
                    let (code, reason) = said
                        .map_or((NO_CODE, String::new()), |CloseFrame { code, reason }| {
                            (CloseCode(code.into()), reason.as_str().to_owned())
                        });
                    Received::Close { code, reason }
                }
            })),
            Some(Err(error)) => {
                self.closing = true;
                Some(Err(socket_error(error)))
            }
            None => None,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Outgoing> for Socket<S> {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.socket()?.poll_ready(cx).map_err(socket_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outgoing) -> Result<(), SocketError> {
        self.flushed = false;
        let message = match frame {
            Outgoing::Text(text) => {
                self.largest_sent = self.largest_sent.max(text.len() as u64);
                Message::Text(text.into())
            }
            Outgoing::Close { code, reason } => {
                self.closing = true;
                Message::Close(Some(CloseFrame { code: code.0.into(), reason: reason.into() }))
            }
        };
        self.socket()?.start_send(message).map_err(socket_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        ready!(self.socket()?.poll_flush(cx)).map_err(socket_error)?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.closing = true;
        self.socket()?.poll_close(cx).map_err(socket_error)
    }
}

fn socket_error(error: Error) -> SocketError {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => SocketError::TooLarge,
        // What is in the way is a frame of ours, which no error should quote.
        Error::WriteBufferFull(_) => SocketError::Broken("a frame is too large to be sent".into()),
        error => SocketError::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
