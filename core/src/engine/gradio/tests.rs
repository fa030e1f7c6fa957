//! Recorded exchanges with Gradio apps of all ages.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use super::Gradio;
use crate::engine::{
    contract::{Engine as _, Missing, Models, Survey},
    server::Server,
    transcript::{
        Answer, PNG, PNG_BASE64, Played, WAV, broken, bytes, json, ok, play, redirect, run, status,
    },
};

const CONFIG: &str = "GET http://127.0.0.1:7860/config";
const INFO: &str = "GET http://127.0.0.1:7860/gradio_api/info";
const CALL: &str = "POST http://127.0.0.1:7860/gradio_api/call/draw";
const EVENTS: &str = "GET http://127.0.0.1:7860/gradio_api/call/draw/0a1b";
const FILE: &str = "GET http://127.0.0.1:7860/gradio_api/file=/tmp/gradio/a/image.webp";
const PREDICT: &str = "POST http://127.0.0.1:7860/run/predict";
const WEBP: &[u8] = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0";
const KEY: &str = "hf_secret0123";

fn gradio() -> Gradio {
    let server = Server::new("http://127.0.0.1:7860").unwrap().with_key(KEY.into()).unwrap();
    Gradio::new(server, vec!["m-1".into(), "m-2".into()])
}

fn cat() -> Value {
    json!({ "kind": "image", "prompt": "a cat" })
}

/// As Gradio 6 was seen to say it.
fn config() -> Answer {
    json(&json!({ "version": "6.31.0", "api_prefix": "/gradio_api", "components": [], "dependencies": [] }))
}

fn parameter(name: &str, default: &Value) -> Value {
    json!({
        "label": name, "parameter_name": name, "parameter_has_default": !default.is_null(),
        "parameter_default": default, "type": { "type": "string" }, "component": "Textbox",
    })
}

fn info(parameters: &[Value]) -> Answer {
    json(&json!({
        "named_endpoints": { "/draw": {
            "parameters": parameters,
            "returns": [{ "label": "output", "component": "Image" }],
        }},
        "unnamed_endpoints": {},
    }))
}

fn called() -> Answer {
    json(&json!({ "event_id": "0a1b" }))
}

fn events(end: &str) -> Answer {
    ok(format!("event: heartbeat\ndata: null\n\nevent: generating\ndata: [null]\n\n{end}"))
}

fn complete(outputs: &Value) -> Answer {
    events(&format!("event: complete\ndata: {outputs}\n\n"))
}

fn file() -> Value {
    json!([{
        "path": "/tmp/gradio/a/image.webp",
        "url": "http://127.0.0.1:7860/gradio_api/file=/tmp/gradio/a/image.webp",
        "size": null, "orig_name": "image.webp", "mime_type": null, "is_stream": false,
        "meta": { "_type": "gradio.FileData" },
    }])
}

