//! The worker's promises, one test each, in virtual time.

mod happy_path;
mod logs;
mod registration;
mod rig;
mod session;
mod settings;
mod time;
