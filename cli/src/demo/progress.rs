//! What is seen while jobs run: a bar on a terminal, a line for each change elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::{grouped, programme::Piece, took};

/// The progress of the jobs.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Nothing of `jobs` is done.
    pub(super) fn new(jobs: usize) -> Self {
        if !(io::stderr().is_terminal() && io::stdout().is_terminal()) {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(jobs as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("the worker waits for its approval to arrive");
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    /// A job came to another state.
    pub(super) fn show(&mut self, piece: &Piece, job: &Value, out: &mut dyn Write) -> io::Result<()> {
        let state = job["state"].as_str().unwrap_or_default();
        let line = match state {
            "queued" => return Ok(()), // as was said for all of them
            "completed" => {
                let seconds = took(job).unwrap_or_default().as_secs_f64();
                let size = job["output"]["bytes"].as_u64();
                let size = size.map(|bytes| format!(", {} bytes", grouped(bytes))).unwrap_or_default();
                format!("{:<10} delivered in {seconds:.2} s{size}", piece.kind.name())
            }
            state => format!("{:<10} {state}", piece.kind.name()),
        };
        match &self.0 {
            None => {
                writeln!(out, "{line}")?;
                out.flush()
            }
            Some(bar) => {
                match state {
                    "completed" => {
                        bar.println(line);
                        bar.inc(1);
                    }
                    _ => bar.set_message(line),
                }
                Ok(())
            }
        }
    }

    /// All is done: what was shown for the time being is gone.
    pub(super) fn done(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
