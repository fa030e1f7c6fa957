//! What managers are given, read back as they read it, and the order in which they are asked.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum as _;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    account::Account,
    ask::Programs,
    description::Service,
    launchd::{self, Launchd},
    systemd,
    windows::{self, Tasks},
};
use crate::{config::Config, runtimes::Runtime};

fn account() -> Account {
    Account { name: "alice".into(), home: "/home/alice".into(), ids: Some((4_294_000_001, 1)) }
}

fn service(program: &str, path: &str, config: &str, on: Runtime, system: bool) -> Service {
    let config = Config::parse(config, Path::new(path)).unwrap();
    Service::made(program.into(), Path::new(path), &config, on, system, &account(), Path::new("/home/me"))
        .unwrap()
}

fn plain(system: bool) -> Service {
    service(
        "/opt/w/studio-worker",
        "/home/alice/c/config.toml",
        "memory_max_gb = 24",
        Runtime::default(),
        system,
    )
}

/// The values of a key in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Reads words as systemd does: quotes, backslashes, and `%%`. Whatever else it would make something of is an error.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut rest) = (Vec::new(), line.chars().peekable());
    while let Some(first) = rest.next() {
        let (quoted, mut word) = (first == '"', String::new());
        let mut next = if quoted { rest.next() } else { Some(first) };
        loop {
            match next {
                None if quoted => return None,
                None => break,
                Some('"') if quoted => break,
                Some(' ') if !quoted => break,
                Some('\\') => word.push(rest.next().filter(|character| "\\\"".contains(*character))?),
                Some('%') => word.push(rest.next_if_eq(&'%')?),
                Some('\'' | '"' | ';') if !quoted => return None,
                Some(character) if character.is_control() => return None,
                Some(character) => word.push(character),
            }
            next = rest.next();
        }
        if quoted && rest.next().is_some_and(|behind| behind != ' ') {
            return None;
        }
        words.push(word);
    }
    Some(words)
}

/// The command line of a unit, as systemd runs it.
fn command_line(unit: &str) -> Option<Vec<String>> {
    let line = values(unit, "ExecStart")[0];
    match line.strip_prefix(':') {
        Some(line) => words(line),
        None if line.contains('$') => None,
        None => words(line),
    }
}

/// The texts in elements of that name, read as XML.
fn texts(xml: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inner = xml.split(&*open).skip(1).map(|rest| rest.split(&*close).next().unwrap());
    let read = |text: &str| {
        assert!(!text.contains(['<', '>']), "{text}");
        let mut parts = text.split('&');
        let mut read = parts.next().unwrap().to_owned();
        for part in parts {
            let (entity, rest) = part.split_once(';').unwrap();
            read.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                other => panic!("&{other};"),
            });
            read.push_str(rest);
        }
        read
    };
    inner.map(read).collect()
}

/// Splits a command line as programs on Windows do.
fn windows_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut within, mut backslashes) = (Vec::new(), None::<String>, false, 0);
    for character in line.chars() {
        if character == '\\' {
            backslashes += 1;
            word.get_or_insert_default();
            continue;
        }
        let slashes = if character == '"' { backslashes / 2 } else { backslashes };
        let escaped = backslashes % 2 == 1;
        if backslashes > 0 {
            word.get_or_insert_default().push_str(&"\\".repeat(slashes));
            backslashes = 0;
        }
        match character {
            '"' if escaped => word.get_or_insert_default().push('"'),
            '"' => {
                within = !within;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !within => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    if let Some(word) = &mut word {
        word.push_str(&"\\".repeat(backslashes));
    }
    words.extend(word);
    words
}

fn path() -> impl Strategy<Value = String> {
    // What is special to anybody, and what isn't.
    "(/[a-z%$\"'\\\\ ;&<>{}\\[\\]*?=:,@#!|ä漢🦀-]{1,12}){1,4}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_manager_starts_what_was_meant(program in path(), config in path(), system: bool) {
        let other = *Runtime::value_variants().iter().find(|other| **other != Runtime::default()).unwrap();
        let mut service = service(&program, &config, "", other, system);
        service.path = (!system).then(|| program.clone());
        let meant = [&*program, "--config", &config, "--runtime", other.name(), "run", "--service"];

        let unit = systemd::unit(&service);
        prop_assert_eq!(command_line(&unit), Some(meant.map(str::to_owned).to_vec()), "{}", unit);
        for folder in values(&unit, "ReadWritePaths") {
            let folder = words(folder).unwrap_or_default();
            let [folder] = &folder[..] else { panic!("{unit}") };
            prop_assert!(service.writable.contains(&folder.strip_prefix('-').unwrap().to_owned()));
        }
        let environment = values(&unit, "Environment").first().and_then(|line| words(line));
        prop_assert_eq!(environment, service.path.as_ref().map(|path| vec![format!("PATH={path}")]));
        let file = values(&unit, "EnvironmentFile")[0].strip_prefix('-').unwrap();
        let mut read = String::new();
        let mut characters = file.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => read.push(characters.next().unwrap()),
                '%' => read.extend(characters.next().filter(|next| *next == '%')),
                other => {
                    prop_assert!(!"*?[]".contains(other), "a pattern: {file}");
                    read.push(other);
                }
            }
        }
        prop_assert_eq!(&read, &service.environment);

        let plist = launchd::plist(&service);
        let array = plist.split("<array>").nth(1).unwrap().split("</array>").next().unwrap();
        prop_assert_eq!(texts(array, "string"), meant);
        prop_assert!(system || texts(&plist, "string").contains(&program));

        let task = windows::task(&service);
        prop_assert_eq!(texts(&task, "Command"), [&*program]);
        prop_assert_eq!(windows_words(&texts(&task, "Arguments")[0]), &meant[1..]);
    }
}

