//! Instructions of the core under callgrind: the operations of `--bench speed`, in numbers that repeat.
//!
//! `cargo bench -p studio-worker-core --bench instructions` runs itself under valgrind, operation by operation, and prints
//! how many instructions each takes, beside those of its yardstick: `serde_json` reading the same bytes into plain
//! derived types. Only what is named counts: neither the start of the program, nor the state that it begins in.
#![allow(missing_docs, clippy::expect_used, clippy::disallowed_methods, reason = "a program that measures")]

#[allow(dead_code, reason = "shared with what measures memory")]
mod common;

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use common::{
    operations::{self, Operation, Work},
    published,
};

/// How often each operation is done; a heartbeat is due with every fifth job.
const TIMES: u32 = 100;

fn main() -> ExitCode {
    let mut args = env::args().skip(1).skip_while(|arg| arg != "--operation");
    if let Some(name) = args.nth(1) {
        let operation = operations::all().into_iter().find(|operation| operation.name == name);
        run(&operation.expect("an operation that exists"));
        return ExitCode::SUCCESS;
    }
    match report() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every operation under callgrind, and prints what it took.
fn report() -> Result<(), String> {
    let folder =
        tempfile::tempdir().map_err(|error| format!("no folder for what callgrind writes: {error}"))?;
    println!("{:>12} {:>9}  operation", "instructions", "of serde");
    let mut yardstick = None;
    for operation in operations::all() {
        let count = count(&operation.name, &folder.path().join("callgrind.out"))?;
        let ratio = yardstick.map(|yardstick: f64| format!("{:.2}", count / yardstick)).unwrap_or_default();
        println!("{count:>12.0} {ratio:>9}  {}", operation.name);
        yardstick = matches!(operation.work, Work::Read(_)).then_some(count);
    }
    Ok(())
}

/// How many instructions an operation takes, once.
fn count(name: &str, written: &Path) -> Result<f64, String> {
    let program = env::current_exe().map_err(|error| format!("this program can't find itself: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::measured*"])
        .arg(format!("--callgrind-out-file={}", written.display()))
        .arg(program)
        .args(["--operation", name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("valgrind can't be started ({error}): instructions are counted with its tool callgrind, so install it")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed for {name:?}:\n{said}"));
    }
    let text =
        fs::read_to_string(written).map_err(|error| format!("callgrind wrote nothing: {error}\n{said}"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse::<f64>().ok());
    match total {
        Some(total) if total > 0.0 => Ok(total / f64::from(TIMES)),
        _ => Err(format!("callgrind counted nothing for {name:?}:\n{said}")),
    }
}

/// Does an operation some times, the first time unseen.
fn run(operation: &Operation) {
    match &operation.work {
        Work::Read(text) => {
            let mut read = None;
            for _ in 0..TIMES {
                measured(&mut || read = Some(published::read(text)));
                drop(black_box(read.take()));
            }
        }
        Work::Hear(rig, text) => {
            for _ in 0..TIMES {
                let (mut rig, text) = (rig.clone(), text.clone());
                let mut text = Some(text);
                measured(&mut || rig.hear(text.take().unwrap_or_default()));
                drop(black_box(rig));
            }
        }
        Work::Again(start) => {
            let mut again = start();
            again();
            for _ in 0..TIMES {
                measured(&mut again);
            }
        }
    }
}

/// What is called in here is counted: callgrind goes by the name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}
