//! Jobs for the engines that run programs, with texts and files that bytes choose.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use serde_json::{Value, json};

use super::{
    INPUTS, KEY, SIGNATURE,
    machine::{COMMAND, MODELS},
    server::{Hostile, PNG_BASE64},
};
use crate::{
    engine::{
        command::{Command, Entry, EntryConfig},
        input::InputPolicy,
        llama::LlamaCpp,
        sd::{Loader, SdCpp},
    },
    wire::{Claim, ModelSource, Task, TaskKind},
};

/// Flags that the commands below have.
pub(super) const FLAGS: [&str; 6] = ["-v", "-s", "--size=", "--lang=", "-i", "--"];

const NAMES: [&str; 20] = [
    "m.gguf",
    "p.gguf",
    "style.safetensors",
    "M.GGUF",
    "../m.gguf",
    "a/b.gguf",
    "-rf.gguf",
    "--help",
    ".hidden.gguf",
    "nul.gguf",
    "m.gguf.part",
    "m\0.gguf",
    "m\n.gguf",
    "<lora:x:1>.safetensors",
    "c:\\m.gguf",
    "",
    "..",
    "sd-cli",
    "libstable-diffusion.so",
    "a b.gguf",
];
const ROLES: [&str; 9] = [
    "model",
    "diffusion-model",
    "text-encoder",
    "text-encoder-vision",
    "vae",
    "lora",
    "labels",
    "",
    "--model",
];
const MODEL_NAMES: [&str; 12] =
    ["m-1", "org/m:1", "..", "bin", "llm", "../../etc", "-m", "", ".git", "a\0b", "nul", "é\n"];

/// Any text, without the secrets, which who makes a job doesn't know or may say.
fn lossy(hostile: &mut Hostile<'_>) -> String {
    String::from_utf8_lossy(&hostile.text()).replace(KEY, "a key").replace(SIGNATURE, "a signature")
}

/// One of `from`, or any text.
fn name(hostile: &mut Hostile<'_>, from: &[&str]) -> String {
    let at = usize::from(hostile.byte());
    match from.get(at % (from.len() + 1)) {
        Some(name) => (*name).to_owned(),
        None => lossy(hostile),
    }
}

fn source(hostile: &mut Hostile<'_>, engine: &str) -> ModelSource {
    let urls = [
        "https://hub.test/m.gguf?token=c2lnbmF0dXJl",
        "http://127.0.0.1:9/m",
        "http://hub.test/m",
        "https://10.0.0.1/m",
        "https://u:p@hub.test/m",
        "data:,x",
        "file:///etc/passwd",
    ];
    let files: Vec<Value> = (0..hostile.byte() % 5)
        .map(|_| {
            let sha256 = match hostile.byte() % 4 {
                0 => Value::Null,
                1 => "a5".repeat(32).into(),
                2 => "".into(),
                _ => lossy(hostile).into(),
            };
            json!({ "role": name(hostile, &ROLES), "filename": name(hostile, &NAMES), "url": name(hostile, &urls),
                    "sha256": sha256, "approxBytes": 7 })
        })
        .collect();
    let defaults = match hostile.byte() % 4 {
        0 => json!({}),
        1 => json!({ "contextSize": 0, "steps": 0, "cfgScale": -1, "loraWeight": -3.5e300 }),
        2 => {
            json!({ "contextSize": u32::MAX, "samplingMethod": lossy(hostile), "chatTemplateKwargs": { "a": [1] } })
        }
        _ => {
            json!({ "offloadToCpu": true, "mmap": true, "zeroCondT": true, "maxVramGib": 8, "flowShift": 0.5 })
        }
    };
    let source = json!({ "engine": engine, "files": files, "cliDefaults": defaults });
    serde_json::from_value(source).unwrap_or_else(|error| panic!("{error}"))
}

fn job(model: String, task: &Value, model_source: Option<ModelSource>) -> Option<Claim> {
    // What can't be read is refused before an engine sees it.
    let task = Task::from_json(task).ok()?;
    if model.is_empty() {
        return None;
    }
    Some(Claim { model, model_source, ..super::claim(task) })
}

fn input() -> String {
    format!("{INPUTS}?X-Signature={SIGNATURE}&x=1")
}

