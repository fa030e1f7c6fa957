//! The states of the session and of the job, and every way from one to another: the one table that the code
//! runs on and that the documentation's diagram is made from.

use alloc::string::String;
use core::fmt::{Debug, Write as _};

/// Where the worker stands with its studio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// There are no credentials: registration is under way (section 2).
    Unregistered,
    /// Between two attempts to connect.
    Waiting,
    /// The upgrade is under way.
    Connecting,
    /// `hello` was sent, `welcome` has not come.
    Greeting,
    /// The session is open.
    Serving,
    /// This side has sent its close frame.
    Closing,
    /// It is over.
    Ended,
}

/// What moves a session from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// Id and token are known and stored.
    Registered,
    /// The back-off is over.
    Due,
    /// The studio answered the upgrade with 101.
    Upgraded,
    /// `welcome` came.
    Welcomed,
    /// This side closes.
    Close,
    /// The connection is gone, or never came to be.
    Lost,
    /// The studio doesn't know this worker any more, or other credentials are to be used.
    Forgotten,
    /// The worker ends.
    Finished,
}

impl SessionState {
    /// Every transition there is.
    pub const TABLE: &'static [(Self, SessionEvent, Self)] = {
        use SessionEvent as E;
        &[
            (Self::Unregistered, E::Registered, Self::Waiting),
            (Self::Waiting, E::Due, Self::Connecting),
            (Self::Connecting, E::Upgraded, Self::Greeting),
            (Self::Connecting, E::Lost, Self::Waiting),
            (Self::Greeting, E::Welcomed, Self::Serving),
            (Self::Greeting, E::Close, Self::Closing),
            (Self::Greeting, E::Lost, Self::Waiting),
            (Self::Serving, E::Close, Self::Closing),
            (Self::Serving, E::Lost, Self::Waiting),
            (Self::Closing, E::Lost, Self::Waiting),
            (Self::Waiting, E::Forgotten, Self::Unregistered),
            (Self::Unregistered, E::Finished, Self::Ended),
            (Self::Waiting, E::Finished, Self::Ended),
        ]
    };

    /// The state after `event`; `None` when the table has no such transition.
    pub fn after(self, event: SessionEvent) -> Option<Self> {
        Self::TABLE.iter().find(|(from, on, _)| *from == self && *on == event).map(|(_, _, to)| *to)
    }

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Greeting => "greeting",
            Self::Serving => "serving",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

/// Where a job stands. A job in [`JobState::Running`] or [`JobState::Delivering`] is *claimed*: the studio
/// holds it for this worker on the session that is open, and at most one job is. An offer that waits for the memory to be
/// measured, or for an upload, is no job yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Accepted, and the engine has it.
    Running,
    /// The engine has it, but its claim went with its session.
    Orphaned,
    /// The engine is done and the outcome is on its way to the studio.
    Delivering,
    /// The outcome is here, but there is no claim to deliver it under.
    Held,
    /// It is over.
    Ended,
}

/// What moves a job from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// The engine is done, or its time is.
    Finished,
    /// The claim is gone: with its session, or because the studio said so.
    ClaimLost,
    /// The studio offered the same job again, and it was accepted.
    Reoffered,
    /// The studio has the outcome.
    Confirmed,
    /// Nobody will want it any more.
    GivenUp,
}

impl JobState {
    /// Every transition there is.
    pub const TABLE: &'static [(Self, JobEvent, Self)] = {
        use JobEvent as E;
        &[
            (Self::Running, E::Finished, Self::Delivering),
            (Self::Running, E::ClaimLost, Self::Orphaned),
            (Self::Running, E::GivenUp, Self::Ended),
            (Self::Orphaned, E::Reoffered, Self::Running),
            (Self::Orphaned, E::Finished, Self::Held),
            (Self::Orphaned, E::GivenUp, Self::Ended),
            (Self::Delivering, E::Confirmed, Self::Ended),
            (Self::Delivering, E::ClaimLost, Self::Held),
            (Self::Delivering, E::GivenUp, Self::Ended),
            (Self::Held, E::Reoffered, Self::Delivering),
            (Self::Held, E::Confirmed, Self::Ended),
            (Self::Held, E::GivenUp, Self::Ended),
        ]
    };

    /// The state after `event`; `None` when the table has no such transition.
    pub fn after(self, event: JobEvent) -> Option<Self> {
        Self::TABLE.iter().find(|(from, on, _)| *from == self && *on == event).map(|(_, _, to)| *to)
    }

    /// Whether the studio holds the job for this worker.
    pub const fn is_claimed(self) -> bool {
        matches!(self, Self::Running | Self::Delivering)
    }
}

/// The two tables as Mermaid diagrams, for the documentation: the session's and the job's.
pub fn diagrams() -> [String; 2] {
    fn draw<S: Debug, E: Debug>(table: &[(S, E, S)]) -> String {
        let mut text = String::from("stateDiagram-v2\n");
        for (from, event, to) in table {
            // Writing to a text can't fail.
            let _ = writeln!(text, "    {from:?} --> {to:?}: {event:?}");
        }
        text
    }
    [draw(SessionState::TABLE), draw(JobState::TABLE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_has_two_ways_out_for_one_event() {
        for (at, (from, event, _)) in SessionState::TABLE.iter().enumerate() {
            assert!(!SessionState::TABLE[..at].iter().any(|(f, e, _)| f == from && e == event));
        }
        for (at, (from, event, _)) in JobState::TABLE.iter().enumerate() {
            assert!(!JobState::TABLE[..at].iter().any(|(f, e, _)| f == from && e == event));
        }
    }

    #[test]
    fn what_has_ended_stays_so() {
        assert!(SessionState::TABLE.iter().all(|(from, _, _)| *from != SessionState::Ended));
        assert!(JobState::TABLE.iter().all(|(from, _, _)| *from != JobState::Ended));
    }

    #[test]
    fn the_readme_shows_these_tables() {
        let readme = include_str!("../../../README.md");
        for diagram in diagrams() {
            assert!(readme.contains(diagram.as_str()), "put this into README.md:\n{diagram}");
        }
    }
}
