//! What comes while one version takes over from another: a signal, a pause, a broken configuration, an outage.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::json;
use studio_worker::VERSION;
use studio_worker_core::conformance::TestStudio;

use crate::{
    beside::{at_studio, queue},
    gate::Gate,
    home::{Home, Worker, wait},
    release::{Feed, NEXT, archive, archive_name, broken, next_archive, program},
    rig::Rig,
};

/// What can't be read.
const BROKEN: &str = "engine = [";

/// A worker whose jobs take until the file is there that comes back with it.
fn with_long_jobs(studio: &Rig, feed: &Feed) -> (Home, PathBuf) {
    let home = Home::at(studio, feed, "");
    let over = home.config().with_file_name("over");
    let script = format!("while [ ! -e '{}' ]; do sleep 0.05; done; echo fine", over.display());
    let config = fs::read_to_string(home.config()).unwrap().replace("'synthetic'", "'command'");
    let command =
        format!("[[commands]]\nkind = 'llm'\nmodels = ['m']\nprogram = 'sh'\nargs = ['-c', {script:?}]\n");
    fs::write(home.config(), config + &command).unwrap();
    (home, over)
}

fn long_job(studio: &Rig) -> String {
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hello" }] });
    let job = studio.queue(&task);
    studio.job_is(&job, "running");
    job
}

/// Has the worker paused while the job ends that `over` ends.
fn pauses_over_its_end(home: &Home, studio: &Rig, job: &str, over: &Path) {
    let said = home.run(&["pause"]);
    assert!(said.code == 0 && said.out.contains("paused until"), "{}{}", said.out, said.err);
    fs::write(over, "").unwrap();
    studio.job_is(job, "completed");
    let said = home.run(&["resume"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}

/// What is remembered beside the program.
fn record(home: &Home) -> String {
    fs::read_to_string(home.program().with_file_name(".studio-worker.update.json")).unwrap_or_default()
}

/// Whether the one was logged before the other, both for the first time.
fn logged_before(worker: &Worker, first: &str, then: &str) {
    worker.logs(then);
    let log = worker.log();
    assert!(log.find(first).is_some_and(|at| at < log.find(then).unwrap()), "{log}");
}

/// Waits until something was logged after something else was.
fn logged_after(worker: &Worker, first: &str, then: &str) {
    let is_logged = || worker.log().split_once(first).is_some_and(|(_, log)| log.contains(then));
    wait(is_logged, || worker.log());
}

#[test]
fn a_signal_that_comes_when_the_new_version_takes_its_place_ends_the_worker() {
    use std::os::unix::process::ExitStatusExt as _;
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    let old = home.program().with_file_name("studio-worker.old");
    let end = std::time::Instant::now() + crate::home::PATIENCE;
    while !old.exists() {
        assert!(std::time::Instant::now() < end, "{}", worker.log());
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    worker.terminate();
    let (status, log) = worker.ends();
    // One that comes before the new version listens ends that as the system does it.
    assert!(status.code() == Some(0) || status.signal() == Some(15), "{status}: {log}");
}

#[test]
fn a_pause_holds_a_version_that_is_about_to_take_over() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let (home, over) = with_long_jobs(&studio, &feed);
    let worker = home.start();
    worker.logs("session open");
    let job = long_job(&studio);
    feed.lists(&NEXT, next_archive());
    worker.logs("takes over once the worker is free");
    pauses_over_its_end(&home, &studio, &job, &over);
    logged_before(&worker, "resumed: jobs are taken again", "is on trial");
}

/// Who pauses may wait for long with the rest of it, and may decide otherwise meanwhile.
#[test]
fn a_pause_lets_go_of_what_was_to_take_over() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let (home, over) = with_long_jobs(&studio, &feed);
    let worker = home.start();
    worker.logs("session open");
    let job = long_job(&studio);
    feed.lists(&NEXT, next_archive());
    worker.logs("takes over once the worker is free");
    assert!(home.run(&["rollback"]).err.contains("another process is about to install"), "{}", worker.log());
    assert_eq!(home.run(&["pause"]).code, 0);
    fs::write(&over, "").unwrap();
    studio.job_is(&job, "completed");
    // That nobody is at it any more is said by what else is wrong.
    let is_free = || home.run(&["rollback"]).err.contains("no earlier version");
    wait(is_free, || home.run(&["rollback"]).err);
    let config = fs::read_to_string(home.config()).unwrap();
    home.rewrite(&format!("auto_update_enabled = false\n{config}"));
    worker.logs("updates are off");
    assert_eq!(home.run(&["resume"]).code, 0);
    let job = studio.queue(&json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hello" }] }));
    studio.job_is(&job, "completed");
    let log = worker.log();
    assert!(!log.contains("is on trial") && !log.contains("made way"), "{log}");
    // It is taken again when it is wanted again.
    home.rewrite(&config);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
}

/// One who goes back by hand wants to know why nothing comes of it.
#[test]
fn what_a_broken_configuration_keeps_waiting_is_said() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let worker = home.start();
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    // The worker itself changes what is remembered no more.
    wait(|| !record(&home).contains("updated from"), || record(&home));
    let config = fs::read_to_string(home.config()).unwrap();
    home.rewrite(&config.replace("'synthetic'", "'openai'"));
    assert_eq!(home.run(&["rollback"]).code, 0);
    worker.logs("what was installed or put back by hand waits until the configuration can be used: ");
    worker.logs("since the changed configuration can't be used");
    home.rewrite(&config);
    wait(|| at_studio(&studio) == VERSION, || worker.log());
    assert_eq!(worker.log().matches("waits until the configuration").count(), 1, "{}", worker.log());
}

#[test]
fn a_pause_holds_a_version_whose_trial_is_over() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let (home, over) = with_long_jobs(&studio, &feed);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    let job = long_job(&studio);
    worker.logs("the trial is over");
    pauses_over_its_end(&home, &studio, &job, &over);
    logged_before(&worker, "resumed: jobs are taken again", "updated from");
}

