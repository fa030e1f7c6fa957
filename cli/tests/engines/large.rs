//! A result as large as a film: it passes through no memory.

use std::fs;

use serde_json::json;

use crate::{
    Case, cases,
    rig::{Place, finished, queue, until},
    studio::Studio,
};

pub(crate) const ALL: &[Case] = cases![&[]; a_result_of_a_gibibyte_is_delivered_from_its_file];

const GIB: u64 = 1 << 30;
/// More than this above what it has when it idles is memory that a result has passed through.
const ROOM: u64 = 30 << 20;

/// The most memory that a process has had, in bytes, since this was last reset.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn a_result_of_a_gibibyte_is_delivered_from_its_file(on: &'static str) {
    // A real WAV header in front of zeros, so that its format can be told; most of the file is a hole.
    let script = r"printf 'RIFF\377\377\377\377WAVEfmt ' > $1 && truncate -s 1073741824 $1";
    let place = Place::new(
        on,
        &format!(
            "engine = \"command\"\n[[commands]]\nkind = \"audio_tts\"\nmodels = [\"silence\"]\nprogram = \"sh\"\nargs = [\"-c\", {script:?}, \"sh\", \"{{output}}\"]\n"
        ),
    );
    let studio = Studio::start();
    let worker = place.worker(&studio);
    until("the worker is connected", || worker.log().contains("session open"));
    fs::write(format!("/proc/{}/clear_refs", worker.pid()), "5").unwrap();
    let before = peak(worker.pid());
    let id = queue(&studio, &json!({ "model": "silence", "task": { "kind": "audio_tts", "text": "hush" } }));
    let job = finished(&studio, &id);
    assert_eq!(job["state"], "completed", "{job}");
    assert_eq!(job["output"]["bytes"], GIB, "{job}");
    let grown = peak(worker.pid()).saturating_sub(before);
    assert!(grown < ROOM, "{} MiB more than idle", grown >> 20);
    until("the file is gone", || place.leftovers().is_empty());
}