/// Plays a job on an app of Gradio 6 up to its events.
fn heard(answer: Answer, rest: Vec<(&'static str, Answer)>) -> Played<crate::engine::Output> {
    let mut steps = vec![
        (CONFIG, config()),
        (INFO, info(&[parameter("prompt", &Value::Null)])),
        (CALL, called()),
        (EVENTS, answer),
    ];
    steps.extend(rest);
    run(&gradio(), &cat(), steps)
}

#[test]
fn an_app_of_gradio_6_is_called_and_its_picture_fetched() {
    let played = heard(complete(&file()), vec![(FILE, ok(WEBP))]);
    assert_eq!(played.json(2), json!({ "data": ["a cat"] }));
    assert_eq!(played.outcome, bytes("webp", WEBP));
    assert!(played.asked.iter().all(|request| request.bearer == Some(KEY.into())));
    // What a job waits for takes as long as a job; the rest is small.
    let patient: Vec<_> =
        played.asked.iter().map(|request| request.timeout > Duration::from_secs(60)).collect();
    assert_eq!(patient, [false, false, true, true, false]);
}

#[test]
fn inputs_are_mapped_by_their_names() {
    let parameters = [
        parameter("prompt", &Value::Null),
        parameter("negative_prompt", &json!("ugly")),
        parameter("style", &json!("none")),
        parameter("Width", &json!(1024)),
        parameter("height", &json!(1024)),
        parameter("num_inference_steps", &json!(28)),
        parameter("seed", &json!(0)),
        parameter("randomize_seed", &json!(true)),
        parameter("guidance_scale", &json!(3.5)),
        parameter("model", &Value::Null),
        parameter("prompt", &json!("second")),
        parameter("unknown", &Value::Null),
    ];
    let full = json!({
        "kind": "image", "prompt": "a cat", "width": 64, "height": 32, "steps": 4, "seed": 4_294_967_299_u64,
        "cfgScale": 7, "negativePrompt": "dog",
    });
    for (task, data) in [
        (cat(), json!(["a cat", "ugly", "none", 512, 512, 28, 0, true, 3.5, "m-1", "second", null])),
        // A seed is cut to what apps take.
        (full, json!(["a cat", "dog", "none", 64, 32, 4, 3, false, 7, "m-1", "second", null])),
    ] {
        let steps = vec![
            (CONFIG, config()),
            (INFO, info(&parameters)),
            (CALL, called()),
            (EVENTS, complete(&file())),
            (FILE, ok(WEBP)),
        ];
        assert_eq!(run(&gradio(), &task, steps).json(2), json!({ "data": data }));
    }
}

#[test]
fn an_input_without_a_default_gets_something_sensible() {
    let parameters = [
        parameter("prompt", &Value::Null),
        parameter("negative prompt", &Value::Null),
        parameter("steps", &Value::Null),
        parameter("seed", &Value::Null),
        parameter("cfg", &Value::Null),
    ];
    let sent = || {
        let steps = vec![
            (CONFIG, config()),
            (INFO, info(&parameters)),
            (CALL, called()),
            (EVENTS, complete(&file())),
            (FILE, ok(WEBP)),
        ];
        run(&gradio(), &cat(), steps).json(2)["data"].clone()
    };
    let data = sent();
    assert_eq!((&data[1], &data[2], &data[4]), (&json!(""), &json!(20), &Value::Null));
    assert!(data[3].as_u64().is_some_and(|seed| seed < 1 << 31));
    assert_eq!(sent(), data, "the seed is that of the job");
}

#[test]
fn inputs_that_have_other_names_are_the_prompt_and_the_model() {
    for (parameters, data) in [
        (vec![], json!(["a cat", "m-1"])),
        (vec![parameter("name", &Value::Null)], json!(["a cat"])),
        (vec![parameter("a", &Value::Null), parameter("b", &json!(1))], json!(["a cat", "m-1"])),
        (vec![parameter("a", &Value::Null), parameter("b", &json!(1)), parameter("c", &json!(2))], {
            json!(["a cat", "m-1", 2])
        }),
    ] {
        let steps = vec![
            (CONFIG, config()),
            (INFO, info(&parameters)),
            (CALL, called()),
            (EVENTS, complete(&file())),
            (FILE, ok(WEBP)),
        ];
        assert_eq!(run(&gradio(), &cat(), steps).json(2), json!({ "data": data }));
    }
}

#[test]
fn an_app_of_gradio_4_has_no_prefix() {
    let described = json!({ "named_endpoints": {
        "/clear": { "parameters": [], "returns": [] },
        "/a b?": { "parameters": [{ "label": "Prompt" }], "returns": [{ "component": "Gallery" }] },
        "/zoom": { "parameters": [{ "label": "Prompt" }], "returns": [{ "component": "Image" }] },
    }});
    let gallery = json!([[{ "image": { "path": "/tmp/a b.png", "url": "http://0.0.0.0:7860/file=x" } }]]);
    let played = run(
        &gradio(),
        &cat(),
        vec![
            (CONFIG, json(&json!({ "version": "4.44.1" }))),
            ("GET http://127.0.0.1:7860/info", json(&described)),
            ("POST http://127.0.0.1:7860/call/a%20b%3F", json(&json!({ "event_id": "../../x" }))),
            ("GET http://127.0.0.1:7860/call/a%20b%3F/..%2F..%2Fx", complete(&gallery)),
            // What the app says is its address is not where it is; the file is to be had all the same.
            ("GET http://127.0.0.1:7860/file=/tmp/a%20b.png", ok(PNG)),
        ],
    );
    assert_eq!(played.outcome, bytes("png", PNG));
}

#[test]
fn an_app_of_gradio_3_predicts() {
    let config = || json(&json!({ "version": "3.50.2", "mode": "interface" }));
    for (output, rest) in [
        (json!(format!("data:image/png;base64,{PNG_BASE64}")), vec![]),
        (json!("/file=/tmp/x.png"), vec![("GET http://127.0.0.1:7860/file=/tmp/x.png", ok(PNG))]),
        (
            json!({ "name": "/tmp/x.png", "data": null, "is_file": true }),
            vec![("GET http://127.0.0.1:7860/file=/tmp/x.png", ok(PNG))],
        ),
    ] {
        let mut steps =
            vec![(CONFIG, config()), (PREDICT, json(&json!({ "data": [output], "duration": 1.5 })))];
        steps.extend(rest);
        let played = run(&gradio(), &cat(), steps);
        assert_eq!(played.json(1), json!({ "data": ["a cat", "m-1"] }));
        assert_eq!(played.outcome, bytes("png", PNG));
    }
    // A stand-in that has no configuration.
    let data = json!({ "data": [format!("data:image/png;base64,{PNG_BASE64}")] });
    let steps = vec![(CONFIG, status(404, "Not Found")), (PREDICT, json(&data))];
    assert_eq!(run(&gradio(), &cat(), steps).outcome, bytes("png", PNG));
    for body in [r#"{"error":null}"#, r#"{"data":["#, "[]", "null", r#"{"data":{}}x"#] {
        let error =
            run(&gradio(), &cat(), vec![(CONFIG, config()), (PREDICT, ok(body))]).outcome.unwrap_err();
        assert!(error.retryable && error.message.contains("not a list of outputs"), "{body}: {error}");
    }
    let steps = vec![(CONFIG, config()), (PREDICT, json(&json!({ "data": ["a cat, they say"] })))];
    run(&gradio(), &cat(), steps).fails(true, "there is no picture in what the Gradio app returned");
    let steps = vec![(CONFIG, config()), (PREDICT, status(500, r#"{"error": "CUDA out of memory"}"#))];
    run(&gradio(), &cat(), steps)
        .fails(true, "http://127.0.0.1:7860 answers 500 to m-1 (image): CUDA out of memory");
}

#[test]
fn the_stream_of_events_can_end_in_many_ways() {
    let failed = "the Gradio app failed";
    let silent = format!("{failed}: it gives no reason (an app launched with show_error=True does)");
    for (stream, message) in [
        (events("event: error\ndata: null\n\n"), silent.as_str()),
        (events("event: error\ndata: {\"error\": null}\n\n"), "the Gradio app failed: {\"error\":null}"),
        (events("event: error\ndata: \"no GPU\"\n\n"), "the Gradio app failed: no GPU"),
        (events("event: error\r\ndata: {\"error\": \"no GPU\"}\r\n\r\n"), "the Gradio app failed: no GPU"),
        (events(""), "the Gradio app's events end before there is a picture"),
        (
            events("event: complete\ndata: [\"/x\"]\n"),
            "the Gradio app's events end before there is a picture",
        ),
        (
            events("event: complete\ndata: [\n\n"),
            "http://127.0.0.1:7860 answers with something that is not a list of outputs: [",
        ),
        (complete(&json!([null, "text"])), "there is no picture in what the Gradio app returned"),
        (complete(&json!([{ "path": "http://evil.test/x" }])), {
            "the Gradio app returned a picture without saying where it is"
        }),
        (
            complete(&json!(["data:image/png;base64,!"])),
            "the picture came as a `data:` URL that can't be read",
        ),
        (ok(""), "http://127.0.0.1:7860 answers with nothing, where a stream of events was wanted"),
        (broken("no answer within 1800 s"), {
            "no answer from http://127.0.0.1:7860: does it run there?: no answer within 1800 s"
        }),
        (status(500, "Internal Server Error"), {
            "http://127.0.0.1:7860 answers 500 to m-1 (image): Internal Server Error"
        }),
    ] {
        heard(stream, vec![]).fails(true, message);
    }
    // The first end counts.
    let twice = "event: complete\ndata: [\"/gradio_api/file=a.png\"]\n\nevent: error\ndata: null\n\n";
    let fetched = ("GET http://127.0.0.1:7860/gradio_api/file=a.png", ok(PNG));
    assert_eq!(heard(events(twice), vec![fetched]).outcome, bytes("png", PNG));
}

#[test]
fn a_stream_cut_anywhere_is_an_error_and_no_panic() {
    let stream = format!("event: complete\ndata: {}\n\n", file());
    for cut in 0..stream.len() {
        assert!(heard(ok(&stream[..cut]), vec![]).outcome.unwrap_err().retryable, "cut at {cut}");
    }
}

#[test]
fn a_picture_on_another_host_is_refused() {
    for url in
        ["https://cdn.test/a.png?sig=abc", "http://127.0.0.1:7861/a.png", "https://127.0.0.1:7860/a.png"]
    {
        let error = heard(complete(&json!([{ "url": url }])), vec![]).outcome.unwrap_err();
        assert!(error.message.starts_with("the picture is said to lie on another host, which is refused"));
        assert!(!error.message.contains("abc"), "{error}");
    }
}

#[test]
fn what_is_no_picture_is_an_error() {
    let not = "http://127.0.0.1:7860 answers with something that is not a picture";
    for (answer, message) in [
        (ok("hello"), format!("{not}: hello")),
        (ok(""), "http://127.0.0.1:7860 answers with nothing, where a picture was wanted".into()),
        (ok(WAV), format!("{not}: RIFF$   WAVEfmt")),
        (ok("<html><title>Log in</title>"), {
            "http://127.0.0.1:7860 answers with a web page, where a picture was wanted: is this the API's address?: Log in"
                .into()
        }),
        (status(403, r#"{"detail":"File not allowed"}"#), {
            "http://127.0.0.1:7860 answers 403 to the picture that it made: check its API key: File not allowed".into()
        }),
    ] {
        let error = heard(complete(&file()), vec![(FILE, answer)]).outcome.unwrap_err();
        assert!(error.retryable && error.message.starts_with(&message), "{error}");
    }
    let away = heard(complete(&file()), vec![(FILE, redirect(302, "https://cdn.test/a?b"))]);
    assert!(away.outcome.unwrap_err().message.ends_with("https://cdn.test/a?…"));
    let large = heard(complete(&file()), vec![(FILE, ok(vec![0; 64 * 1024 * 1024 + 1]))]);
    large.fails(false, "the answer of http://127.0.0.1:7860 is larger than 64 MiB");
}

#[test]
fn a_call_that_is_not_taken_is_an_error() {
    let not = "http://127.0.0.1:7860 answers with something that is not the id of an event";
    for (answer, retryable, message) in [
        (ok("{}"), true, format!("{not}: {{}}")),
        (ok(r#"{"event_id":""}"#), true, format!(r#"{not}: {{"event_id":""}}"#)),
        (ok(r#"{"event_id":7}"#), true, format!(r#"{not}: {{"event_id":7}}"#)),
        (ok(format!(r#"{{"event_id":"{}"}}"#, "x".repeat(257))), true, not.into()),
        (status(422, r#"{"detail":"needed 3 inputs"}"#), false, {
            "http://127.0.0.1:7860 refuses m-1 (image) with 422: needed 3 inputs".into()
        }),
    ] {
        let info = info(&[parameter("prompt", &Value::Null)]);
        let played = run(&gradio(), &cat(), vec![(CONFIG, config()), (INFO, info), (CALL, answer)]);
        let error = played.outcome.unwrap_err();
        assert_eq!(error.retryable, retryable, "{error}");
        assert!(error.message.starts_with(&message), "{error}");
    }
}

#[test]
fn an_app_that_can_not_draw_is_found_out_by_a_survey() {
    let survey = |engine: &Gradio, steps: Vec<(&'static str, Answer)>| {
        play(engine.survey().unwrap(), steps).outcome.unwrap()
    };
    let found = survey(&gradio(), vec![(CONFIG, config()), (INFO, info(&[]))]);
    assert_eq!(found, Survey { services: gradio().services(), missing: vec![] });
    assert_eq!(found.services[0].models, Models::Listed(vec!["m-1".into(), "m-2".into()]));
    let nameless = Gradio { models: vec![], ..gradio() };
    let found = survey(&nameless, vec![(CONFIG, config()), (INFO, info(&[]))]);
    assert_eq!(
        (found.services, found.missing[0].how.as_str()),
        (vec![], { "Name them in `supported_models_override`." })
    );
    let lacks = |steps: Vec<(&'static str, Answer)>, how: &str| {
        let found = survey(&gradio(), steps);
        assert_eq!(found.services, []);
        let what = "a Gradio app that draws at http://127.0.0.1:7860".into();
        assert_eq!(found.missing, [Missing { engine: "gradio".into(), what, how: how.into() }]);
    };
    let nothing = "the Gradio app cannot serve images: it has no named endpoint that takes a prompt or returns a picture";
    for described in [
        json!({}),
        json!({ "named_endpoints": {} }),
        json!({ "named_endpoints": { "/add": { "parameters": [{ "parameter_name": "a" }], "returns": [{ "component": 7 }] } } }),
        json!({ "named_endpoints": { "/draw": { "parameters": vec![json!({ "parameter_name": "prompt" }); 201] } } }),
    ] {
        lacks(vec![(CONFIG, config()), (INFO, json(&described))], nothing);
    }
    let page = "<!doctype html><title>Login</title>";
    for (steps, message) in [
        (
            vec![(CONFIG, broken("refused"))],
            "no answer from http://127.0.0.1:7860: does it run there?: refused",
        ),
        (vec![(CONFIG, status(401, r#"{"detail":"Not authenticated"}"#))], {
            "http://127.0.0.1:7860 answers 401 to its configuration: check its API key: Not authenticated"
        }),
        (vec![(CONFIG, ok(page))], {
            "http://127.0.0.1:7860 answers with a web page, where a Gradio app's configuration was wanted: is this the API's address?: Login"
        }),
        (vec![(CONFIG, config()), (INFO, ok(r#"{"named_endpoints":[1]}"#))], {
            r#"http://127.0.0.1:7860 answers with something that is not the list of a Gradio app's endpoints: {"named_endpoints":[1]}"#
        }),
    ] {
        lacks(steps, message);
    }
}

#[test]
fn other_kinds_and_tasks_that_start_from_a_picture_are_refused_for_good() {
    for (task, what) in [
        (json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }), "llm".to_string()),
        (json!({ "kind": "image", "prompt": "x", "maskUrl": "https://a.test/" }), "a mask (maskUrl)".into()),
    ] {
        run(&gradio(), &task, vec![]).fails(false, &format!("the gradio engine cannot serve {what}"));
    }
}

#[test]
fn no_error_says_the_key() {
    let said: String = format!("{{\"detail\":\"token {KEY} is wrong\"}}");
    for answer in [status(401, &said), ok(&said), broken(&said)] {
        let error = run(&gradio(), &cat(), vec![(CONFIG, config()), (INFO, answer)]).outcome.unwrap_err();
        assert!(!error.message.contains(KEY), "{error}");
    }
}
