//! What is released, and that the updater finds what it looks for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use studio_worker_core::update::feed::Feed;

use crate::{
    Case, cases,
    rig::{Home, write_script},
};

pub(crate) const ALL: &[Case] = cases![|| None;
    an_archive_is_what_the_updater_finds
    the_same_program_gives_the_same_archive
    a_program_of_another_version_is_not_released
    the_units_of_the_package_and_of_the_program_are_the_same
];

const VERSION: &str = studio_worker::VERSION;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The target triple of this machine.
pub(crate) fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// The script that releases, with a stand-in of the program.
pub(crate) fn release(home: &Home, out: &str) -> Command {
    let program = home.path("program");
    if !program.exists() {
        write_script(&program, &format!("echo studio-worker {VERSION}"));
    }
    let mut command = Command::new(repository().join("cli/packaging/release"));
    command.arg("--out").arg(home.path(out)).arg("--program").arg(program);
    // As a clone has it, and as an archive of the sources.
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    command
}

pub(crate) fn made(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn fails(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The files in a folder, as a feed lists them.
pub(crate) fn feed(folder: &Path) -> Feed {
    let assets = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        json!({
            "name": name,
            "size": entry.metadata().unwrap().len(),
            "state": "uploaded",
            "browser_download_url": format!("https://releases.example/{name}"),
        })
    });
    let assets: Vec<_> = assets.collect();
    let release = json!({ "tag_name": format!("v{VERSION}"), "assets": assets });
    Feed::parse(release.to_string().as_bytes()).unwrap()
}

fn an_archive_is_what_the_updater_finds() {
    let home = Home::with("");
    for target in [&*host(), "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"] {
        let mut command = release(&home, target);
        command.args(["--target", target]);
        made(command);
        let feed = feed(&home.path(target));
        let package = feed.releases()[0].package(target).unwrap();
        let hash = fs::read_to_string(home.path(target).join(&package.sha256.name)).unwrap();
        let (hash, name) = hash.split_once("  ").unwrap();
        assert_eq!((hash.len(), name.trim_end()), (64, &*package.archive.name));
        assert!(package.minisig.is_none());
        let checked = Command::new("sha256sum")
            .args(["--check", "--quiet", &package.sha256.name])
            .current_dir(home.path(target))
            .status()
            .unwrap();
        assert!(checked.success());
    }
    let archive = home.path(&host()).join(format!("studio-worker-{VERSION}-{}.tar.gz", host()));
    let listed = Command::new("tar").arg("-tvzf").arg(archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let entries: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<_> = entries.iter().map(|entry| entry[entry.len() - 1]).collect();
    assert_eq!(names, ["CHANGELOG.md", "LICENSE", "README.md", "studio-worker"]);
    assert!(entries.iter().all(|entry| entry[1] == "0/0"), "{listed}");
    assert_eq!((entries[3][0], entries[1][0]), ("-rwxr-xr-x", "-rw-r--r--"));
}

fn the_same_program_gives_the_same_archive() {
    let home = Home::with("");
    let archive = |out: &str| {
        made(release(&home, out));
        let name = format!("studio-worker-{VERSION}-{}.tar.gz", host());
        fs::read(home.path(out).join(name)).unwrap()
    };
    let first = archive("first");
    // Made anew, at another time.
    let copied = Command::new("cp").args([home.path("program"), home.path("other")]).status();
    assert!(copied.unwrap().success());
    fs::rename(home.path("other"), home.path("program")).unwrap();
    assert!(first == archive("second"), "they differ");
}

fn a_program_of_another_version_is_not_released() {
    let home = Home::with("");
    write_script(&home.path("program"), "echo studio-worker 0.0.1");
    let said = fails(release(&home, "out"));
    assert!(said.contains("`studio-worker 0.0.1`") && said.contains(VERSION), "{said}");
    let mut command = release(&home, "out");
    command.arg("--sign");
    assert!(fails(command).contains("--sign is not known"));
}

fn the_units_of_the_package_and_of_the_program_are_the_same() {
    let home = Home::with("label = 'x'\n");
    let ours = home.prints(&["install-service", "--system", "--print"]);
    let packaged =
        fs::read_to_string(repository().join("cli/packaging/debian/studio-worker.service")).unwrap();
    // Where things lie is what differs.
    let places = [
        "ExecStart=",
        "ExecCondition=",
        "EnvironmentFile=",
        "User=",
        "ReadWritePaths=",
        "BindPaths=",
        "BindReadOnlyPaths=",
        "StateDirectory",
    ];
    let rest = |unit: &str| {
        let lines = unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines = lines.filter(|line| !places.iter().any(|place| line.starts_with(place)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rest(&ours), rest(&packaged));
    let line = packaged.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_eq!(line, "/usr/bin/studio-worker --config /var/lib/studio-worker/config.toml run --service");
    // What the package starts with is a configuration, and it leaves the program to the package manager.
    for made in ["debian/config.toml", "container.toml"] {
        let text = fs::read_to_string(repository().join("cli/packaging").join(made)).unwrap();
        let config = studio_worker::config::Config::parse(&text, Path::new(made)).unwrap();
        assert!(!config.auto_update_enabled && config.api_base_url.is_none(), "{made}");
    }
}
