//! Processes: what one takes of the machine, by what the kernel says of it (Linux), and how another one is started.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use serde::Serialize;

use crate::Problem;

/// The kernel counts processor time for programs in hundredths of a second.
const TICKS_A_SECOND: f64 = 100.0;
/// Descriptors that a process needs beside its sessions.
const DESCRIPTORS_BESIDE: usize = 50;

/// Resident memory, in KiB.
pub(crate) fn resident_kib() -> Result<f64, Problem> {
    status("VmRSS:")
}

pub(crate) fn threads() -> Result<f64, Problem> {
    status("Threads:")
}

pub(crate) fn descriptors() -> Result<usize, Problem> {
    // One is there for counting them.
    Ok(fs::read_dir("/proc/self/fd")?.count() - 1)
}

/// This process' processor time so far, in seconds.
pub(crate) fn cpu_seconds() -> Result<f64, Problem> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name before may have anything in it; `utime` and `stime` are the 12th and 13th of what follows.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}

/// Processor time of the whole machine so far, in seconds: spent, and there.
pub(crate) fn machine_seconds() -> Result<(f64, f64), Problem> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: f64 = ticks.iter().sum();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok(((all - idle) / TICKS_A_SECOND, all / TICKS_A_SECOND))
}

/// Whether a process may have as many descriptors as this many sessions need.
pub(crate) fn check_descriptors(sessions: usize) -> Result<(), Problem> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let limit =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let (limit, needed) = (limit.unwrap_or_default(), sessions + DESCRIPTORS_BESIDE);
    match limit.parse::<usize>() {
        Ok(limit) if limit < needed => Err(format!(
            "{sessions} sessions need {needed} descriptors, and a process has {limit} here: `ulimit -n {needed}` asks for more"
        )
        .into()),
        // Or there is no limit.
        _ => Ok(()),
    }
}

fn status(name: &str) -> Result<f64, Problem> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("the kernel does not say {name}"))?.parse()?)
}

/// This program once more, in another part; it is ended when this is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Child {
    pub(crate) fn start(args: &[String]) -> Result<Self, Problem> {
        let mut process = Command::new(env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("there are no pipes to talk through".into());
        };
        Ok(Self { process, to, from: BufReader::new(from) })
    }

    pub(crate) fn tell(&mut self, line: &impl Serialize) -> Result<(), Problem> {
        writeln!(self.to, "{}", serde_json::to_string(line)?)?;
        Ok(())
    }

    pub(crate) fn line(&mut self) -> Result<String, Problem> {
        let mut line = String::new();
        match self.from.read_line(&mut line)? {
            0 => Err("a process that this one needs has ended".into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
