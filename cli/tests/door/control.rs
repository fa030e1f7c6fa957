//! `pause`, `resume`, `drain` and `stop`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
};

use studio_worker_core::conformance::Session;

use super::{Home, Rig, guests::knock};

#[test]
fn a_worker_that_is_paused_finishes_its_job_and_takes_no_other_until_it_is_resumed() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    let said = rig.home.prints(&["pause"]);
    assert!(
        said.starts_with("paused until `studio-worker resume` or a restart; job j-1 is still finished"),
        "{said}"
    );
    session.heartbeat_with("autoEnabled", false);
    session.offer("j-2", "llm", "hello");
    assert_eq!(session.expect("reject", "j-2")["code"], "paused");

    // One that waits says so at once, and more when the job is over.
    let mut pausing = rig.home.program(&["pause", "--after-current"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(pausing.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, said);
    assert!(pausing.try_wait().unwrap().is_none(), "it waits");
    rig.release(&mut session, "j-1");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), pausing.wait().unwrap().code()), ("job j-1: completed\n", Some(0)));
    assert!(rig.home.prints(&["pause", "--after-current"]).ends_with("; no job runs\n"));

    // An edit of the configuration does not resume it.
    rig.home.prints(&["set-threshold", "8"]);
    session.heartbeat_with("vramThresholdGb", 8);
    assert_eq!(session.heartbeats.last().unwrap()["capabilities"]["autoEnabled"], false);
    assert_eq!(rig.home.prints(&["resume"]), "resumed: jobs are taken\n");
    session.heartbeat_with("autoEnabled", true);
    session.delivers("j-3");
    rig.home.prints(&["disable"]);
    session.heartbeat_with("autoEnabled", false);
    let said = rig.home.prints(&["resume"]);
    assert_eq!(said, "resumed, but no jobs are taken: disabled by the configuration\n");
    assert!(rig.home.prints(&["drain"]).ends_with("the worker has ended\n"));
    rig.ends(&mut session);
}

/// Runs a job to its end while its studio is away.
fn hold(rig: &Rig, session: Session, job: &str) -> Session {
    session.drop_connection();
    let text = rig.home.text().replace("synthetic_delay_ms = 600000", "synthetic_delay_ms = 0");
    rig.home.write(&text);
    rig.lives(|live| live["heldResults"][0]["jobId"] == job && live["currentJob"].is_null());
    rig.studio.session()
}

#[test]
fn a_job_whose_result_is_held_is_not_over() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    let mut pausing = rig.home.program(&["pause", "--after-current"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(pausing.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("job j-1 is still finished"), "{line}");
    let mut session = hold(&rig, session, "j-1");
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "job j-1: its result is held until the studio offers the job again\n");
    assert!(pausing.try_wait().unwrap().is_none(), "it waits");
    let status = rig.home.prints(&["status"]);
    assert!(status.contains("\nheld_result:        j-1, llm, synthetic, accepted "), "{status}");
    assert!(
        rig.home.prints(&["pause"]).ends_with(
            "; no job runs; the result of job j-1 is held until the studio offers the job again\n"
        )
    );
    session.offer("j-1", "llm", "hello");
    session.expect("accept", "j-1");
    session.expect("completeJson", "j-1");
    session.complete_ack("j-1");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), pausing.wait().unwrap().code()), ("job j-1: completed\n", Some(0)));
    assert_eq!(rig.live().unwrap()["heldResults"], serde_json::json!([]));
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn a_drain_says_which_results_were_not_delivered() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    let mut session = hold(&rig, session, "j-1");
    let mut draining = rig.home.program(&["drain"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(draining.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "draining; the result of job j-1 is held until the studio offers the job again\n");
    rig.lives(|live| live["session"]["hindrance"] == "draining");
    rig.home.prints(&["stop", "--no-wait"]);
    rig.ends(&mut session);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("job j-1: failed: ") && rest.ends_with("\nthe worker has ended\n"), "{rest}");
    assert_eq!(draining.wait().unwrap().code(), Some(0));
}

