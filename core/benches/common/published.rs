//! The yardstick: the frames as a plain worker of generation 0.4 reads them, with derived types and nothing checked.
#![allow(dead_code, clippy::large_enum_variant, reason = "what is read is not looked at, and plain")]

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Frame {
    Welcome { worker_id: String, server_time: String },
    Offer { claim: Claim },
    HeartbeatAck,
    CompleteAck { job_id: String },
    FailAck { job_id: String },
    Error { code: String, message: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claim {
    job_id: String,
    game_id: String,
    asset_name: String,
    model: String,
    vram_gb_estimate: f64,
    task: Task,
    model_source: ModelSource,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum Task {
    Image {
        prompt: String,
        #[serde(default = "side")]
        width: u32,
        #[serde(default = "side")]
        height: u32,
        #[serde(default = "steps")]
        steps: u32,
        seed: Option<u64>,
        #[serde(default = "webp")]
        ext: String,
        negative_prompt: Option<String>,
        init_image_url: Option<String>,
        mask_url: Option<String>,
        ref_image_url: Option<String>,
        denoise: Option<f64>,
        cfg_scale: Option<f64>,
        sampling_method: Option<String>,
    },
    Llm {
        messages: Vec<Message>,
        #[serde(default = "max_tokens")]
        max_tokens: u32,
        #[serde(default = "temperature")]
        temperature: f64,
        system: Option<String>,
        top_p: Option<f64>,
        stop: Option<Value>,
        json_schema: Option<Value>,
        reasoning: Option<Value>,
        chat_template_kwargs: Option<Value>,
        #[serde(default)]
        images: Vec<String>,
    },
    AudioStt {
        input_url: String,
        language: Option<String>,
        translate: Option<bool>,
        prompt: Option<String>,
        vad: Option<Value>,
        timestamps: Option<Value>,
    },
    AudioTts {
        text: String,
        #[serde(default = "voice")]
        voice: String,
        #[serde(default = "wav")]
        ext: String,
        speed: Option<f64>,
        language: Option<String>,
    },
    Video {
        prompt: String,
        #[serde(default = "seconds")]
        seconds: f64,
        #[serde(default = "side")]
        width: u32,
        #[serde(default = "side")]
        height: u32,
        #[serde(default = "mp4")]
        ext: String,
        negative_prompt: Option<String>,
        init_image_url: Option<String>,
        fps: Option<u32>,
    },
    Mesh {
        image_url: String,
        seed: Option<u64>,
        #[serde(default = "glb")]
        ext: String,
    },
}

#[derive(Deserialize)]
pub(crate) struct Message {
    role: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSource {
    engine: String,
    files: Vec<ModelFile>,
    cli_defaults: CliDefaults,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelFile {
    role: String,
    url: String,
    filename: String,
    approx_bytes: Option<u64>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CliDefaults {
    cfg_scale: f64,
    steps: u32,
    width: u32,
    height: u32,
    sampling_method: Option<String>,
    pipeline: Option<String>,
    flow_shift: Option<f64>,
    max_vram_gib: Option<f64>,
    lora_weight: Option<f64>,
    zero_cond_t: Option<bool>,
    offload_to_cpu: Option<bool>,
    mmap: Option<bool>,
    low_vram: Option<bool>,
    context_size: Option<u32>,
    resolution: Option<u32>,
    decimation_target: Option<u32>,
    texture_size: Option<u32>,
    chat_template_kwargs: Option<Value>,
    vision: Option<Value>,
}

fn side() -> u32 {
    512
}

fn steps() -> u32 {
    20
}

fn max_tokens() -> u32 {
    512
}

fn temperature() -> f64 {
    0.7
}

fn seconds() -> f64 {
    2.0
}

fn webp() -> String {
    "webp".into()
}

fn voice() -> String {
    "default".into()
}

fn wav() -> String {
    "wav".into()
}

fn mp4() -> String {
    "mp4".into()
}

fn glb() -> String {
    "glb".into()
}

/// Reads a frame.
pub(crate) fn read(text: &str) -> Frame {
    serde_json::from_str(text).expect("the texts that are measured can be read")
}