#[test]
fn a_unit_is_bounded_hardened_and_waits_for_what_it_must() {
    for system in [false, true] {
        let unit = systemd::unit(&plain(system));
        let target = if system { "multi-user.target" } else { "default.target" };
        for (key, value) in [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("TimeoutStartSec", "infinity"),
            ("StartLimitIntervalSec", "0"),
            ("Restart", "on-failure"),
            ("KillMode", "mixed"),
            ("NoNewPrivileges", "yes"),
            ("PrivateTmp", "yes"),
            ("ProtectSystem", if system { "strict" } else { "full" }),
            ("MemoryMax", "24G"),
            ("EnvironmentFile", "-/home/alice/c/environment"),
            ("ExecStart", "/opt/w/studio-worker --config /home/alice/c/config.toml run --service"),
            ("WantedBy", target),
        ] {
            assert_eq!(values(&unit, key), [value], "{unit}");
        }
        let after = values(&unit, "After")[0];
        assert!(after.split(' ').any(|unit| unit == target), "its target must not wait for it: {after}");
        assert_eq!(after.contains("network-online.target"), system);
        assert_eq!(values(&unit, "ProtectHome"), if system { &["read-only"][..] } else { &[] });
        assert_eq!(values(&unit, "User"), if system { &["alice"][..] } else { &[] });
        let drain = studio_worker_core::worker::Options::new(
            studio_worker_core::worker::Settings::new(
                studio_worker_core::wire::ApiBase::parse("http://s").unwrap(),
                studio_worker_core::worker::Identity::default(),
            ),
            "t",
        )
        .drain_time;
        let stop: u64 = values(&unit, "TimeoutStopSec")[0].parse().unwrap();
        assert!(stop > drain.as_secs(), "{stop}");
        // GPUs are devices, and their compilers write what they run. A protected clock would close devices, too.
        for key in ["PrivateDevices", "MemoryDenyWriteExecute", "ProtectClock", "DevicePolicy", "DeviceAllow"]
        {
            assert!(values(&unit, key).is_empty(), "{key}");
        }
        let written = values(&unit, "ReadWritePaths");
        assert_eq!(
            written,
            [
                "-/home/alice/c",
                "-/home/alice/.local/share/minis-studio-worker",
                "-/home/alice/.cache",
                "-/home/alice/.nv"
            ],
            "the program's folder is not the user's"
        );
    }
    let unbounded = service("/w", "/c/config.toml", "memory_max_gb = 0", Runtime::default(), false);
    assert!(values(&systemd::unit(&unbounded), "MemoryMax").is_empty(), "nothing is no bound");
}

#[test]
fn what_lies_among_temporary_files_is_still_seen() {
    let unit = systemd::unit(&service(
        "/var/tmp/a:b/worker",
        "/tmp/it is/config.toml",
        "",
        Runtime::default(),
        false,
    ));
    assert_eq!(values(&unit, "BindPaths"), ["\"-/tmp/it is\""]);
    assert_eq!(values(&unit, "BindReadOnlyPaths"), ["\"-/var/tmp/a:b\""]);
    assert!(values(&systemd::unit(&plain(true)), "BindPaths").is_empty());
}

#[test]
fn a_home_in_the_configuration_is_that_of_whoever_runs_it() {
    let service =
        service("/w", "/etc/w/config.toml", "models_root = '/home/me/models'", Runtime::default(), true);
    assert!(service.writable.contains(&"/home/alice/models".to_owned()), "{:?}", service.writable);
}

#[test]
fn what_no_manager_takes_is_an_error_that_says_so() {
    let config = Config::parse("", Path::new("c")).unwrap();
    let made = |program: PathBuf| {
        Service::made(
            program,
            Path::new("/c"),
            &config,
            Runtime::default(),
            false,
            &account(),
            Path::new("/"),
        )
    };
    let error = made("/a\nb".into()).unwrap_err().to_string();
    assert!(error.contains("the program's path") && error.contains("control character"), "{error}");
    let error = made(OsString::from_vec(b"/a\xff".to_vec()).into()).unwrap_err().to_string();
    assert!(error.contains("not UTF-8"), "{error}");
}

