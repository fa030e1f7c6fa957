use std::{collections::BTreeSet, io::Cursor};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    engine::{Effect, Happened},
    wire::{Finite, ModelSource},
};

fn claim(model: &str, task: &Value) -> Claim {
    Claim {
        job_id: "job-1".into(),
        game_id: String::new(),
        asset_name: String::new(),
        model: model.into(),
        vram_gb_estimate: Finite::ZERO,
        task: Task::from_json(task).unwrap(),
        model_source: None,
    }
}

/// Runs a job as a driver does.
fn serve(engine: &Synthetic, claim: Claim) -> Result<Output, EngineError> {
    let mut recipe = engine.recipe(&Arc::new(claim));
    let Effect::Compute(compute) = recipe.next(Happened::Started) else { panic!("one closure is wanted") };
    match recipe.next(Happened::Computed(compute())) {
        Effect::Done(outcome) => outcome,
        effect => panic!("unexpected {effect:?}"),
    }
}

fn made(task: &Value) -> (String, Vec<u8>) {
    match serve(&Synthetic::new(), claim("synthetic", task)) {
        Ok(Output::Bytes { ext, payload: Payload::Memory(bytes) }) => (ext, bytes.to_vec()),
        other => panic!("{task}: {other:?}"),
    }
}

fn said(task: &Value) -> Value {
    match serve(&Synthetic::new(), claim("synthetic", task)) {
        Ok(Output::Json(value)) => (*value).clone(),
        other => panic!("{task}: {other:?}"),
    }
}

fn refusal(task: &Value) -> String {
    let error = serve(&Synthetic::new(), claim("synthetic", task)).unwrap_err();
    assert!(!error.retryable, "{error}");
    error.message
}

fn one_of_each() -> [Value; 6] {
    [
        json!({ "kind": "image", "prompt": "a koi", "width": 96, "height": 64, "ext": "png" }),
        json!({ "kind": "llm", "messages": [{ "role": "user", "content": "a koi" }] }),
        json!({ "kind": "audio_stt", "inputUrl": "https://h/a.wav?sig=s3cr3t" }),
        json!({ "kind": "audio_tts", "text": "a koi" }),
        json!({ "kind": "video", "prompt": "a koi", "width": 64, "height": 48, "seconds": 0.5 }),
        json!({ "kind": "mesh", "imageUrl": "https://h/a.png" }),
    ]
}

fn changed(task: &Value, name: &str, value: Value) -> Value {
    let mut task = task.clone();
    task[name] = value;
    task
}

#[test]
fn it_serves_its_own_models_only_and_those_that_the_operator_names() {
    let own = ["image", "llm", "stt", "tts", "video", "mesh"].map(|short| format!("synthetic-{short}"));
    for (kind, own) in TaskKind::ALL.into_iter().zip(own) {
        let services = Synthetic::new().services();
        let service = services.iter().find(|service| service.kind == kind).unwrap();
        assert_eq!(service.engine, "synthetic");
        assert_eq!(service.models, Models::Listed(vec!["synthetic".into(), own]));
    }
    let generous = Synthetic::with_models(&["flux1-dev".into()]);
    for (kind, task) in TaskKind::ALL.into_iter().zip(one_of_each()) {
        assert!(serves(&generous.services(), kind, "flux1-dev", None));
        assert!(serve(&generous, claim("flux1-dev", &task)).is_ok());

        let error = serve(&Synthetic::new(), claim("flux1-dev", &task)).unwrap_err();
        assert!(!error.retryable && error.message.contains("cannot serve"), "{error}");
    }
    let image = &one_of_each()[0];
    assert!(serve(&Synthetic::new(), claim("synthetic-image", image)).is_ok());
    assert!(serve(&Synthetic::new(), claim("synthetic-llm", image)).is_err());

    let mut elsewhere = claim("synthetic", image);
    elsewhere.model_source = Some(ModelSource { engine: "sd-cpp".into(), ..ModelSource::default() });
    assert!(serve(&Synthetic::new(), elsewhere).unwrap_err().message.contains("cannot serve"));
}

