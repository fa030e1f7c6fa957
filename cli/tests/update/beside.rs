//! Updates that come by themselves, beside a worker that works.

use std::sync::Arc;

use serde_json::{Value, json};
use studio_worker::VERSION;

use crate::{
    home::{Home, wait},
    release::{AFTER_NEXT, Feed, NEXT, archive, archive_name, broken, next_archive, program},
    rig::Rig,
};

/// The version that the studio's only worker says it has.
pub(crate) fn at_studio(studio: &Rig) -> String {
    let workers = studio.get("/api/v1/workers").json();
    let version = find(&workers, "agentVersion");
    version.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The first value of a key, however deep.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.get(key).or_else(|| fields.values().find_map(|value| find(value, key)))
        }
        Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

fn studio_heard(studio: &Rig, text: &str) {
    let heard = || studio.get("/api/v1/logs").text().contains(text);
    wait(heard, || format!("the studio does not hear `{text}`: {}", studio.get("/api/v1/logs").text()));
}

pub(crate) fn queue(studio: &Rig) -> String {
    let job = json!({ "model": "synthetic", "task": { "kind": "image", "prompt": "a fox", "width": 64, "height": 64 } });
    let answer = studio.post("/api/v1/jobs", &job);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_newer_version_takes_over_between_jobs_and_is_kept() {
    let (studio, feed, archive) = (Rig::new(), Feed::new(), next_archive());
    let home = Home::at(&studio, &feed, "synthetic_delay_ms = 3000");
    let worker = home.start();
    worker.logs("session open");
    let job = queue(&studio);
    studio.job_is(&job, "running");
    feed.lists(&NEXT, archive);
    worker.logs("takes over once the worker is free");
    let job = studio.job_is(&job, "completed");
    assert_eq!(job["attempts"].as_u64().unwrap_or_default(), 0, "it was not given up for the update: {job}");
    worker.logs("is on trial");
    wait(|| at_studio(&studio) == *NEXT, || format!("{:?}", at_studio(&studio)));
    // It works while it is on trial.
    studio.job_is(&queue(&studio), "completed");
    worker.logs("the trial is over");
    studio_heard(&studio, &format!("updated from {VERSION} to {}", *NEXT));
    assert_eq!(home.version(), *NEXT);
    let left = [
        ".studio-worker.update.json",
        ".studio-worker.update.json.lock",
        ".studio-worker.update.lock",
        "studio-worker",
        "studio-worker.old",
    ];
    // For a moment there is another one: what is remembered is written anew once the studio has heard of it.
    wait(|| home.files() == left, || format!("{:?}", home.files()));
    studio.job_is(&queue(&studio), "completed");
    worker.terminate();
    let (status, log) = worker.ends();
    assert_eq!(status.code(), Some(0), "it is the same process all the time: {log}");
}

#[test]
fn a_version_that_ends_by_itself_is_taken_back_and_not_tried_again() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, "exit 3")))));
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("is no good: it ended by itself twice, the last time with the exit code 3");
    studio_heard(&studio, &format!("went back from {} to {VERSION}", *NEXT));
    assert_eq!(home.version(), VERSION);
    studio.job_is(&queue(&studio), "completed");
    let asked = feed.asked("/feed");
    wait(|| feed.asked("/feed") >= asked + 3, || "the feed is not asked any more".into());
    assert_eq!(
        feed.asked(&format!("/{}", archive_name(&NEXT))),
        1,
        "it is not fetched again: {}",
        worker.log()
    );
    assert_eq!(at_studio(&studio), VERSION);
    // A newer one is.
    feed.lists(&AFTER_NEXT, Arc::new(archive(&program(&AFTER_NEXT))));
    studio_heard(&studio, &format!("updated from {VERSION} to {}", *AFTER_NEXT));
    assert_eq!(at_studio(&studio), *AFTER_NEXT);
}

#[test]
fn a_version_that_gets_no_welcome_is_taken_back() {
    let feed = Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, "exec sleep 600"))));
    let studio = Rig::new();
    let home = Home::at(&studio, &feed, "");
    home.tries_for(3);
    let worker = home.start();
    worker.logs("is no good: no studio had welcomed it after 3 s");
    studio_heard(&studio, "went back");
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(home.version(), VERSION);
}

