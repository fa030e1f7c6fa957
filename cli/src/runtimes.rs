//! Which async runtime drives the worker: both run the same core by the same loop, and reach what they reach through the
//! proxies of the environment.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use clap::{ValueEnum, builder::PossibleValue};
use futures::future::BoxFuture;
use studio_worker_core::{
    drive::{Runtime as _, Store, WorkerHandle, carry_out_showing},
    engine::{Engine, EngineError, Recipe},
    machine::{Memory, Transfer},
    transport::CertificateDer,
    worker::{Exit, Options},
};

use crate::{
    Error, VERSION,
    config::{ConfigError, ConfigFile},
};

#[cfg(not(any(feature = "async-std", feature = "tokio")))]
compile_error!("a worker needs a runtime: build with the feature `async-std`, `tokio` or both");

/// An async runtime, and whom it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runtime {
    library: Library,
    /// Beside the system's.
    authorities: &'static [CertificateDer<'static>],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Library {
    /// async-std, with async-tungstenite and surf
    AsyncStd,
    /// tokio, with hyper
    Tokio,
}

impl Library {
    fn name(self) -> &'static str {
        match self {
            Self::AsyncStd => "async-std",
            Self::Tokio => "tokio",
        }
    }
}

static RUNTIMES: [Runtime; 2] = [Runtime::on(Library::AsyncStd), Runtime::on(Library::Tokio)];

impl ValueEnum for Runtime {
    fn value_variants<'a>() -> &'a [Self] {
        &RUNTIMES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        self.library.to_possible_value()
    }
}

impl Default for Runtime {
    /// async-std, unless this program is built without it.
    fn default() -> Self {
        Self::on(if cfg!(feature = "async-std") { Library::AsyncStd } else { Library::Tokio })
    }
}

/// A worker's handle, and the future that drives it.
pub type Started = (WorkerHandle, BoxFuture<'static, Exit>);

impl Runtime {
    /// As `--runtime` names it.
    pub fn name(self) -> &'static str {
        self.library.name()
    }

    const fn on(library: Library) -> Self {
        Self { library, authorities: &[] }
    }

    /// The same, trusting the authorities too that a configuration names (`ca_file`).
    pub fn configured(self, file: &ConfigFile) -> Result<Self, ConfigError> {
        let authorities = file.authorities()?;
        // For good: a program reads them once, at its start.
        Ok(if authorities.is_empty() { self } else { Self { authorities: authorities.leak(), ..self } })
    }

    #[cfg(feature = "async-std")]
    fn async_std(self) -> studio_worker_async_std::AsyncStd {
        let runtime = studio_worker_async_std::AsyncStd::new();
        if self.authorities.is_empty() { runtime } else { runtime.with_roots(self.authorities.to_vec()) }
    }

    #[cfg(feature = "tokio")]
    fn tokio(self) -> studio_worker_tokio::Tokio {
        let runtime = studio_worker_tokio::Tokio::new();
        if self.authorities.is_empty() { runtime } else { runtime.with_roots(self.authorities.to_vec()) }
    }

    /// Starts a worker. Its future is driven by [`Runtime::block_on`].
    pub fn start(
        self,
        options: Options,
        engine: Arc<dyn Engine>,
        store: Arc<dyn Store>,
    ) -> Result<Started, Error> {
        match self.library {
            #[cfg(feature = "async-std")]
            Library::AsyncStd => {
                let (handle, driving) =
                    studio_worker_async_std::start_on(self.async_std(), options, engine, store)?;
                Ok((handle, Box::pin(driving)))
            }
            #[cfg(feature = "tokio")]
            Library::Tokio => {
                let (handle, driving) = studio_worker_tokio::start_on(self.tokio(), options, engine, store)?;
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
        match self.library {
            #[cfg(feature = "async-std")]
            Library::AsyncStd => {
                Box::pin(carry_out_showing(self.async_std(), user_agent, recipe, on_transfer))
            }
            #[cfg(feature = "tokio")]
            Library::Tokio => Box::pin(carry_out_showing(self.tokio(), user_agent, recipe, on_transfer)),
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
        match self.library {
            #[cfg(feature = "async-std")]
            Library::AsyncStd => self.async_std().machine().measure(),
            #[cfg(feature = "tokio")]
            Library::Tokio => self.tokio().machine().measure(),
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Box::pin(ready(Memory::default())),
        }
    }

    /// Runs a future to its end, on this thread.
    pub fn block_on<T>(self, future: impl Future<Output = T>) -> Result<T, Error> {
        match self.library {
            #[cfg(feature = "async-std")]
            Library::AsyncStd => Ok(studio_worker_async_std::block_on(future)),
            #[cfg(feature = "tokio")]
            Library::Tokio => studio_worker_tokio::block_on(future).map_err(Error::Runtime),
            #[allow(unreachable_patterns, reason = "both are built in")]
            _ => Err(self.is_missing()),
        }
    }

    #[allow(dead_code, reason = "both are built in")]
    fn is_missing(self) -> Error {
        let other = match self.library {
            Library::AsyncStd => Library::Tokio,
            Library::Tokio => Library::AsyncStd,
        };
        Error::NoSuchRuntime { name: self.name(), other: other.name() }
    }
}