#[test]
fn the_same_task_gives_the_same_result_and_any_other_task_another() {
    let engine = Synthetic::with_models(&["other".into()]);
    for task in one_of_each() {
        let first = serve(&engine, claim("synthetic", &task)).unwrap();
        assert_eq!(first, serve(&engine, claim("synthetic", &task)).unwrap());
        assert_ne!(first, serve(&engine, claim("other", &task)).unwrap(), "another model: {task}");
        for other in [
            changed(&task, "prompt", json!("a carp")),
            changed(&task, "text", json!("a carp")),
            changed(&task, "seed", json!(7)),
            changed(&task, "language", json!("nl")),
            changed(&task, "messages", json!([{ "role": "user", "content": "a carp" }])),
        ] {
            if Task::from_json(&other) != Task::from_json(&task) {
                assert_ne!(first, serve(&engine, claim("synthetic", &other)).unwrap(), "{other}");
            }
        }
    }
}

#[test]
fn the_hash_is_the_same_on_every_machine() {
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }], "jsonSchema": {
        "type": "string", "b": 1, "a": [true, null],
    }});
    // SHA-256 of the model, a zero byte and the canonical text, worked out by another program.
    assert_eq!(Seed::of(&claim("synthetic", &task)).digits(), "bfe26991eca77fd6");
}

#[test]
fn pictures_are_what_was_asked_for() {
    let formats = [
        ("png", "png", image::ImageFormat::Png),
        ("PNG", "png", image::ImageFormat::Png),
        ("webp", "webp", image::ImageFormat::WebP),
        ("jpg", "jpg", image::ImageFormat::Jpeg),
        ("jpeg", "jpeg", image::ImageFormat::Jpeg),
        ("bmp", "webp", image::ImageFormat::WebP),
        ("avif", "webp", image::ImageFormat::WebP),
    ];
    for (asked, told, format) in formats {
        for (width, height) in [(1, 1), (1, 300), (300, 1), (35, 9), (257, 129), (129, 257)] {
            let (ext, bytes) = made(&json!({
                "kind": "image", "prompt": "p", "width": width, "height": height, "ext": asked,
            }));
            assert_eq!(ext, told);
            assert_eq!(image::guess_format(&bytes).unwrap(), format);
            let picture = image::load_from_memory_with_format(&bytes, format).unwrap();
            assert_eq!((picture.width(), picture.height()), (width, height), "{asked}");
        }
    }
}

#[test]
fn a_picture_is_worth_looking_at() {
    let (_, bytes) = made(&json!({ "kind": "image", "prompt": "p", "ext": "png" }));
    let picture = image::load_from_memory(&bytes).unwrap().into_rgb8();
    let colours: BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 200, "{} colours", colours.len());
    // Smooth: few pixels differ much from their neighbour.
    let steps = picture.as_raw().chunks(3).zip(picture.as_raw()[3..].chunks(3));
    let jumps = steps.filter(|(a, b)| a[0].abs_diff(b[0]) > 32).count();
    assert!(jumps < 512 * 512 / 20, "{jumps} jumps");
}

#[test]
fn the_caption_shows_the_hash() {
    let task = json!({ "kind": "image", "prompt": "p", "width": 80, "height": 30, "ext": "png" });
    let digits = Seed::of(&claim("synthetic", &task)).digits();
    let picture = image::load_from_memory(&made(&task).1).unwrap().into_rgb8();
    let zero = [[1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1]];
    let seven = [[1, 1, 1], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]];
    let eleven = [[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 1], [1, 1, 0]];
    let mut checked = 0;
    for (at, digit) in (0..8).zip(digits.chars()) {
        let cell = |x: u32, y: u32| i32::from(picture.get_pixel(2 + 4 * at + x, 30 - 7 + y).0[0] > 128);
        let shown: [[i32; 3]; 5] = core::array::from_fn(|y| {
            core::array::from_fn(|x| cell(u32::try_from(x).unwrap(), u32::try_from(y).unwrap()))
        });
        for (known, glyph) in [('0', zero), ('7', seven), ('b', eleven)] {
            assert_eq!(shown == glyph, digit == known, "{digits} at {at}: {shown:?}");
            checked += usize::from(digit == known);
        }
    }
    assert!(checked > 0, "{digits} has none of the digits that are looked for: choose another prompt");
}

#[test]
fn a_picture_that_is_too_large_is_refused_by_name() {
    let sized =
        |width: u32, height: u32| json!({ "kind": "image", "prompt": "p", "width": width, "height": height });
    assert!(refusal(&sized(16_384, 4_000)).contains("`width`"));
    assert!(refusal(&sized(4_000, 16_384)).contains("`height`"));
}

