//! The runtime itself.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use studio_worker_core::{
    drive::{Connect, Progress, Runtime},
    engine::SpilledFile,
    http::{HttpAnswer, HttpFailure, HttpRequest},
    time::{Mono, Now},
    transport::{CertificateDer, Connection, Folder, Socket, Transport},
    worker::{ConnectFailure, Upload},
};
use tokio_util::compat::Compat;

use crate::platform::{Address, ByteStream, World};

/// The world as tokio sees it. Cheap to clone; workers on clones share what TLS trusts and the clock.
///
/// It is used from within a tokio runtime, of either flavour, with its timers (and, unless it has a dialer of its own,
/// its I/O) switched on.
#[derive(Debug, Clone)]
pub struct Tokio(Transport<World>);

impl Tokio {
    /// A runtime whose clock starts now. It trusts what the system trusts, and large results go to the system's folder
    /// for temporary files.
    pub fn new() -> Self {
        Self(Transport::new(World::new()))
    }

    /// The same over connections that `dial` opens, for sessions and HTTP alike: in memory, say, or through a proxy.
    /// TLS is spoken over them where the address says so.
    ///
    /// ```
    /// use studio_worker_tokio::{Address, Tokio};
    ///
    /// let (listener, connections) = tokio::sync::mpsc::unbounded_channel();
    /// let tokio = Tokio::dialing(move |_: Address| {
    ///     let (ours, theirs) = tokio::io::duplex(64 * 1024);
    ///     let listened = listener.send(theirs).map_err(std::io::Error::other);
    ///     async move { listened.map(|()| ours) }
    /// });
    /// # let _ = (tokio, connections);
    /// ```
    pub fn dialing<D, F, S>(dial: D) -> Self
    where
        D: Fn(Address) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: ByteStream,
    {
        Self(Transport::new(World::new().dialing(dial)))
    }

    /// Trusts `roots` beside the system's certificates: a private authority's, say.
    #[must_use]
    pub fn with_roots(self, roots: Vec<CertificateDer<'static>>) -> Self {
        Self(self.0.with_roots(roots))
    }

    /// Keeps large results in another folder. It must exist.
    #[must_use]
    pub fn with_results_in(self, folder: impl Into<PathBuf>) -> Self {
        Self(self.0.with_results_in(Folder::at(folder)))
    }
}

impl Default for Tokio {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for Tokio {
    type Socket = Socket<Connection<Compat<Box<dyn ByteStream>>>>;

    fn now(&self) -> Now {
        self.0.now()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        self.0.sleep_until(at)
    }

    fn connect(
        &self,
        to: Connect,
    ) -> impl Future<Output = Result<Self::Socket, ConnectFailure>> + Send + 'static {
        self.0.connect(to)
    }

    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.0.exchange(request, user_agent)
    }

    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.0.upload(upload, user_agent, progress)
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.0.compute(work)
    }

    fn spill(&self, bytes: Arc<Vec<u8>>) -> impl Future<Output = io::Result<SpilledFile>> + Send + 'static {
        self.0.spill(bytes)
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        self.0.discard(file)
    }
}
