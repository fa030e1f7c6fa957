//! The committed corpus, and random inputs from a seed.

#![allow(clippy::disallowed_methods, reason = "a test may read its corpus")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;

type Body = fn(&[u8]);

/// The body of each target.
const BODIES: &[(&str, Body)] = &[
    ("addresses", addresses),
    ("claims", claims),
    ("engines", engines),
    ("feed", feed),
    ("frames", frames),
    ("multipart", multipart),
    ("pair", pair),
    ("registration", registration),
    ("retry_after", retry_after),
    ("session", session),
    ("studio", studio),
];

/// Targets whose bodies replay in the tests of the crate that they live in.
const ELSEWHERE: &[&str] = &["config"];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names of the targets that there are, as `fuzz/Cargo.toml` says.
fn targets() -> Vec<String> {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let names =
        manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split("name = \"").nth(1)?.split('"').next());
    names.map(Into::into).collect()
}

#[test]
fn every_target_has_a_body_and_a_corpus_that_is_small() {
    let targets = targets();
    let known = BODIES.iter().map(|(name, _)| name).chain(ELSEWHERE);
    let mut known: Vec<_> = known.map(ToString::to_string).collect();
    known.sort();
    assert_eq!(targets, known, "fuzz/Cargo.toml lists the targets by name, and each one replays");
    for target in targets {
        let source = fs::read_to_string(fuzz().join("fuzz_targets").join(target.clone() + ".rs")).unwrap();
        assert!(source.contains(&format!("sim::{target}(data)")), "{target} runs another body");
        let files = fs::read_dir(fuzz().join("corpus").join(&target)).map_or(Vec::new(), Iterator::collect);
        let bytes: u64 = files.iter().map(|file| file.as_ref().unwrap().metadata().unwrap().len()).sum();
        assert!((1..150).contains(&files.len()), "{target} has {} inputs", files.len());
        assert!(bytes < 500 * 1024, "the corpus of {target} has {bytes} bytes");
    }
}

#[test]
fn the_corpus_replays() {
    for (target, body) in BODIES {
        for entry in fs::read_dir(fuzz().join("corpus").join(target)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn random_bytes_keep_every_promise() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (target, body) in BODIES {
        // Two whole machines take their time.
        let rounds = if *target == "pair" { 100 } else { 700 };
        for round in 0..rounds {
            let mut data = vec![0; 40 + round % 400];
            rng.fill_bytes(&mut data);
            body(&data);
        }
    }
}

/// A session that gets somewhere: random operations, but the usual ones more often.
#[test]
fn plausible_sessions_keep_every_promise() {
    let usual = [0, 2, 3, 4, 5, 6, 13, 16, 18, 20, 20, 31, 31, 8, 9, 19];
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for round in 0..2_000 {
        let mut data = vec![u8::try_from(round % 256).unwrap_or(0), 0, 0, 2, 0];
        for _ in 0..150 {
            let dice = rng.next_u32();
            let op = if dice % 8 == 0 {
                u8::try_from(dice >> 8 & 31).unwrap_or(0)
            } else {
                usual[usize::try_from(dice >> 8).unwrap_or(0) % usual.len()]
            };
            data.push(op);
            data.push(u8::try_from(rng.next_u32() & 255).unwrap_or(0));
        }
        session(&data);
    }
}
