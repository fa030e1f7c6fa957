//! One open session: what waits to be written, and what is read meanwhile.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Sink, Stream};

use super::runtime::{Outgoing, Received, SocketError};
use crate::{
    wire::CloseCode,
    worker::{ConnId, Input, SessionEnd},
};

/// Frames that are read before the worker is asked what to do about them.
const MAX_FRAMES_A_TURN: usize = 32;

/// A socket with a queue of its own in front, so that no send is ever waited for.
pub(super) struct Link<S> {
    pub(super) conn: ConnId,
    socket: S,
    queue: VecDeque<Queued>,
    /// Frames of the worker's that were handed to the socket, and that have left.
    handed: u64,
    flushed: u64,
    /// Whether the socket may hold something back.
    unflushed: bool,
    /// Why nothing more can be written. What the peer said before is still read: often a close frame.
    broken: Option<String>,
}

struct Queued {
    frame: Outgoing,
    /// Whether the worker counts it.
    counted: bool,
}

/// What is left of a session that is over for the worker.
pub(super) struct Remains<S> {
    pub(super) socket: S,
    /// A close frame that still has to be said.
    pub(super) farewell: Option<Outgoing>,
}

impl<S> Link<S>
where
    S: Stream<Item = Result<Received, SocketError>> + Sink<Outgoing, Error = SocketError> + Unpin,
{
    pub(super) fn new(conn: ConnId, socket: S) -> Self {
        Self { conn, socket, queue: VecDeque::new(), handed: 0, flushed: 0, unflushed: false, broken: None }
    }

    /// Queues a frame that the worker counts.
    pub(super) fn send(&mut self, text: String) {
        self.queue.push_back(Queued { frame: Outgoing::Text(text), counted: true });
    }

    /// Keeps no more room than is needed.
    pub(super) fn let_go(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Queues the close frame.
    pub(super) fn close(&mut self, code: CloseCode, reason: String) {
        self.queue.push_back(Queued { frame: Outgoing::Close { code, reason }, counted: false });
    }

    /// Hands over what waits, flushes once, and says how far that came.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Option<Input> {
        if self.broken.is_some() {
            return None;
        }
        match self.write(cx) {
            Ok(()) => {}
            Err(error) => {
                self.broken = Some(error.to_string());
                self.queue.clear();
            }
        }
        if self.unflushed || self.handed == self.flushed || self.broken.is_some() {
            return None;
        }
        self.flushed = self.handed;
        Some(Input::Flushed { conn: self.conn, upto: self.flushed })
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), SocketError> {
        while !self.queue.is_empty() {
            let Poll::Ready(ready) = Pin::new(&mut self.socket).poll_ready(cx) else { break };
            ready?;
            if let Some(Queued { frame, counted }) = self.queue.pop_front() {
                Pin::new(&mut self.socket).start_send(frame)?;
                self.handed += u64::from(counted);
                self.unflushed = true;
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Reads what has come, up to a bound. After an [`Input::Closed`] the link is of no more use.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, inputs: &mut VecDeque<Input>) -> Reading {
        let conn = self.conn;
        for _ in 0..MAX_FRAMES_A_TURN {
            let end = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(received))) => match received {
                    Received::Text(text) => {
                        inputs.push_back(Input::Text { conn, text });
                        continue;
                    }
                    Received::Binary => {
                        inputs.push_back(Input::OtherFrame { conn, binary: true });
                        continue;
                    }
                    Received::Ping => {
                        // The answer leaves with the next flush, which this makes necessary.
                        self.unflushed = true;
                        inputs.push_back(Input::OtherFrame { conn, binary: false });
                        continue;
                    }
                    Received::Pong => {
                        inputs.push_back(Input::OtherFrame { conn, binary: false });
                        continue;
                    }
                    Received::Close { code, reason } => SessionEnd::Closed { code, reason },
                },
                Poll::Ready(Some(Err(SocketError::TooLarge))) => SessionEnd::TooLarge,
                Poll::Ready(Some(Err(SocketError::Broken(why)))) => SessionEnd::Dropped(why),
                Poll::Ready(None) => SessionEnd::Dropped("the connection ended".into()),
                Poll::Pending => match self.broken.take() {
                    Some(why) => SessionEnd::Dropped(why),
                    None => return Reading::Waits,
                },
            };
            inputs.push_back(Input::Closed { conn, end: end.clone() });
            return Reading::Over(end);
        }
        Reading::HasMore
    }

    /// What is left to do for a session that ended so.
    pub(super) fn into_remains(self, end: &SessionEnd) -> Option<Remains<S>> {
        let farewell = match end {
            SessionEnd::Dropped(_) => return None,
            // The socket has queued the answer itself.
            SessionEnd::Closed { .. } => None,
            SessionEnd::TooLarge => Some(Outgoing::Close {
                code: CloseCode::TOO_BIG,
                reason: "a frame is larger than is read".into(),
            }),
        };
        Some(Remains { socket: self.socket, farewell })
    }
}

/// How far reading came.
#[derive(Debug)]
pub(super) enum Reading {
    /// Nothing more is there now.
    Waits,
    /// The bound was reached.
    HasMore,
    /// The session is over.
    Over(SessionEnd),
}
