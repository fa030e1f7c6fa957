//! Everything of a studio worker that decides, and nothing that touches the world.
//!
//! The crate holds state machines: they take what happened (a frame, an HTTP answer, the end of an engine
//! run, the time) and say what to do next. They own no socket, clock, file, thread or randomness, so every
//! behaviour can be tested in virtual time, fuzzed, and is the same on each runtime.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`http`] | one exchange: what is asked of a runtime, and what it answers |
//! | [`machine`] | files, programs and memory of this machine: what is asked of it, and what it answers |
//! | [`wire`] | what is said: frames, claims, tasks, capabilities, addresses, bodies. No behaviour |
//! | [`worker`] | the worker: registration, session, the one job, delivery, back-off, timers, log book |
//! | [`studio`] | the other end of the session, by the same rules |
//! | [`engine`] | what runs a job: the contract, recipes, and the synthetic engine |
//! | [`text`] | texts of others, for a person to read |
//! | [`update`] | from a release feed to a decision |
//! | `drive` (feature) | the one loop that drives a [`worker::Worker`] on any runtime |
//! | `transport` (features `transport`, `http`) | what runtimes on sockets, threads and files have in common |
//! | `conformance` (feature) | what every runtime must do, and the test server that shows it |
//! | `sim` (feature) | the oracle of what must never happen, and the bodies of the fuzz targets |
//!
//! Sections that the documentation names are those of the protocol document, version `studio-worker-v1`.
#![cfg_attr(not(any(feature = "drive", feature = "synthetic", test)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "conformance")]
pub mod conformance;
mod digested;
#[cfg(feature = "drive")]
pub mod drive;
pub mod engine;
pub mod http;
pub mod machine;
#[cfg(any(feature = "sim", test))]
pub mod sim;
pub mod studio;
pub mod text;
pub mod time;
#[cfg(feature = "transport")]
pub mod transport;
pub mod update;
pub mod wire;
pub mod worker;
