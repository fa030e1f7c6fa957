//! The subcommands that steer a worker that runs, and print what it logs.

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use studio_worker_core::text::plain;

use super::following::{Following, News};
use crate::{
    Error,
    config::ConfigFile,
    door::{Answer, Asked, Call, CallError, State, text},
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
    /// Wait until the running job is over, and results that are held are delivered or given up.
    #[arg(long)]
    after_current: bool,
}

impl Pause {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        // Before it is told, so that no end of a job is missed.
        let watch = if self.after_current { Some(follow(file)?) } else { None };
        let state = Call::for_state(file, Asked::Pause)?;
        writeln!(out, "{}", text::paused(&state))?;
        out.flush()?;
        let Some((mut watch, mut following)) = watch else { return Ok(()) };
        loop {
            if following.is_over() {
                return Ok(());
            }
            let Some(state) = watch.state()? else { break };
            for news in following.look(&state) {
                writeln!(out, "{}", plain(news.to_string()))?;
            }
            out.flush()?;
        }
        let jobs = following.jobs().collect::<Vec<_>>().join(", ");
        Err(Error::Argument(format!("the worker ended before job {} was over", plain(jobs))))
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
        self.end(file, Asked::Drain, DRAIN_PATIENCE, out)
    }

    pub(super) fn stop(&self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        self.end(file, Asked::Stop, STOP_PATIENCE, out)
    }

    fn end(
        &self,
        file: &ConfigFile,
        asked: Asked,
        patience: Duration,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let end = Instant::now() + patience;
        let is_drain = asked == Asked::Drain;
        // Before it is told, so that no end of a job is missed. Where that can't be had, less is said in the end.
        let watch = if self.no_wait { None } else { follow(file).ok() };
        let state = Call::for_state(file, asked)?;
        writeln!(out, "{}", if is_drain { text::draining(&state) } else { "stopping".into() })?;
        out.flush()?;
        let lost = watch.map(|(watch, following)| undelivered(watch, following, end)).unwrap_or_default();
        self.wait(file, &state, (patience, end), &lost, out)
    }

    fn wait(
        &self,
        file: &ConfigFile,
        state: &State,
        (patience, end): (Duration, Instant),
        lost: &[News],
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        out.flush()?;
        if self.no_wait {
            return Ok(());
        }
        // A service manager may start the next one at once.
        while lock::running(file).is_some_and(|running| running.pid.is_none_or(|pid| pid == state.pid)) {
            if Instant::now() >= end {
                let waited = text::span(patience);
                return Err(Error::Argument(format!("process {} still runs after {waited}", state.pid)));
            }
            thread::sleep(LOOK);
        }
        for news in lost {
            writeln!(out, "{}", plain(news.to_string()))?;
        }
        Ok(writeln!(out, "the worker has ended")?)
    }
}

/// Watches a worker, and what is in its hands from now on.
fn follow(file: &ConfigFile) -> Result<(Call, Following), CallError> {
    let mut watch = Call::ask(file, Asked::Watch)?;
    let first = watch.state()?.ok_or_else(|| CallError::Broken(io::ErrorKind::UnexpectedEof.into()))?;
    Ok((watch, Following::from(&first)))
}

/// What was in hand and is over without having been delivered, once the worker that is watched has ended.
fn undelivered(mut watch: Call, mut following: Following, end: Instant) -> Vec<News> {
    let mut lost = Vec::new();
    while let Ok(Some(state)) = watch.state() {
        let is_lost = |news: &News| matches!(news, News::Over { .. }) && !news.is_delivered();
        lost.extend(following.look(&state).into_iter().filter(is_lost));
        if Instant::now() >= end {
            break;
        }
    }
    lost.extend(following.jobs().map(|job_id| News::Over { job_id: job_id.into(), ended: None }));
    lost
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
