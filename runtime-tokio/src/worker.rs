//! A worker as a task of the service that hosts it.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use studio_worker_core::{
    drive::{Store, WorkerHandle, WorkerObservers, WorkerStatus},
    engine::Engine,
    worker::{Exit, Options},
};
use tokio::{
    runtime::{Handle, TryCurrentError},
    sync::watch,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{NoRandomness, Tokio, start_on};

/// Makes a worker that is a task of a tokio runtime.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use studio_worker_core::{engine::Engine, worker::Options};
/// # use studio_worker_tokio::{MemoryStore, WorkerBuilder};
/// # async fn host(options: Options, engine: Arc<dyn Engine>) -> Result<(), Box<dyn std::error::Error>> {
/// use tokio_util::sync::CancellationToken;
///
/// let ending = CancellationToken::new(); // the service's own: cancelled by its signal handler, say
/// let worker = WorkerBuilder::new(options, engine, Arc::new(MemoryStore::new()))
///     .cancelled_by(ending.clone())
///     .spawn()?;
/// let mut status = worker.status();
/// tokio::spawn(async move {
///     while status.changed().await.is_ok() {
///         println!("connected: {}", status.borrow().is_connected());
///     }
/// });
/// let exit = worker.await?; // once the token is cancelled: what ran has been delivered by then
/// # let _ = exit;
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing until it is spawned"]
pub struct WorkerBuilder {
    options: Options,
    engine: Arc<dyn Engine>,
    store: Arc<dyn Store>,
    runtime: Option<Tokio>,
    handle: Option<Handle>,
    cancelled: Option<CancellationToken>,
}

/// Why a worker could not be spawned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// See [`NoRandomness`].
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// There is no tokio runtime here.
    #[error("there is no tokio runtime here to run the worker on: name one with WorkerBuilder::on")]
    NoRuntime(#[from] TryCurrentError),
}

impl WorkerBuilder {
    /// A worker with these options, that runs its jobs with `engine` and keeps what must outlive it in `store`.
    pub fn new(options: Options, engine: Arc<dyn Engine>, store: Arc<dyn Store>) -> Self {
        Self { options, engine, store, runtime: None, handle: None, cancelled: None }
    }

    /// Uses the connections and files of `runtime`, rather than a [`Tokio`] of its own. Many workers may share one.
    pub fn runtime(self, runtime: Tokio) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// Spawns it on that runtime, rather than the one that [`WorkerBuilder::spawn`] is called on.
    pub fn on(self, handle: Handle) -> Self {
        Self { handle: Some(handle), ..self }
    }

    /// Drains it when `token` is cancelled: no new job is taken, what runs is finished and delivered (section 6).
    pub fn cancelled_by(self, token: CancellationToken) -> Self {
        Self { cancelled: Some(token), ..self }
    }

    /// Spawns it.
    pub fn spawn(self) -> Result<Worker, SpawnError> {
        let Self { options, engine, store, runtime, handle, cancelled } = self;
        let on = match handle {
            Some(handle) => handle,
            None => Handle::try_current()?,
        };
        #[cfg(feature = "tracing")]
        let (spans, engine) = (crate::spans::Spans::of(&options), crate::spans::traced(engine));
        let (handle, driving) = start_on(runtime.unwrap_or_default(), options, engine, store)?;
        #[cfg(feature = "tracing")]
        let driving = spans.follow(&handle.observers(), driving);
        let task = match cancelled {
            None => on.spawn(driving),
            Some(token) => {
                let steered = handle.clone();
                on.spawn(async move {
                    match select(pin!(driving), pin!(token.cancelled_owned())).await {
                        Either::Left((exit, _)) => exit,
                        Either::Right(((), driving)) => {
                            steered.drain();
                            driving.await
                        }
                    }
                })
            }
        };
        Ok(Worker { handle, task, status: OnceLock::new() })
    }
}

/// A worker that runs as a task, and the way to its end: a future of the reason why it ended.
///
/// When this is dropped the worker goes on, like any task. A [`JoinError`] means that its task was lost before it ended:
/// its runtime was shut down, or has no timers. What it had in hand is offered again by the studio.
#[derive(Debug)]
pub struct Worker {
    handle: WorkerHandle,
    task: JoinHandle<Exit>,
    status: OnceLock<watch::Receiver<WorkerStatus>>,
}

impl Worker {
    /// Steers it, from anywhere.
    pub fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    /// What can be seen of it.
    pub fn observers(&self) -> WorkerObservers {
        self.handle.observers()
    }

    /// What it does now, as a channel that tells of every change. It is open as long as somebody has the worker's
    /// handle or observers; that the worker has ended is a state of its session.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.status.get_or_init(|| watched(&self.observers())).clone()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it gracefully: no new job is taken, what runs is finished and delivered within the drain time (section 6).
    pub fn shutdown(self) -> impl Future<Output = Result<Exit, JoinError>> + Send {
        self.handle.drain();
        self
    }

    /// Ends it at once: a job that runs is failed as retryable.
    pub fn stop(self) -> impl Future<Output = Result<Exit, JoinError>> + Send {
        self.handle.stop();
        self
    }
}

impl Future for Worker {
    type Output = Result<Exit, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.poll_unpin(cx)
    }
}

fn watched(observers: &WorkerObservers) -> watch::Receiver<WorkerStatus> {
    let (sender, receiver) = watch::channel(observers.status());
    // Looked at under the channel's lock, so that of two who tell it the later one tells the newer status.
    let tell = |sender: &watch::Sender<_>, observers: &WorkerObservers| {
        sender.send_modify(|status| *status = observers.status());
    };
    let told = sender.clone();
    observers.on_change(move |observers| {
        tell(&told, observers);
        !told.is_closed()
    });
    // What changed before it listened.
    tell(&sender, observers);
    receiver
}