/// A pause ends with its owner's word, and not with a version that is no good.
#[test]
fn a_pause_outlives_the_version_on_trial() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    home.tries_for(300);
    let beside = |name| home.config().with_file_name(name);
    let (real, deadly) = (beside("real"), beside("deadly"));
    // Put there by another process, as in `Home::new`.
    fs::write(beside("written"), program(&NEXT)).unwrap();
    assert!(Command::new("cp").arg(beside("written")).arg(&real).status().unwrap().success());
    assert!(Command::new("chmod").arg("755").arg(&real).status().unwrap().success());
    let does = format!(
        "( while [ ! -e '{0}' ]; do sleep 0.05; done; rm '{0}'; kill -9 $$ ) > /dev/null 2>&1 &\nexec '{1}' \"$@\"",
        deadly.display(),
        real.display()
    );
    feed.lists(&NEXT, Arc::new(archive(&broken(&NEXT, &does))));
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    assert_eq!(home.run(&["pause"]).code, 0);
    // Its studio is the last to be told.
    let workers = || studio.get("/api/v1/workers").json();
    wait(|| workers()["workers"][0]["capabilities"]["autoEnabled"] == false, || workers().to_string());
    let job = queue(&studio);
    // The version on trial, its second start, and the version before.
    let (paused, open) = ("paused: no more jobs are taken", "session open");
    for times in 2..=3 {
        fs::write(&deadly, "").unwrap();
        worker.logs_times(paused, times);
        worker.logs_times(open, times + 1);
    }
    worker.logs("is no good: it ended by itself twice");
    wait(|| at_studio(&studio) == VERSION, || worker.log());
    assert_eq!(studio.job(&job)["state"], "queued", "{}", worker.log());
    assert_eq!(home.run(&["resume"]).code, 0);
    studio.job_is(&job, "completed");
}

#[test]
fn nothing_takes_over_while_the_configuration_is_broken() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("session open");
    wait(|| feed.asked("/feed") > 0, || worker.log());
    let config = fs::read_to_string(home.config()).unwrap();
    // One that is no configuration, and one whose engine can't be had.
    for (round, broken) in [BROKEN.to_owned(), config.replace("'synthetic'", "'openai'")].iter().enumerate() {
        home.rewrite(broken);
        worker.logs_times("since the changed configuration can't be used", round + 1);
        if round == 0 {
            feed.lists(&NEXT, next_archive());
            worker.logs("an update waits until the worker is free");
        }
        studio.job_is(&queue(&studio), "completed");
        assert!(!worker.log().contains("is on trial"), "{}", worker.log());
    }
    assert_eq!(at_studio(&studio), VERSION);
    home.rewrite(&config);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
}

#[test]
fn a_configuration_that_breaks_at_the_end_of_a_trial_ends_no_worker() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let (home, over) = with_long_jobs(&studio, &feed);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    let job = long_job(&studio);
    worker.logs("the trial is over");
    let config = fs::read_to_string(home.config()).unwrap();
    home.rewrite(BROKEN);
    fs::write(&over, "").unwrap();
    studio.job_is(&job, "completed");
    worker.logs("this version goes on, since no other one could start with the configuration");
    wait(|| at_studio(&studio) == VERSION, || worker.log());
    home.rewrite(&config);
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    assert_eq!(worker.log().matches(" is on trial").count(), 1, "it was tried: {}", worker.log());
    // Who has become it says so.
    logged_before(&worker, "the version that is in place takes over", "updated from");
    assert_eq!(
        feed.asked(&format!("/{}", archive_name(&NEXT))),
        1,
        "it is not fetched again: {}",
        worker.log()
    );
    assert!(!home.files().contains(&".studio-worker.update".into()), "nothing is left: {:?}", home.files());
}

