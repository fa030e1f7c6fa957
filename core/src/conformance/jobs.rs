//! Jobs to offer, which every host's engine can do.

use serde_json::{Value, json};

/// Bytes of a speech for each character of its text, when it isn't very short: 60 ms of 16 bits at 22,050 Hz.
pub const BYTES_A_CHARACTER: usize = 2_646;

/// An offer of a job of that kind.
pub fn offer(job: &str, kind: &str, prompt: &str) -> Value {
    let task = match kind {
        "image" => json!({ "kind": kind, "prompt": prompt, "width": 64, "height": 64 }),
        "audio_tts" => json!({ "kind": kind, "text": prompt }),
        _ => json!({ "kind": kind, "messages": [{ "role": "user", "content": prompt }] }),
    };
    json!({ "type": "offer", "claim": {
        "jobId": job, "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2, "task": task,
    }})
}

/// An offer of a job whose result has at least that many bytes, up to 20 MB (which take an unoptimised engine seconds).
pub fn offer_of_bytes(job: &str, least: usize) -> Value {
    offer(job, "audio_tts", &"a".repeat(least / BYTES_A_CHARACTER + 1))
}