#[test]
fn a_signal_reaches_the_version_on_trial_and_its_job_is_delivered() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "synthetic_delay_ms = 1500\n# the trial is long\n");
    home.tries_for(300);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    let job = queue(&studio);
    studio.job_is(&job, "running");
    worker.terminate();
    let (status, log) = worker.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    let job = studio.job(&job);
    assert_eq!(job["state"], "completed", "{job}: {log}");
    // The trial goes on where it was: the version before watches.
    let worker = home.start();
    worker.logs(&format!("{} is on trial", *NEXT));
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(at_studio(&studio), *NEXT);
}

/// A machine that loses its power in the trial: what was put in place is on trial again at the next start.
#[test]
fn a_version_whose_watcher_is_killed_ends_and_is_on_trial_again_at_the_next_start() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "");
    let config = std::fs::read_to_string(home.config()).unwrap();
    home.tries_for(300);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    worker.kill();
    worker.logs("what watches this version has gone");
    home.rewrite(&config);
    let is_free = || home.run(&["status", "--check"]).code == 3;
    wait(is_free, || "the version on trial goes on without its watcher".into());
    let worker = home.start();
    worker.logs(&format!("{} is on trial", *NEXT));
    studio_heard(&studio, &format!("updated from {VERSION} to {}", *NEXT));
}

#[test]
fn a_second_worker_harms_no_trial() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "");
    home.tries_for(300);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    for args in [&["run"][..], &["check-update", "--install"], &["rollback"]] {
        let said = home.run(args);
        assert_eq!(said.code, 1, "{args:?}: {}{}", said.out, said.err);
    }
    assert_eq!(home.version(), VERSION, "it takes its place after its trial");
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(at_studio(&studio), *NEXT);
}

/// As `cargo install` or a package does it: nothing is remembered of that.
#[test]
fn what_came_into_the_programs_place_by_other_means_is_tried_too() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("session open");
    let beside = |name| home.program().with_file_name(name);
    std::fs::write(beside("written"), program(&NEXT)).unwrap();
    // By another process, as in `Home::new`.
    let put = "cp \"$1\" \"$2\" && chmod 755 \"$2\" && mv \"$2\" \"$3\"";
    let mut put_there = std::process::Command::new("sh");
    put_there.args(["-c", put, "sh"]).args([beside("written"), beside("new"), home.program()]);
    assert!(put_there.status().unwrap().success());
    feed.lists(&NEXT, next_archive());
    studio_heard(&studio, &format!("updated from {VERSION} to {}", *NEXT));
    assert_eq!(at_studio(&studio), *NEXT);
}

#[test]
fn a_paused_worker_stays_the_one_that_is_paused() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("session open");
    assert_eq!(home.run(&["pause"]).code, 0);
    feed.lists(&NEXT, next_archive());
    worker.logs("an update waits until the worker is free");
    assert_eq!(at_studio(&studio), VERSION);
    assert_eq!(home.run(&["resume"]).code, 0);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
}

#[test]
fn a_pause_on_trial_stays_one() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "");
    home.tries_for(20);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    assert_eq!(home.run(&["pause"]).code, 0);
    // Longer than the trial.
    std::thread::sleep(std::time::Duration::from_secs(21));
    assert!(!worker.log().contains("the trial is over"), "{}", worker.log());
    assert_eq!(home.run(&["resume"]).code, 0);
    worker.logs("the trial is over");
}

#[test]
fn two_workers_of_one_program_update_it_once() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "");
    let other = home.config().with_file_name("other.toml");
    let elsewhere = Rig::new();
    let who = elsewhere.register();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let config = config
        .lines()
        .filter(|line| !["api_base", "worker_id", "auth_tok"].iter().any(|key| line.starts_with(key)));
    let config: Vec<_> = config.map(str::to_owned).collect();
    let who = format!(
        "api_base_url = 'http://{}'\nworker_id = '{}'\nauth_token = '{}'\n",
        elsewhere.address(),
        who.worker_id,
        who.token
    );
    std::fs::write(&other, who + &config.join("\n")).unwrap();
    let (first, second) = (home.start(), home.start_with(&other));
    wait(|| at_studio(&studio) == *NEXT, || first.log());
    wait(|| at_studio(&elsewhere) == *NEXT, || second.log());
    // One of them tried it, and the other one took what was tried.
    let logs = || format!("{}\n\n{}", first.log(), second.log());
    assert_eq!(logs().matches("is on trial").count(), 1, "{}", logs());
    wait(|| logs().contains("updated from"), logs);
    assert_eq!(home.version(), *NEXT);
    let old = std::process::Command::new(home.program().with_file_name("studio-worker.old"))
        .arg("--version")
        .output();
    assert_eq!(
        String::from_utf8(old.unwrap().stdout).unwrap(),
        format!("studio-worker {VERSION}\n"),
        "it is kept"
    );
}

