//! Scale on one machine: N sessions in one process, their studio in another one, over loopback without TLS.
//!
//! `cargo bench -p studio-worker-tokio --bench scale` prints a table for 100, 1,000 and 10,000 sessions, and
//! `-- --sessions 10000` one row of it; `-- --help` names what else can be set. It ends with 1 when a bound is missed.
//!
//! Each row has a process of its own, so that none finds the memory that another one left. It starts a second one, the
//! studio's echo, which takes the times: how late heartbeats are, and how soon offers are answered. Memory, processor
//! time, threads and descriptors are those of the workers' process alone.
//!
//! Without `--bench`, as a test run starts it, it is a small rehearsal: everything is done, and nothing is timed.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a program that measures")]

#[path = "scale/echo.rs"]
mod echo;
#[path = "scale/fleet.rs"]
mod fleet;
#[path = "scale/orders.rs"]
mod orders;
#[path = "scale/plan.rs"]
mod plan;
#[path = "scale/process.rs"]
mod process;
#[path = "scale/row.rs"]
mod row;
#[path = "scale/spread.rs"]
mod spread;

use std::{
    env,
    io::{Read as _, stdin},
    process::{ExitCode, exit},
    thread,
};

use plan::{Part, Plan};
use process::Child;
use row::Row;

/// What goes wrong where nothing was measured.
type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let part = match Part::of(env::args().skip(1)) {
        Ok(part) => part,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let outcome = match part {
        Part::Help => {
            println!("{}", plan::HELP);
            Ok(true)
        }
        Part::Table(sizes, plan) => table(&sizes, &plan),
        Part::Row(plan) => {
            end_with_parent();
            fleet::measure(&plan).and_then(|row| {
                println!("{}", serde_json::to_string(&row)?);
                Ok(true)
            })
        }
        Part::Echo(plan) => echo::run(&plan).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Measures row by row; whether all bounds were kept.
fn table(sizes: &[usize], plan: &Plan) -> Result<bool, Problem> {
    process::check_descriptors(sizes.iter().copied().max().unwrap_or(0))?;
    println!("{plan}");
    let mut rows = Vec::new();
    for &sessions in sizes {
        eprintln!("{sessions} sessions …");
        let mut child = Child::start(&Plan { sessions, ..plan.clone() }.to_args("--row"))?;
        let row: Row = serde_json::from_str(&child.line()?)?;
        rows.push(row);
    }
    println!("{}", row::table(&rows));
    let missed: Vec<_> = rows.iter().flat_map(|row| row.missed(plan)).collect();
    for missed in &missed {
        println!("MISSED: {missed}");
    }
    if missed.is_empty() {
        println!("every bound was kept");
    }
    Ok(missed.is_empty())
}

/// Ends this process when the one that started it does: then its end of the pipe is closed.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = stdin().lock().read_to_end(&mut Vec::new());
        exit(1);
    });
}
