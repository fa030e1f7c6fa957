//! What time it is.

use std::time::{Duration, Instant, SystemTime};

use studio_worker_core::time::{Mono, Now, Wall};

/// Both clocks of a runtime.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => millis(since),
            // A clock that was never set.
            Err(before) => -millis(before.duration()),
        };
        Now { mono: self.mono(), wall: Wall::from_millis(wall) }
    }

    pub(crate) fn mono(self) -> Mono {
        Mono::ZERO + self.start.elapsed()
    }
}
