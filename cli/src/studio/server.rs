//! The server: opened, run, stopped.

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::pin,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::serve::ListenerExt;
use studio_worker_core::studio::{Options, Studio};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    LOG_TARGET,
    data::{DataDir, DataError},
    desk::{Desk, NotStored},
    guard::Guard,
    routes::{self, App},
    store::{Store, StoreError},
};

/// How long requests that are under way may take to end when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// How long sessions may take to end after that.
const LAST_SESSIONS: Duration = Duration::from_secs(6);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Names beside those of loopback that the studio is reached by.
    pub names: Vec<String>,
    /// Where everything is kept.
    pub data: PathBuf,
    /// The studio's rules.
    pub options: Options,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or is not this machine's.
    #[error("can't listen on {listen}: {source}{}", hint(.source))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the database has can't be read.
    #[error("the database in {} can't be read: {source}", .data.display())]
    Restore {
        /// The data directory.
        data: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The system gave no thread.
    #[error("no thread could be started: {0}")]
    Thread(#[source] std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => ": choose another port with --listen",
        _ => "",
    }
}

/// A studio that has its data and its port, and serves once it is [run](Server::run).
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    data: DataDir,
    store: Store,
    studio: Studio,
    start: Instant,
    guard: Guard,
}

impl Server {
    /// Takes the data directory and the port. Whoever connects from now on is answered once it runs.
    pub fn open(config: Config) -> Result<Self, StartError> {
        let Config { listen, names, data, options } = config;
        let data = DataDir::open(data)?;
        let store = Store::open(&data.database())?;
        let restore = |source| StartError::Restore { data: data.root().to_owned(), source };
        let snapshot = store.snapshot().map_err(restore)?;
        sweep(&data, &store);

        let refused = |source| StartError::Listen { listen, source };
        let listener = TcpListener::bind(listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let loopback = address.ip().to_canonical().is_loopback();
        let token = if loopback { None } else { Some(data.admin_token()?) };
        let guard = Guard::new(loopback, names, token);

        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(DataError::NoRandomness)?;
        let start = Instant::now();
        let studio = Studio::restore(options, seed, super::desk::now(start), snapshot);
        Ok(Self { listener, address, data, store, studio, start, guard })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.root()
    }

    /// The file of the admin token, when the HTTP API wants one.
    pub fn admin_token_path(&self) -> Option<PathBuf> {
        self.guard.wants_token().then(|| self.data.admin_token_path())
    }

    /// Serves until `stop`; then says goodbye to every session and ends within a few seconds. It runs on
    /// the tokio runtime that it is called on, with I/O and time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { listener, address: _, data, store, studio, start, guard } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (stopping, stopped) = watch::channel(false);
        let (desk, done) = Desk::start(studio, store, data.results(), start, stopped)?;
        let app = App { desk: desk.clone(), results: data.results().into(), guard };
        let service = routes::router(app).into_make_service_with_connect_info::<SocketAddr>();
        let listener = listener.tap_io(|socket| {
            // A worker's accept and result are small frames that must not wait for each other.
            if let Err(error) = socket.set_nodelay(true) {
                log::debug!(target: LOG_TARGET, "TCP_NODELAY: {error}");
            }
        });
        let (last_orders, told) = oneshot::channel::<()>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async {
            let _ = told.await; // dropped or told: both mean that it ends
        });
        let mut serving = pin!(serving.into_future());
        let mut done = pin!(done);
        tokio::select! {
            served = &mut serving => served?,
            ended = &mut done => return desk_ended(ended),
            () = stop => {}
        }
        desk.shut_down();
        stopping.send_replace(true);
        drop((last_orders, desk));
        if timeout(LAST_REQUESTS, serving).await.is_err() {
            log::warn!(target: LOG_TARGET, "requests that were still under way are cut off");
        }
        // The desk closes when the last request and the last session have let go of it.
        if let Ok(ended) = timeout(LAST_SESSIONS, done).await {
            return desk_ended(ended);
        }
        log::warn!(target: LOG_TARGET, "sessions that were still open are cut off");
        Ok(())
    }
}

fn desk_ended(ended: Result<Result<(), NotStored>, oneshot::error::RecvError>) -> Result<(), RunError> {
    // A panic on its thread was reported when it happened.
    Ok(ended.map_err(|_| std::io::Error::other("the desk's thread is gone"))??)
}

impl Server {
    /// Serves on a thread and a runtime of its own.
    pub fn spawn(self) -> std::io::Result<Running> {
        let address = self.address;
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime()?;
        let thread = thread::Builder::new().name("studio".to_owned()).spawn(move || {
            runtime.block_on(self.run(async {
                let _ = stopped.await; // told, or nobody will tell any more
            }))
        })?;
        Ok(Running { address, stop: Some(stop), thread: Some(thread) })
    }
}

/// The runtime that a server runs on: one thread, and a few for files.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_name("studio/files")
        .build()
}

/// A server that serves on a thread of its own, until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it, and waits until it has: a few seconds at most.
    pub fn stop(mut self) -> Result<(), RunError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), RunError> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            // A panic on its thread was reported when it happened.
            Some(Err(_)) => Err(std::io::Error::other("its thread is gone").into()),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!(target: LOG_TARGET, "{error}");
        }
    }
}

/// Why a server ended by itself, or could not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something could not be stored.
    #[error(transparent)]
    NotStored(#[from] NotStored),
    /// The system refused something that serving needs.
    #[error("the studio can't serve: {0}")]
    Io(#[from] std::io::Error),
}

/// Deletes what interrupted uploads left.
fn sweep(data: &DataDir, store: &Store) {
    // A file of which the database says nothing is kept when it can't be asked.
    match data.sweep(|file| store.has_file(file).unwrap_or(true)) {
        Ok(0) => {}
        Ok(swept) => log::info!(target: LOG_TARGET, "deleted {swept} files that interrupted uploads left"),
        Err(error) => log::warn!(target: LOG_TARGET, "what interrupted uploads left stays: {error}"),
    }
}
