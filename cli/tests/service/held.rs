//! A worker that was refused does not come again at once.

use std::fs;

use studio_worker_core::conformance::TestStudio;

use crate::{
    Case, cases,
    rig::{Home, Running, TOKEN},
};

pub(crate) const ALL: &[Case] = cases![|| None;
    a_refused_worker_waits_before_it_ends_and_a_signal_ends_it
    a_worker_that_is_registered_anew_does_not_wait_on
    a_person_does_not_wait
    a_version_on_trial_does_not_wait
    other_errors_end_at_once
    a_worker_that_was_told_to_end_does_not_wait
];

fn refused(args: &[&str]) -> (TestStudio, Home, Running) {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    let worker = Running::start(&mut home.program(args));
    studio.upgrade().refuse(401, &format!("token {TOKEN} is wrong"));
    (studio, home, worker)
}

/// It ended with its one line of error.
fn ended(worker: Running) {
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("register --reset"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

fn a_refused_worker_waits_before_it_ends_and_a_signal_ends_it() {
    let (studio, home, mut worker) = refused(&["run", "--service"]);
    let line = worker.logs("It is not tried again for 5 minutes");
    assert!(line.contains("register --reset"), "{line}");
    // Another one may run meanwhile: this one has given up its place.
    let other = Running::start(&mut home.program(&["run"]));
    let mut session = studio.session();
    other.signal("-TERM");
    session.closed();
    assert_eq!(other.ends().0.code(), Some(0));
    assert!(worker.child.try_wait().unwrap().is_none());
    worker.signal("-TERM");
    ended(worker);
}

fn a_worker_that_is_registered_anew_does_not_wait_on() {
    let (_studio, home, mut worker) = refused(&["run", "--service"]);
    worker.logs("It is not tried again");
    home.prints(&["set-threshold", "3"]);
    home.prints(&["register", "--reset"]);
    worker.logs("is another one now");
    ended(worker);
}

fn a_person_does_not_wait() {
    let (_studio, _home, worker) = refused(&["run"]);
    ended(worker);
}

fn a_version_on_trial_does_not_wait() {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    let mut program = home.program(&["run", "--service"]);
    program.env("STUDIO_WORKER_ON_TRIAL", "stdout");
    program.env("STUDIO_WORKER_WATCHED_BY", std::process::id().to_string());
    let worker = Running::start(&mut program);
    studio.upgrade().refuse(401, &format!("token {TOKEN} is wrong"));
    ended(worker);
}

fn other_errors_end_at_once() {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    fs::write(home.path("config.toml"), "label = 1\n").unwrap();
    assert!(home.fails(&["run", "--service"]).contains("`label`"));
    // A rejection that is stored is a refusal.
    fs::write(
        home.path("config.toml"),
        format!("api_base_url = '{}'\nregistration_rejected = 'no'\n", studio.base()),
    )
    .unwrap();
    let mut worker = Running::start(&mut home.program(&["run", "--service"]));
    worker.logs("It is not tried again for 5 minutes");
    worker.signal("-INT");
    ended(worker);
}

fn a_worker_that_was_told_to_end_does_not_wait() {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    let mut worker = Running::start(&mut home.program(&["run", "--service"]));
    let mut session = studio.session();
    session.send(&serde_json::json!({ "type": "offer", "claim": {
        "jobId": "j-1", "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2,
        "task": { "kind": "video", "prompt": "p", "seconds": 60, "width": 1024, "height": 1024 },
    }}));
    session.expect("accept", "j-1");
    worker.signal("-TERM");
    worker.logs("draining");
    session.close(4001, "no");
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!log.contains("It is not tried again"), "{log}");
}
