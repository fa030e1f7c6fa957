//! Worlds to try the machines in: the bodies of the fuzz targets, and the oracle that says what must never
//! happen.
//!
//! Feature `sim`. Everything in here is deterministic: the same bytes give the same run. The corpus under
//! `fuzz/corpus` replays in the ordinary test run.

#![allow(clippy::panic, reason = "a broken promise is what is looked for in here")]

mod addresses;
mod admission;
mod claims;
mod engines;
mod feed;
mod frames;
pub(crate) mod link;
mod multipart;
mod oracle;
mod pair;
mod registration;
mod retry_after;
pub mod search;
mod secrecy;
mod session;
mod studio;
mod told;
#[cfg(feature = "drive")]
pub mod world;

pub use addresses::addresses;
pub use claims::claims;
pub use engines::engines;
pub use feed::feed;
pub use frames::frames;
pub use multipart::multipart;
pub use oracle::{Broken, Oracle};
pub use pair::pair;
pub use registration::registration;
pub use retry_after::retry_after;
pub use session::session;
pub use studio::studio;

#[cfg(test)]
mod tests;
