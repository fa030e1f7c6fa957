//! What a download wants done, and what it is told.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::FileHad;
use crate::{
    engine::EngineError,
    http::{FileHead, FileRequest, HttpFailure},
};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// See what lies at these paths: [`Seen::Looked`].
    Look(Vec<String>),
    /// Find out the hash of this file, and remember it: [`Seen::Hashed`].
    Hash(String),
    /// Wait until nobody else downloads the file: [`Seen::Locked`]. It is held until the end.
    Lock,
    /// Open the part that there is, or begin one: [`Seen::Opened`].
    Open,
    /// Ask for the file: [`Seen::Answered`].
    Fetch(FileRequest),
    /// See how much room there is on the disk: [`Seen::Room`].
    Room,
    /// Write what comes to the part, and say how far it is: [`Seen::Written`].
    Write(Write),
    /// Empty the part: [`Seen::Emptied`].
    Empty,
    /// The part is the file: put it in its place, and remember its hash and where it came from: [`Seen::Finished`].
    Finish,
    /// Wait: [`Seen::Paused`].
    Pause(Duration),
    /// It is over.
    Done(Result<FileHad, EngineError>),
}

/// How what comes is written to the part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where to begin, in bytes: what the part has behind that is dropped first.
    pub from: u64,
    /// Where to stop, in bytes from the file's beginning: whoever sends more is cut off.
    pub limit: u64,
    /// How large the file will be.
    pub total: Option<u64>,
    /// What the part is a part of, to remember with it.
    pub validator: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet.
    Started,
    /// What lies at each of the paths; none where there is no file.
    Looked(Vec<Option<Found>>),
    /// The file's hash.
    Hashed([u8; 32]),
    /// The lock is ours.
    Locked,
    /// The part is open.
    Opened(Part),
    /// The server answered.
    Answered(Result<FileHead, HttpFailure>),
    /// The room on the disk; none when nobody can tell.
    Room(Option<Room>),
    /// What came was written.
    Written(Written),
    /// The part is empty.
    Emptied,
    /// The file is in its place.
    Finished,
    /// The pause is over.
    Paused,
    /// A file, a folder or a lock is of no use, for a person to read.
    Trouble(String),
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds of any clock.
    pub modified_ns: u64,
    /// Its hash, where that is remembered and the file has not changed since.
    pub sha256: Option<[u8; 32]>,
    /// The address that it was downloaded from, without its query, where that is remembered and the file has not changed
    /// since.
    pub source: Option<String>,
}

/// A part of a file, on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its hash.
    pub sha256: [u8; 32],
    /// What it is a part of, as was remembered.
    pub validator: Option<String>,
    /// How large the file was to be.
    pub total: Option<u64>,
    /// The address that it came from, without its query, as was remembered.
    pub source: Option<String>,
}

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this user can still write.
    pub free: u64,
    /// All that the disk has.
    pub total: u64,
}

/// What came of [`Step::Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The size of the part now, in bytes.
    pub bytes: u64,
    /// Its hash.
    pub sha256: [u8; 32],
    /// Why no more came.
    pub end: End,
}

/// Why no more came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server has sent all that it wanted to.
    Ended,
    /// The connection broke.
    Broke(String),
    /// Nothing came for so long that nothing will.
    Stalled(Duration),
    /// More came than was announced.
    TooMuch,
    /// The disk is full, or as much of it as is this user's: in the words of the system.
    DiskFull(String),
    /// The part can't be written, for a person to read.
    Trouble(String),
}
