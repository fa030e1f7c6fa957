//! Worlds to try the machines in: the bodies of the fuzz targets, and the oracle that says what must never
//! happen.
//!
//! Feature `sim`. Everything in here is deterministic: the same bytes give the same run. The corpus under
//! `fuzz/corpus` replays in the ordinary test run.

mod frames;
mod oracle;
mod session;

pub use frames::frames;
pub use oracle::Oracle;
pub use session::session;

#[cfg(test)]
mod tests;
