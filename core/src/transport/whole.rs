//! A runtime, whole, from what a platform brings.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use super::{
    CertificateDer, Connection, Connector, Folder, Http, LocalMachine, Platform, Socket, connect, proxies,
};
use crate::{
    drive::{Connect, Fetched, Machine, Progress, Runtime},
    engine::SpilledFile,
    http::{FileRequest, HttpAnswer, HttpFailure, HttpRequest, proxy::Proxies},
    time::{Mono, Now},
    worker::{ConnectFailure, Upload},
};

/// A [`Runtime`] on a [`Platform`]. Cheap to clone: clones share what TLS trusts.
#[derive(Debug, Clone)]
pub struct Transport<P> {
    connector: Connector<P>,
    folder: Folder,
    machine: LocalMachine<P>,
}

impl<P: Platform + Default> Transport<P> {
    /// A runtime on a platform of its own, whose clock starts now. It goes through the proxies that the environment names
    /// ([`proxies`]); otherwise it is as [`Transport::on`].
    pub fn new() -> Self {
        Self::on(P::default()).with_proxies(proxies())
    }
}

impl<P: Platform + Default> Default for Transport<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Transport<P> {
    /// A runtime on this platform. It trusts what the system trusts, and large results go to the system's folder for
    /// temporary files. It goes through no proxy.
    pub fn on(platform: P) -> Self {
        let folder = Folder::temporary();
        let machine = LocalMachine::new(platform.clone(), folder.clone());
        Self { connector: Connector::new(platform), folder, machine }
    }

    /// Trusts `roots` beside the system's certificates: a private authority's, say.
    #[must_use]
    pub fn with_roots(self, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { connector: self.connector.with_roots(roots), ..self }
    }

    /// Goes through these proxies, for sessions and HTTP alike.
    #[must_use]
    pub fn with_proxies(self, proxies: Proxies) -> Self {
        Self { connector: self.connector.with_proxies(proxies), ..self }
    }

    /// Keeps large results in `folder`, which must exist.
    #[must_use]
    pub fn with_results_in(self, folder: impl Into<PathBuf>) -> Self {
        let folder = Folder::at(folder);
        Self { machine: self.machine.with_files_in(folder.clone()), folder, ..self }
    }

    /// What it is on.
    pub fn platform(&self) -> &P {
        self.connector.platform()
    }
}

impl<P: Platform + Unpin> Runtime for Transport<P> {
    type Socket = Socket<Connection<P::Stream>>;

    fn now(&self) -> Now {
        self.platform().now()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        self.platform().sleep_until(at)
    }

    fn connect(
        &self,
        to: Connect,
    ) -> impl Future<Output = Result<Self::Socket, ConnectFailure>> + Send + 'static {
        connect(self.connector.clone(), to)
    }

    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        Http::new(self.connector.clone()).exchange(request, user_agent)
    }

    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        Http::new(self.connector.clone()).upload(upload, user_agent, progress)
    }

    fn fetch(
        &self,
        request: FileRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<Fetched, HttpFailure>> + Send + 'static {
        Http::new(self.connector.clone()).fetch(request, user_agent)
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.platform().compute(work)
    }

    fn spill(&self, bytes: Arc<Vec<u8>>) -> impl Future<Output = io::Result<SpilledFile>> + Send + 'static {
        self.folder.spill(self.platform(), bytes)
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        Folder::discard(self.platform(), file)
    }

    fn machine(&self) -> Arc<dyn Machine> {
        Arc::new(self.machine.clone())
    }
}
