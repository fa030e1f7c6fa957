//! The worker's promises, one test each, in virtual time.

mod happy_path;
mod registration;
mod rig;
mod session;
