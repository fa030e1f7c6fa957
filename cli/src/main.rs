//! The `studio-worker` program.
fn main() {}
