//! The local studio's server over real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_requests;
mod guard;
mod http;
mod people;
mod program;
mod rig;
mod storage;
mod workers;
