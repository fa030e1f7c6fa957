//! `check-update` and `rollback`.

use std::{fs, process::Command, sync::Arc};

use studio_worker::VERSION;

use crate::{
    home::{Home, Said, wait},
    release::{
        AFTER_NEXT, Feed, NEXT, archive, archive_name, broken, next_archive, program, sha256, useless,
    },
    rig::Rig,
};

#[test]
fn check_update_says_what_scripts_read() {
    let feed = Feed::new();
    let home = Home::new(&feed, "");
    assert_eq!(home.run(&["check-update"]).out, format!("up to date: {VERSION}\n"));
    feed.lists(&NEXT, Arc::default());
    let wanted = format!("update available: {VERSION} -> {}\n", *NEXT);
    for on in ["async-std", "tokio"] {
        assert_eq!(home.run(&["--runtime", on, "check-update"]).out, wanted);
    }
    assert_eq!(home.files(), ["studio-worker"], "a look changes nothing");
}

#[test]
fn without_a_feed_nothing_is_claimed() {
    let home = Home::new(&Feed::new(), "");
    fs::write(home.config(), "#\n").unwrap();
    for args in [&["check-update"][..], &["check-update", "--install"]] {
        let Said { out, err, code } = home.run(args);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("set `auto_update_feed`"), "{err}");
    }
}

#[test]
fn what_is_installed_by_hand_goes_back_by_hand() {
    let home = Home::new(&Feed::with(&NEXT, next_archive()), "");
    let Said { out, err, code } = home.run(&["check-update", "--install"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("installed {} in place of {VERSION}", *NEXT)), "{out}");
    assert_eq!(home.version(), *NEXT);
    assert_eq!(
        home.files(),
        [
            ".studio-worker.update.json",
            ".studio-worker.update.json.lock",
            ".studio-worker.update.lock",
            "studio-worker",
            "studio-worker.old"
        ]
    );
    let Said { out, err, code } = home.run(&["rollback"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("went back from {} to {VERSION}", *NEXT)), "{out}");
    assert_eq!(home.version(), VERSION);
    let Said { err, code, .. } = home.run(&["rollback"]);
    assert_eq!(code, 1);
    assert!(err.contains("no earlier version"), "{err}");
}

#[test]
fn a_worker_that_runs_takes_over_what_is_installed_by_hand_and_goes_back_by_hand() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    let worker = home.start();
    worker.logs("session open");
    let Said { out, err, .. } = home.run(&["check-update", "--install"]);
    assert!(out.contains(&format!("the worker that runs (process {})", worker.pid())), "{out} {err}");
    worker.logs("the trial is over");
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    assert_eq!(home.run(&["rollback"]).code, 0);
    worker.logs("went back from");
    let version = || studio.get("/api/v1/workers").text().contains(VERSION);
    wait(version, || worker.log());
    assert_eq!(home.version(), VERSION);
}

/// A worker that can't connect is the very one to go back by hand, or to be mended by another version.
#[test]
fn a_worker_without_a_session_goes_back_and_takes_over_what_is_installed_by_hand() {
    let (mut studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let worker = home.start();
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    studio.stop();
    wait(|| home.run(&["status", "--check"]).code == 4, || worker.log());
    assert_eq!(home.run(&["rollback"]).code, 0);
    worker.logs("the version that is in place takes over");
    worker.logs(&format!("went back from {} to {VERSION}", *NEXT));
    let record = fs::read_to_string(home.program().with_file_name(".studio-worker.update.json")).unwrap();
    assert!(record.contains("went back from"), "the studio has not heard it yet: {record}");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    worker.logs_times(&format!("{} is on trial", *NEXT), 2);
}

#[test]
fn what_was_installed_while_no_worker_ran_is_tried_by_the_next_one() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let worker = home.start();
    worker.logs(&format!("{} is on trial", *NEXT));
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    assert_eq!(home.version(), *NEXT);
}

#[test]
fn a_version_that_was_never_tried_is_not_what_is_gone_back_to() {
    let feed = Feed::with(&NEXT, next_archive());
    let home = Home::new(&feed, "");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    feed.lists(&AFTER_NEXT, Arc::new(archive(&program(&AFTER_NEXT))));
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    assert_eq!(home.version(), *AFTER_NEXT);
    let said = home.run(&["rollback"]);
    assert!(said.out.contains(&format!("to {VERSION};")), "{}{}", said.out, said.err);
    assert_eq!(home.version(), VERSION);
}

/// It says its version, so it was installed, and does nothing else: the way back leads through the one before.
#[test]
fn a_version_that_can_do_nothing_is_left_by_the_one_before() {
    let feed = Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, "exit 3"))));
    let home = Home::new(&feed, "");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    assert_eq!(home.run(&["rollback"]).code, 3, "this is the broken one");
    let before = home.program().with_file_name("studio-worker.old");
    let said = crate::home::said(Command::new(before).arg("--config").arg(home.config()).arg("rollback"));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains(&format!("went back from {} to {VERSION}", *NEXT)), "{}", said.out);
    assert_eq!(home.version(), VERSION);
}

