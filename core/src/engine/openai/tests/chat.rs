//! `llm`.

use alloc::{format, string::ToString, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use serde_json::{Value, json};

use super::{CHAT, KEY, engine};
use crate::{
    engine::{
        chat,
        contract::{Effect, Engine as _, EngineError, Happened},
        transcript::{PNG, PNG_BASE64, claim, json, ok, redirect, result, run, status},
    },
    http::Reach,
};

fn hi() -> Value {
    json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] })
}

fn answer(content: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "/models/m-1.gguf",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 },
    })
}

#[test]
fn a_chat_is_asked_once_and_named_as_it_was_offered() {
    let played = run(&engine(), &hi(), vec![(CHAT, json(&answer("hello")))]);
    assert_eq!(
        played.json(0),
        json!({
            "model": "m-1", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 512,
            "temperature": 0.7, "stream": false,
        })
    );
    let request = &played.asked[0];
    assert_eq!((&request.bearer, request.reach), (&Some(KEY.into()), Reach::Any));
    assert_eq!(request.timeout, Duration::from_secs(1_800));
    let mut wanted = answer("hello");
    wanted["model"] = "m-1".into();
    assert_eq!(played.outcome, result(wanted));
}

#[test]
fn every_parameter_is_passed_on() {
    let task = json!({
        "kind": "llm", "messages": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "ho" }],
        "maxTokens": 9, "temperature": -1, "system": "be brief", "topP": 0.5, "stop": ["x"],
        "jsonSchema": { "type": "object" }, "reasoning": "low", "chatTemplateKwargs": { "a": 1 },
    });
    let played = run(&engine(), &task, vec![(CHAT, json(&answer("{}")))]);
    assert_eq!(
        played.json(0),
        json!({
            "model": "m-1", "max_tokens": 9, "temperature": 0, "stream": false, "top_p": 0.5, "stop": ["x"],
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": "hi" },
                { "role": "assistant", "content": "ho" },
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": { "name": "answer", "schema": { "type": "object" }, "strict": true },
            },
            "reasoning_effort": "low", "chat_template_kwargs": { "a": 1 },
        })
    );
}

#[test]
fn reasoning_is_asked_for_in_the_words_of_the_servers() {
    for (reasoning, kwargs, name, value) in [
        (json!(true), Value::Null, "chat_template_kwargs", json!({ "enable_thinking": true })),
        (
            json!(false),
            json!({ "b": 2 }),
            "chat_template_kwargs",
            json!({ "b": 2, "enable_thinking": false }),
        ),
        (
            json!(true),
            json!({ "enable_thinking": false }),
            "chat_template_kwargs",
            json!({ "enable_thinking": false }),
        ),
        (json!({ "effort": "high" }), Value::Null, "reasoning", json!({ "effort": "high" })),
    ] {
        let mut task = hi();
        task["reasoning"] = reasoning;
        task["chatTemplateKwargs"] = kwargs;
        let played = run(&engine(), &task, vec![(CHAT, json(&answer("x")))]);
        assert_eq!(played.json(0)[name], value);
    }
    let mut task = hi();
    task["jsonSchema"] = json!({ "name": "pet", "schema": {} });
    let played = run(&engine(), &task, vec![(CHAT, json(&answer("x")))]);
    assert_eq!(played.json(0)["response_format"]["json_schema"], json!({ "name": "pet", "schema": {} }));
}

#[test]
fn thoughts_are_kept_apart() {
    for (content, thoughts, rest) in [
        ("<think>\nhm\n</think>\n\nhello", "hm", "hello"),
        ("hm</think>hello </think> there", "hm", "hello </think> there"),
        ("</think>", "", ""),
    ] {
        let played = run(&engine(), &hi(), vec![(CHAT, json(&answer(content)))]);
        let Ok(crate::engine::Output::Json(value)) = played.outcome else { panic!("no JSON") };
        let message = &value["choices"][0]["message"];
        assert_eq!((&message["reasoning_content"], &message["content"]), (&thoughts.into(), &rest.into()));
    }
    // A server that has kept them apart has decided what is what.
    let mut apart = answer("a </think> b");
    apart["choices"][0]["message"]["reasoning_content"] = "own".into();
    let Ok(crate::engine::Output::Json(value)) = run(&engine(), &hi(), vec![(CHAT, json(&apart))]).outcome
    else {
        panic!("no JSON")
    };
    assert_eq!(value["choices"][0]["message"], apart["choices"][0]["message"]);
}

#[test]
fn pictures_go_before_the_text_of_the_last_message_of_the_user() {
    let task = json!({
        "kind": "llm",
        "messages": [
            { "role": "user", "content": "first" },
            { "role": "user", "content": "what is it?" },
            { "role": "assistant", "content": "It is" },
        ],
        "images": ["https://files.test/a?sig=0123456789", format!("data:image/png;base64,{PNG_BASE64}")],
    });
    let played = run(
        &engine(),
        &task,
        vec![
            ("GET https://files.test/a?sig=0123456789", redirect(302, "https://cdn.test/b")),
            ("GET https://cdn.test/b", ok(PNG)),
            (CHAT, json(&answer("a dot"))),
        ],
    );
    for fetched in &played.asked[..2] {
        assert_eq!((&fetched.bearer, fetched.reach), (&None, Reach::Public));
        assert_eq!(fetched.timeout, Duration::from_secs(60));
        assert_eq!(fetched.answer_limit, 25 * 1024 * 1024 + 1);
    }
    let url = format!("data:image/png;base64,{PNG_BASE64}");
    let picture = json!({ "type": "image_url", "image_url": { "url": url } });
    let messages = &played.json(2)["messages"];
    assert_eq!(messages[0]["content"], "first");
    assert_eq!(messages[1]["content"], json!([picture, picture, { "type": "text", "text": "what is it?" }]));
    assert_eq!(messages[2]["content"], "It is");
    assert!(played.outcome.is_ok());
}

