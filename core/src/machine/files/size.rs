//! How large files may be, and how that reads.

use core::fmt;

use super::Room;

/// The most of a disk that is kept free, in bytes.
const KEPT_FREE: u64 = 10 << 30;
/// What a file may be larger than was said, beside a tenth, in bytes.
const SLACK: u64 = 1024 * 1024;

impl Room {
    /// What is kept free for others: a tenth, but no more of a large disk than [`KEPT_FREE`].
    pub(super) fn kept(self) -> u64 {
        (self.total / 10).min(KEPT_FREE)
    }
}

/// The most that a file may have that is about that large.
pub(super) fn at_most(approx: u64) -> u64 {
    approx.saturating_add(approx / 10).saturating_add(SLACK)
}

/// A size for a person to read.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "a person reads three digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 10_000 => write!(f, "{bytes} bytes"),
            bytes if bytes < 10_000_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes => write!(f, "{:.1} GB", bytes as f64 / 1e9),
        }
    }
}

/// Bytes in hex.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
