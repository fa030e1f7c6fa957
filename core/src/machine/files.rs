//! Files that a recipe wants to have.
//!
//! # Which file it is
//!
//! Two models may have files of the same name in the same folder, so that a name alone tells nothing:
//!
//! - With a hash, the hash decides.
//! - Without one, a file that was downloaded here is the one that is wanted when it came from the same address, whatever
//!   the query. Any other file is when it is as large as is said: by [`FileWanted::approx_bytes`], or else by the server
//!   of the origin, which is asked each time.
//! - Without an origin, what lies in the place is it.
//!
//! Another file in the place is replaced if it was downloaded here and has not been changed since, once the new one is
//! complete. Everything else is somebody's own, and never overwritten: a permanent error names it.

mod download;
mod offered;
mod other;
mod size;
mod step;
#[cfg(test)]
mod tests;

use alloc::{string::String, vec::Vec};

pub use download::Download;
pub use step::{End, Found, Part, Room, Seen, Step, Write, Written};

use crate::http::Reach;

/// A file that must be on this machine before a job can go on: a model's weights, mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWanted {
    /// Where it is kept: an absolute path. It is downloaded to here.
    pub path: String,
    /// Where a copy may lie already, which is used as it is when its size is right.
    pub copies: Vec<String>,
    /// Where it comes from; none: it must be here.
    pub origin: Option<Origin>,
    /// Its size in bytes, as far as it is known. The origin's word counts more, and the hash most.
    pub approx_bytes: Option<u64>,
    /// Its SHA-256.
    pub sha256: Option<[u8; 32]>,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https`, or `http` on this machine. The query may be a signature: it is never shown.
    pub url: String,
    /// Which addresses it may lead to.
    pub reach: Reach,
    /// Whether that is so of its own host alone: whatever it leads to elsewhere is on the internet.
    pub host_alone: bool,
}

impl Origin {
    /// What is remembered of it: the address without its query, which may give access.
    pub(crate) fn source(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHad {
    /// Where.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is in it: its hash where that is known, else its size and when it was changed last. Another text means that
    /// it may be another file.
    pub content: String,
}

/// How far bytes have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The name of the file.
    pub name: String,
    /// Bytes that are here, with those of an earlier attempt.
    pub done: u64,
    /// All of them, once that is known.
    pub total: Option<u64>,
    /// Bytes that came since this download began: also those that had to be thrown away, none of an earlier attempt.
    pub came: u64,
}
