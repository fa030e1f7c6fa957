//! What the bytes of a fuzz input are told to mean.

use alloc::{borrow::Cow, string::String};

/// Between the texts of one input: a byte that is in no UTF-8 text, so that seeds can be written by hand.
pub(super) const BETWEEN: u8 = 0xff;

/// The texts of an input, divided by [`BETWEEN`]; what is missing is empty, and the last one is the rest. What
/// isn't UTF-8 is made so.
pub(super) fn texts<const N: usize>(data: &[u8]) -> [Cow<'_, str>; N] {
    let mut parts = data.splitn(N, |byte| *byte == BETWEEN);
    core::array::from_fn(|_| String::from_utf8_lossy(parts.next().unwrap_or_default()))
}

/// Bytes that choose, one after another. When there are no more, every choice is the first one.
#[derive(Debug, Clone)]
pub(crate) struct Told<'a>(&'a [u8]);

impl<'a> Told<'a> {
    /// The choices of `data`.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether there are choices left.
    pub(crate) fn goes_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `n`, which is at least 1 and at most 256.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    /// One of `list`.
    pub(crate) fn one_of<T: Clone, const N: usize>(&mut self, list: &[T; N]) -> T {
        list[self.below(N)].clone()
    }

    /// A text of up to 255 bytes: how long it is, and then what it says.
    pub(crate) fn text(&mut self) -> String {
        let (text, rest) = self.0.split_at(usize::from(self.byte()).min(self.0.len()));
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}
