//! The program itself, as a person, a script or a service manager starts it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod help;
mod home;
mod network;
#[cfg(unix)]
mod running;
#[cfg(unix)]
mod script;
mod security;
#[cfg(all(unix, feature = "sentry"))]
mod telemetry;

#[cfg(unix)]
use home::Running;
use home::{Home, said};

/// What a machine that has other things to do may take longer than its bounds say.
#[cfg(unix)]
const BUSY: std::time::Duration = std::time::Duration::from_secs(8);
