//! How an operator, a terminal or a service manager ends a worker.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_signal::{Signal, Signals};
use futures::{FutureExt as _, StreamExt as _};
use signal_hook::consts::{SIGINT, SIGTERM};
use studio_worker_core::drive::WorkerHandle;

/// SIGTERM and SIGINT. From its making on they don't end the process by themselves.
pub struct Shutdown {
    signals: Signals,
    /// Set once a worker was told twice: then the next signal ends the process, whatever it does.
    last: Arc<AtomicBool>,
}

impl Shutdown {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let last = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&last))?;
        }
        #[cfg(unix)]
        let signals = Signals::new([Signal::Term, Signal::Int])?;
        #[cfg(not(unix))]
        let signals = Signals::new([Signal::Int])?;
        Ok(Self { signals, last })
    }

    /// Whether one came since this was asked last.
    pub fn came(&mut self) -> bool {
        self.signals.next().now_or_never().flatten().is_some()
    }

    /// Drains the worker at the first signal, and ends it at once at the second (section 6).
    pub async fn steer(&mut self, handle: WorkerHandle) -> Infallible {
        self.signals.next().await;
        log::info!("a signal came: no new job is taken; another signal ends the running one, too");
        crate::service::stopping();
        handle.drain();
        self.signals.next().await;
        self.last.store(true, Ordering::SeqCst);
        log::warn!("a second signal came: ending at once");
        handle.stop();
        // Kept, since without them the next signal would find its usual meaning again.
        pending().await
    }
}
