//! Recorded exchanges with servers that speak OpenAI's API.

mod chat;
mod picture;
mod sound;
mod trouble;

use alloc::vec::Vec;

use super::{OpenAi, survey};
use crate::engine::{
    contract::Engine as _,
    input::InputPolicy,
    server::Server,
    transcript::{json, play},
};
use serde_json::json;

const BASE: &str = "http://127.0.0.1:8080/v1";
const CHAT: &str = "POST http://127.0.0.1:8080/v1/chat/completions";
const IMAGES: &str = "POST http://127.0.0.1:8080/v1/images/generations";
const SPEECH: &str = "POST http://127.0.0.1:8080/v1/audio/speech";
const TRANSCRIPTIONS: &str = "POST http://127.0.0.1:8080/v1/audio/transcriptions";
const TRANSLATIONS: &str = "POST http://127.0.0.1:8080/v1/audio/translations";
const MODELS: &str = "GET http://127.0.0.1:8080/v1/models";
const KEY: &str = "sk-secret-0123";

fn server() -> Server {
    Server::new(BASE).unwrap().with_key(KEY.into()).unwrap()
}

fn engine() -> OpenAi {
    OpenAi::new(server(), Vec::new(), InputPolicy::default())
}

#[test]
fn a_survey_finds_out_what_a_server_serves() {
    let list = json!({ "object": "list", "data": [
        { "id": "gemma-3", "object": "model", "created": 1, "meta": { "n_params": 270 } },
        { "id": "whisper-1", "task": "automatic-speech-recognition" },
        { "id": "some/voice", "task": "text-to-speech", "type": null },
        { "id": "some/eyes", "type": "vlm" },
        { "id": "flux-schnell" },
        { "id": "nomic-embed-text" },
        { "id": "secretly", "type": "embeddings" },
        { "id": "gemma-3" },
        { "id": "" },
        { "id": "two\nlines" },
        { "id": "x".repeat(201) },
    ]});
    let played = play(survey(&server()), [(MODELS, json(&list))].into());
    assert_eq!(played.asked[0].bearer, Some(KEY.into()));
    let services = played.outcome.unwrap();
    let listed = |kind: &str, models: &[&str]| {
        let found = services.iter().find(|service| service.kind.name() == kind).unwrap();
        let models = models.iter().map(|model| (*model).into()).collect();
        assert_eq!(found.models, crate::engine::Models::Listed(models), "{kind}");
        assert_eq!(found.engine, "openai");
    };
    listed("llm", &["gemma-3", "some/eyes"]);
    listed("audio_stt", &["whisper-1"]);
    listed("audio_tts", &["some/voice"]);
    listed("image", &["flux-schnell"]);
    assert_eq!(services.len(), 4);
    let engine = OpenAi::new(server(), services.clone(), InputPolicy::default());
    assert_eq!((engine.name(), engine.services()), ("openai", services));
}

#[test]
fn a_survey_of_something_else_says_so() {
    let not = "http://127.0.0.1:8080 answers with something that is not a list of models";
    for (body, message) in [
        ("{}", alloc::format!("{not}: {{}}")),
        (r#"{"data":[{"id":7}]}"#, alloc::format!(r#"{not}: {{"data":[{{"id":7}}]}}"#)),
        (r#"{"data":[{"id":"a"}"#, alloc::format!(r#"{not}: {{"data":[{{"id":"a"}}"#)),
        ("", "http://127.0.0.1:8080 answers with nothing, where a list of models was wanted".into()),
    ] {
        play(survey(&server()), [(MODELS, crate::engine::transcript::ok(body))].into()).fails(true, &message);
    }
    let many: Vec<_> = (0..2_000).map(|n| json!({ "id": alloc::format!("model-{n:04}") })).collect();
    let services =
        play(survey(&server()), [(MODELS, json(&json!({ "data": many })))].into()).outcome.unwrap();
    assert!(matches!(&services[0].models, crate::engine::Models::Listed(models) if models.len() == 500));
}
