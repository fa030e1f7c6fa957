//! Making a release ready: its signature, the program in its archive, and what that says of itself.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use minisign_verify::{PublicKey, Signature};
use studio_worker_core::{
    machine::looks_like_credential,
    update::{Bench, stage::MAX_ARCHIVE_BYTES},
};

use super::{PROGRAM, Place, place::shared};

/// The largest program, in bytes: an archive may say of little that it is much.
const MAX_PROGRAM_BYTES: u64 = 1024 * 1024 * 1024;
/// How long the program may take to say its version.
const ANSWER_BOUND: Duration = Duration::from_secs(20);
/// The most that it may say, in bytes.
const ANSWER_BYTES: u64 = 4 * 1024;
/// Between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes releases ready in the staging folder of a place.
#[derive(Debug, Clone)]
pub(super) struct Workbench {
    pub(super) place: Place,
    /// The minisign key that they must be signed with.
    pub(super) key: Option<String>,
}

impl Workbench {
    /// The staging folder, which nobody else writes to, empty of everything but archives that may be gone on with.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let folder = self.place.staging();
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            // Somebody's file or link in its stead is not written through.
            Ok(_) => fs::remove_file(&folder)?,
            Err(_) => {}
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
        builder.create(&folder)?;
        shared(&folder, 0o755)?;
        // Before anything is in it: whoever has the folder can delete what is left in it, whoever made that.
        self.place.give(&folder);
        Ok(())
    }

    fn verify(&self, archive: &Path, signature: Option<&str>) -> Result<(), String> {
        let Some(key) = &self.key else { return Ok(()) };
        let key = key_of(key)?;
        let signature = signature.ok_or("a signature is wanted, and there is none")?;
        let signature =
            Signature::decode(signature).map_err(|error| format!("the signature can't be read: {error}"))?;
        let mut verifier = key
            .verify_stream(&signature)
            .map_err(|error| format!("the signature can't be checked: {error}"))?;
        let cannot = |error: io::Error| format!("{} can't be read: {error}", archive.display());
        let mut file = File::open(archive).map_err(cannot)?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => verifier.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot(error)),
            }
        }
        verifier.finalize().map_err(|_| {
            "the signature is not of this archive with the key in `auto_update_public_key`: it is not installed".into()
        })
    }

    /// Takes the one file out that is wanted: nothing else in an archive leads anywhere.
    fn unpack(&self, archive: &Path) -> Result<PathBuf, String> {
        let broken = |error: io::Error| match of_system(&error) {
            Some(error) => format!("the archive {} can't be read: {error}", archive.display()),
            None => format!("the archive {} is broken: {error}", archive.display()),
        };
        let file = File::open(archive).map_err(broken)?;
        let program = self.place.staged();
        let untaken = |untaken| match untaken {
            Untaken::Unread(error) => broken(error),
            Untaken::Unwritten(error) => format!("{} can't be written: {error}", program.display()),
        };
        if archive.extension() == Some(OsStr::new("zip")) {
            unzip(file, &program).map_err(untaken)?;
            return Ok(program);
        }
        let mut archive_of = tar::Archive::new(GzDecoder::new(file.take(MAX_ARCHIVE_BYTES)));
        let mut is_there = false;
        for entry in archive_of.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let is_it = entry.header().entry_type().is_file()
                && entry.path().is_ok_and(|path| path.file_name() == Some(OsStr::new(PROGRAM)));
            if is_it {
                let size = entry.size();
                write(&mut entry, size, &program).map_err(untaken)?;
                is_there = true;
                break;
            }
        }
        if !is_there {
            return Err(format!("the archive {} has no {PROGRAM} in it", archive.display()));
        }
        // What comes behind it is read as well: what is cut or damaged shows at the end.
        let mut tail = archive_of.into_inner().take(MAX_PROGRAM_BYTES + 1);
        if io::copy(&mut tail, &mut io::sink()).map_err(broken)? > MAX_PROGRAM_BYTES {
            return Err(format!("the archive {} is more than it may be", archive.display()));
        }
        Ok(program)
    }
}

impl Bench for Workbench {
    fn folder(&self) -> String {
        self.place.staging().to_string_lossy().into_owned()
    }

    fn make_ready(&self, archive: &str, signature: Option<&str>) -> Result<String, String> {
        let archive = Path::new(archive);
        self.verify(archive, signature)?;
        let program = self.unpack(archive)?;
        version_of(&program)
    }
}

