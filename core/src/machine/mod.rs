//! What a recipe has of the machine that it runs on: files, programs, memory.
//!
//! Types, and what is decided about them without touching any: which step a download takes next, what a tool that was
//! asked says of the memory, which variables a program may see. A [`Machine`](crate::drive::Machine) carries it out.

mod environment;
pub mod files;
pub mod memory;
mod name;
mod program;

pub use environment::looks_like_credential;
pub use files::{FileHad, FileWanted, Origin, Transfer};
pub use memory::Memory;
pub use name::is_plain_name;
pub use program::{
    Argument, Ended, Keep, Made, Part, Process, Program, ProgramFailure, Ran, STDERR_KEPT, ServerWanted,
    Serving, Source,
};
