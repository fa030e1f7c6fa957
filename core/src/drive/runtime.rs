//! What a runtime supplies: clocks, sockets, HTTP, threads and private files.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::{AsyncRead, Sink, Stream};

use super::{
    machine::{Machine, NoMachine},
    mailbox::Bell,
};
use crate::{
    engine::SpilledFile,
    http::{FileHead, FileRequest, HttpAnswer, HttpFailure, HttpRequest},
    time::{Mono, Now},
    wire::{CloseCode, Secret},
    worker::{ConnectFailure, Upload},
};

/// The world that a worker is driven in.
///
/// To write one for another runtime, give it a handle type that is cheap to clone and implement these
/// methods. They have no policy: when to connect, what to send, how long to wait and what to do about a
/// failure is decided by the [`Worker`](crate::worker::Worker). What an implementation must keep to:
///
/// - **Dropping a future gives up what it does**, at once: the loop cancels in no other way. Only a closure
///   that computes goes on, since a thread can't be stopped.
/// - **Futures wake when there is something to do**, and are fine with being polled more often than that.
/// - **Nothing is logged or put into an error that carries a [`Secret`]**, and a redirect is an answer like
///   any other: it is not followed, so that no bearer goes to another host.
/// - **A socket's sink may buffer**, and sends on flush. What one turn of the loop decided is one flush;
///   set `TCP_NODELAY`, so that it leaves at once.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// An open session.
    ///
    /// Reading and writing don't wait for each other: each is polled on its own. A ping is answered by the
    /// socket itself, no later than at the next flush, which the loop sees to.
    type Socket: Stream<Item = Result<Received, SocketError>>
        + Sink<Outgoing, Error = SocketError>
        + Send
        + Unpin
        + 'static;

    /// What time it is: microseconds of a monotonic clock since the runtime's start, and the wall clock.
    fn now(&self) -> Now;

    /// Waits until the monotonic clock says `at`. The loop compares the clock before it trusts the timer, so
    /// a timer that is a little early or late does no harm.
    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static;

    /// Connects, upgrades, and sees that the sub-protocol [`SUB_PROTOCOL`](crate::wire::SUB_PROTOCOL) comes
    /// back (section 1). Frames up to [`MAX_FRAME_BYTES`](crate::wire::MAX_FRAME_BYTES) are read. The body of
    /// a refusal is read up to [`HttpAnswer::SMALL_BODY`], since it may say that the worker is unknown.
    fn connect(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<Self::Socket, ConnectFailure>> + Send + 'static;

    /// Exchanges one request within its bounds: [`HttpRequest::timeout`] in time,
    /// [`HttpRequest::answer_limit`] in what is read, [`HttpRequest::reach`] in the addresses that are
    /// connected to.
    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static;

    /// Delivers a result with a known length, streamed: nothing of it is copied as a whole. An answer that
    /// comes before the body has left ends the exchange. There is no bound in time: the worker watches
    /// `progress`.
    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static;

    /// Asks for a file, whose bytes are then read as they come. The connection is open as long as the body is kept.
    /// Neither has a bound in time: who reads knows when nothing moves.
    ///
    /// A runtime without it can't download files.
    fn fetch(
        &self,
        request: FileRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<Fetched, HttpFailure>> + Send + 'static {
        let _ = (request, user_agent);
        ready(Err(HttpFailure("this runtime downloads no files".into())))
    }

    /// Runs `work` on a thread off the loop; it may block and take long. It doesn't panic: the loop has seen
    /// to that. It starts when the future is first polled: what was decided before it has left by then.
    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;

    /// Writes a result to a file that only this user can read. A future that is dropped leaves no file.
    fn spill(
        &self,
        bytes: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<SpilledFile, std::io::Error>> + Send + 'static;

    /// Deletes the file of a result; one that is gone already is fine.
    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static;

    /// The machine that it is on: none unless it says so.
    fn machine(&self) -> Arc<dyn Machine> {
        Arc::new(NoMachine)
    }
}

/// Where a session is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// `ws://…` or `wss://…`.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Secret,
    /// Sent as `User-Agent`.
    pub user_agent: Arc<str>,
}

/// A file that comes.
pub struct Fetched {
    /// What the server said of it.
    pub head: FileHead,
    /// Its bytes. One that breaks off before what was announced has come ends with an error.
    pub body: Pin<Box<dyn AsyncRead + Send>>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("head", &self.head).finish_non_exhaustive()
    }
}

/// What a socket reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text frame.
    Text(String),
    /// A binary frame, which nobody should send.
    Binary,
    /// A ping; the answer is queued already.
    Ping,
    /// A pong.
    Pong,
    /// A close frame; the answer, if one is due, is queued already.
    Close {
        /// Its code; 1005 when it had none.
        code: CloseCode,
        /// Its text.
        reason: String,
    },
}

/// What a socket writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame.
    Text(String),
    /// A close frame, the last frame of this side.
    Close {
        /// Its code.
        code: CloseCode,
        /// Its text.
        reason: String,
    },
}

/// Why a socket can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// A frame came that is larger than is read.
    #[error("a frame is larger than is read")]
    TooLarge,
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
}

/// Where an upload says how far it is. Cheap to clone and to call: for every buffer that leaves, from any
/// thread.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Moved>);

#[derive(Debug, Default)]
struct Moved {
    bytes: AtomicU64,
    /// Whether the loop was told since it last looked.
    told: AtomicBool,
    bell: Arc<Bell>,
}

impl Progress {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self(Arc::new(Moved { bell, ..Moved::default() }))
    }

    /// How many bytes have left so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// `bytes` more of the body have left.
    pub fn advance(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if !self.0.told.swap(true, Ordering::AcqRel) {
            self.0.bell.ring();
        }
    }

    /// Whether something moved since [`Progress::take`].
    pub(super) fn has_moved(&self) -> bool {
        self.0.told.load(Ordering::Acquire)
    }

    /// How many bytes of the body have left.
    pub(super) fn take(&self) -> u64 {
        // A swap, so that it sees the bytes of everyone who found it told.
        self.0.told.swap(false, Ordering::AcqRel);
        self.0.bytes.load(Ordering::Relaxed)
    }
}
