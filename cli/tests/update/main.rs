//! Updates, end to end: the program itself, a second version of it, versions that are broken on purpose, and a feed.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

#[path = "../studio/http.rs"]
mod http;
#[path = "../studio/rig.rs"]
mod rig;

mod beside;
mod by_hand;
mod feeds;
mod foreign;
mod gate;
mod home;
mod release;
mod takeover;