/// The test is that other worker, and is done while this one waits for it.
#[test]
fn what_another_worker_has_installed_meanwhile_is_not_installed_again() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let beside = |name| home.program().with_file_name(name);
    std::fs::write(beside("written"), program(&NEXT)).unwrap();
    std::fs::write(beside("record"), format!("{{ \"previous\": \"{VERSION}\" }}")).unwrap();
    let lock = std::fs::File::create(beside(".studio-worker.update.lock")).unwrap();
    lock.lock().unwrap();
    let worker = home.start();
    worker.logs("session open");
    let asked = feed.asked("/feed");
    feed.lists(&NEXT, next_archive());
    // The second answer from now on has it.
    wait(|| feed.asked("/feed") >= asked + 2, || worker.log());
    // By another process, as in `Home::new`.
    let put = "cp \"$1\" \"$2\" && chmod 755 \"$2\" && ln \"$3\" \"$3.old\" && mv \"$2\" \"$3\" && mv \"$4\" \"$5\"";
    let mut put_there = std::process::Command::new("sh");
    put_there.args(["-c", put, "sh"]).args([beside("written"), beside("new"), home.program()]);
    put_there.args([beside("record"), beside(".studio-worker.update.json")]);
    assert!(put_there.status().unwrap().success());
    drop(lock);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    assert_eq!(feed.asked(&format!("/{}", archive_name(&NEXT))), 0, "{}", worker.log());
    assert!(!worker.log().contains("is on trial"), "{}", worker.log());
}

/// The test is whoever installs it, at leisure.
#[test]
fn what_is_about_to_be_put_in_place_is_seen_once_it_is_there() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let beside = |name| home.program().with_file_name(name);
    let worker = home.start();
    worker.logs("session open");
    std::fs::write(beside("written"), program(&NEXT)).unwrap();
    let lock = std::fs::File::create(beside(".studio-worker.update.lock")).unwrap();
    lock.lock().unwrap();
    let record = format!("{{ \"onTrial\": \"{}\", \"previous\": \"{VERSION}\" }}", *NEXT);
    std::fs::write(beside("record"), record).unwrap();
    std::fs::rename(beside("record"), beside(".studio-worker.update.json")).unwrap();
    let asked = feed.asked("/feed");
    // Before the feed is asked, what others did is looked at.
    wait(|| feed.asked("/feed") >= asked + 2, || worker.log());
    // By another process, as in `Home::new`.
    let put = "cp \"$1\" \"$2\" && chmod 755 \"$2\" && ln \"$3\" \"$3.old\" && mv \"$2\" \"$3\"";
    let mut put_there = std::process::Command::new("sh");
    put_there.args(["-c", put, "sh"]).args([beside("written"), beside("new"), home.program()]);
    assert!(put_there.status().unwrap().success());
    drop(lock);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
}

#[test]
fn a_feed_in_trouble_is_left_alone_and_the_worker_works() {
    let (studio, feed) = (Rig::new(), Feed::new());
    feed.says("/feed", "403 rate limit exceeded", b"{\"message\": \"API rate limit exceeded\"}".to_vec());
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("asked too often");
    wait(|| feed.asked("/feed") >= 3, || worker.log());
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(worker.log().matches("asked too often").count(), 1, "it is said once: {}", worker.log());
    assert_eq!(home.version(), VERSION);
}

#[test]
fn nothing_is_installed_where_no_feed_is_named_or_updates_are_off() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    let worker = home.start();
    worker.logs("updates are off");
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(feed.asked("/feed"), 0);
    drop(worker);
    let config = std::fs::read_to_string(home.config()).unwrap();
    let config: Vec<_> = config.lines().filter(|line| !line.starts_with("auto_update_")).collect();
    std::fs::write(home.config(), config.join("\n")).unwrap();
    home.start().logs("updates are off: no feed of this program's releases is named");
}
