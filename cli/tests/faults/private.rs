//! Who may look at what the program makes: nobody else, whatever its `umask` is.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;
use studio_worker_core::{
    conformance::{Scene, Start, TestStudio},
    worker::Identity,
};

use crate::{Test, program::Program, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    what_a_worker_makes_is_its_owners_alone
    what_is_downloaded_is_its_owners_alone
    what_a_studio_makes_is_its_owners_alone
};

/// Whatever is made may be read and written by everybody, as far as the system has a say in it.
const OPEN: &str = "umask 000 && exec \"$0\" \"$@\"";

/// All that is below a folder; fails for what others could look at.
fn made_in(folder: &Path) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // It may be gone again.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let bits = metadata.permissions().mode() & 0o777;
        assert_eq!(bits & 0o077, 0, "{} has the mode {bits:o}", path.display());
        made.push(path.clone());
        if metadata.is_dir() {
            made.extend(made_in(&path));
        }
    }
    made
}

fn expect(made: &[PathBuf], endings: &[&str]) {
    for ending in endings {
        let is_it = |path: &PathBuf| path.to_string_lossy().contains(ending);
        assert!(made.iter().any(is_it), "nothing like {ending} in {made:?}");
    }
}

fn what_a_worker_makes_is_its_owners_alone(on: &'static str) {
    let studio = TestStudio::new();
    let start = Start { base: &studio.base(), identity: Identity::default(), held: false };
    // What it draws is in a file of its own when it ends; the program that draws leaves it open to all.
    let more = r#"
engine = "command"
[[commands]]
kind = "image"
models = ["m"]
program = "sh"
args = ["-c", 'printf "\211PNG\r\n\032\n\000\000\000\rIHDR\000\000" > "$1"', "sh", "{output}"]
ext = "png"
"#;
    let shell = format!(
        "chmod 600 \"$HOME\"/config.toml && mkdir -m 700 \"$HOME\"/tmp && export TMPDIR=\"$HOME\"/tmp && {OPEN}"
    );
    let program = Program::start_with(on, &start, more, &shell);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio
        .request()
        .answer_json(200, &json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-1" }));
    let mut session = studio.session();
    let mut offer = studio_worker_core::conformance::offer("j-1", "image", "a fox");
    offer["claim"]["model"] = json!("m");
    session.send(&offer);
    session.expect("accept", "j-1");
    let mut upload = studio.request();
    let made = made_in(program.home());
    expect(&made, &["/config.toml", "/.config.toml.lock", "/.config.toml.run", "/tmp/studio-worker-"]);
    upload.body();
    upload.answer(204, "", "");
    let ended = Scene { studio, worker: Box::new(program) }.drained(&mut session);
    ended.expect_jobs(&[("j-1", true)]);
}

fn open_program(home: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", OPEN, env!("CARGO_BIN_EXE_studio-worker")])
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Begins to try a model whose file is at `base`, for a server that does not start; the file goes to the folder `made`.
pub(crate) fn downloads(on: &str, home: &Path, base: &str) -> Command {
    let folder = home.join("made/models");
    let config = format!(
        "engine = \"llama-cpp\"\nllama_server = \"false\"\nallow_private_inputs = true\nmodels_root = \"{}\"\n",
        folder.display()
    );
    fs::write(home.join("config.toml"), config).unwrap();
    let file = json!({ "role": "model", "url": format!("{base}/m.gguf"), "filename": "m.gguf" });
    let defaults = json!({ "cfgScale": 1.0, "steps": 1, "width": 64, "height": 64 });
    let source = json!({ "engine": "llama-cpp", "files": [file], "cliDefaults": defaults });
    fs::write(home.join("source.json"), source.to_string()).unwrap();
    let mut command = open_program(home);
    command
        .current_dir(home)
        .args(["--config", "config.toml", "--runtime", on, "try", "llm", "--model", "m"])
        .args(["--param", "prompt=hello", "--model-source", "source.json"]);
    command
}

fn what_is_downloaded_is_its_owners_alone(on: &'static str) {
    let files = TestStudio::new();
    let home = tempfile::tempdir().unwrap();
    let mut trying = downloads(on, home.path(), &files.base()).spawn().unwrap();
    files.request().answer(200, "", "GGUF and so on");
    assert_eq!(trying.wait().unwrap().code(), Some(1));
    let made = home.path().join("made");
    let bits = fs::metadata(&made).unwrap().permissions().mode();
    assert_eq!(bits & 0o777, 0o700);
    expect(&made_in(&made), &["m.gguf", "/.studio-worker/", ".lock", ".json"]);
}

/// Also in a folder that was there, and is open to all; with a token, as there is where others may ask.
fn what_a_studio_makes_is_its_owners_alone(_: &'static str) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let mut studio = open_program(home.path())
        .args(["studio", "--listen", "0.0.0.0:0", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(studio.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let made = made_in(&data);
    studio.kill().unwrap();
    studio.wait().unwrap();
    expect(&made, &["/studio.lock", "/studio.sqlite", "/studio.sqlite-wal", "/results", "/admin-token"]);
}
