//! The local studio: the server around core's studio machine.
//!
//! Nothing in here decides about workers and jobs: that is the machine's, which lives on the `desk` together with the
//! database. Around it are the routes that workers use (`protocol`, `session`, `upload`), the HTTP API and page for
//! people (`api`, `results`, `routes`), and who may use them (`guard`).
//!
//! ```no_run
//! use studio_worker::studio::{Config, Server};
//! use studio_worker_core::studio::Options;
//!
//! let server = Server::open(Config {
//!     listen: ([127, 0, 0, 1], 0).into(),
//!     names: Vec::new(),
//!     data: "studio".into(),
//!     options: Options::default(),
//! })?;
//! let running = server.spawn()?;
//! println!("http://{}", running.address());
//! running.stop()?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod api;
mod client;
mod data;
mod desk;
mod guard;
mod problem;
mod protocol;
mod respond;
mod results;
mod routes;
mod server;
mod session;
mod store;
mod upload;

pub use client::{Client, ClientError};
pub use data::{DataError, default_data_dir};
pub use desk::NotStored;
pub(crate) use routes::VIEWER;
pub(crate) use server::runtime;
pub use server::{Config, RunError, Running, Server, StartError};
pub use store::StoreError;

/// The target of the studio's log lines.
pub const LOG_TARGET: &str = "studio_worker::studio";