/// A loop of one's own decides as the program's does.
#[test]
fn one_tick_decides_what_the_loop_would() {
    use studio_worker::{
        config::ConfigFile,
        runtime::{AutoUpdateDecision, auto_update_tick},
        runtimes::Runtime,
        update::Place,
    };
    let feed = Feed::new();
    let home = Home::new(&feed, "");
    let place = Place::at(home.program());
    let tick = |busy| {
        let config = ConfigFile::locate(Some(&home.config())).unwrap().load().unwrap();
        auto_update_tick(&config, Runtime::default(), &place, busy)
    };
    assert_eq!(tick(false), AutoUpdateDecision::UpToDate);
    feed.lists(&NEXT, Arc::new(archive(&broken(&NEXT, "exit 3"))));
    assert_eq!(tick(true), AutoUpdateDecision::SkippedBusy);
    assert!(matches!(tick(false), AutoUpdateDecision::Updated { version } if version.to_string() == *NEXT));
    assert_eq!(home.version(), *NEXT);
    assert_eq!(tick(false), AutoUpdateDecision::UpToDate, "once is enough");
    feed.says("/feed", "500 Oh", Vec::new());
    assert!(matches!(tick(false), AutoUpdateDecision::CheckError { .. }));
}

/// Does something to a feed.
type Spoil<'a> = &'a dyn Fn(&Feed);

/// What is wrong with a release, and what is said of it.
#[test]
fn a_release_that_is_not_as_it_should_be_leaves_the_program_alone() {
    let good = Arc::new(archive(&broken(&NEXT, "exit 3")));
    let name = archive_name(&NEXT);
    let (file, hash) = (format!("/{name}"), format!("/{name}.sha256"));
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let cases: &[(&str, Spoil<'_>, &str)] = &[
        ("", &|feed| feed.says(&hash, "200 OK", sha256(b"another").into_bytes()), "SHA-256"),
        ("", &|feed| feed.says(&file, "200 OK", good[..good.len() / 2].to_vec()), "SHA-256"),
        ("", &|feed| feed.says(&file, "404 Not Found", Vec::new()), "404"),
        ("", &|feed| feed.says(&hash, "500 Oh", Vec::new()), "500"),
        ("", &|feed| feed.lists_files(&NEXT, &[&name]), "no studio-worker-"),
        ("", &|feed| feed.lists_files(&NEXT, &["studio-worker-x-unknown-y.tar.gz"]), "has no archive for"),
        ("", &|feed| feed.lists(&NEXT, Arc::new(archive(&broken(VERSION, "")))), "has a program of version"),
        ("", &|feed| feed.lists(&NEXT, Arc::new(archive(b"no program"))), "can't be run"),
        (
            "",
            &|feed| feed.lists(&NEXT, Arc::new(archive(&useless(&NEXT, "exit 7")))),
            "does not say how it is run",
        ),
        ("", &|feed| feed.lists(&NEXT, Arc::new(b"no archive".to_vec())), "is broken"),
        ("key", &|_| (), "a signature is wanted"),
        (
            "key",
            &|feed| {
                feed.says(&format!("{file}.minisig"), "200 OK", b"untrusted comment: no\ngarbage\n".to_vec());
                feed.lists_files(&NEXT, &[&name, &hash[1..], &format!("{name}.minisig")]);
            },
            "signature",
        ),
        ("", &|feed| feed.says("/feed", "401 Who", Vec::new()), "credential"),
        ("", &|feed| feed.says("/feed", "500 Oh", Vec::new()), "trouble of its own"),
        ("", &|feed| feed.says("/feed", "200 OK", b"<html>".to_vec()), "not JSON"),
    ];
    for (with, spoil, words) in cases {
        let feed = Feed::with(&NEXT, Arc::clone(&good));
        spoil(&feed);
        let config =
            if with.is_empty() { String::new() } else { format!("auto_update_public_key = '{key}'") };
        let home = Home::new(&feed, &config);
        let Said { err, code, .. } = home.run(&["check-update", "--install"]);
        let error = err.lines().last().unwrap_or_default();
        assert_eq!(code, 1, "{words}: {err}");
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(home.version(), VERSION, "{words}");
        assert!(home.is_clean(), "{words}: nothing is left: {:?}", home.files());
    }
}

#[test]
fn a_full_disk_leaves_the_program_alone() {
    let home = Home::new(&Feed::with(&NEXT, next_archive()), "");
    let mut full = std::process::Command::new("sh");
    full.args(["-c", "trap '' XFSZ && ulimit -f 64 && exec \"$0\" --config \"$1\" check-update --install"])
        .arg(home.program())
        .arg(home.config())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let Said { err, code, .. } = crate::home::said(&mut full);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("was not installed"), "{err}");
    assert!(home.is_clean(), "{:?}", home.files());
    assert_eq!(home.version(), VERSION);
}
