//! The engine `command`: espeak-ng speaks, Whisper hears, ffmpeg films.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    Case, Need, cases, real,
    rig::{Place, queue, quoted, result},
    studio::Studio,
};

pub(crate) const ALL: &[Case] = {
    const NEEDS: &[Need] =
        &[Need::Program("espeak-ng"), Need::Python("whisper"), Need::File("whisper-base/complete")];
    const SPEECH: &[Case] = cases![NEEDS; a_sentence_that_is_spoken_comes_back_as_its_text];
    const FILM: &[Case] = cases![&[Need::Program("ffmpeg")]; ffmpeg_films_what_was_asked_for];
    &[SPEECH[0], FILM[0]]
};

const SENTENCE: &str = "go forward ten meters";

fn a_sentence_that_is_spoken_comes_back_as_its_text(on: &'static str) {
    let [python, script, model] = [
        real::python("whisper").unwrap(),
        real::script("transcribe.py"),
        real::file("whisper-base").unwrap(),
    ];
    let place = Place::new(
        on,
        &format!(
            r#"
engine = "command"

[[commands]]
kind = "audio_tts"
models = ["espeak-ng"]
program = "espeak-ng"
args = ["-w", "{{output}}", ["-v", "{{language}}"], "--", "{{text}}"]
ext = "wav"

[[commands]]
kind = "audio_stt"
models = ["whisper-base"]
program = {}
args = [{}, {}, "{{input}}", "{{language}}"]
"#,
            quoted(&python),
            quoted(&script),
            quoted(&model)
        ),
    );
    let studio = Studio::start();
    let _worker = place.worker(&studio);
    let spoken = queue(
        &studio,
        &json!({ "model": "espeak-ng", "task": { "kind": "audio_tts", "text": SENTENCE, "language": "en" } }),
    );
    let sound = result(&studio, &spoken);
    let wav = hound::WavReader::new(&*sound).unwrap();
    assert!(wav.duration() > wav.spec().sample_rate, "longer than a second");

    // The studio's own address of the result is the input of the next job.
    let job = crate::rig::finished(&studio, &spoken);
    let url = format!("http://{}{}", studio.address(), job["output"]["url"].as_str().unwrap());
    let heard = queue(
        &studio,
        &json!({ "model": "whisper-base", "task": { "kind": "audio_stt", "inputUrl": url, "language": "en" } }),
    );
    let transcript: Value = serde_json::from_slice(&result(&studio, &heard)).unwrap();
    let text = transcript["text"].as_str().unwrap().to_lowercase();
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    assert_eq!(words.join(" ").replace("10", "ten"), SENTENCE, "{transcript}");
    assert_eq!(transcript["language"], "en");
    assert!(place.leftovers().is_empty(), "{:?}", place.leftovers());
}

fn ffmpeg_films_what_was_asked_for(on: &'static str) {
    let place = Place::new(
        on,
        r#"
engine = "command"

[[commands]]
kind = "video"
models = ["mandelbrot"]
program = "ffmpeg"
args = ["-v", "error", "-f", "lavfi", "-i", "mandelbrot=size={width}x{height}:rate=12", "-t", "{seconds}", "-pix_fmt", "yuv420p", "{output}"]

[[commands]]
kind = "video"
models = ["broken"]
program = "ffmpeg"
args = ["-v", "error", "-i", "nothing.mp4", "{output}"]
"#,
    );
    let parameters = ["--param", "width=320", "--param", "height=240", "--param", "seconds=1.5"];
    place.says(&[&["try", "video", "--out", "film.mp4"], &parameters[..]].concat());
    let film = fs::read(place.path("film.mp4")).unwrap();
    assert_eq!(&film[4..8], b"ftyp");
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height,duration"]);
    let probed = probe.args(["-of", "csv=p=0"]).arg(place.path("film.mp4")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&probed.stdout).trim(), "320,240,1.500000");

    let error = place.fails(&["try", "video", "--model", "broken"]);
    assert!(error.contains("exit code") && error.contains("No such file or directory"), "{error}");
    assert!(place.leftovers().is_empty(), "{:?}", place.leftovers());
}
