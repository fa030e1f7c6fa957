//! Signatures of what is released, made by minisign itself and found good by what the updater checks them with.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use minisign_verify::{PublicKey, Signature};

use crate::{
    Case, cases,
    release::{fails, feed, host, made, release, repository},
    rig::Home,
};

pub(crate) const ALL: &[Case] = cases![missing;
    each_archive_has_a_signature_that_the_updater_finds_good
    the_password_of_a_key_is_read_from_the_environment
    a_key_that_workers_do_not_have_signs_nothing
    an_archive_that_is_not_what_was_built_is_not_signed
    what_cannot_be_signed_is_said
];

const VERSION: &str = studio_worker::VERSION;

fn missing() -> Option<&'static str> {
    Command::new("minisign").arg("-v").output().is_err().then_some("minisign")
}

/// A home with archives for two targets in `out`.
fn released() -> Home {
    let home = Home::with("");
    for target in [&*host(), "aarch64-apple-darwin"] {
        let mut command = release(&home, "out");
        command.args(["--target", target]);
        made(command);
    }
    home
}

/// Makes a key of a name; its public key.
fn new_key(home: &Home, name: &str, password: Option<&str>) -> String {
    let public = home.path(&format!("{name}.pub"));
    // With little memory, so that a password isn't seconds of computing each time.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 60000; exec minisign -G -p \"$@\"", "sh"]);
    command.arg(&public).arg("-s").arg(home.path(name)).args(password.is_none().then_some("-W"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(password) = password {
        write!(stdin, "{password}\n{password}\n").unwrap(); // it asks twice
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    fs::read_to_string(public).unwrap().lines().last().unwrap().to_owned()
}

/// The script that signs what is in `out`.
fn sign(home: &Home, key: &str) -> Command {
    let mut command = Command::new(repository().join("cli/packaging/sign"));
    // As names are given by hand, and as a workflow has no terminal.
    command.current_dir(home.dir.path()).args(["--key", key, "out"]).stdin(Stdio::null());
    command.env_remove("MINISIGN_PASSWORD");
    command
}

fn signatures(out: &Path) -> Vec<String> {
    let names = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".minisig")).collect()
}

/// Whether what the updater would take for these targets is signed with a key, as the updater checks that.
fn assert_signed(home: &Home, key: &str) {
    let out = home.path("out");
    for target in [&*host(), "aarch64-apple-darwin"] {
        let feed = feed(&out);
        let package = feed.releases()[0].package(target).unwrap();
        let signature = fs::read_to_string(out.join(&package.minisig.unwrap().name)).unwrap();
        let signature = Signature::decode(&signature).unwrap();
        let archive = fs::read(out.join(&package.archive.name)).unwrap();
        PublicKey::from_base64(key).unwrap().verify(&archive, &signature, false).unwrap();
        let comment = signature.trusted_comment();
        assert!(comment.contains(&format!("file:{}", package.archive.name)), "{comment}");
    }
}

fn each_archive_has_a_signature_that_the_updater_finds_good() {
    let home = released();
    let public = new_key(&home, "key", None);
    made(sign(&home, "key"));
    assert_signed(&home, &public);
    // Again, with what workers have.
    let mut command = sign(&home, "key");
    command.args(["--public", &public]);
    made(command);
    assert_signed(&home, &public);
}

fn the_password_of_a_key_is_read_from_the_environment() {
    let home = released();
    let public = new_key(&home, "key", Some("correct horse"));
    for wrong in [None, Some("battery staple")] {
        let mut command = sign(&home, "key");
        command.envs(wrong.map(|wrong| ("MINISIGN_PASSWORD", wrong)));
        let said = fails(command);
        assert!(said.contains("is MINISIGN_PASSWORD its password?"), "{said}");
        assert!(!said.contains("battery staple"), "{said}");
    }
    assert!(signatures(&home.path("out")).is_empty());
    let mut command = sign(&home, "key");
    command.env("MINISIGN_PASSWORD", "correct horse");
    made(command);
    assert_signed(&home, &public);
}

fn a_key_that_workers_do_not_have_signs_nothing() {
    let home = released();
    new_key(&home, "key", None);
    let theirs = new_key(&home, "other", None);
    let mut command = sign(&home, "key");
    command.args(["--public", &theirs]);
    let said = fails(command);
    assert!(said.contains(&format!("is not one of the key {theirs}")), "{said}");
    assert!(signatures(&home.path("out")).is_empty());
}

fn an_archive_that_is_not_what_was_built_is_not_signed() {
    let home = released();
    new_key(&home, "key", None);
    let archive = format!("studio-worker-{VERSION}-{}.tar.gz", host());
    let path = home.path("out").join(&archive);
    let hash = home.path("out").join(format!("{archive}.sha256"));
    let built = fs::read(&path).unwrap();
    fs::write(&path, [&*built, b"more"].concat()).unwrap();
    let said = fails(sign(&home, "key"));
    assert!(said.contains(&format!("{archive} is not what its SHA-256 says")), "{said}");
    fs::write(&path, built).unwrap();
    fs::remove_file(hash).unwrap();
    assert!(fails(sign(&home, "key")).contains(&format!("{archive} has no SHA-256 beside it")));
    assert!(signatures(&home.path("out")).is_empty());
}

fn what_cannot_be_signed_is_said() {
    let home = Home::with("");
    fs::create_dir(home.path("out")).unwrap();
    assert!(fails(sign(&home, "key")).contains("there is no key at key"));
    new_key(&home, "key", None);
    assert!(fails(sign(&home, "key")).contains("there are no archives in out"));
    for (argument, said) in
        [("--keys", "--keys is not known"), ("more", "one folder"), ("--public", "wants a value")]
    {
        let mut command = sign(&home, "key");
        command.arg(argument);
        assert!(fails(command).contains(said));
    }
}
