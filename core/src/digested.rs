//! Digests of states, to compare them by.

use core::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

/// A text that is digested as it is written.
#[derive(Default)]
pub(crate) struct Digested(Sha256);

impl Digested {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn debug(&mut self, value: &dyn fmt::Debug) {
        // Digesting can't fail.
        let _ = write!(self, "{value:?};");
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl fmt::Write for Digested {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