fn png() -> String {
    format!("data:image/png;base64,{PNG_BASE64}")
}

/// An engine and a job for `llama-server`.
pub(super) fn llama(
    hostile: &mut Hostile<'_>,
    policy: InputPolicy,
    with_pictures: bool,
) -> (LlamaCpp, Option<Claim>) {
    let engine = LlamaCpp::new(MODELS, policy).with_local(["m-1.gguf"]);
    let images = if with_pictures { vec![png(), input()] } else { Vec::new() };
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": lossy(hostile) }], "images": images });
    let model = name(hostile, &MODEL_NAMES);
    let source = (hostile.byte() & 3 != 3).then(|| source(hostile, LlamaCpp::NAME));
    (engine, job(model, &task, source))
}

/// An engine and a job for `sd-cli`.
pub(super) fn sd(
    hostile: &mut Hostile<'_>,
    policy: InputPolicy,
    with_pictures: bool,
) -> (SdCpp, Option<Claim>) {
    let candidates = vec![format!("{MODELS}/bin/sd-cli"), "sd-cli".to_owned()];
    let engine =
        SdCpp::new(MODELS, candidates, policy).with_loader(Loader::linux(Some("/inherited".to_owned())));
    let ext = ["webp", "png", "jpeg", "tiff"][usize::from(hostile.byte() % 4)];
    let mut task = json!({ "kind": "image", "prompt": lossy(hostile), "negativePrompt": lossy(hostile), "seed": u64::MAX,
                           "ext": ext });
    if with_pictures {
        task["initImageUrl"] = input().into();
        task["maskUrl"] = png().into();
    }
    if hostile.byte() & 1 == 1 {
        task["samplingMethod"] = lossy(hostile).into();
    }
    let model = name(hostile, &MODEL_NAMES);
    let source = source(hostile, SdCpp::NAME);
    (engine, job(model, &task, Some(source)))
}

/// The engine of some commands, and a job for one of them.
pub(super) fn command(
    hostile: &mut Hostile<'_>,
    policy: InputPolicy,
    kind: TaskKind,
) -> (Command, Option<Claim>) {
    let said = lossy(hostile);
    let (args, task) = match kind {
        TaskKind::Image => (
            json!([
                ["-i", "{input}"],
                "--size={width}x{height}",
                ["-s", "{seed}"],
                "{prompt}",
                ["{negative_prompt}"],
                "{output}"
            ]),
            json!({ "prompt": said, "negativePrompt": lossy(hostile), "seed": 7, "initImageUrl": input(), "ext": "png" }),
        ),
        TaskKind::Llm => (
            json!([["{system}"], "{prompt}", "{messages}", ["{json_schema}"]]),
            json!({ "messages": [{ "role": "user", "content": said }], "system": lossy(hostile), "jsonSchema": -1 }),
        ),
        TaskKind::AudioStt => (
            json!(["--lang={language}", ["{prompt}"], "{input}"]),
            json!({ "inputUrl": input(), "language": said, "prompt": lossy(hostile) }),
        ),
        TaskKind::AudioTts => (
            json!([["-v", "{voice}"], ["-s{speed}"], "--", "{text}"]),
            json!({ "text": said, "voice": lossy(hostile), "speed": -2, "ext": "wav" }),
        ),
        TaskKind::Video => (
            json!(["{seconds}", "{prompt}", "{ext}", "{output}"]),
            json!({ "prompt": said, "seconds": 1.5, "ext": "x264" }),
        ),
        TaskKind::Mesh => (json!(["{input}", "{output}"]), json!({ "imageUrl": png(), "ext": "GLB" })),
    };
    let config = json!({ "kind": kind, "models": ["m-1"], "program": COMMAND, "args": args, "stdin": "{model}",
                         "permanent_exit_codes": [-100, 2] });
    let config: EntryConfig = serde_json::from_value(config).unwrap_or_else(|error| panic!("{error}"));
    let entry = Entry::new(config).unwrap_or_else(|error| panic!("{error}"));
    let mut task = task;
    task["kind"] = kind.name().to_string().into();
    (Command::new(vec![entry], policy), job("m-1".to_owned(), &task, None))
}
