//! Drives a studio worker on async-std.
