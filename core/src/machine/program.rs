//! Programs that a recipe runs: one to its end, or one that goes on and is asked over HTTP.
//!
//! There is no shell between: a program gets its arguments as they are. It runs in a group of its own, which ends as a
//! whole with the run, and sees the worker's environment without what looks like a credential.

use alloc::{string::String, vec::Vec};
use core::{fmt, time::Duration};

use crate::{engine::SpilledFile, wire::Secret};

/// How much of what a program wrote to stderr is kept, in bytes: the last of it.
pub const STDERR_KEPT: usize = 64 * 1024;

/// How a program is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// A path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Variables that are set for it.
    pub environment: Vec<(String, Argument)>,
    /// Names of variables that it gets although they look like credentials.
    pub inherits: Vec<String>,
}

/// One argument, made of parts that are put together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Argument(pub Vec<Part>);

/// A part of an argument. What only the machine knows is put in when the program starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The path of the file with this plain name in the run's scratch folder ([`Process`] only).
    Scratch(String),
    /// The port that the server is to listen on ([`ServerWanted`] only).
    Port,
    /// The random key that the server is to ask for ([`ServerWanted`] only). Others can read arguments: put it in the
    /// environment.
    Key,
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self(Vec::from([Part::Text(text.into())]))
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self(Vec::from([Part::Text(text)]))
    }
}

impl From<Part> for Argument {
    fn from(part: Part) -> Self {
        Self(Vec::from([part]))
    }
}

/// A program that is run to its end, in a private scratch folder that is deleted afterwards.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    /// What is called. Its working folder is the scratch folder.
    pub program: Program,
    /// Files that lie in the scratch folder before it starts: plain names, and what is in them.
    pub inputs: Vec<(String, Vec<u8>)>,
    /// What it reads from stdin.
    pub stdin: Vec<u8>,
    /// Where its result comes from.
    pub source: Source,
    /// Where its result goes.
    pub keep: Keep,
    /// The largest result, in bytes. A program that makes more is stopped.
    pub limit: u64,
    /// Whether it wants the GPU to itself: a server that idles is stopped for it.
    pub wants_memory: bool,
}

// Inputs may be large.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("program", &self.program)
            .field("inputs", &self.inputs.iter().map(|(name, bytes)| (name, bytes.len())).collect::<Vec<_>>())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Where a program's result is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What it writes to stdout.
    Stdout,
    /// The file with this plain name in the scratch folder. Stdout is for people, like stderr.
    File(String),
}

/// Where a program's result goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// To memory.
    Memory,
    /// To a private file, of which only the beginning is read.
    File,
}

/// A program that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended, and its last words.
    pub ended: Ended,
    /// Its result; none when it ended with another code than 0, or wrote no such file.
    pub made: Option<Made>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last of what it wrote to stderr (and to stdout, when its result is a file), at most [`STDERR_KEPT`] bytes, of
    /// any encoding.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// Whether it ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// What a program made.
#[derive(Clone, PartialEq, Eq)]
pub enum Made {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, which is deleted unless it becomes the run's result.
    File {
        /// The file.
        file: SpilledFile,
        /// How it begins: at most 4 KiB.
        head: Vec<u8>,
    },
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
            Self::File { file, .. } => f.debug_tuple("File").field(file).finish(),
        }
    }
}

/// A program that goes on, listens on a port of this machine, and is asked over HTTP. One at most is kept between jobs.
/// The same value means the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerWanted {
    /// What is called.
    pub program: Program,
    /// What it loads, where the arguments don't tell: the [content](super::FileHad::content) of each of its files, which
    /// may have been replaced under the same name.
    pub loads: Vec<String>,
    /// How long it is kept without a job.
    pub idle: Duration,
}

/// A server that was started and has not ended. Whether it answers yet is for its recipe to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Where it listens: `http://127.0.0.1:<port>`.
    pub base: String,
    /// The key that it asks for.
    pub key: Secret,
}

/// Why a program is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramFailure {
    /// There is no such program.
    #[error("the program {program} is not there")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// It could not be started, or its files could not be written or read.
    #[error("the program {program} can't be run: {why}")]
    Trouble {
        /// What was to run.
        program: String,
        /// For a person to read.
        why: String,
    },
    /// It made more than it may, and was stopped.
    #[error("the program {program} made more than {limit} bytes")]
    TooLarge {
        /// What ran.
        program: String,
        /// The limit.
        limit: u64,
    },
    /// A server ended while a job used it.
    #[error("the server {program} ended")]
    Ended {
        /// What ran.
        program: String,
        /// How.
        ended: Ended,
    },
}
