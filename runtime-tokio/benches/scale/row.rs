//! A row of the table, and what it says of the bounds.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{
    plan::{ANSWER_P99_MS, LATE_MAX_MS, LATE_P99_MS, Plan, SESSION_KIB},
    spread::Spread,
};

/// What was measured. Times are in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) sessions: usize,
    /// Heartbeats, but for the time when as many jobs as go were offered.
    pub(crate) late: Spread,
    /// Heartbeats in that time.
    pub(crate) late_busy: Spread,
    /// From an offer to its accept, at the stated rate.
    pub(crate) accepted: Spread,
    /// From an offer to its result, at the stated rate.
    pub(crate) answered: Spread,
    /// From an offer to its result when as many as go were offered.
    pub(crate) answered_busy: Spread,
    pub(crate) jobs_a_second: f64,
    /// Resident memory of a session when all were welcomed, in KiB.
    pub(crate) kib_welcomed: f64,
    /// After all jobs.
    pub(crate) kib_worked: f64,
    /// Of the process with its first few sessions, after their jobs.
    pub(crate) kib_first: f64,
    /// Processor seconds of an idle session in an hour.
    pub(crate) idle_cpu_an_hour: f64,
    /// Processor time of a job, in microseconds.
    pub(crate) job_cpu_micros: f64,
    /// Processors that the echo took when as many jobs as go were offered.
    pub(crate) echo_cpu: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: usize,
    /// The share of the machine that went to other programs.
    pub(crate) others: f64,
    pub(crate) faults: u64,
    pub(crate) first_fault: Option<String>,
}

impl Row {
    /// The bounds that were missed.
    pub(crate) fn missed(&self, plan: &Plan) -> Vec<String> {
        let mut missed = Vec::new();
        let mut bound = |is: f64, what: &str, bound: f64, unit: &str| {
            if is >= bound {
                missed.push(format!("{what} {is:.1} {unit}, and less than {bound} {unit} is wanted"));
            }
        };
        if !plan.rehearsal {
            bound(self.late.p99, "heartbeats are late at p99 by", LATE_P99_MS, "ms");
            bound(self.late.max, "a heartbeat was late by", LATE_MAX_MS, "ms");
            bound(
                self.late_busy.p99,
                "heartbeats are late at p99, amid as many jobs as go, by",
                LATE_P99_MS,
                "ms",
            );
            bound(self.late_busy.max, "a heartbeat was late, amid as many jobs as go, by", LATE_MAX_MS, "ms");
            bound(self.answered.p99, "offers are answered at p99 within", ANSWER_P99_MS, "ms");
            // It may have just as much.
            bound(self.kib_worked, "a session is resident after its jobs with", SESSION_KIB + 0.01, "KiB");
        }
        if let Some(first) = &self.first_fault {
            missed.push(format!("{} faults, of which the first is: {first}", self.faults));
        }
        missed.into_iter().map(|missed| format!("{} sessions: {missed}", self.sessions)).collect()
    }
}

/// The rows as columns: there are more figures than sizes.
pub(crate) fn table(rows: &[Row]) -> String {
    let rows: Vec<_> = rows.iter().map(figures).collect();
    let mut text = String::new();
    for (number, (name, _)) in rows.first().into_iter().flatten().enumerate() {
        let _ = write!(text, "{name:40}");
        for row in &rows {
            let _ = write!(text, "{:>24}", row[number].1);
        }
        text.push('\n');
    }
    text
}

fn figures(row: &Row) -> [(&'static str, String); 15] {
    let times = |spread: &Spread| format!("{:.1} / {:.1} / {:.0}", spread.p50, spread.p99, spread.max);
    [
        ("sessions", row.sessions.to_string()),
        ("KiB a session, welcomed", format!("{:.1}", row.kib_welcomed)),
        ("KiB a session, after its jobs", format!("{:.1}", row.kib_worked)),
        ("MiB of the process with the first few", format!("{:.1}", row.kib_first / 1024.0)),
        ("heartbeats late, ms (p50 / p99 / max)", times(&row.late)),
        ("  amid as many jobs as go", times(&row.late_busy)),
        ("offer to accept, ms", times(&row.accepted)),
        ("offer to result, ms", times(&row.answered)),
        ("  amid as many jobs as go", times(&row.answered_busy)),
        ("  jobs a second then", format!("{:.0}", row.jobs_a_second)),
        ("processor seconds a session-hour, idle", format!("{:.3}", row.idle_cpu_an_hour)),
        ("processor microseconds a job", format!("{:.0}", row.job_cpu_micros)),
        ("threads / descriptors", format!("{} / {}", row.threads, row.descriptors)),
        ("processors that the echo took at most", format!("{:.2}", row.echo_cpu)),
        ("of the machine, to other programs", format!("{:.0} %", row.others * 100.0)),
    ]
}
