//! The `studio-worker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    studio_worker::main(std::env::args_os())
}