/// A minisign key: the line that begins with `RW`, or the whole file.
fn key_of(text: &str) -> Result<PublicKey, String> {
    let line = text.lines().map(str::trim).find(|line| line.starts_with("RW")).unwrap_or_default();
    PublicKey::from_base64(line)
        .map_err(|_| "must be a minisign public key: a line that begins with RW, of 56 characters".into())
}

/// Whether a text is a minisign key; why not.
pub fn check_key(text: &str) -> Result<(), String> {
    key_of(text).map(drop)
}

/// Why a program is not taken out of its archive.
#[derive(Debug)]
enum Untaken {
    /// The archive can't be read.
    Unread(io::Error),
    /// The program's file can't be written: the disk is full, say, and the archive as it should be.
    Unwritten(io::Error),
}

/// What the system said, if an error is its word on a file and not a reader's on what is in it.
fn of_system(error: &io::Error) -> Option<&io::Error> {
    if error.raw_os_error().is_some() {
        return Some(error);
    }
    let mut cause = error.get_ref().map(|error| error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(error) => return of_system(error),
            None => cause = error.source(),
        }
    }
    None
}

#[cfg(windows)]
fn unzip(file: File, program: &Path) -> Result<(), Untaken> {
    let unread = |error| Untaken::Unread(io::Error::other(error));
    let mut archive = zip::ZipArchive::new(file).map_err(unread)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unread)?;
        if entry.is_file() && entry.name().rsplit(['/', '\\']).next() == Some(PROGRAM) {
            let size = entry.size();
            return write(&mut entry, size, program);
        }
    }
    Err(Untaken::Unread(io::Error::other(format!("there is no {PROGRAM} in it"))))
}

#[cfg(not(windows))]
fn unzip(_: File, _: &Path) -> Result<(), Untaken> {
    Err(Untaken::Unread(io::Error::other("zip archives are for Windows: here a .tar.gz is wanted")))
}

/// Writes the program's file, which may be run and nothing more.
fn write(from: &mut impl Read, size: u64, program: &Path) -> Result<(), Untaken> {
    if size > MAX_PROGRAM_BYTES {
        return Err(Untaken::Unread(io::Error::other(format!("a program of {size} bytes is too large"))));
    }
    match fs::remove_file(program) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Untaken::Unwritten(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
    let mut file = options.open(program).map_err(Untaken::Unwritten)?;
    if copy(&mut from.take(size), &mut file)? < size {
        let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends inside the program");
        return Err(Untaken::Unread(cut));
    }
    // Whoever tries it may be another user.
    shared(program, 0o755).and_then(|()| file.sync_all()).map_err(Untaken::Unwritten)
}

/// As [`io::copy`], which doesn't say whose error it is.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64, Untaken> {
    let (mut piece, mut copied) = (vec![0; 64 * 1024], 0);
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(copied),
            Ok(read) => {
                to.write_all(&piece[..read]).map_err(Untaken::Unwritten)?;
                copied += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Untaken::Unread(error)),
        }
    }
}

/// What a program says of its version.
pub(super) fn version_of(program: &Path) -> Result<String, String> {
    answer(program, &["--version"], "say its version")
}

/// Whether a program knows how a worker is run: one that can't even say so could not have its own trial watched either.
pub(super) fn check_runs(program: &Path) -> Result<(), String> {
    answer(program, &["run", "--help"], "say how it is run").map(drop)
}

/// What a program says when it is asked to do something short. It has a bounded time for that.
fn answer(program: &Path, args: &[&str], does: &str) -> Result<String, String> {
    let cannot = |error: io::Error| format!("{} can't be run: {error}", program.display());
    // A path without a folder would be looked for in PATH.
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for (name, value) in std::env::vars_os() {
        if looks_like_credential(&name.to_string_lossy(), &value.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let mut child = start(&mut command).map_err(cannot)?;
    let stdout = child.stdout.take();
    let (sender, said) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        stdout.map(|stdout| stdout.take(ANSWER_BYTES).read_to_end(&mut text));
        // Nobody may wait for it any more.
        let _ = sender.send(text);
    });
    let end = Instant::now() + ANSWER_BOUND;
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the program does not {does} within {} s", ANSWER_BOUND.as_secs()));
            }
            None => thread::sleep(PAUSE),
        }
    };
    if !status.success() {
        return Err(format!("the program does not {does}, but ends with {status}"));
    }
    // What it started may still have its stdout open. Otherwise it is there at once, or as soon as this machine gets to it.
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
    let said = said.recv_timeout(left).unwrap_or_default();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Starts a program that was written a moment ago.
fn start(command: &mut Command) -> io::Result<std::process::Child> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match command.spawn() {
            // Another thread that starts a program right now has its file open for that moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests;
