//! Numbers of the wire.

use core::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A floating-point number that is finite, so that it can be compared, ordered and written as JSON
/// (section 4: numbers are finite).
#[derive(Debug, Clone, Copy, Default)]
pub struct Finite(f64);

impl Finite {
    /// Bytes as GB of the protocol, which count 2^30 bytes as cards are sold by; in steps of a MiB.
    pub fn gigabytes(bytes: u64) -> Self {
        // Of whole MiB, so that it is exact.
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        Self::new(f64::from(mib) / 1_024.0).unwrap_or(Self::ZERO)
    }

    /// Zero.
    pub const ZERO: Self = Self(0.0);

    /// `value`, unless it is infinite or not a number.
    pub const fn new(value: f64) -> Option<Self> {
        if value.is_finite() { Some(Self(value)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl From<u32> for Finite {
    fn from(value: u32) -> Self {
        Self(f64::from(value))
    }
}

// -0.0 equals 0.0, and no value is NaN: the order is total.
impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Finite {}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Finite {
    /// A whole number is written without a fraction, since a reader may take nothing else (`fps` in 0.4).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "saturates, and what does not come back is a fraction"
        )]
        let whole = self.0 as i32;
        if Self(f64::from(whole)) == *self {
            serializer.serialize_i32(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("a finite number is wanted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a job that a studio stored and read again would be another one, and be run again.
    #[test]
    fn a_number_is_the_same_after_it_was_written_and_read() {
        for text in ["2.4777777777777777e95", "1.7976931348623157e308", "5e-324", "0.1", "7.5", "12", "1e23"]
        {
            let number: Finite = serde_json::from_str(text).unwrap();
            assert_eq!(number.get().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
            let written = serde_json::to_string(&number).unwrap();
            let again: Finite = serde_json::from_str(&written).unwrap();
            assert_eq!(again.get().to_bits(), number.get().to_bits(), "{text}, written as {written}");
        }
    }
}
