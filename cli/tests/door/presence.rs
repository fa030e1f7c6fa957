//! A person at the machine, as a `loginctl` tells that is played here.

use std::fs;

use serde_json::json;
use studio_worker_core::conformance::TestStudio;

use super::{Home, Running, TOKEN, path, script::write_script};

/// A machine with that session, whose worker wants jobs only while it is idle, or always.
fn machine(session: &str, only_when_idle: bool) -> (TestStudio, Home) {
    let studio = TestStudio::new();
    let home = Home::with(&format!(
        "api_base_url = \"{}\"\nworker_id = \"w-1\"\nauth_token = \"{TOKEN}\"\nonly_when_idle = {only_when_idle}\n",
        studio.base()
    ));
    let bin = home.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "case \"$1\" in\nlist-sessions) echo '  2 1000 ada seat0 tty2' ;;\nshow-session) [ \"$2\" = 2 ] && printf '{session}' ;;\n*) exit 1 ;;\nesac"
    );
    write_script(&bin.join("loginctl"), &script);
    (studio, home)
}

fn start(home: &Home) -> Running {
    Running::start(home.program(&["run"]).env("PATH", path(home)))
}

const USED: &str = "Id=2\\nType=wayland\\nClass=user\\nState=active\\nRemote=no\\nSeat=seat0\\nIdleHint=no\\nLockedHint=no\\n";

#[test]
#[cfg(target_os = "linux")]
fn jobs_are_left_to_others_while_somebody_uses_the_machine() {
    let (studio, home) = machine(USED, false);
    let worker = start(&home);
    let mut session = studio.session();
    session.heartbeat_with("userPresence", "active");
    assert_eq!(session.heartbeats.last().unwrap()["capabilities"]["autoEnabled"], true);
    session.delivers("j-1");

    let text = home.text();
    home.write(&text.replace("only_when_idle = false", "only_when_idle = true"));
    session.heartbeat_with("autoEnabled", false);
    assert_eq!(session.heartbeats.last().unwrap()["capabilities"]["onlyWhenIdle"], true);
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    assert!(
        home.prints(&["status"]).contains("jobs:               none are taken: somebody uses this machine\n")
    );
    home.write(&text);
    session.heartbeat_with("autoEnabled", true);
    session.delivers("j-3");
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    assert_eq!(worker.ends().0.code(), Some(0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_look_that_takes_its_time_or_fails_at_first_lets_no_job_through() {
    let (studio, home) = machine(USED, true);
    let (loginctl, ready) = (home.dir.path().join("bin/loginctl"), home.dir.path().join("ready"));
    let script = fs::read_to_string(&loginctl).unwrap();
    // The first one fails, the second one takes until it is let go on.
    let first = home.dir.path().join("first");
    let slow = format!(
        "[ -e {first} ] || {{ : >{first}; exit 1; }}\nwhile [ ! -e {ready} ]; do sleep 0.02; done\n",
        first = first.display(),
        ready = ready.display()
    );
    write_script(&loginctl, &(slow + &script));
    let worker = start(&home);
    let mut session = studio.session();
    session.offer("j-1", "llm", "hello");
    assert_eq!(session.expect("reject", "j-1")["code"], "paused");
    assert!(home.prints(&["status"]).contains("none are taken: it is not known yet whether somebody"));
    fs::write(ready, "").unwrap();
    session.heartbeat_with("userPresence", "active");
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    let log = worker.ends().1;
    assert!(!log.contains("can't be told"), "{log}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_machine_that_is_locked_is_idle_and_jobs_are_taken() {
    let (studio, home) = machine(&USED.replace("LockedHint=no", "LockedHint=yes"), true);
    let worker = start(&home);
    let mut session = studio.session();
    session.heartbeat_with("userPresence", "idle");
    session.delivers("j-1");
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    let log = worker.ends().1;
    assert!(!log.contains("can't be told"), "{log}");
}

#[test]
fn where_nobody_can_tell_jobs_are_taken_and_that_is_said_once() {
    let (studio, home) = machine("", true);
    write_script(&home.dir.path().join("bin/loginctl"), "exit 1");
    let mut worker = start(&home);
    let mut session = studio.session();
    let line = worker.logs("can't be told");
    assert!(line.contains("WARN"), "{line}");
    session.delivers("j-1");
    let said = session.heartbeats.iter().filter_map(|beat| beat["capabilities"].get("userPresence"));
    assert_eq!(said.count(), 0);
    assert_eq!(session.heartbeats[0]["capabilities"]["onlyWhenIdle"], json!(true));
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    assert_eq!(worker.ends().1.matches("can't be told").count(), 1);
}
