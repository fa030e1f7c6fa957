//! The runtime itself: what the driver asks for, put together.

use std::{future::Future, io, path::PathBuf, sync::Arc};

use studio_worker_core::{
    drive::{Connect, Progress, Runtime},
    engine::SpilledFile,
    http::{HttpAnswer, HttpFailure, HttpRequest},
    time::{Mono, Now},
    worker::{ConnectFailure, Upload},
};

use crate::{
    clock::Clock,
    files::{self, Folder},
    http::Http,
    net::{self, Tls},
    socket::Socket,
    threads::Threads,
    upgrade::{Target, upgrade},
};

/// The world as async-std sees it. Cheap to clone; workers on clones share connections and threads.
#[derive(Debug, Clone)]
pub struct AsyncStd {
    clock: Clock,
    threads: Threads,
    tls: Arc<Tls>,
    http: Http,
    folder: Arc<Folder>,
}

impl AsyncStd {
    /// A runtime whose clock starts now. Large results go to the system's folder for temporary files.
    pub fn new() -> Self {
        Self::with_folder(Folder::temporary())
    }

    /// The same with another folder for large results. It must exist.
    pub fn with_results_in(folder: impl Into<PathBuf>) -> Self {
        Self::with_folder(Folder::at(folder.into()))
    }

    fn with_folder(folder: Folder) -> Self {
        Self {
            clock: Clock::new(),
            threads: Threads::default(),
            tls: Arc::default(),
            http: Http::new(),
            folder: Arc::new(folder),
        }
    }
}

impl Default for AsyncStd {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for AsyncStd {
    type Socket = Socket;

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        async_std::task::sleep(at.since(self.clock.mono()))
    }

    fn connect(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<Socket, ConnectFailure>> + Send + 'static {
        let Self { threads, tls, .. } = self.clone();
        async move {
            let target = Target::parse(&connect.url)?;
            let mut connection =
                net::connect(&target.host, target.port, target.secure, &tls, &threads).await.map_err(
                    |error| ConnectFailure::Trouble(format!("no connection to {}: {error}", target.host)),
                )?;
            let read = upgrade(&mut connection, &target, &connect).await?;
            Ok(Socket::new(connection, read).await)
        }
    }

    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        let Self { http, threads, .. } = self.clone();
        async move { http.exchange(request, user_agent, threads).await }
    }

    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        let Self { http, threads, .. } = self.clone();
        async move { http.upload(upload, user_agent, progress, threads).await }
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let threads = self.threads.clone();
        // Started when it is first polled, so that what was decided before it leaves first.
        async move { threads.run(work).await }
    }

    fn spill(
        &self,
        bytes: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<SpilledFile, io::Error>> + Send + 'static {
        let Self { folder, threads, .. } = self.clone();
        // Kept only here: when nobody waits any more, the file goes with the thread's answer.
        async move { threads.run(move || folder.write(&bytes)).await?.keep() }
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        self.threads.run(move || files::delete(&file.path))
    }
}