#[test]
fn a_configuration_that_breaks_in_a_trial_is_no_fault_of_the_version() {
    let does = format!("echo '{BROKEN}' > \"$2\"\nexit 3");
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, &does)))));
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs_times("session open", 2);
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(at_studio(&studio), VERSION);
    assert!(!record(&home).contains(&*NEXT), "{}", record(&home));
    let log = worker.log();
    assert!(log.contains("since the changed configuration can't be used"), "{log}");
}

/// It may be registered anew while it is on trial, say: the token of before is none any more then.
#[test]
fn who_a_version_on_trial_has_stored_counts_for_the_one_before_also_in_a_broken_configuration() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    let worker = home.start();
    worker.logs("session open");
    let who = studio.register();
    let does = format!(
        "sed \"s/^worker_id.*/worker_id = '{}'/; s/^auth_token.*/auth_token = '{}'/; s/^engine.*/engine = 5/\" \
         \"$2\" > \"$2.new\"\nmv \"$2.new\" \"$2\"\nexit 3",
        who.worker_id, who.token
    );
    feed.lists(&NEXT, Arc::new(archive(&broken(&NEXT, &does))));
    let open = format!("session open as {}", who.worker_id);
    logged_after(&worker, "since the changed configuration can't be used", &open);
    studio.job_is(&queue(&studio), "completed");
}

#[test]
fn a_version_that_gives_up_in_an_outage_goes_back_in_doubt() {
    let (mut studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "ws_reconnect_attempts = 1");
    home.tries_for(300);
    let worker = home.start();
    wait(|| at_studio(&studio) == *NEXT, || worker.log());
    studio.stop();
    worker.logs("is no good: no studio could be reached");
    // As the configuration wants it of the version before, too.
    let (status, log) = worker.ends();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(record(&home).contains("\"in_doubt\": true"), "{}", record(&home));
}

/// Has the worker of a home reach its studio through a gate.
fn behind_a_gate(studio: &Rig, home: &Home) -> Gate {
    let gate = Gate::to(studio.address());
    let config = fs::read_to_string(home.config()).unwrap();
    let direct = studio.address().to_string();
    fs::write(home.config(), config.replace(&direct, &gate.address().to_string())).unwrap();
    gate
}

/// It was installed once, by hand, and nothing else would install it again.
fn is_tried_again_after_an_outage(a_worker_runs: bool) {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    let gate = behind_a_gate(&studio, &home);
    let running = a_worker_runs.then(|| home.start());
    if let Some(worker) = &running {
        worker.logs("session open");
    }
    gate.shut(true);
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let worker = running.unwrap_or_else(|| home.start());
    logged_after(&worker, "is no good: no studio had welcomed it", "no session, trying again");
    assert_eq!(home.version(), VERSION);
    gate.shut(false);
    worker.logs_times("is on trial", 2);
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    assert_eq!((home.version(), at_studio(&studio)), (NEXT.clone(), NEXT.clone()));
    assert!(!home.files().contains(&".studio-worker.update".into()), "nothing is left: {:?}", home.files());
}

#[test]
fn what_was_installed_by_hand_is_tried_again_after_an_outage() {
    is_tried_again_after_an_outage(true);
}

#[test]
fn what_was_installed_while_no_worker_ran_is_tried_again_after_an_outage() {
    is_tried_again_after_an_outage(false);
}

#[test]
fn a_version_that_found_no_studio_is_tried_again_where_the_one_before_had_to_try_twice() {
    let (studio, feed) = (Rig::new(), Feed::new());
    let home = Home::at(&studio, &feed, "");
    home.tries_for(3);
    let gate = behind_a_gate(&studio, &home);
    let worker = home.start();
    worker.logs("session open");
    // The session that is there stays.
    gate.shut(true);
    feed.lists(&NEXT, Arc::new(archive(&broken(&NEXT, "exec sleep 600"))));
    worker.logs("is no good: no studio had welcomed it");
    worker.logs("no session, trying again");
    gate.shut(false);
    worker.logs_times("is on trial", 2);
    // It hangs also while the studio is there: then the one before gets its session at once.
    worker.logs_times("is no good: no studio had welcomed it", 2);
    wait(|| record(&home).contains("\"in_doubt\": false"), || record(&home));
}

#[test]
fn what_goes_wrong_when_a_version_takes_over_is_told() {
    let (studio, feed, sentry) = (Rig::new(), Feed::with(&NEXT, next_archive()), TestStudio::new());
    let home = Home::at(&studio, &feed, "");
    // It can't be kept there.
    fs::create_dir_all(home.program().with_file_name("studio-worker.old").join("folder")).unwrap();
    let dsn = format!("http://9a1b2c3d4e5f60718293a4b5c6d7e8f9@{}/42", sentry.address());
    let worker = Worker::start(home.command(&["run"]).env("SENTRY_DSN", dsn));
    worker.logs("was not installed");
    let mut request = sentry.request();
    let event = String::from_utf8(request.body()).unwrap();
    request.answer_json(200, &json!({}));
    assert!(event.contains("was not installed"), "{event}");
    wait(|| at_studio(&studio) == VERSION, || worker.log());
}
