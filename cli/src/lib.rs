//! The library of the `studio-worker` program.
