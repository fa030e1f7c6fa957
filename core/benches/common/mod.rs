//! What is measured, for times, instruction counts and memory alike.

pub(crate) mod offers;
pub(crate) mod operations;
pub(crate) mod published;
pub(crate) mod quiet;
pub(crate) mod rig;
