//! What every worker must do, on whatever runtime and over whatever network: the scenarios, and the studio that they are
//! played against.
//!
//! [`TestStudio`] is a server of threads and blocking connections that knows no async runtime, so that it shares
//! no fault with the one under test. A scenario is its script: it takes what the worker does next
//! ([`TestStudio::session`], [`TestStudio::request`]) and says what the studio answers, or does to the connection what a
//! bad day does. A [`Host`] starts workers: in the process of the test ([`InProcess`]), or as a program. A [`Network`] is
//! what they meet over: sockets of this machine, with TLS or without, or pipes in memory; it has the clock, too.
//!
//! Whoever writes a runtime makes these lines a test without libtest's harness (`harness = false`), with a function in
//! the place of [`simulated`] that starts a worker on it, and [`Network::loopback`] and [`Network::loopback_tls`] in the
//! place of pipes:
//!
//! ```no_run
//! use studio_worker_core::conformance::{Network, in_process, run, simulated};
//!
//! run(in_process(&[Network::memory, Network::virtual_time], simulated));
//! ```
//!
//! By the system's clock a scenario waits for what must come, gives up on it after [`PATIENCE`], and measures lower bounds
//! only. In virtual time ([`Network::virtual_time`]) the same scenarios wait for nothing, and those about time
//! ([`scenarios::BOUNDS`], [`scenarios::HOURS`]) are exact; a slow machine fails none of them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test server: real threads and sockets, and a scenario that goes wrong panics"
)]

mod authority;
mod clock;
pub mod downloads;
pub mod exchanges;
mod file_server;
mod host;
mod in_process;
mod jobs;
mod local;
mod network;
mod pipe;
pub mod programs;
pub mod proxies;
mod proxy;
mod request;
mod room;
pub mod scenarios;
mod server;
mod session;
mod simulated;
mod stream;
mod trials;
mod vacancy;

use std::time::Duration;

pub use clock::{Clock, Part, Sleep, Stopwatch};
pub use host::{Ended, Host, Hosted, Scene, Start, registered};
pub use in_process::{Gate, InProcess, Local, Running, StartWorker, TestEngine, options, result_bytes};
pub use jobs::{BYTES_A_CHARACTER, offer, offer_of_bytes};
pub use local::{BlockOn, on_this_machine};
pub use network::Network;
pub use pipe::Pipe;
pub use proxy::{Asked, Manner, TestProxy};
pub use request::{Request, Upgrading};
pub use server::TestStudio;
pub use session::Session;
pub use simulated::{Simulated, simulated};
pub use stream::Stream;
pub use trials::{behind_proxy, in_process, run, with_host};
pub use vacancy::Vacancy;

/// How long a scenario waits for what must come, by its network's clock.
pub const PATIENCE: Duration = Duration::from_secs(90);
