//! The whole system in virtual time: real workers, each driven by the real loop on a simulated runtime; the real
//! studio; a network between them that delays, breaks and lies; machines that sleep and whose clocks jump;
//! engines that hang; processes that are killed and start again with what was saved.
//!
//! [`simulate`] plays a [`Scenario`]: jobs come and faults strike for a while, then the weather turns fair, and
//! everything that was promised must come true. All of it is decided by the scenario's seed, so a history that
//! breaks a promise can be played again, and told step by step:
//!
//! ```sh
//! cargo run --release -p studio-worker-core --features sim --example simulate -- --seed 42 --trace
//! ```
//!
//! What is watched: the [oracle](super::Oracle), at each step of each worker; the studio, which must never see a
//! violation; the ledger of jobs, in which each ends once, with the right result, by the studio's rules or because
//! nobody wanted it, and no result is computed again while it is had; the log, in which no line is an error that the
//! scenario has no reason for; and the loop, which must come to rest.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `scenario` | what a world is like: how many workers, what goes wrong and how often |
//! | `state`, `dice` | the one clock, the calendar, chance |
//! | `machine`, `promise` | a worker's machine and the runtime that its process sees |
//! | `net`, `pipe`, `http` | connections and exchanges, and how they break |
//! | `desk` | the studio, its storage and the people who use it |
//! | `engine`, `ledger` | runs, and what is owed for each job |
//! | `process`, `play` | workers' processes; the loop over everything |

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken promise is what a simulation is to cry about"
)]

mod desk;
mod dice;
mod engine;
mod http;
mod ledger;
mod machine;
mod net;
mod pipe;
mod play;
mod process;
mod promise;
mod scenario;
mod state;
#[cfg(test)]
mod tests;

pub use play::simulate;
pub use scenario::{Fault, Scenario};

use std::{ops::AddAssign, time::Duration};

/// What happened in a world, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// The time that passed in it.
    pub simulated: Duration,
    /// Things that happened in the network, at the studio, and to machines.
    pub events: u64,
    /// What workers were told.
    pub inputs: u64,
    /// What workers decided.
    pub actions: u64,
    /// Jobs that are over.
    pub jobs: u64,
    /// Those that were delivered.
    pub completed: u64,
    /// Those that failed, by the rules.
    pub failed: u64,
    /// Runs of engines.
    pub runs: u64,
    /// Sessions that were welcomed.
    pub sessions: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Processes that were started.
    pub processes: u64,
    /// Log lines that the studio got.
    pub log_lines: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.simulated += other.simulated;
        self.events += other.events;
        self.inputs += other.inputs;
        self.actions += other.actions;
        self.jobs += other.jobs;
        self.completed += other.completed;
        self.failed += other.failed;
        self.runs += other.runs;
        self.sessions += other.sessions;
        self.faults += other.faults;
        self.processes += other.processes;
        self.log_lines += other.log_lines;
    }
}
