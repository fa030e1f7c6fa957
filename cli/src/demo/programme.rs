//! What is played: one job of each kind.

use serde_json::{Value, json};
use studio_worker_core::wire::TaskKind;

/// One job.
pub(super) struct Piece {
    pub(super) kind: &'static str,
    pub(super) model: &'static str,
    pub(super) task: Value,
    /// The name of its file, without the extension.
    pub(super) file: &'static str,
}

pub(super) fn programme() -> [Piece; 6] {
    let piece = |kind: TaskKind, model, file, mut task: Value| {
        task["kind"] = kind.name().into();
        Piece { kind: kind.name(), model, task, file }
    };
    [
        piece(
            TaskKind::Image,
            "synthetic-image",
            "picture",
            json!({ "prompt": "a lighthouse on a cliff at dusk", "width": 768, "height": 512, "ext": "png" }),
        ),
        piece(
            TaskKind::Llm,
            "synthetic-llm",
            "chat",
            json!({ "messages": [{ "role": "user", "content": "Describe the lighthouse in two sentences." }] }),
        ),
        piece(
            TaskKind::AudioTts,
            "synthetic-tts",
            "speech",
            json!({ "text": "The lamp is lit, and the sea is calm tonight." }),
        ),
        piece(
            TaskKind::AudioStt,
            "synthetic-stt",
            "transcript",
            json!({ "inputUrl": "https://studio.example/keeper.wav", "language": "en" }),
        ),
        piece(
            TaskKind::Video,
            "synthetic-video",
            "video",
            json!({ "prompt": "waves against the cliff", "seconds": 2.0, "width": 384, "height": 256 }),
        ),
        piece(
            TaskKind::Mesh,
            "synthetic-mesh",
            "model",
            json!({ "imageUrl": "https://studio.example/lighthouse.png", "seed": 7 }),
        ),
    ]
}
