//! What a recipe has of the machine that it runs on: files, programs, memory.
//!
//! Types, and what is decided about them without touching any: which step a download takes next, what a tool that was
//! asked says of the memory, which variables a program may see. A [`Machine`](crate::drive::Machine) carries it out.

mod files;
mod memory;
mod program;

pub use files::{FileHad, FileWanted, Origin, Transfer};
pub use memory::Memory;
pub use program::{
    Argument, Ended, Keep, Made, Part, Process, Program, ProgramFailure, Ran, STDERR_KEPT, ServerWanted,
    Serving, Source,
};
