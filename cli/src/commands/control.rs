//! The subcommands that steer a worker that runs, and print what it logs.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use studio_worker_core::text::plain;

use crate::{
    Error,
    config::ConfigFile,
    door::{Answer, Asked, Call, State, text},
    lock,
};

/// How long a worker may take to end: the drain time of section 6 and some more, and for an end at once.
const DRAIN_PATIENCE: Duration = Duration::from_secs(630);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// The arguments of `pause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// Wait until the running job is over.
    #[arg(long)]
    after_current: bool,
}

impl Pause {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let state = Call::for_state(file, Asked::Pause)?;
        writeln!(out, "{}", text::paused(&state))?;
        out.flush()?;
        let Some(job) = state.current_job.filter(|_| self.after_current) else { return Ok(()) };
        let is_over = |state: &State| state.current_job.as_ref().is_none_or(|now| now.job_id != job.job_id);
        let mut call = Call::ask(file, Asked::Watch)?;
        while let Some(state) = call.state()? {
            if is_over(&state) {
                let ended = state.recent_jobs.iter().find(|ended| ended.job_id == job.job_id);
                let outcome = ended.map_or("over", |ended| &ended.outcome);
                writeln!(out, "{}", plain(format!("job {}: {outcome}", job.job_id)))?;
                return Ok(());
            }
        }
        Err(Error::Argument(format!("the worker ended before job {} was over", plain(job.job_id.clone()))))
    }
}

pub(super) fn resume(file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
    let state = Call::for_state(file, Asked::Resume)?;
    Ok(writeln!(out, "{}", text::resumed(&state))?)
}

/// The arguments of `drain` and `stop`.
#[derive(Debug, Args)]
pub struct End {
    /// Don't wait until the worker has ended.
    #[arg(long)]
    no_wait: bool,
}

impl End {
    pub(super) fn drain(&self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let state = Call::for_state(file, Asked::Drain)?;
        let what = match &state.current_job {
            Some(job) => format!("draining: job {} is finished first", job.job_id),
            None => "draining".into(),
        };
        writeln!(out, "{}", plain(what))?;
        self.wait(file, &state, DRAIN_PATIENCE, out)
    }

    pub(super) fn stop(&self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let state = Call::for_state(file, Asked::Stop)?;
        writeln!(out, "stopping")?;
        self.wait(file, &state, STOP_PATIENCE, out)
    }

    fn wait(
        &self,
        file: &ConfigFile,
        state: &State,
        patience: Duration,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        out.flush()?;
        if self.no_wait {
            return Ok(());
        }
        let end = Instant::now() + patience;
        // A service manager may start the next one at once.
        while lock::running(file).is_some_and(|running| running.pid.is_none_or(|pid| pid == state.pid)) {
            if Instant::now() >= end {
                let waited = text::span(patience);
                return Err(Error::Argument(format!("process {} still runs after {waited}", state.pid)));
            }
            thread::sleep(LOOK);
        }
        Ok(writeln!(out, "the worker has ended")?)
    }
}

/// The arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on with what it logs until it ends.
    #[arg(short, long)]
    follow: bool,
    /// How many of the newest lines; the worker keeps 500.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

impl Logs {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        let Self { lines, follow } = self;
        let mut call = Call::ask(file, Asked::Logs { lines, follow })?;
        while let Some(answer) = call.answer()? {
            match answer {
                Answer::Line { text } => writeln!(out, "{}", plain(text))?,
                Answer::Missed { lines } => {
                    writeln!(out, "… {lines} lines are lost, since they came too fast")?;
                }
                Answer::Over => break,
                _ => {}
            }
            out.flush()?;
        }
        if follow { Ok(writeln!(out, "the worker has ended")?) } else { Ok(()) }
    }
}