fn frames(bytes: &[u8]) -> (u16, u16, Vec<(u16, Vec<u8>)>) {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut film = options.read_info(Cursor::new(bytes)).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = film.read_next_frame().unwrap() {
        frames.push((frame.delay, frame.buffer.to_vec()));
    }
    (film.width(), film.height(), frames)
}

#[test]
fn a_film_moves_and_lasts_as_long_as_asked() {
    for (seconds, fps, count, length) in [
        (2.0, None, 16, 200),
        (0.5, None, 4, 50),
        (1.3, Some(3.0), 4, 130),
        (0.01, None, 1, 2),
        (1.0, Some(50.0), 50, 100),
        (3.0, Some(0.1), 3, 300),
    ] {
        let mut task =
            json!({ "kind": "video", "prompt": "p", "seconds": seconds, "width": 120, "height": 40 });
        if let Some(fps) = fps {
            task["fps"] = json!(fps);
        }
        let (ext, bytes) = made(&task);
        assert_eq!(ext, "gif");
        let (width, height, frames) = frames(&bytes);
        assert_eq!((width, height), (120, 40));
        assert_eq!(frames.len(), count, "{task}");
        assert_eq!(frames.iter().map(|(delay, _)| u32::from(*delay)).sum::<u32>(), length, "{task}");
        for pair in frames.windows(2) {
            assert_ne!(pair[0].1, pair[1].1, "a frame stands still");
        }
    }
}

#[test]
fn a_film_is_small() {
    let (_, bytes) = made(&json!({ "kind": "video", "prompt": "p", "seconds": 2.0 }));
    assert!(bytes.len() < 3_000_000, "{} bytes", bytes.len());
}

#[test]
fn a_film_that_is_too_large_is_refused_by_name() {
    let film = json!({ "kind": "video", "prompt": "p" });
    assert!(refusal(&changed(&film, "seconds", json!(3_600))).contains("`seconds`"));
    let wide = json!({ "kind": "video", "prompt": "p", "width": 16_384, "height": 2_000 });
    assert!(refusal(&wide).contains("`width`"));
    assert!(refusal(&changed(&film, "fps", json!(0))).contains("`fps`"));
}

fn sound(bytes: &[u8]) -> Vec<i16> {
    let mut reader = hound::WavReader::new(Cursor::new(bytes)).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 22_050, 16));
    assert_eq!(spec.sample_format, hound::SampleFormat::Int);
    reader.samples().collect::<Result<_, _>>().unwrap()
}

#[test]
fn speech_is_as_long_as_its_text() {
    for (text, speed, length) in [
        ("", None, 6_615),
        ("abc", None, 6_615),
        ("twenty characters ok", None, 26_460),
        ("twenty characters ok", Some(2.0), 13_230),
        ("twenty characters ok", Some(0.5), 52_920),
        ("zwölf Zeichen", None, 17_199),
    ] {
        for ext in ["wav", "mp3", "ogg"] {
            let mut task = json!({ "kind": "audio_tts", "text": text, "ext": ext });
            if let Some(speed) = speed {
                task["speed"] = json!(speed);
            }
            let (told, bytes) = made(&task);
            assert_eq!(told, "wav");
            assert_eq!(sound(&bytes).len(), length, "{task}");
        }
    }
}

#[test]
fn speech_can_be_heard_and_is_not_one_tone() {
    let samples =
        sound(&made(&json!({ "kind": "audio_tts", "text": "The quick brown fox jumps over it" })).1);
    assert!(samples.iter().any(|sample| sample.unsigned_abs() > 10_000));
    // How often the sound crosses zero, letter by letter, says how high it is.
    let crossings: BTreeSet<_> = samples
        .chunks(1_323)
        .map(|letter| letter.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count())
        .collect();
    assert!(crossings.len() > 4, "{crossings:?}");
    // The fourth character is a space.
    assert!(samples[3 * 1_323 + 8..4 * 1_323 - 8].iter().all(|sample| *sample == 0));
}

