//! The library of the `studio-worker` program: what its subcommands do, for tests and for those who build on it.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`commands`] | the command line |
//! | [`config`] | `config.toml`: reading, merging, watching |
//! | [`door`] | where other commands reach a worker that runs |
//! | [`engines`] | from a configuration to engines, and what they can serve |
//! | [`lock`] | one worker for each configuration |
//! | [`logging`] | log lines without credentials, to stderr and to the studio |
//! | [`metrics`] | numbers for Prometheus |
//! | [`network`] | what is on the way to a studio |
//! | [`presence`] | whether a person uses the machine |
//! | [`runtime`] | the worker as a program, and the public vocabulary |
//! | [`runtimes`] | async-std or tokio |
//! | [`secrets`] | credentials from elsewhere than the configuration |
//! | [`service`] | the worker as a service of this system, and what its manager hears |
//! | `telemetry` (feature `sentry`) | what went wrong, told to a Sentry server |
//! | [`trial`] | one job without a studio |
//! | [`update`] | another version of this program, and the way back |
//! | `studio`, `demo` (feature `studio`) | the local studio's server; a studio and a worker in one process |

pub mod commands;
pub mod config;
#[cfg(feature = "studio")]
pub mod demo;
pub mod door;
pub mod engines;
mod error;
mod guests;
pub mod lock;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod network;
pub mod presence;
pub mod runtime;
pub mod runtimes;
pub mod secrets;
pub mod service;
pub mod signals;
#[cfg(any(feature = "sim", test))]
pub mod sim {
    //! The bodies of the fuzz targets that are of this program: see `fuzz/`.

    pub use crate::config::sim::config;
}
#[cfg(feature = "studio")]
pub mod studio;
#[cfg(feature = "sentry")]
pub mod telemetry;
#[cfg(not(feature = "sentry"))]
#[path = "telemetry/none.rs"]
mod telemetry;
pub mod trial;
pub mod update;

pub use commands::main;
pub use error::Error;

/// The version of this program, as it is told to studios.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
