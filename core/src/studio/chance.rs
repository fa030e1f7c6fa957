//! Randomness from the seed: the same seed gives the same run.

use alloc::{format, string::String};

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::wire::Secret;

/// Two streams of one seed: what is guessed from ids says nothing of a token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chance {
    ids: ChaCha20Rng,
    tokens: ChaCha20Rng,
}

// A generator's state is as good as its tokens.
impl core::fmt::Debug for Chance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Chance(…)")
    }
}

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let ids = ChaCha20Rng::from_seed(seed);
        let mut tokens = ids.clone();
        tokens.set_stream(1);
        Self { ids, tokens }
    }

    /// An id like `rr-0123456789abcdef`.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}-{:016x}", self.ids.next_u64())
    }

    /// 256 random bits as 64 hex digits.
    pub(super) fn token(&mut self) -> Secret {
        let mut bytes = [0; 32];
        self.tokens.fill_bytes(&mut bytes);
        Secret::new(bytes.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_256_bits_of_hex_that_ids_say_nothing_of() {
        let (mut a, mut b) = (Chance::new([3; 32]), Chance::new([3; 32]));
        let id = a.id("rr");
        assert_eq!((id.len(), &id[..3]), (19, "rr-"));
        let token = a.token();
        assert_eq!(token, b.token());
        assert_eq!(token.reveal().len(), 64);
        assert_ne!(a.token(), token);
        assert!(!token.reveal().contains(&id[3..]));
    }
}
