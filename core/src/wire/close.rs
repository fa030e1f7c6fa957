//! WebSocket close codes that mean something here (section 6).

/// The close code of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The session ended as intended.
    pub const NORMAL: Self = Self(1000);
    /// The peer broke a rule that has no code of its own.
    pub const POLICY: Self = Self(1008);
    /// A frame was larger than the peer reads.
    pub const TOO_BIG: Self = Self(1009);
    /// The peer is going away or restarts.
    pub const GOING_AWAY: Self = Self(1001);
    /// The token was refused.
    pub const AUTH_FAILED: Self = Self(4001);
    /// A frame was out of place.
    pub const PROTOCOL_VIOLATION: Self = Self(4002);
    /// Another connection took over this worker id.
    pub const DUPLICATE_WORKER: Self = Self(4003);
    /// The worker was deleted.
    pub const WORKER_DELETED: Self = Self(4004);
}

impl core::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}
