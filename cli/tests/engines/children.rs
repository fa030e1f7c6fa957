//! Programs that engines start: none outlives its job or the worker, and none learns a secret.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    Case, cases,
    real::processes_with,
    rig::{Place, Worker, finished, queue, until},
    studio::Studio,
};

pub(crate) const ALL: &[Case] = cases![&[];
    no_program_outlives_a_worker_that_is_killed
    no_program_outlives_a_worker_that_is_stopped
    no_program_outlives_its_time_limit
    what_a_program_leaves_running_ends_with_its_job
    a_program_learns_no_secret
    what_a_program_said_is_told
];

/// A command that starts others, whose arguments have `mark` in them, and that ends when `end` says so.
fn config(mark: &str, end: &str, more: &str) -> String {
    // Both have the mark, since it is an argument of the shell and of what it starts.
    let script = format!("sleep {mark} & {end}");
    format!(
        "engine = \"command\"\n{more}\n[[commands]]\nkind = \"llm\"\nmodels = [\"shell\"]\nprogram = \"sh\"\nargs = [\"-c\", {script:?}]\n"
    )
}

fn job() -> serde_json::Value {
    json!({ "model": "shell", "task": { "kind": "llm", "messages": [{ "role": "user", "content": "x" }] } })
}

/// How long something sleeps, in seconds: a text that no other test has, and nothing else that runs.
fn mark(on: &str, test: u32) -> String {
    format!("1000.0{}{test}{}", std::process::id(), u32::from(on == "tokio"))
}

/// A worker with a job whose program runs, and the mark of it.
fn busy(on: &'static str, test: u32, more: &str) -> (Place, Studio, Worker, String, String) {
    let mark = mark(on, test);
    let place = Place::new(on, &config(&mark, "wait", more));
    let studio = Studio::start();
    let worker = place.worker(&studio);
    let id = queue(&studio, &job());
    until("the program runs", || processes_with(&format!("sleep\u{0}{mark}")).len() == 1);
    (place, studio, worker, id, mark)
}

fn no_program_outlives_a_worker_that_is_killed(on: &'static str) {
    let (place, _studio, mut worker, _, mark) = busy(on, 1, "");
    worker.signal("-KILL");
    worker.ended();
    until("the programs are gone", || processes_with(&mark).is_empty());
    until("what they worked on is gone", || place.leftovers().is_empty());
}

fn no_program_outlives_a_worker_that_is_stopped(on: &'static str) {
    let (place, _studio, mut worker, _, mark) = busy(on, 2, "");
    worker.signal("-TERM");
    until("it drains", || worker.log().contains("a signal came"));
    worker.signal("-TERM");
    assert_eq!(worker.ended(), Some(0));
    until("the programs are gone", || processes_with(&mark).is_empty());
    until("what they worked on is gone", || place.leftovers().is_empty());
}

fn no_program_outlives_its_time_limit(on: &'static str) {
    let (_place, studio, worker, id, mark) = busy(on, 3, "job_limit_secs = 10");
    until("the limit is said", || worker.log().contains("time limit"));
    until("the job is offered no more", || finished(&studio, &id)["state"] == "failed");
    until("the programs are gone", || processes_with(&mark).is_empty());
    assert!(worker.log().contains("passed its time limit of 10 s"), "{}", worker.log());
}

fn what_a_program_leaves_running_ends_with_its_job(on: &'static str) {
    let mark = mark(on, 4);
    for (end, state) in [("echo done", "completed"), ("exit 3", "failed")] {
        let place = Place::new(on, &config(&mark, end, ""));
        let studio = Studio::start();
        let worker = place.worker(&studio);
        let id = queue(&studio, &job());
        let job = finished(&studio, &id);
        assert_eq!(job["state"], state, "{job}");
        until("what it left is gone", || processes_with(&format!("sleep\u{0}{mark}")).is_empty());
        until("no zombie is left", || zombies_of(worker.pid()) == 0);
    }
}

/// Children of a process that ended and were not waited for.
fn zombies_of(parent: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
            let mut fields = rest.split(' ');
            fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
        })
        .count()
}

fn a_program_learns_no_secret(on: &'static str) {
    let place = Place::new(
        on,
        "engine = \"command\"\n[[commands]]\nkind = \"llm\"\nmodels = [\"env\"]\nprogram = \"env\"\ninherits = [\"HF_TOKEN\"]\n",
    );
    let mut command = place.command(&["try", "llm"]);
    let secrets = ["OPENAI_API_KEY", "STUDIO_WORKER_X", "DB_PASSWORD", "SENTRY_DSN", "AWS_SECRET_ACCESS_KEY"];
    for name in secrets {
        command.env(name, "hunter2");
    }
    command.env("HF_TOKEN", "wanted").env("CUDA_VISIBLE_DEVICES", "0").env("SITE", "http://me:hunter2@host/");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("CUDA_VISIBLE_DEVICES=0") && said.contains("HF_TOKEN=wanted"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

fn what_a_program_said_is_told(on: &'static str) {
    let script = r"printf 'first\n\377\376 last \303\050 words\n' >&2; exit 4";
    let place = Place::new(
        on,
        &format!(
            "engine = \"command\"\n[[commands]]\nkind = \"llm\"\nmodels = [\"shell\"]\nprogram = \"sh\"\nargs = [\"-c\", {script:?}]\n"
        ),
    );
    let error = place.fails(&["try", "llm"]);
    assert!(error.contains("exit code 4") && error.contains("last") && error.contains("words"), "{error}");
    assert!(!error.contains("first"), "{error}");
    let flood = Duration::from_secs(30);
    let since = std::time::Instant::now();
    let place = Place::new(
        on,
        "engine = \"command\"\n[[commands]]\nkind = \"llm\"\nmodels = [\"shell\"]\nprogram = \"sh\"\nargs = [\"-c\", \"head -c 50000000 /dev/zero >&2; echo fine\"]\n",
    );
    assert_eq!(place.says(&["try", "llm"]).trim(), "fine");
    assert!(since.elapsed() < flood, "a flood on stderr stands in nobody's way");
}
