//! Randomness from the seed: the same seed gives the same run.

use alloc::{format, string::String};
use core::time::Duration;

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::wire::Secret;

/// Two streams of one seed: what is guessed from jitter says nothing of a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chance {
    seed: [u8; 32],
    jitter: Stream,
    secrets: Stream,
}

/// How far a stream has been drawn. The generator itself is made for each draw: it is many times as large, and little
/// is drawn.
#[derive(Clone, PartialEq, Eq)]
struct Stream {
    number: u64,
    /// Words of 32 bits.
    drawn: u64,
}

impl Stream {
    fn draw<T>(&mut self, seed: [u8; 32], draw: impl FnOnce(&mut ChaCha20Rng) -> T) -> T {
        let mut generator = ChaCha20Rng::from_seed(seed);
        generator.set_stream(self.number);
        generator.set_word_pos(self.drawn.into());
        let drawn = draw(&mut generator);
        self.drawn = u64::try_from(generator.get_word_pos()).unwrap_or_default();
        drawn
    }
}

// The seed is as good as its secrets.
impl core::fmt::Debug for Chance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Chance(…)")
    }
}

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let stream = |number| Stream { number, drawn: 0 };
        Self { seed, jitter: stream(0), secrets: stream(1) }
    }

    /// `span`, half up or down.
    pub(super) fn jittered(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        Duration::from_micros(micros / 2 + self.nonce() % (micros + 1))
    }

    /// A number for a multipart boundary.
    pub(super) fn nonce(&mut self) -> u64 {
        self.jitter.draw(self.seed, Rng::next_u64)
    }

    /// 256 random bits as 64 hex digits (section 2).
    pub(super) fn secret(&mut self) -> Secret {
        let mut bytes = [0; 32];
        self.secrets.draw(self.seed, |generator| generator.fill_bytes(&mut bytes));
        Secret::new(bytes.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}")))
    }

    /// A UUIDv4 (section 2).
    pub(super) fn uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.secrets.draw(self.seed, |generator| generator.fill_bytes(&mut bytes));
        format!("{}", uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

/// Waits that grow: 1 s doubling to 30 s, with jitter (section 6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const BASE: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(30);

    /// Counts a failure and says how long to wait. What the peer asked for is the least; the jitter on top
    /// keeps a fleet from coming back in step.
    pub(super) fn failed(&mut self, chance: &mut Chance, asked: Option<Duration>) -> Duration {
        let base = Self::BASE.saturating_mul(1 << self.failures.min(5)).min(Self::MOST);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default() + chance.jittered(base)
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_30_s_with_jitter_of_half() {
        let mut chance = Chance::new([1; 32]);
        let mut backoff = Backoff::default();
        for base in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000] {
            let wait = backoff.failed(&mut chance, None).as_millis();
            assert!((base / 2..=base * 3 / 2).contains(&wait), "{base}: {wait}");
        }
        assert!(backoff.failed(&mut chance, Some(Duration::from_secs(100))) > Duration::from_secs(100));
        backoff.reset();
        assert!(backoff.failed(&mut chance, None) <= Duration::from_millis(1_500));
    }

    #[test]
    fn secrets_are_64_hex_digits_and_ids_are_uuids_of_version_4() {
        let mut chance = Chance::new([2; 32]);
        let secret = chance.secret();
        assert_eq!(secret.reveal().len(), 64);
        assert!(secret.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(chance.secret(), secret);
        let id = chance.uuid();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
    }

    /// However it is drawn: nothing comes twice.
    #[test]
    fn draws_follow_each_other_in_one_stream() {
        let mut chance = Chance::new([4; 32]);
        let mut whole = ChaCha20Rng::from_seed([4; 32]);
        for _ in 0..100 {
            assert_eq!(chance.nonce(), whole.next_u64());
        }
        whole.set_stream(1);
        whole.set_word_pos(0);
        for _ in 0..10 {
            let mut bytes = [0; 32];
            whole.fill_bytes(&mut bytes);
            let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            assert_eq!(chance.secret().reveal(), hex);
        }
    }

    #[test]
    fn jitter_drawn_does_not_change_the_secrets() {
        let (mut a, mut b) = (Chance::new([3; 32]), Chance::new([3; 32]));
        a.jittered(Duration::from_secs(1));
        assert_eq!(a.secret(), b.secret());
    }
}
