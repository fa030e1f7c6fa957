//! The rate at which a result of a gibibyte reaches a studio: from each runtime, beside `curl -F` of the same file.
//!
//! `cargo bench -p studio-worker --bench upload` starts the program's studio, plays a worker by hand, and has each of its
//! jobs delivered from the same file, in turns, by curl and by the runtimes. It prints rates and their ratio.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

#[path = "../tests/studio/http.rs"]
#[allow(dead_code, reason = "shared with the tests of the studio")]
mod http;
#[path = "../tests/studio/rig.rs"]
#[allow(dead_code, reason = "shared with the tests of the studio")]
mod rig;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use studio_worker_core::{
    drive::{Progress, Runtime},
    engine::{Payload, SpilledFile},
    wire::{Secret, multipart::Envelope},
    worker::Upload,
};

const BYTES: u64 = 1 << 30;
const ROUNDS: usize = 7;

/// Delivers the file to an address, with a token.
type Way<'a> = &'a dyn Fn(&str, &str);

fn main() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("film.mp4");
    write_film(&file);
    let mut studio = Command::new(env!("CARGO_BIN_EXE_studio-worker"))
        .args(["studio", "--listen", "127.0.0.1:0", "--data"])
        .arg(place.path().join("studio"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(studio.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let rig = rig::Rig::at(line.trim().rsplit('/').next().unwrap().parse().unwrap());
    let worker = rig.register();
    let mut session = rig.connect(&worker);

    let ways: [(&str, Way<'_>); 3] = [
        ("curl -F", &|url, token| curl(url, token, &file)),
        ("async-std", &|url, token| async_std(url, token, &file)),
        ("tokio", &|url, token| tokio(url, token, &file)),
    ];
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for (at, (_, deliver)) in ways.iter().enumerate() {
            session.send(&json!({ "type": "heartbeat", "capabilities": rig::capabilities() }));
            let id = rig.queue(&json!({ "kind": "image", "prompt": "a film", "ext": "mp4" }));
            session.accept();
            let url = format!("http://{}{}", rig.address(), rig::complete(&worker, &id));
            let start = Instant::now();
            deliver(&url, &worker.token);
            let took = start.elapsed();
            assert_eq!(rig.job(&id)["output"]["bytes"], BYTES);
            // The first round warms up.
            if round > 0 {
                rates[at].push(rate(took));
            }
            // Room for the next one.
            let results = place.path().join("studio");
            remove_large(&results);
        }
    }
    studio.kill().unwrap();
    studio.wait().unwrap();

    let medians: Vec<_> = rates.iter_mut().map(|rates| median(rates)).collect();
    println!("a result of {} MiB, {ROUNDS} times each, median:", BYTES >> 20);
    for ((name, _), median) in ways.iter().zip(&medians) {
        println!("{name:<10} {median:>7.0} MiB/s   {:.2} times curl", median / medians[0]);
    }
}

fn rate(took: Duration) -> f64 {
    (BYTES >> 20) as f64 / took.as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A file whose format can be told.
fn write_film(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(b"\0\0\0\x18ftypisom").unwrap();
    let page = vec![0x5a; 1 << 20];
    let mut left = BYTES - 12;
    while left > 0 {
        let piece = left.min(page.len() as u64);
        file.write_all(&page[..usize::try_from(piece).unwrap()]).unwrap();
        left -= piece;
    }
}

/// Deletes results, which nobody wants to read.
fn remove_large(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let data = entry.metadata().unwrap();
        if data.is_dir() {
            remove_large(&entry.path());
        } else if data.len() >= BYTES {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn curl(url: &str, token: &str, file: &Path) {
    let status = Command::new("curl")
        .args(["-sS", "--fail", "-o", "/dev/null", "-H", &format!("Authorization: Bearer {token}")])
        .args(["-F", "prompt=a film", "-F", "ext=mp4", "-F"])
        .arg(format!("image=@{};type=video/mp4", file.display()))
        .arg(url)
        .status()
        .unwrap();
    assert!(status.success());
}

fn upload(url: &str, token: &str, file: &Path) -> Upload {
    let id = url.rsplit('/').nth(1).unwrap();
    let payload = Payload::File(SpilledFile { path: file.to_str().unwrap().into(), bytes: BYTES });
    let envelope = Envelope::new(&id.into(), "a film", "mp4", 7);
    Upload { url: url.into(), bearer: Secret::from(token.to_owned()), envelope, payload }
}

fn async_std(url: &str, token: &str, file: &Path) {
    let runtime = studio_worker_async_std::AsyncStd::new();
    let delivering = runtime.upload(upload(url, token, file), "bench/1".into(), Progress::default());
    let answer = studio_worker_async_std::block_on(delivering).unwrap();
    assert!(answer.is_success(), "{answer:?}");
}

fn tokio(url: &str, token: &str, file: &Path) {
    let runtime = studio_worker_tokio::Tokio::new();
    let delivering = runtime.upload(upload(url, token, file), "bench/1".into(), Progress::default());
    let answer = studio_worker_tokio::block_on(delivering).unwrap().unwrap();
    assert!(answer.is_success(), "{answer:?}");
}
