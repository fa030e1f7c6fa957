//! `try`, `engines` and `demo --engine`, as a person uses them before going online.

use std::fs;

use serde_json::{Value, json};

use crate::{Case, cases, rig::Place};

pub(crate) const ALL: &[Case] = cases![&[];
    a_job_is_tried_without_a_studio
    what_can_not_be_tried_is_said
    what_is_served_and_missing_is_listed
    the_demo_plays_with_a_real_engine
];

const CONFIG: &str = r#"
engine = "multi"
engines = ["command", "sd-cpp", "synthetic"]
sd_cli = "/nowhere/sd-cli"

[[commands]]
kind = "audio_tts"
models = ["recorder"]
program = "sh"
args = ["-c", "printf 'RIFF$\\0\\0\\0WAVEfmt %s' \"$1\" > \"$2\"", "sh", "{text}", "{output}"]

[[commands]]
kind = "audio_stt"
models = ["listener", "other"]
program = "sh"
args = ["-c", "tail -c +17 \"$1\"", "sh", "{input}"]

[[commands]]
kind = "llm"
models = ["parrot"]
program = "/nowhere/parrot"
"#;

fn a_job_is_tried_without_a_studio(on: &'static str) {
    let place = Place::new(on, CONFIG);
    let said = place.says(&["try", "audio_tts", "--param", "text=hello there", "--out", "a.wav"]);
    assert!(said.starts_with("a.wav: 27 bytes by recorder in "), "{said}");
    assert_eq!(fs::read(place.path("a.wav")).unwrap(), b"RIFF$\0\0\0WAVEfmt hello there");
    // A file is an input; a text is printed.
    assert_eq!(place.says(&["try", "audio_stt", "--param", "input_url=a.wav"]), "hello there\n");
    place.says(&["try", "audio_stt", "--model", "other", "--param", "inputUrl=a.wav", "--out", "t.json"]);
    let transcript: Value = serde_json::from_slice(&fs::read(place.path("t.json")).unwrap()).unwrap();
    assert_eq!(transcript["text"], "hello there");
    // Without a name, a new one each time.
    for name in ["try-image-1.png", "try-image-2.png"] {
        assert!(
            place.says(&["try", "image", "--param", "width=64", "--param", "height=64"]).starts_with(name)
        );
        assert_eq!(image::open(place.path(name)).unwrap().width(), 64);
    }
    assert!(place.leftovers().is_empty(), "{:?}", place.leftovers());
}

fn what_can_not_be_tried_is_said(on: &'static str) {
    let place = Place::new(on, CONFIG);
    for (args, wanted) in [
        (
            &["try", "audio_tts", "--model", "flux"][..],
            "no engine serves audio_tts with the model \"flux\" here: there is \"recorder\"",
        ),
        (
            &["try", "image", "--engine", "command"],
            "no engine serves image here: `studio-worker engines` says what is missing",
        ),
        (&["try", "image", "--engine", "gradio"], "key `gradio_endpoint_url`"),
        (&["try", "image", "--engine", "warp"], "--engine: \"warp\" is not an engine"),
        (&["try", "image", "--param", "widht=3"], "image jobs have no parameter `widht`"),
        (&["try", "image", "--param", "width=0"], "parameter `width`"),
        (&["try", "audio_stt", "--param", "input_url=nothing.wav"], "the input nothing.wav can't be read"),
        (&["try", "audio_stt", "--param", "input_url=http://10.0.0.1/a.wav"], "private address"),
        (&["try", "image", "--model-source", "nothing.json"], "the input nothing.json can't be read"),
    ] {
        let error = place.fails(args);
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
    assert_eq!(place.run(&["try", "song"]).status.code(), Some(2), "wrong usage");
    assert_eq!(place.run(&["try", "image", "--param", "width"]).status.code(), Some(2));
}

fn what_is_served_and_missing_is_listed(on: &'static str) {
    let place = Place::new(on, CONFIG);
    let said = place.says(&["engines"]);
    for line in ["command     audio_tts  recorder", "command     audio_stt  listener, other"] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
    assert!(!said.contains("llm        parrot"), "{said}");
    for missing in ["command     /nowhere/parrot: ", "sd-cpp      sd-cli: "] {
        assert!(
            said.lines().any(|said| said.starts_with(missing) && said.len() > missing.len() + 10),
            "{said}"
        );
    }
    let listed: Value = serde_json::from_str(&place.says(&["engines", "--json"])).unwrap();
    let service = json!({ "engine": "command", "kind": "audio_tts", "models": ["recorder"] });
    assert!(listed["services"].as_array().unwrap().contains(&service), "{listed}");
    assert_eq!(listed["missing"].as_array().unwrap().len(), 2, "{listed}");
    // What nobody set up is told where every engine is meant.
    let said = Place::new(on, "# nothing\n").says(&["engines"]);
    assert!(said.contains("openai      the key `openai_base_url`: Give the server's address"), "{said}");
}

fn the_demo_plays_with_a_real_engine(on: &'static str) {
    let place = Place::new(on, CONFIG);
    let said = place.says(&["demo", "--engine", "command", "--out", "played"]);
    let spoken = fs::read(place.path("played/speech.wav")).unwrap();
    let heard: Value =
        serde_json::from_slice(&fs::read(place.path("played/transcript.json")).unwrap()).unwrap();
    assert!(
        spoken.ends_with(heard["text"].as_str().unwrap().as_bytes()),
        "{heard}: made from what was spoken"
    );
    assert_eq!(said.lines().filter(|line| line.contains("played/")).count(), 3);
    let page = fs::read_to_string(place.path("played/index.html")).unwrap();
    assert!(page.contains("recorder") && !page.contains("made up"), "{page}");
    assert!(
        page.contains("from a file") && !page.contains("base64"),
        "an input is not shown as it is: {page}"
    );
    let error = place.fails(&["demo", "--engine", "sd-cpp", "--out", "nothing"]);
    assert!(error.contains("serves nothing by itself here"), "{error}");
    assert!(!place.path("nothing").exists());
}
