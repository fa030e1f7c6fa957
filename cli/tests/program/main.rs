//! The program itself, as a person, a script or a service manager starts it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod help;
mod home;
#[cfg(unix)]
mod running;

#[cfg(unix)]
use home::Running;
use home::{Home, said};
