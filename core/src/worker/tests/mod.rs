//! The worker's promises, one test each, in virtual time.

mod ends;
mod happy_path;
mod logs;
mod records;
mod registration;
mod revoked;
mod rig;
mod session;
mod settings;
mod time;
