//! Recorded exchanges with servers that speak OpenAI's API.

mod chat;
mod picture;
mod sound;
mod trouble;

use alloc::{format, vec::Vec};

use super::OpenAi;
use crate::engine::{
    contract::{Engine as _, Missing, Models},
    input::InputPolicy,
    server::Server,
    transcript::{broken, json, ok, play, status},
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
    let played = play(engine().survey().unwrap(), [(MODELS, json(&list))].into());
    assert_eq!(played.asked[0].bearer, Some(KEY.into()));
    let survey = played.outcome.unwrap();
    assert_eq!(survey.missing, []);
    let services = survey.services;
    let listed = |kind: &str, models: &[&str]| {
        let found = services.iter().find(|service| service.kind.name() == kind).unwrap();
        let models = models.iter().map(|model| (*model).into()).collect();
        assert_eq!(found.models, Models::Listed(models), "{kind}");
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
fn a_survey_says_what_is_missing() {
    let not = "http://127.0.0.1:8080 answers with something that is not a list of models";
    for (answer, how) in [
        (ok("{}"), format!("{not}: {{}}")),
        (ok(r#"{"data":[{"id":7}]}"#), format!(r#"{not}: {{"data":[{{"id":7}}]}}"#)),
        (ok(r#"{"data":[{"id":"a"}"#), format!(r#"{not}: {{"data":[{{"id":"a"}}"#)),
        (ok(""), "http://127.0.0.1:8080 answers with nothing, where a list of models was wanted".into()),
        (ok(r#"{"data":[]}"#), {
            "it lists none: load one in it that chats, draws, speaks or listens".into()
        }),
        (
            broken("connection refused"),
            "no answer from http://127.0.0.1:8080: does it run there?: connection refused".into(),
        ),
        (
            status(401, "{}"),
            "http://127.0.0.1:8080 answers 401 to the list of models: check its API key: {}".into(),
        ),
    ] {
        let survey = play(engine().survey().unwrap(), [(MODELS, answer)].into()).outcome.unwrap();
        assert_eq!(survey.services, []);
        let what = "a model of the server at http://127.0.0.1:8080".into();
        assert_eq!(survey.missing, [Missing { engine: "openai".into(), what, how }]);
    }
    let many: Vec<_> = (0..2_000).map(|n| json!({ "id": format!("model-{n:04}") })).collect();
    let list = json(&json!({ "data": many }));
    let services = play(engine().survey().unwrap(), [(MODELS, list)].into()).outcome.unwrap().services;
    assert!(matches!(&services[0].models, Models::Listed(models) if models.len() == 500));
}
