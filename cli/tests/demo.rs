//! `demo`, as a person starts it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

fn demo(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_studio-worker"))
        .arg("demo")
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env("TMPDIR", home.join("tmp"))
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("tmp")).unwrap();
    home
}

#[test]
fn the_demo_delivers_one_file_of_each_kind() {
    for runtime in ["async-std", "tokio"] {
        delivers_one_file_of_each_kind(runtime);
    }
}

fn delivers_one_file_of_each_kind(runtime: &str) {
    let home = home();
    let start = Instant::now();
    let output = demo(home.path(), &["--runtime", runtime, "--out", "results"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "nothing went wrong, so nothing is said of it");

    let folder = home.path().join("results");
    let picture = image::open(folder.join("picture.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (768, 512));
    let video = fs::File::open(folder.join("video.gif")).unwrap();
    let mut frames = gif::DecodeOptions::new().read_info(video).unwrap();
    assert_eq!((frames.width(), frames.height()), (384, 256));
    let mut count = 0;
    let mut hundredths = 0_u32;
    while let Some(frame) = frames.read_next_frame().unwrap() {
        count += 1;
        hundredths += u32::from(frame.delay);
    }
    assert!(count > 1 && (190..=210).contains(&hundredths), "{count} frames in {hundredths}/100 s");
    let speech = hound::WavReader::open(folder.join("speech.wav")).unwrap();
    assert!(speech.duration() > speech.spec().sample_rate, "longer than a second");
    let model = gltf::Gltf::open(folder.join("model.glb")).unwrap();
    let primitive = model.meshes().next().unwrap().primitives().next().unwrap();
    let reader = primitive.reader(|_| model.blob.as_deref());
    assert!(reader.read_positions().unwrap().count() > 100);
    let json =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    assert!(json("chat.json")["choices"][0]["message"]["content"].is_string());
    assert!(json("transcript.json")["text"].is_string());

    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    for name in ["picture.png", "video.gif", "speech.wav", "model.glb", "chat.json", "transcript.json"] {
        let bytes = fs::metadata(folder.join(name)).unwrap().len();
        assert!(page.contains(&format!("href=\"{name}\"")), "{name}");
        let row = said.lines().find(|line| line.ends_with(name)).unwrap();
        assert!(row.replace(',', "").contains(&format!(" {bytes} ")), "{row}");
    }
    assert!(page.contains("<audio") && page.contains("<canvas") && page.contains("synthetic answer"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 7);
    assert_eq!(fs::read_dir(home.path().join("tmp")).unwrap().count(), 0, "no temporary file is left");
    assert!(!home.path().join(".config").exists(), "the user's own configuration is not touched");
}

#[test]
fn without_a_folder_a_new_one_is_made_each_time() {
    let home = home();
    fs::create_dir(home.path().join("studio-demo-1")).unwrap();
    let output = demo(home.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.path().join("studio-demo-2/index.html").exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_of_one_line() {
    let home = home();
    fs::create_dir(home.path().join("full")).unwrap();
    fs::write(home.path().join("full/mine"), b"x").unwrap();
    for (folder, reason) in [("full", "is not empty"), ("full/mine/in", "can't be used")] {
        let output = demo(home.path(), &["--out", folder]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(fs::read(home.path().join("full/mine")).unwrap(), b"x");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        process::Stdio,
    };
    let home = home();
    let mut child = Command::new(env!("CARGO_BIN_EXE_studio-worker"))
        .arg("demo")
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("TMPDIR", home.path().join("tmp"))
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("studio:"), "{line}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(1), "error: the demo was interrupted\n"));
    assert_eq!(fs::read_dir(home.path().join("tmp")).unwrap().count(), 0);
    assert!(!home.path().join("studio-demo-1").exists());
}
