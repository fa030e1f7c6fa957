//! The runtime itself: what the driver asks for, put together.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use async_std::net::TcpStream;
use studio_worker_core::{
    drive::{Connect, Fetched, Machine, Progress, Runtime},
    engine::SpilledFile,
    http::{FileRequest, HttpAnswer, HttpFailure, HttpRequest, proxy::Proxies},
    time::{Mono, Now},
    transport::{self, CertificateDer, Connection, Connector, Folder, LocalMachine, Platform as _, Socket},
    worker::{ConnectFailure, Upload},
};

use crate::{http::Http, platform::World};

/// The world as async-std sees it. Cheap to clone; workers on clones share connections and threads.
#[derive(Debug, Clone)]
pub struct AsyncStd {
    connector: Connector<World>,
    http: Http,
    folder: Folder,
    machine: LocalMachine<World>,
}

impl AsyncStd {
    /// A runtime whose clock starts now. It trusts what the system trusts and goes through the proxies that the
    /// environment names ([`transport::proxies`]); large results go to the system's folder for temporary files.
    pub fn new() -> Self {
        let (world, folder) = (World::new(), Folder::temporary());
        let connector = Connector::new(world.clone()).with_proxies(transport::proxies());
        let machine = LocalMachine::new(world, folder.clone());
        Self { http: Http::new(connector.clone()), connector, folder, machine }
    }

    fn world(&self) -> &World {
        self.connector.platform()
    }

    fn connecting_by(self, connector: Connector<World>) -> Self {
        Self { http: Http::new(connector.clone()), connector, ..self }
    }

    /// Trusts `roots` beside the system's certificates: a private authority's, say.
    #[must_use]
    pub fn with_roots(self, roots: Vec<CertificateDer<'static>>) -> Self {
        let connector = self.connector.clone().with_roots(roots);
        self.connecting_by(connector)
    }

    /// Goes through these proxies, rather than those that the environment names, for sessions and HTTP alike.
    #[must_use]
    pub fn with_proxies(self, proxies: Proxies) -> Self {
        let connector = self.connector.clone().with_proxies(proxies);
        self.connecting_by(connector)
    }

    /// Keeps large results in another folder. It must exist.
    #[must_use]
    pub fn with_results_in(self, folder: impl Into<PathBuf>) -> Self {
        let folder = Folder::at(folder);
        Self { machine: self.machine.with_files_in(folder.clone()), folder, ..self }
    }
}

impl Default for AsyncStd {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for AsyncStd {
    type Socket = Socket<Connection<TcpStream>>;

    fn now(&self) -> Now {
        self.world().now()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        self.world().sleep_until(at)
    }

    fn connect(
        &self,
        to: Connect,
    ) -> impl Future<Output = Result<Self::Socket, ConnectFailure>> + Send + 'static {
        transport::connect(self.connector.clone(), to)
    }

    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.http.clone().exchange(request, user_agent)
    }

    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.http.clone().upload(upload, user_agent, progress)
    }

    fn fetch(
        &self,
        request: FileRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<Fetched, HttpFailure>> + Send + 'static {
        self.http.clone().fetch(request, user_agent)
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.world().compute(work)
    }

    fn spill(&self, bytes: Arc<Vec<u8>>) -> impl Future<Output = io::Result<SpilledFile>> + Send + 'static {
        self.folder.spill(self.world(), bytes)
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        Folder::discard(self.world(), file)
    }

    fn machine(&self) -> Arc<dyn Machine> {
        Arc::new(self.machine.clone())
    }
}
