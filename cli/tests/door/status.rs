//! `status` of a worker that runs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use studio_worker_core::conformance::TestStudio;

use super::{Home, Rig, Running, TOKEN, until};

/// The value of a line; none when there is no such line.
fn line(status: &str, name: &str) -> Option<String> {
    let found = status.lines().find(|line| line.starts_with(name))?;
    assert!(found.len() > 20 && found[..20].trim_end() == name, "{found}");
    Some(found[20..].to_owned())
}

fn a_worker_that_runs_tells_how_it_is(on: &str) {
    let (rig, mut session) = Rig::start(on, "", &[]);
    let live = rig.lives(|live| live["session"]["state"] == "serving");
    assert_eq!((&live["pid"], &live["session"]["workerId"]), (&json!(rig.worker.child.id()), &json!("w-1")));
    assert_eq!((&live["session"]["accepting"], &live["currentJob"]), (&json!(true), &Value::Null));
    rig.begin(&mut session, "j-1");
    rig.lives(|live| live["lastHeartbeat"]["problem"].is_null() && live["lastHeartbeat"]["at"].is_string());

    // Whoever looks for updates says so in its own time.
    let status = until(|| {
        let status = rig.home.prints(&["status"]);
        line(&status, "next_update_check:").map(|_| status)
    });
    assert_eq!(line(&status, "registration:").as_deref(), Some("approved as w-1"), "{status}");
    assert!(line(&status, "worker:").unwrap().starts_with(&format!("process {}, ", rig.worker.child.id())));
    assert!(line(&status, "session:").unwrap().starts_with("serving as w-1 for "), "{status}");
    assert_eq!(line(&status, "jobs:").as_deref(), Some("up to 12 GB are taken"));
    assert!(line(&status, "last_heartbeat:").unwrap().starts_with("acknowledged "), "{status}");
    assert!(line(&status, "current_job:").unwrap().starts_with("j-1, llm, synthetic, for "), "{status}");
    assert_eq!(
        line(&status, "next_update_check:").as_deref(),
        Some("none is due (no feed of this program's releases is named)")
    );
    assert!(!status.contains(TOKEN) && status.ends_with("\n\n"), "{status}");

    rig.release(&mut session, "j-1");
    let live = rig.lives(|live| live["currentJob"].is_null());
    assert_eq!(live["recentJobs"][0]["jobId"], "j-1");
    let status = rig.home.prints(&["status"]);
    assert!(line(&status, "recent_job:").unwrap().starts_with("j-1, llm, synthetic, completed after "));
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn a_worker_on_async_std_tells_how_it_is() {
    a_worker_that_runs_tells_how_it_is("async-std");
}

#[test]
fn a_worker_on_tokio_tells_how_it_is() {
    a_worker_that_runs_tells_how_it_is("tokio");
}

#[test]
fn a_job_that_would_steer_a_terminal_does_not() {
    const JOB: &str = "j-1\u{9b}2J\u{202e}\u{200b}\u{2028}\u{61c}\u{ad}\u{feff}狐";
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    // Read as JSON, it is what it is.
    rig.begin(&mut session, JOB);
    let is_raw = |c: char| (c.is_control() && c != '\n') || (JOB.contains(c) && !c.is_ascii() && c != '狐');
    for args in [&["status"][..], &["status", "--json"], &["pause"]] {
        let said = rig.home.prints(args);
        assert!(said.contains('狐') && !said.contains(is_raw), "{said:?}");
    }
    rig.home.prints(&["resume"]);
    rig.release(&mut session, JOB);
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn check_tells_by_its_exit_code_and_in_one_line() {
    let home = Home::with("worker_id = 'w-1'\n");
    let none = home.run(&["status", "--check"]);
    assert_eq!((none.code, &*none.out, &*none.err), (3, "not running\n", ""));

    let rig = Rig::alone("async-std", "", &[]);
    let upgrading = rig.studio.upgrade();
    until(|| rig.live());
    let check = || rig.home.run(&["status", "--check"]);
    let waiting = check();
    assert_eq!((waiting.code, &*waiting.out, &*waiting.err), (4, "connecting\n", ""));
    let mut session = upgrading.accept().welcome();
    rig.lives(|live| live["session"]["state"] == "serving");
    let serving = check();
    assert_eq!((serving.code, &*serving.out), (0, "serving\n"), "{}", serving.err);
    rig.home.prints(&["pause"]);
    let paused = check();
    assert_eq!((paused.code, &*paused.out), (0, "serving, no jobs are taken: paused\n"));
    session.heartbeat_with("autoEnabled", false);
    rig.worker.signal("-KILL");
    until(|| (check().code == 3).then_some(()));
    assert!(rig.folder().join("socket").exists(), "what a killed worker leaves misleads nobody");
}

#[test]
fn what_can_not_be_told_is_not_said_to_be_so() {
    let home = Home::with("worker_id = 'w-1'\n");
    // A door that can't be tried, and no lock to read: as for another user, whom the system keeps out of both.
    let door = home.dir.path().join(".config.toml.door");
    std::os::unix::fs::symlink(&door, &door).unwrap();
    let check = home.run(&["status", "--check"]);
    assert_eq!(check.code, 4, "{}", check.out);
    assert!(check.out.starts_with("whether a worker runs can't be told: "), "{}", check.out);
    assert!(home.prints(&["status"]).contains("worker:             whether a worker runs can't be told: "));
    assert!(home.fails(&["pause"]).contains("whether a worker runs can't be told: "));
}

#[test]
fn what_a_killed_worker_left_is_replaced_by_the_next_one() {
    let (rig, session) = Rig::start("async-std", "", &[]);
    rig.lives(|_| true);
    rig.worker.signal("-KILL");
    drop(session);
    let Rig { worker, home, studio } = rig;
    worker.ends();
    let worker = Running::start(&mut home.program(&["run"]));
    let rig = Rig { worker, home, studio };
    let mut session = rig.studio.session();
    rig.lives(|live| live["pid"] == rig.worker.child.id());
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn a_watch_that_is_piped_has_a_line_for_each_change_and_ends_with_the_worker() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|live| live["session"]["state"] == "serving");
    let mut watching = rig.home.program(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(first.ends_with(" serving, no job"), "{first}");
    rig.begin(&mut session, "j-1");
    rig.release(&mut session, "j-1");
    rig.lives(|live| live["recentJobs"][0]["jobId"] == "j-1");
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
    let lines: Vec<_> = lines.collect();
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    assert_eq!(lines.last().unwrap(), "the worker has ended", "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("; last: j-1 completed")), "{lines:?}");
    assert!(lines.len() < 12 && !lines.concat().contains('\u{1b}'), "{lines:?}");

    let nobody = Home::with("").fails(&["status", "--watch"]);
    assert!(nobody.contains("no worker runs with ") && nobody.contains("`studio-worker run`"), "{nobody}");
}

#[test]
fn a_worker_whose_door_cannot_be_opened_serves_and_is_said_to_run() {
    let studio = TestStudio::new();
    let home = Home::with(&format!(
        "api_base_url = \"{}\"\nworker_id = \"w-1\"\nauth_token = \"{TOKEN}\"\n",
        studio.base()
    ));
    fs::write(home.dir.path().join(".config.toml.door"), "in the way").unwrap();
    let mut worker = Running::start(&mut home.program(&["run"]));
    let line = worker.logs(".config.toml.door is no folder");
    assert!(line.contains("WARN") && line.contains("`status`"), "{line}");
    let mut session = studio.session();
    session.delivers("j-1");
    let status = home.prints(&["status"]);
    assert!(
        status.contains(&format!("the worker that runs (process {}) can't be asked", worker.child.id())),
        "{status}"
    );
    assert_eq!(home.run(&["status", "--check"]).code, 4);
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    assert_eq!(worker.ends().0.code(), Some(0));
}

#[test]
fn nobody_else_can_reach_the_door() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|_| true);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&rig.folder()), mode(&rig.folder().join("socket"))), (0o700, 0o600));
    // Only root can try it as somebody else.
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout == b"0\n" {
        fs::set_permissions(rig.home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let can = |what: &str, path: &std::path::Path| {
            let mut test = Command::new("test");
            std::os::unix::process::CommandExt::uid(test.args([what]).arg(path), 65_534);
            std::os::unix::process::CommandExt::gid(&mut test, 65_534).status().unwrap().success()
        };
        assert!(can("-x", rig.home.dir.path()), "as far as the configuration's folder it can come");
        assert!(!can("-x", &rig.folder()) && !can("-S", &rig.folder().join("socket")));
    }
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}
