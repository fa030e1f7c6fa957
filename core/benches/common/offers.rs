//! Offers as a studio of generation 0.4 writes them, in typical sizes.

use serde_json::{Value, json};

/// An offer to measure.
pub(crate) struct Case {
    /// What it is of.
    pub(crate) name: &'static str,
    /// The frame.
    pub(crate) text: String,
}

/// Each kind of task, and long texts.
pub(crate) fn all() -> Vec<Case> {
    let case = |name, engine, model, task| Case { name, text: offer(engine, model, &task) };
    vec![
        case("image", "sd-cpp", "z-image-turbo", image(PICTURE)),
        case("image, a prompt of 8 KiB", "sd-cpp", "z-image-turbo", image(&long())),
        case("llm", "llama-cpp", "qwen3-8b", chat("And with a pinch of salt?")),
        case("llm, a message of 8 KiB", "llama-cpp", "qwen3-8b", chat(&long())),
        case(
            "audio_stt",
            "parakeet",
            "parakeet-tdt-0.6b",
            json!({
                "kind": "audio_stt", "inputUrl": format!("{FILES}/in/take-7.wav?sig=0f1e2d3c4b5a69788796a5b4"),
                "language": "en", "timestamps": "segment", "vad": { "threshold": 0.5, "minSilenceMs": 250 },
            }),
        ),
        case(
            "audio_tts",
            "onnx",
            "kokoro-82m",
            json!({ "kind": "audio_tts", "text": SPEECH, "voice": "af_heart", "ext": "wav", "speed": 1.1,
                "language": "en" }),
        ),
        case(
            "video",
            "sd-cpp",
            "wan-2.2-5b",
            json!({ "kind": "video", "prompt": PICTURE, "negativePrompt": AVOID, "seconds": 4, "width": 832,
                "height": 480, "ext": "mp4", "fps": 16 }),
        ),
        case(
            "mesh",
            "torch",
            "trellis-image-large",
            json!({ "kind": "mesh", "imageUrl": format!("{FILES}/in/hero.png?sig=0f1e2d3c4b5a69788796a5b4"),
                "seed": 4_711, "ext": "glb" }),
        ),
    ]
}

/// The offer of the `n`-th of many jobs, a chat with a prompt of about 40 characters.
pub(crate) fn job(n: usize) -> String {
    let text = offer("llama-cpp", "qwen3-8b", &chat(&prompt(n)));
    text.replace(&format!("{JOB}0000"), &format!("{JOB}{n:04}"))
}

/// Its prompt.
pub(crate) fn prompt(n: usize) -> String {
    format!("What was the weather on day {n:02} at sea?")
}

/// The studio has noted the end of that job.
pub(crate) fn ack(kind: &str, n: usize) -> String {
    json!({ "type": kind, "jobId": format!("{JOB}{n:04}") }).to_string()
}

/// A chat of a few messages, of which `last` is the last.
pub(crate) fn chat(last: &str) -> Value {
    json!({
        "kind": "llm",
        "system": "You answer in one sentence, and you never guess.",
        "messages": [
            { "role": "user", "content": "How long does a dough of yeast rise on a warm day?" },
            { "role": "assistant", "content": "About an hour, until it has doubled in size." },
            { "role": "user", "content": last },
        ],
        "maxTokens": 512, "temperature": 0.7, "topP": 0.95, "stop": ["\n\n", "</s>"],
    })
}

/// A picture with its parameters.
pub(crate) fn image(prompt: &str) -> Value {
    json!({
        "kind": "image", "prompt": prompt, "negativePrompt": AVOID, "width": 1024, "height": 1024, "steps": 8,
        "seed": 1_234_567_890, "ext": "webp", "cfgScale": 1.5, "samplingMethod": "euler",
    })
}

/// An offer frame.
pub(crate) fn offer(engine: &str, model: &str, task: &Value) -> String {
    let file = |role: &str, name: &str, bytes: u64| {
        json!({ "role": role, "url": format!("{FILES}/{model}/{name}"), "filename": name, "approxBytes": bytes,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" })
    };
    let claim = json!({
        "jobId": format!("{JOB}0000"), "gameId": "game_01jdq6tq3x", "assetName": "portraits/hero",
        "model": model, "vramGbEstimate": 7.5, "task": task,
        "modelSource": {
            "engine": engine,
            "files": [
                file("model", "model-q8_0.gguf", 6_276_123_456),
                file("text-encoder", "encoder-q4_k_m.gguf", 2_497_280_256),
                file("vae", "ae.safetensors", 335_304_388),
            ],
            "cliDefaults": { "cfgScale": 1.0, "steps": 8, "width": 1024, "height": 1024, "samplingMethod": "euler",
                "flowShift": 3.0, "offloadToCpu": true, "contextSize": 8192 },
        },
    });
    json!({ "type": "offer", "claim": claim }).to_string()
}

fn long() -> String {
    PICTURE.chars().cycle().take(8 * 1024).collect()
}

const JOB: &str = "job-1a2b3c4d5e6f";
const FILES: &str = "https://files.example/models/resolve/main";
const PICTURE: &str = "A portrait of an old lighthouse keeper at dusk, weathered face lit by the lamp behind him, \
    oilskin coat with brass buttons, soft rain, shallow depth of field, painted in muted blues with a warm rim light";
const AVOID: &str = "blurry, text, watermark, extra fingers, cropped, low contrast";
const SPEECH: &str = "The harbour master closes the gate at nine. Whoever comes later sleeps on the boat, and is \
    woken by the gulls at five.";
