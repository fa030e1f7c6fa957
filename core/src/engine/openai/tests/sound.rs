//! `audio_tts` and `audio_stt`.

use alloc::{string::ToString, vec};

use serde_json::{Value, json};

use super::{SPEECH, TRANSCRIPTIONS, TRANSLATIONS, engine};
use crate::engine::transcript::{PNG, WAV, broken, bytes, json, ok, result, run, status};

const OPUS: &[u8] = b"OggS\0\x02\0\0\0\0\0\0\0\0";

#[test]
fn speech_is_asked_for_in_a_format_that_the_api_has() {
    for (ext, format, sound, sent) in [
        ("wav", "wav", WAV, "wav"),
        ("mp3", "mp3", b"ID3\x04\0\0\0\0\0\0", "mp3"),
        ("MP3", "mp3", &b"\xff\xfb\x90\x64"[..], "mp3"),
        ("ogg", "opus", OPUS, "ogg"),
        ("opus", "opus", OPUS, "opus"),
        ("flac", "flac", b"fLaC\0\0\0\x22", "flac"),
        ("aac", "aac", b"\xff\xf1\x50\x80", "aac"),
        ("m4a", "wav", WAV, "wav"),
        // A server that makes something else than was asked for.
        ("mp3", "mp3", WAV, "wav"),
    ] {
        let task = json!({ "kind": "audio_tts", "text": "hello", "ext": ext });
        let played = run(&engine(), &task, vec![(SPEECH, ok(sound))]);
        assert_eq!(
            played.json(0),
            json!({ "model": "m-1", "input": "hello", "voice": "alloy", "response_format": format })
        );
        assert_eq!(played.outcome, bytes(sent, sound));
    }
    let task =
        json!({ "kind": "audio_tts", "text": "hallo", "voice": "eva", "speed": 1.25, "language": "de" });
    let body = run(&engine(), &task, vec![(SPEECH, ok(WAV))]).json(0);
    assert_eq!(
        (&body["voice"], &body["speed"], &body["language"]),
        (&json!("eva"), &json!(1.25), &json!("de"))
    );
}