#[test]
fn speech_that_is_too_long_or_too_fast_is_refused_by_name() {
    let speech = json!({ "kind": "audio_tts", "text": "x".repeat(10_001) });
    assert!(refusal(&speech).contains("`text`"));
    for speed in [0.0, -1.0, 0.01, 11.0] {
        assert!(refusal(&changed(&speech, "speed", json!(speed))).contains("`speed`"));
    }
    assert!(serve(&Synthetic::new(), claim("synthetic", &changed(&speech, "speed", json!(2)))).is_ok());
}

#[test]
fn a_mesh_is_valid_gltf() {
    let (ext, bytes) = made(&json!({ "kind": "mesh", "imageUrl": "https://h/a.png", "ext": "obj" }));
    assert_eq!(ext, "glb");
    // Reading validates the document.
    let gltf::Gltf { document, blob } = gltf::Gltf::from_slice(&bytes).unwrap();
    let blob = blob.unwrap();
    let primitive = document.meshes().next().unwrap().primitives().next().unwrap();
    let reader = primitive.reader(|_| Some(&blob));
    let corners: Vec<[f32; 3]> = reader.read_positions().unwrap().collect();
    let normals: Vec<[f32; 3]> = reader.read_normals().unwrap().collect();
    let colours: Vec<[u8; 4]> = reader.read_colors(0).unwrap().into_rgba_u8().collect();
    let corner_of: Vec<u32> = reader.read_indices().unwrap().into_u32().collect();
    assert_eq!((corners.len(), normals.len(), colours.len()), (4_098, 4_098, 4_098));
    assert_eq!(corner_of.len(), 3 * 8_192);

    let bounds = primitive.bounding_box();
    for side in 0..3 {
        let along = || corners.iter().map(|corner| corner[side]);
        assert_eq!(along().fold(f32::MAX, f32::min).to_bits(), bounds.min[side].to_bits());
        assert_eq!(along().fold(f32::MIN, f32::max).to_bits(), bounds.max[side].to_bits());
    }
    for (corner, normal) in corners.iter().zip(&normals) {
        let length: f32 = normal.iter().map(|part| part * part).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let outward: f32 = corner.iter().zip(normal).map(|(a, b)| a * b).sum();
        assert!(outward > 0.0, "a normal looks inside");
    }
    assert!(colours.iter().collect::<BTreeSet<_>>().len() > 20);
    // Closed: every side of a triangle is one of another's, the other way round.
    let sides: BTreeSet<_> =
        corner_of.chunks(3).flat_map(|at| [(at[0], at[1]), (at[1], at[2]), (at[2], at[0])]).collect();
    assert_eq!(sides.len(), corner_of.len());
    assert!(sides.iter().all(|(a, b)| sides.contains(&(*b, *a))));
}

#[test]
fn a_chat_has_the_shape_of_openai() {
    let task = json!({ "kind": "llm", "system": "be kind", "messages": [
        { "role": "user", "content": "first" }, { "role": "user", "content": "is this a koi?" },
    ]});
    let digits = Seed::of(&claim("synthetic", &task)).digits();
    let said = said(&task);
    assert_eq!(said["object"], "chat.completion");
    assert_eq!(said["id"], format!("chatcmpl-{digits}"));
    assert_eq!(said["model"], "synthetic");
    let choice = &said["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert_eq!(choice["message"]["role"], "assistant");
    let content = choice["message"]["content"].as_str().unwrap();
    assert!(content.contains(&digits) && content.contains("is this a koi?"), "{content}");
    let usage = &said["usage"];
    assert_eq!(usage["prompt_tokens"], 7);
    assert_eq!(usage["completion_tokens"], content.split(' ').count());
    assert_eq!(usage["total_tokens"], 7 + content.split(' ').count());
}

#[test]
fn a_chat_ends_at_its_most_tokens_and_quotes_no_more_than_a_preview() {
    let task = json!({ "kind": "llm", "maxTokens": 3, "messages": [{ "role": "user", "content": "hi" }] });
    let cut = said(&task);
    let content = cut["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(content.split(' ').count(), 3);
    assert!(content.contains(&Seed::of(&claim("synthetic", &task)).digits()));
    assert_eq!(cut["choices"][0]["finish_reason"], "length");

    let long = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "é".repeat(5_000) }] });
    let content = said(&long)["choices"][0]["message"]["content"].as_str().unwrap().chars().count();
    assert!((200..400).contains(&content), "{content}");
}

