//! Another file where the one that is wanted should be.

use alloc::string::String;
use core::fmt;

use super::{FileHad, size::Hex};

/// A file in the place of the one that is wanted.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) had: FileHad,
    /// It was downloaded here, and may be replaced.
    pub(super) is_ours: bool,
    pub(super) is: Is,
}

/// What is known of it.
#[derive(Debug)]
pub(super) enum Is {
    /// It has this hash.
    Hashed([u8; 32]),
    /// Nobody can read it.
    Unread(String),
    /// It came from elsewhere, or its size is not the one that was said.
    Unproven,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.had.path;
        match &self.is {
            Is::Hashed(sha256) => {
                write!(f, "{path} is another file than the one wanted: its SHA-256 is {}", Hex(sha256))
            }
            Is::Unread(why) => write!(f, "{path} can't be read: {why}"),
            Is::Unproven => write!(f, "{path} is another file than the one wanted"),
        }
    }
}
