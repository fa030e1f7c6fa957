//! A studio that means no good, and other users of the machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};
use studio_worker_core::conformance::TestStudio;

use crate::{
    Home, Running,
    running::{TOKEN, approved, drain, ends_with, on_each_runtime, run},
    script::write_script,
};

on_each_runtime! {
    what_a_studio_says_steers_no_terminal_and_forges_no_line
    a_token_is_carried_to_no_other_host
    what_a_worker_writes_is_for_its_user_alone
    offers_that_mean_harm_leave_no_trace_and_the_worker_serving
    a_studio_without_encryption_is_warned_of
    #[cfg(target_os = "linux")]
    no_open_file_is_handed_on_to_a_program
}

/// A window's title, a colour, a line like one of ours, and a text that runs backwards.
const HARM: &str =
    "no\u{1b}]0;owned\u{7}\u{9b}31m\r\n[2026-01-01T00:00:00.000Z ERROR studio_worker] forged\u{202e}";

/// Whether a text is made of lines that show what is in them.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}')
        && !text.lines().any(|line| line.starts_with("[2026-01-01"))
}

fn what_a_studio_says_steers_no_terminal_and_forges_no_line(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = run(&home, on);
    let mut session = studio.session();
    session.send(&json!({ "type": HARM }));
    session.send(&json!({ "type": "error", "code": HARM, "message": HARM }));
    session.send(&json!({ "type": "offer", "claim": {
        "jobId": HARM, "gameId": HARM, "assetName": HARM, "model": HARM, "vramGbEstimate": 2,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": HARM }] },
    }}));
    session.expect("reject", HARM);
    drop(session);
    studio.upgrade().refuse(401, HARM);
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(1));
    assert!(is_harmless(&log) && log.contains("forged"), "{log:?}");

    let studio = TestStudio::new();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let worker = run(&home, on);
    studio.request().answer_json(200, &json!({ "requestId": HARM, "status": "pending" }));
    studio.request().answer_json(200, &json!({ "status": "rejected", "reason": HARM }));
    let error = ends_with(worker);
    let status = home.prints(&["status"]);
    assert!(is_harmless(&error) && is_harmless(&status) && status.contains("forged"), "{status:?}");
}

fn a_token_is_carried_to_no_other_host(on: &str) {
    let (studio, other) = (TestStudio::new(), TestStudio::new());
    let lead = format!("Location: {}/elsewhere\r\n", other.base());
    // The session.
    let home = approved(&studio, "");
    let worker = run(&home, on);
    studio.upgrade().refuse_with(307, &lead, "");
    // A result.
    let mut session = studio.session();
    session.offer("j-1", "image", "a fox");
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    assert_eq!(upload.header("authorization"), format!("Bearer {TOKEN}"));
    upload.body();
    upload.answer(307, &lead, "");
    let mut again = studio.request();
    again.body();
    again.answer(200, "", "");
    drain(worker, &mut session);
    // A registration, and the secret of its poll.
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let worker = run(&home, on);
    studio.request().answer(307, &lead, "");
    worker.signal("-TERM");
    worker.ends();
    let worker = run(&home, on);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio.request().answer(307, &lead, "");
    worker.signal("-TERM");
    worker.ends();
    assert!(!other.has_request() && !other.has_upgrade());
}

fn what_a_worker_writes_is_for_its_user_alone(on: &str) {
    fn look(folder: &Path, seen: &mut Vec<String>) {
        // What a save has just moved or removed is no matter.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let mode = metadata.permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
            seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
            if path.is_dir() {
                look(&path, seen);
            }
        }
    }
    let studio = TestStudio::new();
    let home = Home::new();
    let base = studio.base();
    // Where it is when nothing is named, which the program makes itself.
    let set = home.bare().args(["register", "--api-base-url", &base]).status().unwrap();
    assert!(set.success());
    let worker = Running::start(home.bare().args(["--runtime", on, "run"]));
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio
        .request()
        .answer_json(200, &json!({ "status": "approved", "workerId": "w-1", "authToken": TOKEN }));
    let mut session = studio.session();
    let mut seen = Vec::new();
    look(home.dir.path(), &mut seen);
    drain(worker, &mut session);
    look(home.dir.path(), &mut seen);
    assert!(seen.iter().any(|name| name == "config.toml"), "{seen:?}");
}

