//! Which async runtime drives the worker: both run the same core by the same loop.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use clap::ValueEnum;
use futures::future::BoxFuture;
use studio_worker_core::{
    drive::{Runtime as _, Store, WorkerHandle, carry_out_showing},
    engine::{Engine, EngineError, Recipe},
    machine::{Memory, Transfer},
    worker::{Exit, Options},
};

use crate::{Error, VERSION};

#[cfg(not(any(feature = "async-std", feature = "tokio")))]
compile_error!("a worker needs a runtime: build with the feature `async-std`, `tokio` or both");

/// An async runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// async-std, with async-tungstenite and surf
    AsyncStd,
    /// tokio, with hyper
    Tokio,
}

impl Default for Runtime {
    /// async-std, unless this program is built without it.
    fn default() -> Self {
        if cfg!(feature = "async-std") { Self::AsyncStd } else { Self::Tokio }
    }
}

/// A worker's handle, and the future that drives it.
pub type Started = (WorkerHandle, BoxFuture<'static, Exit>);

impl Runtime {
    /// Starts a worker. Its future is driven by [`Runtime::block_on`].
    pub fn start(
        self,
        options: Options,
        engine: Arc<dyn Engine>,
        store: Arc<dyn Store>,
    ) -> Result<Started, Error> {
        match self {
            #[cfg(feature = "async-std")]
            Self::AsyncStd => {
                let (handle, driving) = studio_worker_async_std::start(options, engine, store)?;
                Ok((handle, Box::pin(driving)))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio => {
                let (handle, driving) = studio_worker_tokio::start(options, engine, store)?;
                Ok((handle, Box::pin(driving)))
            }
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Err(self.is_missing()),
        }
    }

    /// Carries a recipe out beside any worker: a survey of an engine, or a job that a person tries. How far its downloads
    /// are is told to `on_transfer`.
    pub fn carry_out_showing<T: Send + 'static>(
        self,
        recipe: Box<dyn Recipe<T>>,
        on_transfer: impl Fn(Transfer) + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T, EngineError>> {
        let user_agent: Arc<str> = format!("studio-worker/{VERSION}").into();
        match self {
            #[cfg(feature = "async-std")]
            Self::AsyncStd => {
                let runtime = studio_worker_async_std::AsyncStd::new();
                Box::pin(carry_out_showing(runtime, user_agent, recipe, on_transfer))
            }
            #[cfg(feature = "tokio")]
            Self::Tokio => {
                let runtime = studio_worker_tokio::Tokio::new();
                Box::pin(carry_out_showing(runtime, user_agent, recipe, on_transfer))
            }
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Box::pin(ready(Err(EngineError::transient(self.is_missing())))),
        }
    }

    /// The same, without telling.
    pub fn carry_out<T: Send + 'static>(
        self,
        recipe: Box<dyn Recipe<T>>,
    ) -> BoxFuture<'static, Result<T, EngineError>> {
        self.carry_out_showing(recipe, |_| ())
    }

    /// What can be measured of this machine's memory.
    pub fn measure(self) -> BoxFuture<'static, Memory> {
        match self {
            #[cfg(feature = "async-std")]
            Self::AsyncStd => studio_worker_async_std::AsyncStd::new().machine().measure(),
            #[cfg(feature = "tokio")]
            Self::Tokio => studio_worker_tokio::Tokio::new().machine().measure(),
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Box::pin(ready(Memory::default())),
        }
    }

    /// Runs a future to its end, on this thread.
    pub fn block_on<T>(self, future: impl Future<Output = T>) -> Result<T, Error> {
        match self {
            #[cfg(feature = "async-std")]
            Self::AsyncStd => Ok(studio_worker_async_std::block_on(future)),
            #[cfg(feature = "tokio")]
            Self::Tokio => studio_worker_tokio::block_on(future).map_err(Error::Runtime),
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Err(self.is_missing()),
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AsyncStd => "async-std",
            Self::Tokio => "tokio",
        }
    }

    #[allow(dead_code, reason = "both are built in")]
    fn is_missing(self) -> Error {
        let (name, other) = match self {
            Self::AsyncStd => ("async-std", "tokio"),
            Self::Tokio => ("tokio", "async-std"),
        };
        Error::NoSuchRuntime { name, other }
    }
}
