//! The states of a job at the studio, and what moves it from one to another: the one table that the code runs on
//! and that documentation can be made from.

use serde::{Deserialize, Serialize};

/// Where a job stands. A job that is [held](JobState::is_held) belongs to one worker on one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker was asked.
    Offered,
    /// A worker said that it does it.
    Running,
    /// A worker has it, but nobody wants it any more.
    Cancelling,
    /// Its result is here.
    Completed,
    /// Its attempts are used up, or another one can't help.
    Failed,
    /// Nobody wanted it any more.
    Cancelled,
}

/// What moves a job from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker is asked.
    Offer,
    /// The worker says that it does it.
    Accept,
    /// The worker delivers a result, in time or before its accept.
    Deliver,
    /// The worker gives it back, or is gone, and there are attempts left.
    Requeue,
    /// The worker gives it back, or is gone, and that was its last attempt.
    GiveUp,
    /// Nobody wants it any more.
    Cancel,
}

impl JobState {
    /// Every transition there is.
    pub const TABLE: &'static [(Self, JobEvent, Self)] = {
        use JobEvent as E;
        &[
            (Self::Queued, E::Offer, Self::Offered),
            (Self::Queued, E::Cancel, Self::Cancelled),
            (Self::Offered, E::Accept, Self::Running),
            (Self::Offered, E::Deliver, Self::Completed),
            (Self::Offered, E::Requeue, Self::Queued),
            (Self::Offered, E::GiveUp, Self::Failed),
            (Self::Offered, E::Cancel, Self::Cancelling),
            (Self::Running, E::Deliver, Self::Completed),
            (Self::Running, E::Requeue, Self::Queued),
            (Self::Running, E::GiveUp, Self::Failed),
            (Self::Running, E::Cancel, Self::Cancelling),
            (Self::Cancelling, E::Accept, Self::Cancelling),
            (Self::Cancelling, E::Cancel, Self::Cancelling),
            (Self::Cancelling, E::Deliver, Self::Cancelled),
            (Self::Cancelling, E::Requeue, Self::Cancelled),
            (Self::Cancelling, E::GiveUp, Self::Cancelled),
        ]
    };

    /// The state after `event`; `None` when the table has no such transition.
    pub fn after(self, event: JobEvent) -> Option<Self> {
        Self::TABLE.iter().find(|(from, on, _)| *from == self && *on == event).map(|(_, _, to)| *to)
    }

    /// Whether a worker has it.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Offered | Self::Running | Self::Cancelling)
    }

    /// Whether it is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The name that people read: `queued`, `offered`, `running`, `cancelling`, `completed`, `failed`, `cancelled`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_has_two_ways_out_for_one_event() {
        for (at, (from, event, _)) in JobState::TABLE.iter().enumerate() {
            assert!(!JobState::TABLE[..at].iter().any(|(f, e, _)| f == from && e == event));
        }
    }

    #[test]
    fn what_is_over_stays_so_and_what_is_held_can_end() {
        for (from, _, _) in JobState::TABLE {
            assert!(!from.is_over());
        }
        for held in [JobState::Offered, JobState::Running, JobState::Cancelling] {
            for event in [JobEvent::Deliver, JobEvent::GiveUp] {
                assert!(held.after(event).is_some_and(JobState::is_over), "{held:?} {event:?}");
            }
        }
    }
}
