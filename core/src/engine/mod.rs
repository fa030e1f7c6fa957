//! What runs a job: the contract between a worker and an engine.
//!
//! An [`Engine`] says what it serves and turns a claim into a [`Recipe`]: a small state machine whose effects
//! (compute this, exchange that over HTTP, pause) are carried out by whoever drives it, so that an engine's
//! logic is tested and fuzzed without a process or a socket. The worker knows only a run's id; recipes live
//! in a [`Runner`] beside it.

mod chat;
mod closure;
pub mod command;
mod contract;
pub mod format;
mod gather;
pub mod gradio;
pub mod input;
pub mod llama;
mod multi;
pub mod openai;
mod picture;
mod program;
mod refusal;
mod runner;
pub mod sd;
mod server;
mod surveyed;
#[cfg(feature = "synthetic")]
pub mod synthetic;
#[cfg(test)]
mod transcript;
mod weights;

pub use closure::{AsyncFnEngine, FnEngine};
pub use contract::{
    Effect, Engine, EngineError, Happened, Missing, Models, Output, Payload, Recipe, SPILL_ABOVE, Service,
    SpilledFile, Survey, advertise, serves,
};
pub use multi::Multi;
pub use runner::Runner;
pub use server::{Server, ServerError};
pub use surveyed::Surveyed;
