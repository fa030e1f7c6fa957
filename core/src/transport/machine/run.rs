//! A program that is run to its end.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use tempfile::{Builder, NamedTempFile, TempDir, TempPath};

use super::{
    find::{Known, Surroundings},
    group::{Group, Reins, how},
    made::{Product, Refused, Unkept},
    pipes::{Beside, Excess, lock},
};
use crate::{
    drive::private,
    machine::{Ended, Keep, Process, ProgramFailure, Source, is_plain_name},
    transport::Folder,
};

/// What the names of temporary files begin with.
pub(super) const PREFIX: &str = "studio-worker-";

/// Where the result will be.
enum Sink {
    Memory(Arc<Mutex<Vec<u8>>>),
    Poured(File, TempPath),
    Left,
}

/// Runs a program to its end. Blocks as long as it runs; `reins` end it.
pub(super) fn to_end(
    process: Process,
    surroundings: &Surroundings,
    folder: &Folder,
    reins: &Reins,
) -> Result<Unkept, ProgramFailure> {
    let program = process.program.program.clone();
    let trouble = |why: String| ProgramFailure::Trouble { program: program.clone(), why };
    let limit = process.limit;
    let too_large = || ProgramFailure::TooLarge { program: program.clone(), limit };

    let names = process.inputs.iter().map(|(name, _)| name);
    let output = match &process.source {
        Source::File(name) => Some(name),
        Source::Stdout => None,
    };
    if let Some(name) = names.chain(output).find(|name| !is_plain_name(name)) {
        return Err(trouble(format!("{name:?} is not the plain name of a file")));
    }
    let scratch = scratch(folder).map_err(|error| trouble(format!("no scratch folder: {error}")))?;
    let known = Known { scratch: scratch.path(), server: None };
    let mut command = surroundings.command(&process.program, &known)?;
    write_inputs(scratch.path(), &process.inputs)
        .map_err(|error| trouble(format!("its input can't be written: {error}")))?;

    // Everything that begins here ends with `group`, also where something fails.
    let mut beside = Beside::new(reins);
    let started = (|| {
        let (said, says) = io::pipe()?;
        let words = beside.listen(said)?;
        let sink = match (&process.source, process.keep) {
            (Source::File(name), _) => {
                command.stdout(says.try_clone()?);
                beside.watch(scratch.path().join(name), limit)?;
                Sink::Left
            }
            (Source::Stdout, keep) => {
                let (made, makes) = io::pipe()?;
                command.stdout(makes);
                match keep {
                    Keep::Memory => Sink::Memory(beside.take(made, limit)?),
                    Keep::File => {
                        let file = Builder::new().prefix(PREFIX).tempfile_in(folder.path())?;
                        let (file, path) = NamedTempFile::into_parts(file);
                        beside.pour(made, file.try_clone()?, limit)?;
                        Sink::Poured(file, path)
                    }
                }
            }
        };
        command.stderr(says).stdin(if process.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut group = Group::start(&mut command, scratch.path(), reins)?;
        if let Some(stdin) = group.child.stdin.take() {
            beside.feed(stdin, process.stdin)?;
        }
        Ok((group, words, sink))
    })();
    // It has our ends of the pipes.
    drop(command);
    let (group, words, sink) = started.map_err(|error: io::Error| trouble(error.to_string()))?;
    let status = group.ended();
    let excess = beside.end();
    let (code, signal) = how(status.map_err(|error| trouble(error.to_string()))?);
    let ended = Ended { code, signal, stderr: words.last() };
    match excess {
        Some(Excess::TooLarge) => return Err(too_large()),
        Some(Excess::Unkept(error)) => return Err(trouble(format!("its result can't be kept: {error}"))),
        Some(Excess::LeftOpen) if ended.is_success() => {
            let why = "it has ended, and something that it started still holds its output open";
            return Err(trouble(why.into()));
        }
        Some(Excess::LeftOpen) | None => {}
    }
    if !ended.is_success() {
        return Ok(Unkept { ended, made: None });
    }
    let made = match sink {
        Sink::Memory(bytes) => Some(Product::Memory(std::mem::take(&mut *lock(&bytes)))),
        Sink::Poured(file, path) => Some(
            Product::poured(file, path)
                .map_err(|error| trouble(format!("its result can't be read: {error}")))?,
        ),
        Sink::Left => {
            let name = output.map_or("", String::as_str);
            match Product::left(&scratch.path().join(name), process.keep, limit, folder.path()) {
                Ok(made) => made,
                Err(Refused::TooLarge) => return Err(too_large()),
                Err(Refused::NoFile) => return Err(trouble(format!("what it left as {name} is not a file"))),
                Err(Refused::Unread(error)) => {
                    return Err(trouble(format!("its result can't be read: {error}")));
                }
            }
        }
    };
    Ok(Unkept { ended, made })
}

/// A folder that only this user can look into. It is deleted when it is dropped.
pub(super) fn scratch(folder: &Folder) -> io::Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    // The working folder of the program, whose arguments lead here, too.
    builder.tempdir_in(std::path::absolute(folder.path())?)
}

fn write_inputs(scratch: &Path, inputs: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, bytes) in inputs {
        private::file().write(true).create_new(true).open(scratch.join(name))?.write_all(bytes)?;
    }
    Ok(())
}