#[test]
fn what_is_no_sound_is_an_error() {
    let task = json!({ "kind": "audio_tts", "text": "hello" });
    let not = "http://127.0.0.1:8080 answers with something that is not sound in a format that can be told";
    for (body, message) in [
        (
            &b""[..],
            "http://127.0.0.1:8080 answers with nothing, where sound in a format that can be told was wanted",
        ),
        (br#"{"error":"no voice"}"#, &alloc::format!("{not}: no voice")),
        (b"\0\0\0\0", not),
    ] {
        let played = run(&engine(), &task, vec![(SPEECH, ok(body))]);
        let error = played.outcome.unwrap_err();
        assert!(error.retryable && error.message.starts_with(message), "{error}");
    }
    assert!(run(&engine(), &task, vec![(SPEECH, ok(PNG))]).outcome.is_err());
}

fn transcript() -> Value {
    json!({ "task": "transcribe", "language": "english", "duration": 1.5, "text": "go forward", "segments": [] })
}

#[test]
fn sound_is_fetched_and_sent_as_a_form() {
    let task = json!({
        "kind": "audio_stt", "inputUrl": "https://files.test/in.mp3?X-Sig=0123456789", "language": "en",
        "prompt": "ten meters", "vad": true, "timestamps": ["word", "segment"],
    });
    let steps = vec![
        ("GET https://files.test/in.mp3?X-Sig=0123456789", ok(WAV)),
        (TRANSCRIPTIONS, json(&transcript())),
    ];
    let played = run(&engine(), &task, steps);
    assert_eq!(played.asked[0].bearer, None);
    let body = played.asked[1].body.as_ref().unwrap();
    let boundary = body.content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let text = played.text(1);
    let between = alloc::format!("--{boundary}");
    let mut parts = text.split(&between);
    for (name, value) in [
        ("model", "m-1"),
        ("response_format", "verbose_json"),
        ("language", "en"),
        ("prompt", "ten meters"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("vad_filter", "true"),
    ] {
        let wanted = alloc::format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        if name == "model" {
            assert_eq!(parts.next(), Some(""));
        }
        assert_eq!(parts.next(), Some(wanted.as_str()));
    }
    let file = parts.next().unwrap();
    assert!(
        file.contains("name=\"file\"; filename=\"audio.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF"),
        "{file}"
    );
    assert_eq!(parts.next(), Some("--\r\n"));
    assert!(body.bytes.windows(WAV.len()).any(|window| window == WAV), "the sound is sent as it is");
    assert_eq!(played.outcome, result(transcript()));
}

#[test]
fn a_translation_has_a_path_of_its_own_and_unknown_sound_keeps_its_name() {
    let task = json!({
        "kind": "audio_stt", "inputUrl": "https://files.test/a.b/in.m4b", "translate": true, "language": "de",
        "vad": false,
    });
    let steps =
        vec![("GET https://files.test/a.b/in.m4b", ok("who knows")), (TRANSLATIONS, json(&transcript()))];
    let played = run(&engine(), &task, steps);
    let text = played.text(1);
    assert!(text.contains("filename=\"audio.m4b\"\r\nContent-Type: application/octet-stream"), "{text}");
    assert!(!text.contains("language"), "what is spoken is found out: the result is English");
    assert!(text.contains("name=\"vad_filter\"\r\n\r\nfalse"));
}

#[test]
fn a_model_that_knows_no_verbose_json_is_asked_for_json() {
    let task = json!({ "kind": "audio_stt", "inputUrl": "data:audio/wav;base64,UklGRgAAAABXQVZF" });
    let refusal =
        r#"{"error":{"message":"response_format 'verbose_json' is not compatible with this model"}}"#;
    let played = run(
        &engine(),
        &task,
        vec![(TRANSCRIPTIONS, status(400, refusal)), (TRANSCRIPTIONS, json(&json!({ "text": "go" })))],
    );
    assert!(played.text(0).contains("\r\n\r\nverbose_json\r\n"));
    assert!(played.text(1).contains("\r\n\r\njson\r\n"));
    assert_eq!(played.outcome, result(json!({ "text": "go" })));
    let again = vec![(TRANSCRIPTIONS, status(400, refusal)), (TRANSCRIPTIONS, status(400, refusal))];
    assert!(!run(&engine(), &task, again).outcome.unwrap_err().retryable);
}

#[test]
fn what_is_no_transcript_is_an_error() {
    let task = json!({ "kind": "audio_stt", "inputUrl": "data:audio/wav;base64,UklGRgAAAABXQVZF" });
    for body in ["{}", "[]", "null", r#"{"text":null}"#, r#"{"text":"go"#, "go forward", "\u{0}"] {
        let error = run(&engine(), &task, vec![(TRANSCRIPTIONS, ok(body))]).outcome.unwrap_err();
        assert!(error.retryable, "{body}");
        assert!(error.message.contains("not a transcript"), "{body}: {error}");
    }
}

#[test]
fn sound_that_can_not_be_had_is_said_without_its_signature() {
    let address = "https://files.test/in.wav?X-Sig=0123456789";
    let task = json!({ "kind": "audio_stt", "inputUrl": address });
    let get = alloc::format!("GET {address}");
    for (answer, retryable, message) in [
        (
            broken(&alloc::format!("no route to {address}")),
            true,
            "an input can't be fetched from https://files.test/in.wav: no route to https://files.test/in.wav?…",
        ),
        (status(403, "expired"), true, "an input can't be fetched: https://files.test/in.wav answers 403"),
        (status(410, ""), false, "an input is not there: https://files.test/in.wav answers 410"),
        (ok(""), false, "an input is empty"),
        (ok(vec![0; 64 * 1024 * 1024 + 9]), false, "an input is larger than 64 MiB"),
    ] {
        run(&engine(), &task, vec![(get.as_str(), answer)]).fails(retryable, message);
    }
    // What a runtime says is scrubbed as well.
    let said = alloc::format!("{} {}", super::KEY, "0123456789");
    run(&engine(), &task, vec![(get.as_str(), broken(&said))])
        .fails(true, "an input can't be fetched from https://files.test/in.wav: … …");
    // A server that says it back.
    let said = alloc::format!(r#"{{"error":"can't open {address}, X-Sig=0123456789, 0123456789"}}"#);
    let steps = vec![(get.as_str(), ok(WAV)), (TRANSCRIPTIONS, status(500, said))];
    let error = run(&engine(), &task, steps).outcome.unwrap_err();
    assert!(!error.to_string().contains("0123456789"), "{error}");
}
