//! What was seen of a real `llama-server` (build 11434, with a Gemma 3 of 270 million weights), and its ends.

#![allow(clippy::needless_pass_by_value, reason = "what a test says is said where it is used")]

use alloc::{format, string::String, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use serde_json::{Value, json};

use super::LlamaCpp;
use crate::{
    engine::{
        contract::{Engine as _, EngineError, Models, Output, Service, Survey},
        input::InputPolicy,
        transcript::{
            PNG, Played, Step, broken, claim, json as answer, ok, play_steps, result, shown, status,
        },
    },
    http::Reach,
    machine::{Ended, ProgramFailure, Serving},
    wire::{Claim, ModelSource, TaskKind},
};

const KEY: &str = "f00dcafe0123456789";
const HEALTH: &str = "GET http://127.0.0.1:18991/health";
const CHAT: &str = "POST http://127.0.0.1:18991/v1/chat/completions";
const LOADING: &str = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
const ANSWER: &str = r#"{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"{\n    \"c\": \"blue\"\n}"}}],"created":1795631838,"model":"m.gguf","system_fingerprint":"b0-unknown","object":"chat.completion","usage":{"completion_tokens":15,"prompt_tokens":26,"total_tokens":41,"prompt_tokens_details":{"cached_tokens":0}},"id":"chatcmpl-4XJ3wGVw58CXTYciEVHEszUMneLaQ72g"}"#;

fn engine() -> LlamaCpp {
    LlamaCpp::new("/models", InputPolicy::default())
}

fn serving() -> Step {
    Step::Serve(Ok(Serving { base: "http://127.0.0.1:18991".into(), key: KEY.into() }))
}

fn died(stderr: &str) -> Step {
    let ended = Ended { code: Some(1), signal: None, stderr: stderr.into() };
    Step::Serve(Err(ProgramFailure::Ended { program: "llama-server".into(), ended }))
}

fn exchange(line: &str, answer: crate::engine::transcript::Answer) -> Step {
    Step::Exchange(line.into(), answer)
}

fn healthy() -> Step {
    exchange(HEALTH, ok(r#"{"status":"ok"}"#))
}

fn weights() -> Value {
    json!({ "role": "model", "url": "https://hub.test/g.gguf?sig=signature-1", "filename": "g.gguf" })
}

fn job(task: Value, files: Value, defaults: Value) -> Claim {
    let mut task = task;
    task["kind"] = "llm".into();
    if task.get("messages").is_none() {
        task["messages"] = json!([{ "role": "user", "content": "A colour" }]);
    }
    let source: ModelSource = serde_json::from_value(json!({
        "engine": "llama-cpp", "files": files, "cliDefaults": defaults,
    }))
    .unwrap();
    Claim { model_source: Some(source), ..claim(&task) }
}

fn play(claim: Claim, steps: Vec<Step>) -> Played<Output> {
    play_steps(engine().recipe(&Arc::new(claim)), steps)
}

fn plain() -> Claim {
    job(json!({}), json!([weights()]), json!({}))
}

fn had() -> Step {
    Step::Have("/models/llm/g.gguf", Ok(()))
}

#[test]
fn a_chat_has_its_files_starts_the_server_waits_and_asks() {
    let task = json!({ "system": "Be brief.", "temperature": -1, "maxTokens": 40, "topP": 0.5, "stop": ["zzz"],
                       "jsonSchema": { "type": "object" }, "chatTemplateKwargs": { "a": 1 }, "reasoning": false });
    let defaults = json!({ "contextSize": 4096, "chatTemplateKwargs": { "a": 2, "b": 3 } });
    let played = play(
        job(task, json!([weights()]), defaults),
        vec![
            had(),
            serving(),
            exchange(HEALTH, broken("connection refused")),
            serving(),
            exchange(HEALTH, status(503, LOADING)),
            serving(),
            healthy(),
            exchange(CHAT, ok(ANSWER)),
        ],
    );
    assert_eq!(played.had[0].copies, ["/models/g.gguf"]);
    assert_eq!(played.had[0].origin.as_ref().unwrap().reach, Reach::Public);
    assert_eq!(played.pauses, [Duration::from_millis(100), Duration::from_millis(100)]);
    assert!(played.served.iter().all(|wanted| *wanted == played.served[0]), "the same server is meant");
    assert_eq!(shown(&played.served[0].program), {
        "LLAMA_API_KEY=(key) llama-server --host 127.0.0.1 --port (port) --model /models/llm/g.gguf --ctx-size 4096 \
         --n-gpu-layers 999 --parallel 1 --no-context-shift --jinja"
    });
    assert_eq!(played.served[0].idle, LlamaCpp::IDLE);
    assert!(played.asked.iter().all(|request| request.reach == Reach::Loopback));
    assert_eq!((&played.asked[0].bearer, &played.asked[3].bearer), (&None, &Some(KEY.into())));
    assert_eq!(
        played.json(3),
        json!({
            "model": "m-1", "max_tokens": 40, "temperature": 0, "top_p": 0.5, "stop": ["zzz"], "stream": false,
            "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "A colour" }],
            "response_format": { "type": "json_schema",
                "json_schema": { "name": "answer", "schema": { "type": "object" }, "strict": true } },
            "chat_template_kwargs": { "a": 1, "b": 3, "enable_thinking": false },
        })
    );
    let mut expected: Value = serde_json::from_str(ANSWER).unwrap();
    expected["model"] = "m-1".into();
    assert_eq!(played.outcome, result(expected));
}

#[test]
fn a_server_that_runs_is_asked_at_once_and_thoughts_are_set_apart() {
    let thought =
        json!({ "choices": [{ "message": { "role": "assistant", "content": "hm\n</think>\n\nParis" } }] });
    let played = play(plain(), vec![had(), serving(), healthy(), exchange(CHAT, answer(&thought))]);
    assert!(played.pauses.is_empty());
    assert!(shown(&played.served[0].program).contains("--ctx-size 8192 "));
    let message = json!({ "role": "assistant", "content": "Paris", "reasoning_content": "hm" });
    let expected =
        json!({ "object": "chat.completion", "model": "m-1", "choices": [{ "message": message }] });
    assert_eq!(played.outcome, result(expected));
    for (context, passed) in [(json!(0), "8192"), (json!(u32::MAX), "2147483647"), (json!(32768), "32768")] {
        let claim = job(json!({}), json!([weights()]), json!({ "contextSize": context }));
        let played = play(claim, vec![had(), serving(), healthy(), exchange(CHAT, ok(ANSWER))]);
        assert!(shown(&played.served[0].program).contains(&format!("--ctx-size {passed} ")), "{passed}");
    }
}

#[test]
fn the_weights_are_the_file_of_that_role_else_the_first_that_reads_no_pictures() {
    let file = |role: &str, name: &str| json!({ "role": role, "url": format!("https://hub.test/{name}"), "filename": name });
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAA=";
    for (files, pictures, downloads, called) in [
        (vec![file("text-encoder-vision", "p.gguf"), file("", "w.gguf")], false, vec!["w.gguf"], "w.gguf"),
        (vec![file("x", "1.gguf"), file("model", "2.GGUF")], false, vec!["1.gguf", "2.GGUF"], "2.GGUF"),
        (vec![file("model", "notes.txt"), file("x", "1.gguf")], false, vec!["notes.txt", "1.gguf"], "1.gguf"),
        (
            vec![file("text-encoder-vision", "p.gguf"), file("model", "w.gguf")],
            true,
            vec!["p.gguf", "w.gguf"],
            "w.gguf --ctx-size 8192 --n-gpu-layers 999 --parallel 1 --no-context-shift --jinja --mmproj /models/llm/p.gguf",
        ),
    ] {
        let images = if pictures { json!([png]) } else { json!([]) };
        let mut recipe =
            engine().recipe(&Arc::new(job(json!({ "images": images }), json!(files), json!({}))));
        let mut happened = crate::engine::Happened::Started;
        let mut had: Vec<String> = Vec::new();
        let line = loop {
            happened = match recipe.next(happened) {
                crate::engine::Effect::Have(file) => {
                    had.push(file.path.strip_prefix("/models/llm/").unwrap().into());
                    crate::engine::Happened::Had(Ok(crate::machine::FileHad {
                        path: file.path,
                        bytes: 1,
                        content: String::new(),
                    }))
                }
                crate::engine::Effect::Serve(wanted) => break shown(&wanted.program),
                other => panic!("{other:?}"),
            };
        };
        assert_eq!(had, downloads.into_iter().map(String::from).collect::<Vec<_>>());
        assert!(line.contains(&format!("--model /models/llm/{called}")), "{line}");
    }
    for (files, images, message) in [
        (json!([{ "role": "model", "filename": "a.bin", "url": "https://hub.test/a" }]), json!([]), {
            "the model has no .gguf file with its weights"
        }),
        (json!([weights()]), json!([png]), {
            "the model cannot serve chats with pictures: it has no file that reads them (text-encoder-vision)"
        }),
        (json!([{ "role": "model", "filename": "../a.gguf", "url": "https://hub.test/a" }]), json!([]), {
            "a file of the model has a name that is no plain file name: ../a.gguf"
        }),
        (json!([weights()]), json!(["data:text/plain,x"]), "picture 1 of the chat isn't a picture"),
        (json!([weights()]), json!(vec![png; 17]), "a chat can have 16 pictures, and this one has 17"),
    ] {
        play(job(json!({ "images": images }), files, json!({})), vec![]).fails(false, message);
    }
}

#[test]
fn a_model_without_files_is_the_file_of_its_name() {
    let own = || Step::Have("/models/llm/m-1.gguf", Ok(()));
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] });
    for source in [None, Some(ModelSource { engine: "llama-cpp".into(), ..ModelSource::default() })] {
        let claim = Claim { model_source: source, ..claim(&task) };
        let played = play(claim, vec![own(), serving(), healthy(), exchange(CHAT, ok(ANSWER))]);
        assert_eq!((&played.had[0].origin, played.had[0].copies.len()), (&None, 0));
    }
    let elsewhere = Claim { model: "../m".into(), ..claim(&task) };
    play(elsewhere, vec![])
        .fails(false, "a file of the model has a name that is no plain file name: ../m.gguf");
    let missing = EngineError::transient("m-1.gguf is not there");
    play(claim(&task), vec![Step::Have("/models/llm/m-1.gguf", Err(missing))])
        .fails(true, "m-1.gguf is not there");
}

