//! What is played: one job of each kind that is served.

use serde_json::{Value, json};
use studio_worker_core::{
    engine::{Models, Service},
    wire::TaskKind,
};

use crate::trial;

/// One job.
pub(super) struct Piece {
    pub(super) kind: TaskKind,
    pub(super) model: String,
    pub(super) task: Value,
    /// The name of its file, without the extension.
    pub(super) file: &'static str,
    /// Whose result it is made from, and the parameter that wants it.
    pub(super) input: Option<(TaskKind, &'static str)>,
}

/// One job of each kind that `services` list a model for. Made-up results are made from made-up inputs; a real engine gets
/// real ones, which other jobs make.
pub(super) fn programme(services: &[Service], made_up: bool) -> Vec<Piece> {
    let model = |kind: TaskKind| {
        let mut listed = services.iter().filter(|service| service.kind == kind);
        listed.find_map(|service| match &service.models {
            // The synthetic engine's own name for a kind stands behind its name for all.
            Models::Listed(models) if made_up => models.last().cloned(),
            Models::Listed(models) => models.first().cloned(),
            Models::Sourced => None,
        })
    };
    let piece = |kind: TaskKind| {
        let mut task = trial::example(kind);
        let (file, input) = match kind {
            TaskKind::Image => {
                if made_up {
                    task["width"] = json!(768);
                }
                ("picture", None)
            }
            TaskKind::Llm => ("chat", None),
            TaskKind::AudioTts => ("speech", None),
            TaskKind::AudioStt if made_up => {
                task["inputUrl"] = json!("https://studio.example/keeper.wav");
                ("transcript", None)
            }
            TaskKind::AudioStt => ("transcript", Some((TaskKind::AudioTts, "inputUrl"))),
            TaskKind::Video => ("video", None),
            TaskKind::Mesh if made_up => {
                task["imageUrl"] = json!("https://studio.example/lighthouse.png");
                task["seed"] = json!(7);
                ("model", None)
            }
            TaskKind::Mesh => ("model", Some((TaskKind::Image, "imageUrl"))),
        };
        let is_had = input.is_none_or(|(of, _)| model(of).is_some());
        model(kind).filter(|_| is_had).map(|model| Piece { kind, model, task, file, input })
    };
    [TaskKind::Image, TaskKind::Llm, TaskKind::AudioTts, TaskKind::AudioStt, TaskKind::Video, TaskKind::Mesh]
        .into_iter()
        .filter_map(piece)
        .collect()
}
