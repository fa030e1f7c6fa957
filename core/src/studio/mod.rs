//! The other end of the session: registration, queue, sessions, by the same rules.

mod io;
mod new_job;
mod options;
pub mod records;
pub mod states;

pub use io::{Action, Answer, CallId, ConnId, Input, LogLine, Refusal, Step, Upload};
pub use new_job::NewJob;
pub use options::Options;
pub use records::{JobOutput, JobRecord, Record, RegistrationRecord, Standing, WorkerRecord};
pub use states::{JobEvent, JobState};