#[test]
fn pictures_are_fetched_before_anything_else_and_come_before_the_text() {
    let projector =
        json!({ "role": "text-encoder-vision", "url": "https://hub.test/p.gguf", "filename": "p.gguf" });
    let claim = || {
        let task = json!({ "images": ["https://a.test/1.png?sig=signature-2"] });
        job(task, json!([weights(), projector]), json!({}))
    };
    let get = |answer| exchange("GET https://a.test/1.png?sig=signature-2", answer);
    let played = play(
        claim(),
        vec![
            get(ok(PNG)),
            had(),
            Step::Have("/models/llm/p.gguf", Ok(())),
            serving(),
            healthy(),
            exchange(CHAT, ok(ANSWER)),
        ],
    );
    let content = &played.json(2)["messages"][0]["content"];
    assert_eq!((&content[0]["type"], &content[1]["text"]), (&json!("image_url"), &json!("A colour")));
    assert_eq!(played.asked[0].timeout, Duration::from_secs(60));
    play(claim(), vec![get(broken("no route, signature-2"))])
        .fails(true, "an input can't be fetched from https://a.test/1.png: no route, …");
}

#[test]
fn a_file_that_was_replaced_under_its_name_wants_another_server() {
    let wanted = |content| {
        let steps = vec![
            Step::HaveThis("/models/llm/g.gguf", content),
            serving(),
            healthy(),
            exchange(CHAT, ok(ANSWER)),
        ];
        play(plain(), steps).served.remove(0)
    };
    assert_eq!(wanted("old"), wanted("old"));
    assert_ne!(wanted("old"), wanted("new"));
    assert_eq!(wanted("old").program, wanted("new").program);
}

