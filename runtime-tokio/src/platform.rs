//! What tokio brings: clocks, timers, TCP; and threads for what blocks.

use std::{
    fmt,
    future::{Future, pending},
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot, future::BoxFuture};
use studio_worker_core::{
    http::Reach,
    time::{Mono, Now},
    transport::{self, Platform, first_to_connect},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// Between two attempts to have a thread.
const THREAD_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes both ways, over whatever carries them.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Which addresses the host may have. A dialer that leads elsewhere than to the network has no use for it.
    pub reach: Reach,
}

type Dialer = dyn Fn(Address) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> + Send + Sync;

/// What a worker needs of tokio: its clock, which tests can pause, its timers, its sockets. Clones share clock and
/// dialer.
///
/// It is used from within a tokio runtime, of either flavour, with its timers (and, unless there is a dialer, its I/O)
/// switched on.
#[derive(Clone)]
pub struct TokioPlatform {
    start: Instant,
    dialer: Option<Arc<Dialer>>,
}

impl TokioPlatform {
    /// Its clock starts now, and connections are TCP.
    pub fn new() -> Self {
        Self { start: Instant::now(), dialer: None }
    }

    /// The same over connections that `dial` opens, for sessions and HTTP alike: in memory, say, or through a proxy.
    /// TLS is spoken over them where the address says so.
    ///
    /// ```
    /// use studio_worker_tokio::{Tokio, TokioPlatform};
    ///
    /// let (listener, connections) = tokio::sync::mpsc::unbounded_channel();
    /// let tokio = Tokio::on(TokioPlatform::dialing(move |_| {
    ///     let (ours, theirs) = tokio::io::duplex(64 * 1024);
    ///     let listened = listener.send(theirs).map_err(std::io::Error::other);
    ///     async move { listened.map(|()| ours) }
    /// }));
    /// # let _ = (tokio, connections);
    /// ```
    pub fn dialing<D, F, S>(dial: D) -> Self
    where
        D: Fn(Address) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: ByteStream,
    {
        let dialer = move |address| {
            let dialed = dial(address);
            async move { Ok(Box::new(dialed.await?) as Box<dyn ByteStream>) }.boxed()
        };
        Self { dialer: Some(Arc::new(dialer)), ..Self::new() }
    }
}

impl Default for TokioPlatform {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TokioPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioPlatform").field("start", &self.start).finish_non_exhaustive()
    }
}

#[expect(
    clippy::manual_async_fn,
    reason = "the futures hold nothing of `self`, which those of an `async fn` do"
)]
impl Platform for TokioPlatform {
    type Stream = Compat<Box<dyn ByteStream>>;

    fn now(&self) -> Now {
        Now { mono: Mono::ZERO + self.start.elapsed(), wall: transport::wall_clock() }
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        let at = self.start + at.since(Mono::ZERO);
        // Made when it is first polled, where there is a runtime.
        async move { sleep_until(at).await }
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
        let (platform, address) = (self.clone(), Address { host: host.to_owned(), port, reach });
        async move {
            let stream = match &platform.dialer {
                Some(dial) => dial(address).await?,
                None => Box::new(tcp(&platform, address).await?),
            };
            Ok(stream.compat())
        }
    }

    /// On a thread of its own, and not on tokio's for blocking work: a runtime that is shut down waits for those, and
    /// an engine may never return.
    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        async move {
            let (sender, receiver) = oneshot::channel();
            let mut work = move || {
                // Nobody waits any more: then the result is of no use.
                let _ = sender.send(work());
            };
            // Late is better than never.
            while let Err(back) = start_thread(work) {
                work = back;
                sleep(THREAD_INTERVAL).await;
            }
            match receiver.await {
                Ok(result) => result,
                // The work panicked, which its caller has ruled out; there is nothing to answer with.
                Err(oneshot::Canceled) => pending().await,
            }
        }
    }

    /// On tokio's threads for blocking work: they are warm.
    fn block<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        async move {
            match spawn_blocking(work).await {
                Ok(result) => result,
                // The runtime is being shut down, and this with it.
                Err(_) => pending().await,
            }
        }
    }
}

/// Starts a thread; the work again, if no thread can be had.
fn start_thread<F: FnOnce() + Send + 'static>(work: F) -> Result<(), F> {
    let work = Arc::new(Mutex::new(Some(work)));
    let taken = Arc::clone(&work);
    let take = |work: &Mutex<Option<F>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let on_it = move || take(&taken).into_iter().for_each(|work| work());
    match thread::Builder::new().name("studio-worker".into()).spawn(on_it) {
        Ok(_) => Ok(()),
        Err(_) => take(&work).map_or(Ok(()), Err),
    }
}

async fn tcp(platform: &TokioPlatform, Address { host, port, reach }: Address) -> io::Result<TcpStream> {
    let addresses = platform.resolve(&host, port, reach).await?;
    let stream = first_to_connect(addresses, TcpStream::connect, sleep).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