#[test]
fn pictures_without_a_message_of_the_user_are_one() {
    let task = json!({
        "kind": "llm", "messages": [{ "role": "system", "content": "describe" }],
        "images": [format!("data:;base64,{PNG_BASE64}")],
    });
    let played = run(&engine(), &task, vec![(CHAT, json(&answer("a dot")))]);
    let messages = &played.json(0)["messages"];
    assert_eq!(messages[1]["role"], "user");
    assert_eq!(messages[1]["content"][0]["type"], "image_url");
}

#[test]
fn bad_pictures_are_refused_before_anything_is_asked() {
    let with = |images: Vec<Value>| json!({ "kind": "llm", "messages": [{ "role": "user", "content": "?" }], "images": images });
    let data = json!(format!("data:image/png;base64,{PNG_BASE64}"));
    let cases = [
        (vec![data.clone(); 17], "a chat can have 16 pictures, and this one has 17"),
        (vec![data, json!("data:image/png,hello")], "picture 2 of the chat isn't a picture"),
        (vec![json!("data:;base64,!")], "an input is a `data:` URL that can't be read"),
        (vec![json!("http://files.test/a")], "the address of an input is not encrypted: https is wanted"),
        (
            vec![json!("https://10.0.0.1/a")],
            "the address of an input leads to a private address, which the configuration doesn't allow",
        ),
    ];
    for (images, message) in cases {
        run(&engine(), &with(images), vec![]).fails(false, message);
    }
    let lost = "an input is not there: https://files.test/a answers 404";
    let task = with(vec![json!("https://files.test/a?sig=1")]);
    run(&engine(), &task, vec![("GET https://files.test/a?sig=1", status(404, "gone"))]).fails(false, lost);
    let page = "picture 1 of the chat isn't a picture";
    run(&engine(), &task, vec![("GET https://files.test/a?sig=1", ok("<html>log in</html>"))])
        .fails(false, page);
}

#[test]
fn what_is_no_completion_is_an_error() {
    let not = "http://127.0.0.1:8080 answers with something that is not a chat completion";
    let deep = |levels: usize| {
        let mut value = answer("x").to_string();
        value.insert_str(1, &format!(r#""deep":{}{},"#, "[".repeat(levels), "]".repeat(levels)));
        value
    };
    for (body, message) in [
        (r#"{"choices":[]}"#.to_string(), format!(r#"{not}: {{"choices":[]}}"#)),
        (r#"{"choices":[{}]}"#.to_string(), format!(r#"{not}: {{"choices":[{{}}]}}"#)),
        (r#"{"choices":[{"message":{"content":7}}]}"#.to_string(), {
            format!(r#"{not}: {{"choices":[{{"message":{{"content":7}}}}]}}"#)
        }),
        (r#"{"choices":[{"message":{"content":null}}]}"#.to_string(), {
            format!(r#"{not}: {{"choices":[{{"message":{{"content":null}}}}]}}"#)
        }),
        ("[1e999999]".to_string(), format!("{not}: [1e999999]")),
        (r#"{"error":{"message":"model crashed"}}"#.to_string(), format!("{not}: model crashed")),
    ] {
        run(&engine(), &hi(), vec![(CHAT, ok(body))]).fails(true, &message);
    }
    assert!(run(&engine(), &hi(), vec![(CHAT, ok(deep(63)))]).outcome.is_ok());
    let played = run(&engine(), &hi(), vec![(CHAT, ok(deep(64)))]);
    assert!(played.outcome.unwrap_err().message.starts_with(not), "what can't be read again is no result");
    // A call of a tool has no text, and is one all the same.
    let call = r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}}]}"#;
    assert!(run(&engine(), &hi(), vec![(CHAT, ok(call))]).outcome.is_ok());
    // Any prefix of an answer is an error and no panic.
    let whole = answer("hello").to_string();
    for cut in 0..whole.len() {
        assert!(run(&engine(), &hi(), vec![(CHAT, ok(&whole[..cut]))]).outcome.is_err(), "cut at {cut}");
    }
}

#[test]
fn the_request_is_made_on_a_thread_of_its_own() {
    let picture = format!("data:image/png;base64,{PNG_BASE64}");
    let task =
        json!({ "kind": "llm", "messages": [{ "role": "user", "content": "?" }], "images": [picture] });
    let mut recipe = engine().recipe(&Arc::new(claim(&task)));
    let Effect::Compute(work) = recipe.next(Happened::Started) else { panic!("it blocks who asks") };
    assert!(
        matches!(recipe.next(Happened::Computed(work())), Effect::Exchange(request) if request.url.ends_with(chat::PATH))
    );
    let mut recipe = engine().recipe(&Arc::new(claim(&task)));
    assert!(matches!(recipe.next(Happened::Started), Effect::Compute(_)));
    let failed = Happened::Computed(Err(EngineError::transient("no memory")));
    assert!(matches!(recipe.next(failed), Effect::Done(Err(error)) if error.message == "no memory"));
}
