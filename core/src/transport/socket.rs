//! A session's socket: WebSocket messages as the driver knows them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    drive::{Outgoing, Received, SocketError},
    wire::{CloseCode, MAX_FRAME_BYTES},
};
use async_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};
use futures::{AsyncRead, AsyncWrite, Sink, Stream};

/// Both buffers are small: a session is idle most of the time.
const READ_BUFFER: usize = 8 * 1024;
/// What is buffered before it is written without a flush.
const WRITE_BUFFER: usize = 16 * 1024;
/// A close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: CloseCode = CloseCode(1005);

/// An open session over a byte stream. It answers pings by itself.
#[derive(Debug)]
pub struct Socket<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket on a connection that was upgraded; `read` is what came after the head of the answer.
    pub async fn new(connection: S, read: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            // The driver hands over one frame after the other, and flushes when the socket can't keep up.
            .max_write_buffer_size(MAX_FRAME_BYTES + 2 * WRITE_BUFFER)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        Self(WebSocketStream::from_partially_read(connection, read, Role::Client, Some(config)).await)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Socket<S> {
    type Item = Result<Received, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
            Some(Ok(message)) => Some(Ok(match message {
                Message::Text(text) => Received::Text(text.as_str().to_owned()),
                // A raw frame is never read.
                Message::Binary(_) | Message::Frame(_) => Received::Binary,
                Message::Ping(_) => Received::Ping,
                Message::Pong(_) => Received::Pong,
                Message::Close(None) => Received::Close { code: NO_CODE, reason: String::new() },
                Message::Close(Some(CloseFrame { code, reason })) => {
                    Received::Close { code: CloseCode(code.into()), reason: reason.as_str().to_owned() }
                }
            })),
            Some(Err(error)) => Some(Err(socket_error(error))),
            None => None,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Outgoing> for Socket<S> {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(socket_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outgoing) -> Result<(), SocketError> {
        let message = match frame {
            Outgoing::Text(text) => Message::Text(text.into()),
            Outgoing::Close { code, reason } => {
                Message::Close(Some(CloseFrame { code: code.0.into(), reason: reason.into() }))
            }
        };
        Pin::new(&mut self.0).start_send(message).map_err(socket_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(socket_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(socket_error)
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
