//! Running a service manager's program.

use std::{
    io::{self, Read},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::ServiceError;
use crate::logging;

/// How long a question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(10);
/// More of an answer, in bytes, is not read.
const MAX_ANSWER: u64 = 256 * 1024;
/// More of somebody's words, in characters, are not repeated.
const MAX_WORDS: usize = 600;

/// Where programs are.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs {
    /// In this folder only, rather than where `PATH` says.
    pub(super) folder: Option<PathBuf>,
}

/// What a program answered.
#[derive(Debug)]
pub(super) struct Answer {
    asked: String,
    pub(super) well: bool,
    pub(super) out: String,
    err: String,
}

impl Programs {
    pub(super) fn of_this_system() -> Self {
        Self::default()
    }

    /// Runs `program` with `args` to its end.
    pub(super) fn ask(
        &self,
        program: &'static str,
        args: &[&str],
        patience: Duration,
    ) -> Result<Answer, ServiceError> {
        let asked = format!("{program} {}", args.join(" "));
        log::debug!("asks `{asked}`");
        let path = self.folder.as_ref().map_or_else(|| program.into(), |folder| folder.join(program));
        let mut command = Command::new(path);
        // Answers are read by this program, so they must not be in a person's language, nor wait for a key.
        command.args(args).env("LC_ALL", "C").env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed =
            |problem| ServiceError::NoProgram { program: program.into(), manager: manager(program), problem };
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
        let end = Instant::now() + patience;
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() >= end => {
                    let _ = child.kill(); // it may just have ended
                    let _ = child.wait();
                    return Err(ServiceError::Slow { asked, seconds: patience.as_secs() });
                }
                None => thread::sleep(LOOK),
            }
        };
        // Somebody else may hold its pipes open: what came until now counts.
        let text =
            |bytes: &mpsc::Receiver<Vec<u8>>| bytes.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
        let text = |bytes| String::from_utf8_lossy(&text(bytes)).into_owned();
        Ok(Answer { asked, well: status.success(), out: text(&out), err: text(&err) })
    }

    /// The same, where a failure is an error.
    pub(super) fn tell(
        &self,
        program: &'static str,
        args: &[&str],
        patience: Duration,
    ) -> Result<Answer, ServiceError> {
        let answer = self.ask(program, args, patience)?;
        if answer.well { Ok(answer) } else { Err(answer.refused()) }
    }
}

impl Answer {
    /// Its own words: what it said was wrong, or else what it said at all.
    pub(super) fn words(&self) -> String {
        let said = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let line = one_line(said);
        if line.is_empty() { "it did not say why".into() } else { line }
    }

    pub(super) fn refused(&self) -> ServiceError {
        ServiceError::Refused { asked: self.asked.clone(), words: self.words() }
    }
}

/// A text in one line, without credentials, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = logging::scrub(line.replace(char::is_control, " "));
    match line.char_indices().nth(MAX_WORDS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Reads a pipe to its end on a thread of its own, so that a full one stops nobody.
fn read(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let read = pipe.by_ref().take(MAX_ANSWER).read_to_end(&mut bytes);
            let _ = sender.send(bytes); // nobody waits for it any more
            let _ = read.and_then(|_| io::copy(&mut pipe, &mut io::sink()));
        }
    });
    receiver
}

fn manager(program: &str) -> &'static str {
    match program {
        "launchctl" => "launchd",
        "schtasks" => "the Windows task scheduler",
        "getent" => "a system with user databases",
        _ => "systemd",
    }
}