#[test]
fn a_schema_is_met() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "long": { "type": "string", "minLength": 100 },
            "age": { "type": "integer", "minimum": 18, "maximum": 99 },
            "odds": { "type": "number", "exclusiveMaximum": 0 },
            "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "minItems": 3 },
            "none": { "type": "array", "maxItems": 0 },
            "nested": { "properties": { "ok": { "type": ["boolean", "null"] } }, "required": ["ok", "extra"] },
            "either": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
            "fixed": { "const": { "x": [1] } },
        },
        "required": ["name", "age", "unlisted"],
    });
    for wrapped in [
        schema.clone(),
        json!({ "name": "n", "schema": schema }),
        json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } }),
    ] {
        let task = json!({ "kind": "llm", "maxTokens": 1, "jsonSchema": wrapped, "messages": [
            { "role": "user", "content": "hi" },
        ]});
        let digits = Seed::of(&claim("synthetic", &task)).digits();
        let said = said(&task);
        let answer: Value =
            serde_json::from_str(said["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
        assert_eq!(answer["name"].as_str().unwrap().len(), 12);
        assert_eq!(answer["long"].as_str().unwrap().len(), 100);
        assert_eq!(answer["age"], 18);
        assert!(answer["odds"].as_f64().unwrap() < 0.0);
        assert_eq!(answer["tags"], json!(["a", "a", "a"]));
        assert_eq!(answer["none"], json!([]));
        assert_eq!(answer["nested"]["ok"], true);
        assert!(answer["nested"]["extra"].is_string());
        assert_eq!(answer["either"], Value::Null);
        assert_eq!(answer["fixed"], json!({ "x": [1] }));
        assert!(answer["unlisted"].as_str().unwrap().contains(&digits));
    }
}

#[test]
fn a_schema_of_lists_of_lists_stays_small() {
    let mut schema = json!({ "type": "string" });
    for _ in 0..100 {
        schema = json!({ "type": "array", "minItems": 1_000_000, "items": schema });
    }
    let said = said(&json!({ "kind": "llm", "jsonSchema": schema, "messages": [
        { "role": "user", "content": "hi" },
    ]}));
    assert!(said.to_string().len() < 10_000_000);
}

#[test]
fn a_transcript_has_the_shape_of_whisper_and_keeps_a_signature_to_itself() {
    let task = json!({ "kind": "audio_stt", "inputUrl": "https://h/a.wav?sig=s3cr3t", "language": "nl" });
    let digits = Seed::of(&claim("synthetic", &task)).digits();
    let said = said(&task);
    assert!(!said.to_string().contains("s3cr3t"));
    let text = said["text"].as_str().unwrap();
    assert!(text.contains(&digits) && text.contains("https://h/a.wav"), "{text}");
    assert_eq!(said["language"], "nl");
    let segments = said["segments"].as_array().unwrap();
    let parts: Vec<&str> = segments.iter().map(|segment| segment["text"].as_str().unwrap()).collect();
    assert_eq!(parts.join(" "), text);
    let mut now = json!(0.0);
    for segment in segments {
        assert_eq!(segment["start"], now);
        now = segment["end"].clone();
    }
    assert_eq!(said["duration"], now);
    assert!(now.as_f64().unwrap() > 1.0);
}

#[test]
fn a_large_picture_can_be_drawn() {
    let task = json!({ "kind": "image", "prompt": "p", "width": 4096, "height": 4096, "ext": "jpg" });
    let reader = image::ImageReader::with_format(Cursor::new(made(&task).1), image::ImageFormat::Jpeg);
    assert_eq!(reader.into_dimensions().unwrap(), (4_096, 4_096));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_small_picture_and_film_can_be_drawn(width in 1_u32..200, height in 1_u32..200, seed: u64) {
        let task = json!({
            "kind": "image", "prompt": "p", "width": width, "height": height, "seed": seed, "ext": "png",
        });
        let picture = image::load_from_memory(&made(&task).1).unwrap();
        prop_assert_eq!((picture.width(), picture.height()), (width, height));
        let task = json!({
            "kind": "video", "prompt": seed.to_string(), "width": width, "height": height, "seconds": 0.2,
        });
        prop_assert_eq!(frames(&made(&task).1).2.len(), 2);
    }
}
