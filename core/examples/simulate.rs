//! Plays simulated worlds for as long as one likes, or one seed again, step by step.
//!
//! ```sh
//! cargo run --release -p studio-worker-core --features sim --example simulate -- --minutes 10
//! cargo run --release -p studio-worker-core --features sim --example simulate -- --seed 42 --trace
//! cargo run --release -p studio-worker-core --features sim --example simulate -- --soak 24
//! cargo run --release -p studio-worker-core --features sim --example simulate -- --idle 1000
//! ```
#![allow(clippy::disallowed_methods, reason = "how long a run takes is measured on a real clock")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use studio_worker_core::sim::world::{Report, Scenario, simulate};

const USAGE: &str = "\
usage: simulate [--seed N] [--seeds N | --minutes N] [--trace]
       simulate --soak HOURS [--seed N] [--trace]
       simulate --idle HOURS

  --seed N      the first seed (0); alone or with --trace: only this one
  --seeds N     how many seeds, one after the other (1,000)
  --minutes N   seeds for as long as this takes
  --trace       tell what happens, step by step
  --soak HOURS  one world with a job a second and a drop every few seconds
  --idle HOURS  one worker with nothing to do";

#[derive(Default)]
struct Args {
    seed: Option<u64>,
    seeds: Option<u64>,
    minutes: Option<u64>,
    soak: Option<u64>,
    idle: Option<u64>,
    trace: bool,
}

fn parse() -> Result<Args, String> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<Option<u64>, String> {
            let value = words.next().ok_or(format!("{word} wants a number"))?;
            value.parse().map(Some).map_err(|_| format!("{word} wants a number, not {value:?}"))
        };
        match word.as_str() {
            "--seed" => args.seed = number()?,
            "--seeds" => args.seeds = number()?,
            "--minutes" => args.minutes = number()?,
            "--soak" => args.soak = number()?,
            "--idle" => args.idle = number()?,
            "--trace" => args.trace = true,
            _ => return Err(format!("{word} is not an option")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let first = args.seed.unwrap_or(0);
    if let Some(span) = args.idle {
        let report = simulate(&Scenario::idle(hours(span)), args.trace);
        say(None, report, started.elapsed());
    } else if let Some(span) = args.soak {
        let report = simulate(&Scenario::soak(first, hours(span)), args.trace);
        say(None, report, started.elapsed());
    } else {
        let alone = args.seed.is_some() && args.minutes.is_none();
        let count = args.seeds.unwrap_or(if alone { 1 } else { 1_000 });
        let bound = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
        let mut sum = Report::default();
        let mut said = Duration::ZERO;
        for seed in first.. {
            let played = seed - first;
            let elapsed = started.elapsed();
            if bound.map_or(played >= count, |bound| elapsed >= bound) {
                say(Some(played), sum, elapsed);
                break;
            }
            if elapsed > said + Duration::from_secs(30) {
                say(Some(played), sum, elapsed);
                said = elapsed;
            }
            sum += simulate(&Scenario::mixed(seed), args.trace);
        }
    }
    ExitCode::SUCCESS
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn say(seeds: Option<u64>, report: Report, took: Duration) {
    let Report {
        simulated, events, inputs, actions, jobs, completed, failed, runs, sessions, faults, ..
    } = report;
    let (hours, seconds) = (simulated.as_secs_f64() / 3_600.0, took.as_secs_f64());
    if let Some(seeds) = seeds {
        print!("{seeds} seeds, ");
    }
    println!(
        "{hours:.1} simulated hours in {seconds:.1} s ({:.0} times real time), {:.0} events a second, \
         {jobs} jobs ({:.0} a simulated hour; {completed} delivered, {failed} failed by the rules), \
         {runs} engine runs, {sessions} sessions, {faults} faults, {inputs} inputs, {actions} actions",
        simulated.as_secs_f64() / seconds,
        (events + inputs + actions) as f64 / seconds,
        jobs as f64 / hours,
    );
}