fn offers_that_mean_harm_leave_no_trace_and_the_worker_serving(on: &str) {
    let studio = TestStudio::new();
    let home = Home::new();
    let models = home.dir.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(home.dir.path().join("private"), "of the user").unwrap();
    // A stand-in that would draw, were it asked to.
    let drawn = home.dir.path().join("drawn");
    let program = home.dir.path().join("sd-cli");
    write_script(&program, &format!(": > '{}'", drawn.display()));
    let config = format!(
        "api_base_url = '{}'\nworker_id = 'w-1'\nauth_token = '{TOKEN}'\nmodels_root = '{}'\nsd_cli = '{}'\n",
        studio.base(),
        models.display(),
        program.display()
    );
    fs::write(home.config(), config).unwrap();
    let worker = run(&home, on);
    let mut session = studio.session();
    let harmless = "https://files.example/model.safetensors";
    let private = format!("file://{}", home.dir.path().join("private").display());
    let names_and_addresses = [
        ("../private", harmless),
        ("/etc/passwd", harmless),
        ("..\\private", harmless),
        ("a/../../private", harmless),
        (".config.toml.run", harmless),
        ("nul", harmless),
        ("a\u{0}b", harmless),
        ("m.safetensors", private.as_str()),
        ("m.safetensors", "http://169.254.169.254/latest/meta-data/"),
        ("m.safetensors", "https://10.0.0.1/m"),
        ("m.safetensors", "https://[::ffff:192.168.0.1]/m"),
        ("m.safetensors", "https://user:pass@files.example/m"),
        ("m.safetensors", "http://files.example/m"),
        ("m.safetensors", "ftp://files.example/m"),
    ];
    for (n, (filename, url)) in names_and_addresses.into_iter().enumerate() {
        let id = format!("j-{n}");
        session.send(&json!({ "type": "offer", "claim": {
            "jobId": id, "gameId": "g", "assetName": "a", "model": "m", "vramGbEstimate": 2,
            "task": { "kind": "image", "prompt": "p", "width": 64, "height": 64, "steps": 1, "ext": "png" },
            "modelSource": {
                "engine": "sd-cpp",
                "files": [{ "role": "model", "url": url, "filename": filename }],
                "cliDefaults": { "cfgScale": 1, "steps": 1, "width": 64, "height": 64 },
            },
        }}));
        session.expect("accept", &id);
        let failed = session.expect("fail", &id);
        assert_eq!(failed["retryable"], false, "{filename} {url}: {failed}");
        session.send(&json!({ "type": "failAck", "jobId": id }));
    }
    // Deeper than any reader should follow.
    let deep = format!("{{\"type\":\"offer\",\"claim\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    session.send_message(tungstenite::Message::text(deep));
    session.offer("last", "llm", "still there?");
    session.expect("accept", "last");
    let done = session.expect("completeJson", "last");
    assert_eq!(done["prompt"], "still there?");
    session.send(&json!({ "type": "completeAck", "jobId": "last" }));
    drain(worker, &mut session);
    assert_eq!(fs::read_to_string(home.dir.path().join("private")).unwrap(), "of the user");
    assert!(!drawn.exists());
    let left: Vec<Value> = fs::read_dir(&models)
        .unwrap()
        .map(|entry| json!(entry.unwrap().file_name().to_string_lossy()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_studio_without_encryption_is_warned_of(on: &str) {
    // Nothing is reached from here: no name is looked up, since there is no such proxy.
    let home = Home::with(&format!(
        "api_base_url = 'http://studio.example'\nworker_id = 'w-1'\nauth_token = '{TOKEN}'\n"
    ));
    let mut worker =
        Running::start(home.program(&["--runtime", on, "run"]).env("http_proxy", "http://127.0.0.1:9"));
    let line = worker.logs("not encrypted");
    assert!(
        line.contains("WARN") && line.contains("http://studio.example") && line.contains("https"),
        "{line}"
    );
    worker.signal("-KILL");
    worker.ends();

    // On this machine nobody is on the way.
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = run(&home, on);
    let mut session = studio.session();
    assert!(!drain(worker, &mut session).contains("not encrypted"));
}

#[cfg(target_os = "linux")]
fn no_open_file_is_handed_on_to_a_program(on: &str) {
    let studio = TestStudio::new();
    let home = approved(
        &studio,
        "[[commands]]\nkind = 'llm'\nmodels = ['m']\nprogram = 'sh'\nargs = ['-c', 'ls -l /proc/self/fd', '--', '{prompt}']\n",
    );
    let worker = run(&home, on);
    let mut session = studio.session();
    // So that there is a connection for results, too, and whatever else is kept for the next one.
    session.offer("j-1", "image", "a fox");
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    upload.body();
    upload.answer(200, "", "");
    session.offer_until_accepted("j-2");
    session.expect("completeJson", "j-2");
    session.send(&json!({ "type": "completeAck", "jobId": "j-2" }));
    session.send(&json!({ "type": "offer", "claim": {
        "jobId": "j-3", "gameId": "g", "assetName": "a", "model": "m", "vramGbEstimate": 2,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": "p" }] },
    }}));
    session.expect("accept", "j-3");
    let done = session.expect("completeJson", "j-3");
    let said = done["result"]["choices"][0]["message"]["content"].as_str().unwrap();
    session.send(&json!({ "type": "completeAck", "jobId": "j-3" }));
    // Those behind its input, its output and what it says, by their targets, but for the folder that it lists.
    let open = |listed: &str| -> Vec<String> {
        let files = listed.lines().filter_map(|line| line.rsplit_once(" -> "));
        let beyond = files.filter(|(file, target)| {
            ![" 0", " 1", " 2"].iter().any(|own| file.ends_with(own)) && !target.starts_with("/proc/")
        });
        beyond.map(|(_, target)| target.to_owned()).collect()
    };
    // What the tests were started with goes on to all of their children.
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let inherited = open(&String::from_utf8(listed.stdout).unwrap());
    assert!(said.contains(" -> /proc/"), "{said}");
    assert!(open(said).iter().all(|target| inherited.contains(target)), "{said}");
    drain(worker, &mut session);
}