#[test]
fn a_server_that_ends_is_an_error_with_its_last_words() {
    // As it was seen when the file was no model.
    let no_model = "0.00.005.255 E llama_model_load: error loading model: llama_model_loader: failed to load model \
                    from bad.gguf\n0.00.005.517 E srv  llama_server: exiting due to model loading error\n";
    play(plain(), vec![had(), serving(), exchange(HEALTH, status(503, LOADING)), died(no_model)]).fails(true, {
        "llama-server ended with exit code 1: 0.00.005.517 E srv  llama_server: exiting due to model loading error"
    });
    let memory =
        format!("cudaMalloc failed: out of memory for {KEY}\nE srv load_model: failed to load model\n");
    let played =
        play(plain(), vec![had(), serving(), healthy(), exchange(CHAT, broken("reset")), died(&memory)]);
    assert_eq!(played.pauses, [Duration::from_millis(500)]);
    played.fails(true, {
        "llama-server ended with exit code 1: cudaMalloc failed: out of memory for …; E srv load_model: failed to load model"
    });
    let not_there = ProgramFailure::NotFound { program: "llama-server".into() };
    play(plain(), vec![had(), Step::Serve(Err(not_there))])
        .fails(true, "llama-server is not there: install it, or correct its path in the configuration");
    // It runs on: what broke is the connection.
    play(
        plain(),
        vec![had(), serving(), healthy(), exchange(CHAT, broken("timed out")), serving(), Step::Dismiss],
    )
    .fails(true, "no answer from llama-server: does it run there?: timed out");
}

