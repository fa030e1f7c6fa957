//! Every kind of refusal, for every kind of job.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use super::{CHAT, IMAGES, KEY, SPEECH, TRANSCRIPTIONS, engine};
use crate::{
    engine::transcript::{Answer, broken, json, ok, redirect, run, status},
    http::HttpAnswer,
};

/// A job of each kind that asks one thing.
fn jobs() -> [(&'static str, &'static str, Value); 4] {
    [
        ("llm", CHAT, json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] })),
        ("image", IMAGES, json!({ "kind": "image", "prompt": "a cat" })),
        ("audio_tts", SPEECH, json!({ "kind": "audio_tts", "text": "hello" })),
        (
            "audio_stt",
            TRANSCRIPTIONS,
            json!({ "kind": "audio_stt", "inputUrl": "data:audio/wav;base64,UklGRgAAAABXQVZF" }),
        ),
    ]
}

#[test]
fn a_status_says_whether_another_attempt_can_help() {
    let server = "http://127.0.0.1:8080";
    for (kind, asks, task) in jobs() {
        let what = format!("m-1 ({kind})");
        let none = "so it has no such model or API";
        for (code, retryable, head) in [
            (400, false, format!("{server} refuses {what} with 400")),
            (413, false, format!("{server} refuses {what} with 413")),
            (422, false, format!("{server} refuses {what} with 422")),
            (401, true, format!("{server} answers 401 to {what}: check its API key")),
            (403, true, format!("{server} answers 403 to {what}: check its API key")),
            (404, false, format!("{server} cannot serve {what}: it answers 404, {none}")),
            (405, false, format!("{server} cannot serve {what}: it answers 405, {none}")),
            (501, false, format!("{server} cannot serve {what}: it answers 501, {none}")),
            (408, true, format!("{server} answers 408 to {what}")),
            (409, true, format!("{server} answers 409 to {what}")),
            (500, true, format!("{server} answers 500 to {what}")),
            (502, true, format!("{server} answers 502 to {what}")),
            (100, false, format!("{server} refuses {what} with 100")),
            (999, true, format!("{server} answers 999 to {what}")),
        ] {
            let said = r#"{"error":{"message":"Traceback:\n  in x\nout of memory\n"}}"#;
            let played = run(&engine(), &task, vec![(asks, status(code, said))]);
            played.fails(retryable, &format!("{head}: out of memory"));
            let silent = run(&engine(), &task, vec![(asks, status(code, ""))]);
            silent.fails(retryable, &head);
        }
    }
}

#[test]
fn a_page_for_people_is_not_an_answer() {
    for (_, asks, task) in jobs() {
        let page = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head></html>";
        let error = run(&engine(), &task, vec![(asks, ok(page))]).outcome.unwrap_err();
        assert!(error.retryable && error.message.contains("a web page"), "{error}");
        assert!(error.message.ends_with("is this the API's address?: Welcome to nginx!"), "{error}");
        let gateway = run(&engine(), &task, vec![(asks, status(502, page))]).outcome.unwrap_err();
        assert!(gateway.message.ends_with("Welcome to nginx!"), "{gateway}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    for (_, asks, task) in jobs() {
        for code in [301, 302, 303, 307, 308] {
            let error =
                run(&engine(), &task, vec![(asks, redirect(code, "https://box.test/v1?a=b"))]).outcome;
            let error = error.unwrap_err();
            assert!(error.retryable && error.message.ends_with("https://box.test/v1?…"), "{error}");
        }
    }
}

#[test]
fn a_connection_that_breaks_is_an_error_to_try_again() {
    for (_, asks, task) in jobs() {
        let why = format!("connection refused by {KEY}");
        run(&engine(), &task, vec![(asks, broken(&why))])
            .fails(true, "no answer from http://127.0.0.1:8080: does it run there?: connection refused by …");
    }
}

#[test]
fn a_busy_server_is_waited_for() {
    let busy = |status: u16, retry_after: &str| -> Answer {
        Ok(HttpAnswer { status, retry_after: Some(retry_after.into()), ..HttpAnswer::default() })
    };
    let (_, asks, task) = &jobs()[0];
    let good = json(&json!({ "choices": [{ "message": { "content": "hello" } }] }));
    let played = run(
        &engine(),
        task,
        vec![(*asks, status(503, "Loading model")), (*asks, busy(429, "7")), (*asks, good)],
    );
    assert!(played.outcome.is_ok());
    assert_eq!(played.pauses, [Duration::from_secs(1), Duration::from_secs(7)]);
    let long = run(&engine(), task, vec![(*asks, busy(429, "600"))]);
    long.fails(true, "http://127.0.0.1:8080 answers 429 to m-1 (llm)");
}

#[test]
fn an_error_is_short_and_says_no_secret() {
    for (_, asks, task) in jobs() {
        let long: String = "é".repeat(20_000);
        let said = json!({ "error": format!("Bearer {KEY} at https://a.test/x?token=1 \u{202e}{long}") });
        for code in [200, 400, 401, 500] {
            let error =
                run(&engine(), &task, vec![(asks, status(code, said.to_string()))]).outcome.unwrap_err();
            assert!(error.message.chars().count() <= 2_000);
            for secret in [KEY, "token=1", "\u{202e}"] {
                assert!(!error.message.contains(secret), "{}", error.message);
            }
        }
    }
}

#[test]
fn an_answer_that_is_too_large_ends_the_job_for_good() {
    let mib = 1024 * 1024;
    let limits = [8, 85, 64, 8];
    for ((_, asks, task), limit) in jobs().into_iter().zip(limits) {
        let body: Vec<u8> = vec![b' '; (limit + 1) * mib];
        let error = run(&engine(), &task, vec![(asks, ok(body))]).outcome.unwrap_err();
        assert!(!error.retryable, "{error}");
        assert_eq!(error.message, format!("the answer of http://127.0.0.1:8080 is larger than {limit} MiB"));
    }
}

#[test]
fn kinds_that_the_api_does_not_have_are_refused_for_good() {
    for task in
        [json!({ "kind": "video", "prompt": "x" }), json!({ "kind": "mesh", "imageUrl": "https://a.test/" })]
    {
        let kind = task["kind"].as_str().unwrap();
        run(&engine(), &task, vec![]).fails(false, &format!("the openai engine cannot serve {kind}"));
    }
}