#[test]
fn a_drain_waits_for_the_job_and_a_second_one_does_not_end_it() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    for _ in 0..2 {
        let said = rig.home.prints(&["drain", "--no-wait"]);
        assert_eq!(said, "draining: job j-1 is finished first\n");
    }
    assert_eq!(rig.lives(|_| true)["session"]["hindrance"], "draining");
    let mut draining = rig.home.program(&["drain"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(draining.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    rig.release(&mut session, "j-1");
    let log = rig.ends(&mut session);
    out.read_to_string(&mut said).unwrap();
    assert_eq!(said, "draining: job j-1 is finished first\nthe worker has ended\n");
    assert_eq!(draining.wait().unwrap().code(), Some(0));
    assert_eq!(log.matches("asked to drain").count(), 1, "{log}");
}

/// Neither of them knows of the other when it is told.
#[test]
fn two_drains_at_a_worker_that_stands_still_do_not_end_the_job() {
    let (mut rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    rig.worker.signal("-STOP");
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = knock(&rig);
            stream.write_all(b"{\"ask\":\"drain\"}\n").unwrap();
            stream
        })
        .collect();
    rig.worker.signal("-TERM");
    rig.worker.signal("-CONT");
    for mut stream in asked {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(r#""hindrance":"draining""#), "{answer}");
    }
    rig.worker.logs("a signal came");
    rig.release(&mut session, "j-1");
    let log = rig.ends(&mut session);
    assert!(!log.contains("stopping"), "{log}");
}

#[test]
fn a_drain_behind_a_signal_does_not_end_the_job_either() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    rig.worker.signal("-TERM");
    rig.lives(|live| live["session"]["hindrance"] == "draining");
    assert_eq!(rig.home.prints(&["drain", "--no-wait"]), "draining: job j-1 is finished first\n");
    assert_eq!(rig.home.prints(&["resume"]), "resumed, but no jobs are taken: draining\n");
    rig.release(&mut session, "j-1");
    rig.ends(&mut session);
}

/// As in `drain`, and then a reboot: the service manager sends one signal more.
#[test]
fn a_signal_behind_a_drain_does_not_end_the_job_and_a_second_one_does() {
    let (mut rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    assert_eq!(rig.home.prints(&["drain", "--no-wait"]), "draining: job j-1 is finished first\n");
    rig.worker.signal("-TERM");
    rig.worker.logs("a signal came");
    assert_eq!(rig.home.prints(&["drain", "--no-wait"]), "draining: job j-1 is finished first\n");
    rig.release(&mut session, "j-1");
    let log = rig.ends(&mut session);
    assert!(!log.contains("stopping"), "{log}");

    let (mut rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    rig.home.prints(&["drain", "--no-wait"]);
    for said in ["a signal came", "a second signal came"] {
        rig.worker.signal("-TERM");
        rig.worker.logs(said);
    }
    assert_eq!(session.expect("fail", "j-1")["retryable"], true);
    session.fail_ack("j-1");
    rig.ends(&mut session);
}

#[test]
fn a_stop_gives_the_running_job_back_and_waits_for_the_end() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.begin(&mut session, "j-1");
    let mut stopping = rig.home.program(&["stop"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(session.expect("fail", "j-1")["retryable"], true);
    let said = session.heartbeats.last().unwrap();
    assert_eq!(said["capabilities"]["autoEnabled"], false, "else the studio would offer it again at once");
    session.fail_ack("j-1");
    rig.ends(&mut session);
    let mut said = String::new();
    stopping.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(
        (said.as_str(), stopping.wait().unwrap().code()),
        (
            "stopping\njob j-1: failed: the worker stopped before the job was done (told to stop)\nthe worker has ended\n",
            Some(0)
        )
    );
}

#[test]
fn where_no_worker_runs_each_of_them_says_how_to_start_one() {
    let home = Home::with("");
    for command in ["pause", "resume", "drain", "stop", "logs"] {
        let error = home.fails(&[command]);
        assert!(
            error.contains("no worker runs with ") && error.contains("`studio-worker run` starts one"),
            "{error}"
        );
    }
}
