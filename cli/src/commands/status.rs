//! `studio-worker status`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use clap::Args;
use serde_json::json;
use studio_worker_core::text::{plain, plain_json};

use super::view::View;
use crate::{
    Error,
    config::ConfigFile,
    door::{Asked, Call, CallError, State, text},
    lock, logging, runtime,
};

pub(super) const EXAMPLES: &str = "Examples:\n  studio-worker status --json\n  studio-worker status --watch\n  studio-worker status --check\n\nExit codes of --check: 0 a session is open, 3 no worker runs, 4 one runs without a session, or hangs.";

/// Exit codes of `--check`.
const NOT_RUNNING: u8 = 3;
const NOT_CONNECTED: u8 = 4;

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON for programs, with the process that runs a worker, if one does, and how that is.
    #[arg(long)]
    json: bool,
    /// Show how the running worker is until it ends: a view that renews itself, or a line for each change when piped.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print one line, and exit with 0 if a session with the studio is open.
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    check: bool,
}

impl Status {
    pub(super) fn run(self, file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
        if self.check {
            return check(file, out);
        }
        if self.watch {
            return watch(file, out);
        }
        let config = file.load_or_create()?;
        let live = Call::for_state(file, Asked::Status);
        if self.json {
            let mut status = runtime::status(&config, file.path(), lock::running(file));
            if let Ok(state) = live {
                status["live"] = json!(state);
            }
            writeln!(out, "{}", plain_json(format!("{status:#}")))?;
        } else {
            // With the empty line at the end that the published programs print, too.
            let (status, lines) = (runtime::format_status(&config, file.path()), live_lines(&live));
            writeln!(out, "{status}{lines}")?;
        }
        Ok(())
    }
}

/// What there is to say of a worker that runs; nothing when none does.
fn live_lines(live: &Result<State, CallError>) -> String {
    let lines = match live {
        Ok(state) => text::live(state),
        Err(CallError::NobodyRuns { .. }) => Vec::new(),
        Err(problem) => vec![("worker:", plain(problem.to_string()))],
    };
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a text can't fail.
        let _ = writeln!(text, "{name:<20}{}", logging::scrub(value));
    }
    text
}

fn check(file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
    let (line, code) = match Call::for_state(file, Asked::Status) {
        Ok(state) => (text::checked(&state), if state.is_serving() { 0 } else { NOT_CONNECTED }),
        Err(CallError::NobodyRuns { .. }) => ("not running".to_owned(), NOT_RUNNING),
        Err(problem) => (plain(problem.to_string()), NOT_CONNECTED),
    };
    writeln!(out, "{line}")?;
    out.flush()?;
    if code == 0 { Ok(()) } else { Err(Error::Said(code)) }
}

fn watch(file: &ConfigFile, out: &mut dyn Write) -> Result<(), Error> {
    let mut call = Call::ask(file, Asked::Watch)?;
    let mut view = View::on(io::IsTerminal::is_terminal(&io::stdout()));
    while let Some(state) = call.state()? {
        view.show(&state, out)?;
    }
    writeln!(out, "the worker has ended")?;
    Ok(())
}
