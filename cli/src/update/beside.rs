//! The thread that looks for updates, beside a worker that runs.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use studio_worker_core::{drive::WorkerHandle, update::Version};

use super::{Locked, Place, attention::Unremembered, looking::Looking};
use crate::{config::ConfigFile, door::Updates, runtimes::Runtime};

/// Between two looks at what a person may have installed meanwhile.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What takes over once the worker has made way.
#[derive(Debug)]
pub enum Ready {
    /// This version lies ready in the staging folder, which nobody else touches.
    Staged(Version, Locked),
    /// This version is in place already, put there by hand, and was not on trial yet. Nobody else touches it.
    InPlace(Version, Locked),
    /// Another version is in place, which was tried by somebody else, or was put back by hand.
    InUse,
}

/// What came of updates in this process so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// How long nothing is looked for.
    pub quiet: Duration,
    /// Versions that were no good, also where that could not be remembered.
    pub refused: Vec<Unremembered>,
    /// Whether a version went back right before.
    pub went_back: bool,
    /// Whether the owner has paused that one: the worker that goes on is paused.
    pub paused: bool,
}

/// Looks for updates as long as it lives.
#[derive(Debug)]
#[must_use = "updates are looked for as long as it lives"]
pub struct AutoUpdates {
    ready: Arc<Mutex<Option<Ready>>>,
    _ends: mpsc::Sender<Infallible>,
}

impl AutoUpdates {
    /// Starts to look, beside the worker of `handle`. What is ready then is for whoever sees the worker end with
    /// [`Exit::MadeWay`](studio_worker_core::worker::Exit::MadeWay).
    ///
    /// Where it stands is said in `seen`; `before` is what came of it in this process so far.
    pub fn start(
        file: ConfigFile,
        handle: WorkerHandle,
        on: Runtime,
        place: Place,
        seen: Updates,
        before: Before,
    ) -> Self {
        let ready = Arc::default();
        let (ends, ended) = mpsc::channel();
        let told = Told { ready: Arc::clone(&ready), seen };
        let first = FirstAttempt::of(&handle);
        let looking = move || {
            // A worker that goes on while its configuration can't be read does so without updates.
            let config = loop {
                match file.load() {
                    Ok(config) => break config,
                    Err(_) if is_over(&ended, LOOK_INTERVAL) => return,
                    Err(_) => {}
                }
            };
            match Looking::new(file, config, handle, on, place, told, first) {
                Ok(looking) => looking.run(&before, &ended),
                Err(error) => log::warn!("updates are off: {error}"),
            }
        };
        if let Err(error) = thread::Builder::new().name("updates".into()).spawn(looking) {
            log::warn!("updates are off, since no thread could be had: {error}");
        }
        Self { ready, _ends: ends }
    }

    /// What takes over, unless it was let go of: then the worker goes on as before.
    pub fn take_ready(&self) -> Option<Ready> {
        lock(&self.ready).take()
    }
}

/// Who is told.
pub(super) struct Told {
    pub(super) ready: Arc<Mutex<Option<Ready>>>,
    pub(super) seen: Updates,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A value is replaced as a whole: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits; whether there is nothing to look for any more.
pub(super) fn is_over(ended: &mpsc::Receiver<Infallible>, pause: Duration) -> bool {
    ended.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
}

/// Whether a worker's first attempt to reach its studio succeeds.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstAttempt(Arc<OnceLock<bool>>);

impl FirstAttempt {
    /// Of a worker whose future was not polled yet.
    fn of(handle: &WorkerHandle) -> Self {
        let (first, began) = (Self::default(), AtomicBool::new(false));
        let seen = Arc::clone(&first.0);
        handle.observers().on_change(move |observers| {
            let status = observers.status();
            let state = status.session.map_or("", |session| session.state);
            let is_under_way = ["connecting", "greeting"].contains(&state);
            if is_under_way {
                began.store(true, Ordering::Relaxed);
            } else if began.load(Ordering::Relaxed) {
                // The only one that sets it.
                let _ = seen.set(state == "serving");
            }
            seen.get().is_none()
        });
        first
    }

    pub(super) fn succeeded(&self) -> bool {
        self.0.get() == Some(&true)
    }
}
