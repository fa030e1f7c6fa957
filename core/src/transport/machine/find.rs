//! What a program is started with: where it is, its arguments, its environment.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{MAIN_SEPARATOR, Path, PathBuf, absolute},
    process::Command,
};

use crate::machine::{Argument, Part, Program, ProgramFailure};

/// What programs are found and started in.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Instead of this process's own environment.
    pub(super) environment: Option<Vec<(OsString, OsString)>>,
    /// Instead of the system's root.
    pub(super) root: Option<PathBuf>,
}

/// What only this machine knows of an argument.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) scratch: &'a Path,
    /// The port and the key of a server.
    pub(super) server: Option<(u16, &'a str)>,
}

impl Surroundings {
    fn variables(&self) -> Vec<(OsString, OsString)> {
        self.environment.clone().unwrap_or_else(|| env::vars_os().collect())
    }

    /// Where the system's files are.
    pub(super) fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }

    /// Where a program is, as an absolute path.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        let is_path = program.contains(['/', MAIN_SEPARATOR]);
        let folders = if is_path {
            vec![PathBuf::new()]
        } else {
            let path = self.variables().into_iter().find(|(name, _)| name == "PATH")?.1;
            // An empty entry stands for the folder that one is in: nobody means that.
            env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()).collect()
        };
        let with_ending = format!("{program}{}", env::consts::EXE_SUFFIX);
        folders
            .iter()
            .flat_map(|folder| [folder.join(program), folder.join(&with_ending)])
            .find(|path| is_program(path))
            .and_then(|path| absolute(path).ok())
    }

    /// How a program is called, with its working folder and the environment that it may see.
    pub(super) fn command(&self, program: &Program, known: &Known<'_>) -> Result<Command, ProgramFailure> {
        let path = self
            .find(&program.program)
            .ok_or_else(|| ProgramFailure::NotFound { program: program.program.clone() })?;
        let filled = |argument| filled(argument, known);
        let mut command = Command::new(path);
        command.current_dir(known.scratch).args(program.arguments.iter().map(filled)).env_clear().envs(
            self.variables()
                .into_iter()
                .filter(|(name, value)| program.sees(&name.to_string_lossy(), &value.to_string_lossy())),
        );
        // What it leaves in the place for temporary files goes with the run.
        command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, known.scratch)));
        command.envs(program.environment.iter().map(|(name, value)| (name, filled(value))));
        Ok(command)
    }
}

fn filled(argument: &Argument, known: &Known<'_>) -> OsString {
    let mut text = OsString::new();
    for part in &argument.0 {
        match part {
            Part::Text(part) => text.push(part),
            Part::Scratch(name) => text.push(known.scratch.join(name)),
            Part::Port => text.push(known.server.map_or_else(String::new, |(port, _)| port.to_string())),
            Part::Key => text.push(known.server.map_or("", |(_, key)| key)),
        }
    }
    text
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && is_executable(&metadata))
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}