#[test]
fn a_line_of_a_user_database_is_read_or_refused() {
    let read = Account::read("alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh\n").unwrap();
    assert_eq!(
        (&*read.name, read.home.to_str().unwrap(), read.ids),
        ("alice", "/home/alice", Some((1000, 1001)))
    );
    let read = Account::read("alice:*:501:20::0:0:Alice:/Users/alice:/bin/zsh").unwrap();
    assert_eq!((read.home.to_str().unwrap(), read.ids), ("/Users/alice", Some((501, 20))));
    for line in ["", "alice", "a:x:1:1:g:home:sh", "a:x:one:1:g:/home:sh", ":::::"] {
        assert!(Account::read(line).is_none(), "{line}");
    }
}

/// A folder with a program of that name, and what it was asked.
struct Fake {
    folder: TempDir,
}

impl Fake {
    fn new(name: &str, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let script = format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$*\" >> asked\n{script}");
        // By another process: what this one has written can't be run while a child of another thread has it open.
        let text = folder.path().join("script");
        fs::write(&text, script).unwrap();
        let written = Command::new("install").args(["-m", "755"]).arg(&text).arg(&path).status().unwrap();
        assert!(written.success());
        Self { folder }
    }

    fn programs(&self) -> Programs {
        Programs { folder: Some(self.folder.path().to_owned()) }
    }

    /// What it was asked since the last time, by its first words.
    fn asked(&self) -> Vec<String> {
        let path = self.folder.path().join("asked");
        let asked = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        asked.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

#[test]
fn launchd_is_asked_in_order_and_its_words_are_passed_on() {
    let fake = Fake::new(
        "launchctl",
        "case $1 in
           print) if [ -e loaded ]; then echo 'state = running'; cat code 2>/dev/null || true; else echo 'Could not find service' >&2; exit 113; fi;;
           bootstrap) if [ -e refuses ]; then echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; fi; touch loaded;;
           bootout) rm loaded;;
         esac",
    );
    let place = tempfile::tempdir().unwrap();
    let launchd = Launchd::within(fake.programs(), place.path());
    let plist = place.path().join("gg.minis.studio-worker.plist");
    let said = launchd.install(&plain(false), &|| true).unwrap();
    assert!(said.contains("it runs"), "{said}");
    assert_eq!(fake.asked(), ["print", "enable", "bootstrap", "print"]);
    assert_eq!(fs::read_to_string(&plist).unwrap(), launchd::plist(&plain(false)));
    // A second time replaces it.
    launchd.install(&plain(false), &|| true).unwrap();
    assert_eq!(fake.asked(), ["print", "bootout", "print", "enable", "bootstrap", "print"]);
    // One that ends at once.
    fs::write(fake.folder.path().join("code"), "\tlast exit code = 1\n").unwrap();
    let error = launchd.install(&plain(false), &|| true).unwrap_err().to_string();
    assert!(error.contains("does not run") && error.contains("last exit code = 1"), "{error}");
    fake.asked();
    assert!(launchd.uninstall().unwrap().starts_with("removed "));
    assert_eq!(fake.asked(), ["print", "bootout", "print"]);
    assert!(!fake.has("loaded") && !plist.exists());
    assert!(launchd.uninstall().unwrap().starts_with("there is no "));
    // One that refuses.
    fs::write(fake.folder.path().join("refuses"), "").unwrap();
    let error = launchd.install(&plain(false), &|| true).unwrap_err().to_string();
    assert!(error.starts_with("`launchctl bootstrap") && error.contains("Bootstrap failed: 5"), "{error}");
}

#[test]
fn the_task_scheduler_is_asked_in_order_and_its_words_are_passed_on() {
    let fake = Fake::new(
        "schtasks",
        "case $1 in
           /Query) test -e task || { echo 'ERROR: The system cannot find the file specified.' >&2; exit 1; };;
           /Create) cp \"$5\" task;;
           /Run) if [ -e refuses ]; then echo 'ERROR: Access is denied.' >&2; exit 1; fi; touch running;;
           /End) rm -f running;;
           /Delete) rm task;;
         esac",
    );
    let tasks = Tasks::new(fake.programs());
    let runs = || fake.has("running");
    assert!(tasks.install(&plain(false), &runs).unwrap().contains("it runs"));
    assert_eq!(fake.asked(), ["/Query", "/Create", "/Run"]);
    let written = fs::read(fake.folder.path().join("task")).unwrap();
    let units: Vec<_> = written.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    assert_eq!(String::from_utf16(&units).unwrap(), format!("\u{feff}{}", windows::task(&plain(false))));
    tasks.install(&plain(false), &runs).unwrap();
    assert_eq!(fake.asked(), ["/Query", "/End", "/Create", "/Run"], "a second time replaces it");
    assert!(tasks.uninstall().unwrap().starts_with("removed "));
    assert_eq!(fake.asked(), ["/Query", "/End", "/Delete", "/Query"]);
    assert!(!fake.has("running"));
    assert!(tasks.uninstall().unwrap().starts_with("there is no "));
    fs::write(fake.folder.path().join("refuses"), "").unwrap();
    let error = tasks.install(&plain(false), &runs).unwrap_err().to_string();
    assert!(error.starts_with("`schtasks /Run") && error.contains("Access is denied"), "{error}");
}
