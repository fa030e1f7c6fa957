//! What a result is made up from: the hash of its task.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::wire::{Claim, TaskForm};

/// SHA-256 of a task and its model.
pub(super) struct Seed([u8; 32]);

impl Seed {
    pub(super) fn of(claim: &Claim) -> Self {
        let mut canonical = String::new();
        write_sorted(&claim.task.to_json(TaskForm::Camel), &mut canonical);
        let hash = Sha256::new().chain_update(&claim.model).chain_update([0]).chain_update(canonical);
        Self(hash.finalize().into())
    }

    /// The first 16 hex digits, by which two runs are compared.
    pub(super) fn digits(&self) -> String {
        self.0[..8].iter().fold(String::with_capacity(16), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// The first `N` hex digits, as numbers.
    pub(super) fn nibbles<const N: usize>(&self) -> [u8; N] {
        core::array::from_fn(|at| self.0[at / 2 % self.0.len()] >> (4 * (1 - at % 2)) & 15)
    }

    /// An endless stream of choices, the same each time.
    pub(super) fn choices(&self) -> Choices {
        Choices(ChaCha8Rng::from_seed(self.0))
    }
}

/// Writes JSON with the keys of every object sorted, whatever order the map keeps.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            text.push('{');
            for (name, value) in object.iter().collect::<BTreeMap<_, _>>() {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_sorted(value, text);
                text.push(',');
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Choices that follow from a [`Seed`].
pub(super) struct Choices(ChaCha8Rng);

impl Choices {
    /// A whole number from `low` to `high`, both possible.
    pub(super) fn whole(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high.saturating_sub(low)) + 1;
        low + u32::try_from(self.0.next_u64() % span).unwrap_or(0)
    }

    /// A number from `low` to `high`.
    pub(super) fn number(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.0.next_u32()) / f64::from(u32::MAX)
    }
}

/// A sine wave of period 1, from -1 to 1. It is made of parabolas, exact to 0.2 %: `f64::sin` may differ in its
/// last bits from one platform to the next, and the result must not.
pub(super) fn wave(turns: f64) -> f64 {
    let phase = turns - turns.floor();
    let (phase, sign) = if phase < 0.5 { (phase, 1.0) } else { (phase - 0.5, -1.0) };
    let arch = 16.0 * phase * (0.5 - phase);
    sign * arch * (0.775 + 0.225 * arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wave_is_a_sine() {
        for step in -2_000..2_000 {
            let turns = f64::from(step) / 1_000.0;
            let sine = (turns * core::f64::consts::TAU).sin();
            assert!((wave(turns) - sine).abs() < 0.002, "{turns}");
        }
    }

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value = serde_json::json!({ "b": [{ "z": 1, "a": null }], "a": "\"" });
        let mut text = String::new();
        write_sorted(&value, &mut text);
        assert_eq!(text, r#"{"a":"\"","b":[{"a":null,"z":1,},],}"#);
    }
}