#[test]
fn what_the_server_refuses_is_said_as_it_says_it() {
    let overfull = r#"{"error":{"code":400,"message":"request (60024 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":60024,"n_ctx":8192}}"#;
    let schema = r#"{"error":{"code":400,"message":"Unable to generate parser for this template. Automatic parser generation failed: JSON schema error at #: unrecognized type nonsense","type":"invalid_request_error"}}"#;
    for (said, retryable, message) in [
        (status(400, overfull), false, {
            "llama-server refuses m-1 (llm) with 400: request (60024 tokens) exceeds the available context size (8192 tokens), try increasing it"
        }),
        (status(400, schema), false, {
            "llama-server refuses m-1 (llm) with 400: Unable to generate parser for this template. Automatic parser generation failed: JSON schema error at #: unrecognized type nonsense"
        }),
        (status(500, r#"{"error":{"message":"decode failed"}}"#), true, {
            "llama-server answers 500 to m-1 (llm): decode failed"
        }),
        (ok("{}"), true, "llama-server answers with something that is not a chat completion: {}"),
    ] {
        play(plain(), vec![had(), serving(), healthy(), exchange(CHAT, said)]).fails(retryable, message);
    }
    play(plain(), vec![had(), serving(), exchange(HEALTH, status(404, "")), Step::Dismiss])
        .fails(true, "llama-server answers 404 to whether it has loaded the model");
}

