//! Digests of states, to compare them by.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

/// What is to be digested, as it is written.
#[derive(Default)]
pub(crate) struct Digested(Vec<u8>);

impl Digested {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    pub(crate) fn debug(&mut self, value: &dyn fmt::Debug) {
        // Writing to memory can't fail.
        let _ = write!(self, "{value:?};");
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Write for Digested {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.as_bytes());
        Ok(())
    }
}
