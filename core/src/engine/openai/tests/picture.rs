//! `image`.

use alloc::{format, string::ToString, vec};

use serde_json::{Value, json};

use super::{IMAGES, KEY, engine};
use crate::engine::transcript::{PNG, PNG_BASE64, WAV, broken, bytes, json, ok, redirect, run, status};

fn cat() -> Value {
    json!({ "kind": "image", "prompt": "a cat" })
}

fn base64(text: &str) -> Value {
    json!({ "created": 1, "data": [{ "b64_json": text, "revised_prompt": "a cat" }] })
}

#[test]
fn a_picture_comes_as_base64_and_is_what_its_bytes_are() {
    let played = run(&engine(), &cat(), vec![(IMAGES, json(&base64(PNG_BASE64)))]);
    assert_eq!(
        played.json(0),
        json!({ "model": "m-1", "prompt": "a cat", "n": 1, "size": "512x512", "response_format": "b64_json" })
    );
    assert_eq!(played.outcome, bytes("png", PNG));
    let in_a_url = format!("data:image/webp;base64,{PNG_BASE64}");
    assert_eq!(run(&engine(), &cat(), vec![(IMAGES, json(&base64(&in_a_url)))]).outcome, bytes("png", PNG));
}

#[test]
fn what_is_set_is_passed_on() {
    let task = json!({
        "kind": "image", "prompt": "a cat", "width": 64, "height": 32, "steps": 4, "seed": 7, "cfgScale": 1.5,
        "negativePrompt": "dog", "ext": "png",
    });
    let played = run(&engine(), &task, vec![(IMAGES, json(&base64(PNG_BASE64)))]);
    assert_eq!(
        played.json(0),
        json!({
            "model": "m-1", "prompt": "a cat", "n": 1, "size": "64x32", "response_format": "b64_json",
            "steps": 4, "seed": 7, "cfg_scale": 1.5, "negative_prompt": "dog",
        })
    );
}

#[test]
fn a_picture_on_the_same_server_is_fetched() {
    let at = "GET http://127.0.0.1:8080/generated/b64.png";
    for url in ["/generated/b64.png", "http://127.0.0.1:8080/generated/b64.png#x", "generated/b64.png"] {
        let answer = json!({ "data": [{ "url": url }, { "url": "https://other.test/" }] });
        let played = run(&engine(), &cat(), vec![(IMAGES, json(&answer)), (at, ok(PNG))]);
        assert_eq!(played.asked[1].bearer, Some(KEY.into()));
        assert_eq!(played.outcome, bytes("png", PNG));
    }
    let answer = json!({ "data": [{ "url": "/generated/b64.png" }] });
    let lost = run(&engine(), &cat(), vec![(IMAGES, json(&answer)), (at, status(404, ""))]);
    lost.fails(
        false,
        "http://127.0.0.1:8080 cannot serve the picture that it made: it answers 404, so it has no such model or API",
    );
    let cut = run(&engine(), &cat(), vec![(IMAGES, json(&answer)), (at, broken("the answer broke off"))]);
    cut.fails(true, "no answer from http://127.0.0.1:8080: does it run there?: the answer broke off");
    let away =
        run(&engine(), &cat(), vec![(IMAGES, json(&answer)), (at, redirect(302, "https://cdn.test/?t=1"))]);
    let error = away.outcome.unwrap_err();
    assert!(error.message.ends_with("name where it leads: https://cdn.test/?…"), "{}", error.message);
}

#[test]
fn a_picture_on_another_host_is_refused() {
    for url in
        ["https://blob.test/a.png?sig=abc", "http://127.0.0.1:8081/a", "//blob.test/a", "file:///etc/passwd"]
    {
        let answer = json!({ "data": [{ "url": url }] });
        let error = run(&engine(), &cat(), vec![(IMAGES, json(&answer))]).outcome.unwrap_err();
        assert!(error.retryable && error.message.contains("on another host, which is refused"), "{error}");
        assert!(!error.message.contains("abc"), "{error}");
    }
}

#[test]
fn a_model_that_knows_no_response_format_is_asked_without() {
    let refusal = json!({ "error": { "message": "Unknown parameter: 'response_format'." } });
    let steps = vec![(IMAGES, status(400, refusal.to_string())), (IMAGES, json(&base64(PNG_BASE64)))];
    let played = run(&engine(), &cat(), steps);
    assert_eq!(played.json(1), json!({ "model": "m-1", "prompt": "a cat", "n": 1, "size": "512x512" }));
    assert_eq!(played.outcome, bytes("png", PNG));
    // Once.
    let steps = vec![(IMAGES, status(400, refusal.to_string())), (IMAGES, status(400, refusal.to_string()))];
    run(&engine(), &cat(), steps).fails(
        false,
        "http://127.0.0.1:8080 refuses m-1 (image) with 400: Unknown parameter: 'response_format'.",
    );
}

#[test]
fn what_is_no_picture_is_an_error() {
    let not = "http://127.0.0.1:8080 answers with something that is not a picture";
    for (body, message) in [
        (json!({ "data": [] }), format!(r#"{not}: {{"data":[]}}"#)),
        (json!({ "data": [{}] }), format!(r#"{not}: {{"data":[{{}}]}}"#)),
        (json!({ "data": 7 }), format!(r#"{not}: {{"data":7}}"#)),
        (base64("%%%"), {
            format!(r#"{not}: {{"created":1,"data":[{{"b64_json":"%%%","revised_prompt":"a cat"}}]}}"#)
        }),
        (base64(""), "http://127.0.0.1:8080 answers with nothing, where a picture was wanted".into()),
        (base64("bm8gcGljdHVyZQ=="), format!("{not}: no picture")),
        (base64("data:image/png;base64,!"), "the picture came as a `data:` URL that can't be read".into()),
    ] {
        run(&engine(), &cat(), vec![(IMAGES, json(&body))]).fails(true, &message);
    }
    let sound = run(
        &engine(),
        &cat(),
        vec![(IMAGES, json(&json!({ "data": [{ "url": "/a" }] }))), ("GET http://127.0.0.1:8080/a", ok(WAV))],
    );
    assert!(sound.outcome.unwrap_err().message.starts_with(not));
}

#[test]
fn a_task_that_starts_from_a_picture_is_not_half_done() {
    for name in ["initImageUrl", "maskUrl", "refImageUrl"] {
        let mut task = cat();
        task[name] = "https://files.test/a".into();
        let error = run(&engine(), &task, vec![]).outcome.unwrap_err();
        assert!(!error.retryable && error.message.contains("cannot serve"), "{error}");
        assert!(error.message.contains(name), "{error}");
    }
}
