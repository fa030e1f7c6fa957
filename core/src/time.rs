//! Time as an argument: the machines are told what time it is and never ask.

use alloc::string::String;
use core::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the driver's monotonic clock, in microseconds since the driver's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(u64);

impl Mono {
    /// The driver's start.
    pub const ZERO: Self = Self(0);
    /// Later than everything: a deadline that is never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `micros` microseconds after the driver's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the driver's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    /// Saturates at [`Mono::NEVER`].
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    /// Saturates at [`Mono::ZERO`].
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A point on the wall clock, in milliseconds since 1970-01-01T00:00:00Z. For people to read and never to
/// decide by: it jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(i64);

impl Wall {
    /// The point `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// RFC 3339 with milliseconds and `Z`, as log entries carry it (section 3). A clock outside the years
    /// that the format can say is shown as the nearest that it can.
    pub fn to_rfc3339(self) -> String {
        let stamp = jiff::Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        alloc::format!("{stamp:.3}")
    }

    /// Reads RFC 3339, as [`Wall::to_rfc3339`] writes it; what is below a millisecond is cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|stamp| Self(stamp.as_millisecond()))
    }

    /// Reads an HTTP date: `Wed, 25 Nov 2026 07:00:00 GMT`, or one of the two older forms that a reader must know,
    /// `Wednesday, 25-Nov-26 07:00:00 GMT` and `Wed Nov 25 07:00:00 2026`.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let text = text.trim();
        let older = |form| jiff::fmt::strtime::parse(form, text).ok()?.to_datetime().ok();
        jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()
            .or_else(|| {
                let read = older("%A, %d-%b-%y %H:%M:%S GMT").or_else(|| older("%a %b %e %H:%M:%S %Y"))?;
                jiff::tz::Offset::UTC.to_timestamp(read).ok()
            })
            .map(|stamp| Self(stamp.as_millisecond()))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl core::fmt::Display for Wall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// What time it is on both clocks, as the driver hands it to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The clock that all deadlines are measured on.
    pub mono: Mono,
    /// The clock that people read.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_milliseconds_and_z() {
        assert_eq!(Wall::from_millis(1_764_054_000_005).to_rfc3339(), "2025-11-25T07:00:00.005Z");
        assert_eq!(Wall::from_millis(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(&Wall::from_millis(i64::MAX).to_rfc3339()[..4], "9999");
    }

    #[test]
    fn a_stamp_is_read_back() {
        let wall = Wall::from_millis(1_764_054_000_005);
        assert_eq!(Wall::parse_rfc3339(&wall.to_rfc3339()), Some(wall));
        for garbage in ["", "soon", "2025-11-25", "2025-11-25T07:00:00"] {
            assert_eq!(Wall::parse_rfc3339(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn http_dates_are_read_and_garbage_is_not() {
        assert_eq!(
            Wall::parse_http_date("Tue, 25 Nov 2025 07:00:00 GMT"),
            Some(Wall::from_millis(1_764_054_000_000))
        );
        for older in ["Tuesday, 25-Nov-25 07:00:00 GMT", "Tue Nov 25 07:00:00 2025"] {
            assert_eq!(Wall::parse_http_date(older), Some(Wall::from_millis(1_764_054_000_000)), "{older}");
        }
        assert_eq!(
            Wall::parse_http_date("Sun Nov  6 08:49:37 1994"),
            Some(Wall::from_millis(784_111_777_000))
        );
        for garbage in
            ["", "soon", "Tue, 99 Nov 2025 07:00:00 GMT", "2025-11-25", "Tuesday, 99-Nov-25 07:00:00 GMT"]
        {
            assert_eq!(Wall::parse_http_date(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn time_saturates_rather_than_wraps() {
        assert_eq!(Mono::NEVER + Duration::from_secs(1), Mono::NEVER);
        assert_eq!(Mono::ZERO - Duration::from_secs(1), Mono::ZERO);
        assert_eq!(Mono::ZERO.since(Mono::from_micros(5)), Duration::ZERO);
    }
}
