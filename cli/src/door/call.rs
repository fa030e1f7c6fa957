//! The other side of the door: whoever asks.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    time::Duration,
};

use super::{
    place::Place,
    said::{Answer, Asked, DOOR, Request, State},
};
use crate::{
    config::ConfigFile,
    guests::Guest,
    lock::{self, Running},
};

/// How long a worker may take for an answer: longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of a log come when they come.
const PATIENCE_WITH_LOGS: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("no worker runs with {config}: `studio-worker run` starts one")]
    NobodyRuns {
        /// The configuration.
        config: String,
    },
    /// Somebody is, and can't be asked.
    #[error("{running} can't be asked: {problem}")]
    Unreachable {
        /// Which.
        running: Running,
        /// Why.
        problem: String,
    },
    /// Perhaps somebody is, and perhaps not.
    #[error("whether a worker runs can't be told: {problem}; ask as the user who would run it")]
    Untold {
        /// Why.
        problem: String,
    },
    /// It was asked, and would not.
    #[error("the worker would not: {0}")]
    Refused(String),
    /// It was asked, and the answer didn't come.
    #[error("the worker did not answer: {0}")]
    Broken(#[source] io::Error),
}

/// A question that was asked.
pub struct Call {
    answers: io::Take<BufReader<Box<dyn Guest>>>,
}

impl Call {
    /// Asks the worker that runs with `config`.
    pub fn ask(config: &ConfigFile, asked: Asked) -> Result<Self, CallError> {
        let (mut guest, token) = Place::of(config).enter().map_err(|error| {
            let is_shut = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            match lock::running(config) {
                // There is a door as soon as there is something to tell.
                Some(running) if is_shut => {
                    let problem = "its door is not open (yet); its log says why".into();
                    CallError::Unreachable { running, problem }
                }
                Some(running) => CallError::Unreachable { running, problem: error.to_string() },
                None if is_shut => CallError::NobodyRuns { config: config.path().display().to_string() },
                // Whom the system keeps out of the door, it keeps out of the lock.
                None => CallError::Untold { problem: error.to_string() },
            }
        })?;
        let patience = match asked {
            Asked::Logs { follow: true, .. } => PATIENCE_WITH_LOGS,
            _ => PATIENCE,
        };
        let line = serde_json::to_string(&Request { door: DOOR, token, asked }).map_err(io::Error::other);
        let said = line.and_then(|line| {
            guest.bound(patience, PATIENCE)?;
            guest.write_all(format!("{line}\n").as_bytes())?;
            guest.flush()
        });
        said.map_err(CallError::Broken)?;
        Ok(Self { answers: BufReader::new(guest).take(0) })
    }

    /// The next answer that is known here; none at the end.
    pub fn answer(&mut self) -> Result<Option<Answer>, CallError> {
        loop {
            let mut line = String::new();
            self.answers.set_limit(MAX_ANSWER);
            match self.answers.read_line(&mut line) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // It was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let what = format!("nothing came within {} s", PATIENCE.as_secs());
                    return Err(CallError::Broken(io::Error::new(io::ErrorKind::TimedOut, what)));
                }
                Err(error) => return Err(CallError::Broken(error)),
            }
            match serde_json::from_str(&line) {
                Ok(Answer::Refused { why }) => return Err(CallError::Refused(why)),
                Ok(Answer::Unknown) => {}
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => return Err(CallError::Broken(error.into())),
            }
        }
    }

    /// The next state that is told; none at the end.
    pub fn state(&mut self) -> Result<Option<State>, CallError> {
        loop {
            match self.answer()? {
                Some(Answer::State(state)) => return Ok(Some(*state)),
                None | Some(Answer::Over) => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// Asks what is answered by one state.
    pub fn for_state(config: &ConfigFile, asked: Asked) -> Result<State, CallError> {
        let state = Self::ask(config, asked)?.state()?;
        state.ok_or_else(|| CallError::Broken(io::ErrorKind::UnexpectedEof.into()))
    }
}