#[test]
fn a_server_that_never_has_loaded_is_given_up_and_ended() {
    for answer in [status(503, LOADING), broken("timed out")] {
        let mut recipe = engine().recipe(&Arc::new(plain()));
        let mut happened = crate::engine::Happened::Started;
        let (mut waited, mut is_gone) = (Duration::ZERO, false);
        let error = loop {
            happened = match recipe.next(happened) {
                crate::engine::Effect::Have(file) => {
                    let had = crate::machine::FileHad { path: file.path, bytes: 1, content: String::new() };
                    crate::engine::Happened::Had(Ok(had))
                }
                crate::engine::Effect::Serve(_) => {
                    let serving = Serving { base: "http://127.0.0.1:18991".into(), key: KEY.into() };
                    crate::engine::Happened::Serving(Ok(serving))
                }
                crate::engine::Effect::Exchange(request) => {
                    assert_eq!(request.timeout, Duration::from_secs(2));
                    // One that hangs takes all of its time.
                    waited += if answer.is_err() { request.timeout } else { Duration::ZERO };
                    crate::engine::Happened::Exchanged(answer.clone())
                }
                crate::engine::Effect::Pause(span) => {
                    assert!(span <= Duration::from_secs(2));
                    waited += span;
                    crate::engine::Happened::Paused
                }
                crate::engine::Effect::Dismiss => {
                    is_gone = true;
                    crate::engine::Happened::Dismissed
                }
                crate::engine::Effect::Done(outcome) => break outcome.unwrap_err(),
                other => panic!("{other:?}"),
            };
        };
        assert_eq!(error.message, "llama-server has not loaded the model within 20 minutes");
        assert!(error.retryable && is_gone);
        assert!((1_200..1_210).contains(&waited.as_secs()), "{waited:?}");
    }
}

#[test]
fn a_server_whose_port_was_taken_meanwhile_is_started_again_once() {
    // As it was seen.
    let taken = "0.00.007.394 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 55701\n\
                 0.00.008.770 E srv  llama_server: exiting due to HTTP server error\n";
    let refused = || exchange(HEALTH, broken("connection refused"));
    let played = play(
        plain(),
        vec![had(), serving(), refused(), died(taken), serving(), healthy(), exchange(CHAT, ok(ANSWER))],
    );
    assert!(played.outcome.is_ok());
    assert_eq!(played.served.len(), 3);
    let again = vec![had(), serving(), refused(), died(taken), serving(), refused(), died(taken)];
    play(plain(), again)
        .fails(true, "llama-server ended with exit code 1: 0.00.008.770 E srv  llama_server: exiting due to HTTP server error");
}

#[test]
fn a_survey_looks_for_the_program_and_local_models_are_listed() {
    let engine = engine()
        .with_local([
            "a.gguf",
            "mmproj-a.gguf",
            "b-00001-of-00002.gguf",
            "b-00002-of-00002.gguf",
            "x.txt",
            ".gguf",
        ])
        .with_program("/opt/llama-server")
        .with_idle(Duration::from_secs(7));
    let service = |models| Service { kind: TaskKind::Llm, engine: "llama-cpp".into(), models };
    let services =
        [service(Models::Sourced), service(Models::Listed(vec!["a".into(), "b-00001-of-00002".into()]))];
    assert_eq!((engine.name(), engine.services()), ("llama-cpp", services.to_vec()));
    let played =
        play_steps(engine.survey().unwrap(), vec![Step::Find(vec![Some("/opt/llama-server".into())])]);
    assert_eq!(played.sought, [["/opt/llama-server"]]);
    assert_eq!(played.outcome.unwrap(), Survey { services: services.to_vec(), missing: vec![] });
    let survey = play_steps(engine.survey().unwrap(), vec![Step::Find(vec![None])]).outcome.unwrap();
    assert_eq!((survey.services.len(), survey.missing[0].what.as_str()), (0, "/opt/llama-server"));
    let played = play_steps(
        engine.recipe(&Arc::new(plain())),
        vec![had(), serving(), healthy(), exchange(CHAT, ok(ANSWER))],
    );
    assert_eq!((played.served[0].idle, played.served[0].program.program.as_str()), {
        (Duration::from_secs(7), "/opt/llama-server")
    });
    let picture = claim(&json!({ "kind": "image", "prompt": "x" }));
    play_steps(engine.recipe(&Arc::new(picture)), vec![])
        .fails(false, "the llama-cpp engine cannot serve image");
}
