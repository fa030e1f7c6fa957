//! Where a feed leads, what a full disk makes of what is there, and what a feed that is named anew is worth.

use std::{fs, io::Read as _, os::unix::fs::OpenOptionsExt as _, process::Command, sync::Arc};

use studio_worker::VERSION;

use crate::{
    home::{Home, Said, said, wait},
    release::{Feed, NEXT, archive, archive_name, broken, next_archive},
    rig::Rig,
};

const RUNTIMES: [&str; 2] = ["async-std", "tokio"];

/// Another port is another host, and this machine is no part of the internet.
#[test]
fn nothing_of_a_release_leads_to_another_host_of_this_network() {
    let archive = Arc::new(archive(&broken(&NEXT, "exit 3")));
    let name = archive_name(&NEXT);
    for on in RUNTIMES {
        for path in ["/feed".to_owned(), format!("/{name}.sha256"), format!("/{name}")] {
            let (feed, other) =
                (Feed::with(&NEXT, Arc::clone(&archive)), Feed::with(&NEXT, Arc::clone(&archive)));
            feed.leads(&path, &other.at(&path));
            let home = Home::new(&feed, "");
            let Said { err, code, .. } = home.run(&["--runtime", on, "check-update", "--install"]);
            assert_eq!(code, 1, "{path}: {err}");
            assert!(err.contains("leads to this machine"), "{path}: {err}");
            assert_eq!(other.asked_in_all(), 0, "{path}");
            assert_eq!(home.version(), VERSION);
        }
        // Nor is it named.
        let (feed, other) = (Feed::new(), Feed::with(&NEXT, Arc::clone(&archive)));
        let listed = other.says_of("/feed");
        feed.says("/feed", "200 OK", listed);
        let home = Home::new(&feed, "");
        let Said { err, code, .. } = home.run(&["--runtime", on, "check-update", "--install"]);
        assert!(code == 1 && err.contains("leads to this machine"), "{err}");
        assert_eq!(other.asked_in_all(), 0);
    }
}

#[test]
fn a_feed_leads_about_on_its_own_host() {
    let archive = Arc::new(archive(&broken(&NEXT, "exit 3")));
    let name = archive_name(&NEXT);
    for on in RUNTIMES {
        let feed = Feed::with(&NEXT, Arc::clone(&archive));
        for path in ["/feed".to_owned(), format!("/{name}.sha256"), format!("/{name}")] {
            let moved = format!("/moved{path}");
            feed.says(&moved, "200 OK", feed.says_of(&path));
            feed.leads(&path, &moved);
        }
        let home = Home::new(&feed, "");
        let Said { err, code, .. } = home.run(&["--runtime", on, "check-update", "--install"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(home.version(), *NEXT);
    }
}

/// What could not be installed from there is not said to be available.
#[test]
fn a_feed_in_the_clear_is_refused_at_once_but_on_this_machine() {
    let home = Home::new(&Feed::new(), "");
    for address in
        ["http://10.255.255.1/feed", "http://192.168.255.1:8080/feed", "http://releases.example/feed"]
    {
        fs::write(home.config(), format!("auto_update_feed = '{address}'\n")).unwrap();
        let Said { out, err, code } = home.run(&["check-update"]);
        assert_eq!((code, out.as_str()), (1, ""), "{address}");
        assert!(err.contains("the address of the release feed is not encrypted: https is wanted"), "{err}");
    }
}

/// Installs where no file may be larger than so many blocks of the shell's.
fn install_within(home: &Home, blocks: u32) -> Said {
    let mut full = Command::new("sh");
    let limited =
        format!("trap '' XFSZ && ulimit -f {blocks} && exec \"$0\" --config \"$1\" check-update --install");
    full.args(["-c", &limited])
        .arg(home.program())
        .arg(home.config())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    said(&mut full)
}

#[test]
fn what_cannot_be_written_is_said_with_its_path_and_in_the_words_of_the_system() {
    // An archive that has no room, and one whose program has none.
    let mut large = broken(&NEXT, "exit 3");
    large.resize(4 * 1024 * 1024, b'\n');
    for (archive, path) in [
        (next_archive(), format!("{}.part", archive_name(&NEXT))),
        (Arc::new(packed(&large)), "/studio-worker".into()),
    ] {
        let home = Home::new(&Feed::with(&NEXT, archive), "");
        let Said { err, code, .. } = install_within(&home, 1024);
        let wanted = format!("{path} can't be written: File too large (os error 27)");
        assert!(code == 1 && err.contains(&wanted), "{err}");
        assert!(!err.contains("broken"), "{err}");
        assert_eq!(home.version(), VERSION);
    }
}

/// As [`archive`], and smaller than what is in it.
fn packed(program: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&*archive(program)).read_to_end(&mut tar).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(&tar).unwrap();
    gz.finish().unwrap()
}

#[test]
fn a_feed_that_is_named_anew_is_asked_at_once() {
    let (studio, none, feed) = (Rig::new(), Feed::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &none, "");
    let config = fs::read_to_string(home.config()).unwrap();
    let rarely = config.replace("auto_update_interval_secs = 1\n", "auto_update_interval_secs = 86400\n");
    assert_ne!(config, rarely);
    fs::write(home.config(), &rarely).unwrap();
    let worker = home.start();
    // It knows when the first one is to be asked.
    let knows = || home.run(&["status", "--json"]).out.contains("nextCheckAt");
    wait(knows, || worker.log());
    home.rewrite(&rarely.replace(&none.url(), &feed.url()));
    worker.logs(&format!("{} is there: it is fetched and checked", *NEXT));
}

/// A version that is no good may have started what does not end with it.
#[test]
fn what_a_version_on_trial_leaves_running_ends_with_its_trial() {
    let does = "exec 3>\"$HOME/held\"; sleep 600 & exec 3>&-; exit 3";
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, does)))));
    let home = Home::at(&studio, &feed, "");
    let held = home.config().with_file_name("held");
    assert!(Command::new("mkfifo").arg(&held).status().unwrap().success());
    // Whoever opens it for writing waits for somebody who reads.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    let mut held = fs::File::options().read(true).custom_flags(nonblocking).open(held).unwrap();
    let worker = home.start();
    worker.logs("is no good: it ended by itself twice");
    // At its end once nobody has it open for writing, and without a word until then.
    let is_over = || matches!(held.read(&mut [0]), Ok(0));
    wait(is_over, || format!("what it started goes on: {}", worker.log()));
}
