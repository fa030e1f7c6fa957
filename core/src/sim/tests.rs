//! The committed corpus, and random inputs from a seed.

#![allow(clippy::disallowed_methods, reason = "a test may read its corpus")]

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        println!("{}", path.display());
        body(&data);
        count += 1;
    }
    assert!(count > 0, "no corpus for {target}");
}

#[test]
fn the_corpus_of_frames_replays() {
    replay("frames", frames);
}

#[test]
fn the_corpus_of_sessions_replays() {
    replay("session", session);
}

#[test]
fn random_sessions_keep_every_promise() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..3_000 {
        let mut data = vec![0; 40 + round % 400];
        rng.fill_bytes(&mut data);
        session(&data);
    }
}

/// A session that gets somewhere: random operations, but the usual ones more often.
#[test]
fn plausible_sessions_keep_every_promise() {
    let usual = [0, 2, 3, 4, 5, 6, 13, 16, 20, 20, 31, 31, 8, 9, 19];
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for round in 0..3_000 {
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
