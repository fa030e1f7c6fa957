//! What is said between a worker and a studio: types and parsing, no behaviour.
//!
//! Reading is lenient, since a newer studio must not kill an older worker (section 3): unknown fields, frame
//! types and enum values are tolerated, both generations' spellings are read, and what can't be read says
//! which field is to blame. Nothing in here keeps state, knows the time, or depends on another room.

pub mod address;
pub mod capabilities;
pub mod claim;
pub mod close;
pub mod frame;
mod lenient;
pub mod media;
pub mod multipart;
pub mod number;
pub mod registration;
pub mod retry_after;
pub mod secret;
pub mod task;

pub use address::{AddressError, ApiBase};
pub use capabilities::{Capabilities, UserPresence};
pub use claim::{Claim, ClaimProblem, CliDefaults, JobId, ModelFile, ModelSource, Offer};
pub use close::CloseCode;
pub use frame::{FrameError, LogEntry, LogLevel, RejectCode, StudioErrorCode, StudioFrame, WorkerFrame};
pub use number::Finite;
pub use secret::Secret;
pub use task::{Task, TaskForm, TaskKind};

/// The WebSocket sub-protocol that both sides name in the upgrade (section 1).
pub const SUB_PROTOCOL: &str = "studio-worker-v1";

/// The largest frame that is read, in bytes (section 3).
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
