use alloc::{string::ToString, vec};

use proptest::prelude::*;
use serde_json::json;

use super::{raw::parameters_of, *};

fn read(value: &Value) -> Task {
    Task::from_json(value).unwrap_or_else(|problem| panic!("{value}: {problem}"))
}

/// Each kind as a worker's documentation has it: with what is required, and with everything.
fn examples() -> Vec<(Value, Value)> {
    vec![
        (
            json!({ "kind": "image", "prompt": "p" }),
            json!({
                "kind": "image", "prompt": "p", "width": 1024, "height": 768, "steps": 30, "seed": u64::MAX,
                "ext": "png", "negativePrompt": "n", "initImageUrl": "https://h/i", "maskUrl": "https://h/m",
                "refImageUrl": "https://h/r", "denoise": 0.5, "cfgScale": 7, "samplingMethod": "euler",
            }),
        ),
        (
            json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }),
            json!({
                "kind": "llm", "messages": [{ "role": "user", "content": "" }], "maxTokens": 32, "temperature": 0,
                "system": "s", "topP": 0.9, "stop": ["a"], "jsonSchema": { "type": "object" }, "reasoning": "low",
                "chatTemplateKwargs": { "enable_thinking": false }, "images": ["data:image/png;base64,AA=="],
            }),
        ),
        (
            json!({ "kind": "audio_stt", "inputUrl": "https://h/a" }),
            json!({
                "kind": "audio_stt", "inputUrl": "https://h/a", "language": "nl", "translate": true, "prompt": "p",
                "vad": false, "timestamps": "word",
            }),
        ),
        (
            json!({ "kind": "audio_tts", "text": "hello" }),
            json!({
                "kind": "audio_tts", "text": "", "voice": "amy", "ext": "mp3", "speed": 1.5, "language": "en",
            }),
        ),
        (
            json!({ "kind": "video", "prompt": "p" }),
            json!({
                "kind": "video", "prompt": "p", "seconds": 0.5, "width": 320, "height": 200, "ext": "webm",
                "negativePrompt": "n", "initImageUrl": "https://h/i", "fps": 24,
            }),
        ),
        (
            json!({ "kind": "mesh", "imageUrl": "https://h/i" }),
            json!({ "kind": "mesh", "imageUrl": "https://h/i", "seed": 0, "ext": "glb" }),
        ),
    ]
}

fn snake(task: &Value) -> Value {
    task.as_object().unwrap().iter().map(|(name, value)| (to_snake(name), value.clone())).collect()
}

#[test]
fn what_is_missing_has_the_default_of_section_5() {
    let defaults = [
        json!({ "kind": "image", "prompt": "p", "width": 512, "height": 512, "steps": 20, "ext": "webp" }),
        json!({
            "kind": "llm", "messages": [{ "role": "user", "content": "hi" }], "maxTokens": 512, "temperature": 0.7,
        }),
        json!({ "kind": "audio_stt", "inputUrl": "https://h/a" }),
        json!({ "kind": "audio_tts", "text": "hello", "voice": "default", "ext": "wav" }),
        json!({ "kind": "video", "prompt": "p", "seconds": 2, "width": 512, "height": 512, "ext": "mp4" }),
        json!({ "kind": "mesh", "imageUrl": "https://h/i", "ext": "glb" }),
    ];
    for ((least, _), whole) in examples().iter().zip(defaults) {
        assert_eq!(read(least).to_json(TaskForm::Camel), whole);
    }
}

#[test]
fn both_spellings_are_read_and_written() {
    for (least, most) in examples() {
        let task = read(&most);
        assert_eq!(task.to_json(TaskForm::Camel), most);
        assert_eq!(task.to_json(TaskForm::Snake), snake(&most));
        for example in [least, most] {
            let task = read(&example);
            assert_eq!(read(&snake(&example)), task);
            for form in [TaskForm::Camel, TaskForm::Snake] {
                assert_eq!(read(&task.to_json(form)), task);
            }
        }
    }
}

#[test]
fn spellings_may_be_mixed_and_null_is_missing() {
    let mixed = json!({
        "kind": "image", "prompt": "p", "negative_prompt": "n", "initImageUrl": "i", "mask_url": null, "seed": null,
        "width": null, "ext": null, "newer": { "deep": [1] },
    });
    let Task::Image(task) = read(&mixed) else { panic!("an image") };
    assert_eq!(task.negative_prompt.as_deref(), Some("n"));
    assert_eq!(task.init_image_url.as_deref(), Some("i"));
    assert_eq!((task.mask_url, task.seed, task.width, task.ext.as_str()), (None, None, 512, "webp"));

    // Half of one and half of the other is neither.
    let half = json!({ "kind": "image", "prompt": "p", "init_imageUrl": 7 });
    assert_eq!(read(&half), read(&json!({ "kind": "image", "prompt": "p" })));

    let both = json!({ "kind": "audio_stt", "inputUrl": "https://h/a", "input_url": "https://h/a" });
    assert_eq!(read(&both).prompt(), "https://h/a");
}

#[test]
fn whole_numbers_are_written_whole() {
    // 0.4 reads `fps` as an integer, and would refuse 24.0.
    let task = read(&json!({ "kind": "video", "prompt": "p", "fps": 24.0, "seconds": 2.5 }));
    let written = task.to_json(TaskForm::Camel);
    assert_eq!((written["fps"].to_string(), written["seconds"].to_string()), ("24".into(), "2.5".into()));
}

#[test]
fn what_is_to_blame_is_named() {
    let wrong = |kind: &str, name: &str, value: Value| {
        let mut task = examples().into_iter().find(|(least, _)| least["kind"] == kind).unwrap().0;
        task[name] = value;
        task
    };
    let text = || json!("text");
    for (kind, name, value) in [
        ("image", "prompt", json!(1)),
        ("image", "prompt", json!(null)),
        ("image", "width", text()),
        ("image", "width", json!(0)),
        ("image", "width", json!(16_385)),
        ("image", "width", json!(-1)),
        ("image", "width", json!(1.5)),
        ("image", "height", json!(0)),
        ("image", "height", json!(1_u64 << 40)),
        ("image", "steps", json!(0)),
        ("image", "steps", json!(1_001)),
        ("image", "seed", json!(-1)),
        ("image", "seed", json!(1.5)),
        ("image", "ext", json!("../x")),
        ("image", "ext", json!("")),
        ("image", "ext", json!("seventeenletters1")),
        ("image", "negativePrompt", json!([])),
        ("image", "initImageUrl", json!(1)),
        ("image", "maskUrl", json!({})),
        ("image", "refImageUrl", json!(true)),
        ("image", "denoise", text()),
        ("image", "cfgScale", text()),
        ("image", "samplingMethod", json!(1)),
        ("llm", "messages", json!([])),
        ("llm", "messages", json!(null)),
        ("llm", "messages", text()),
        ("llm", "messages", json!([{ "role": "user" }])),
        ("llm", "messages", json!([["user", "hi"]])),
        ("llm", "messages", json!([null])),
        ("llm", "messages", json!([{ "role": "user", "content": 1 }])),
        ("llm", "maxTokens", json!(0)),
        ("llm", "maxTokens", json!(-5)),
        ("llm", "temperature", text()),
        ("llm", "system", json!(1)),
        ("llm", "topP", text()),
        ("llm", "images", text()),
        ("llm", "images", json!([1])),
        ("audio_stt", "inputUrl", json!("")),
        ("audio_stt", "inputUrl", json!(null)),
        ("audio_stt", "language", json!(1)),
        ("audio_stt", "translate", text()),
        ("audio_stt", "prompt", json!(1)),
        ("audio_tts", "text", json!(null)),
        ("audio_tts", "text", json!(1)),
        ("audio_tts", "voice", json!(1)),
        ("audio_tts", "speed", text()),
        ("audio_tts", "ext", json!("a b")),
        ("video", "prompt", json!(null)),
        ("video", "seconds", json!(0)),
        ("video", "seconds", json!(-1)),
        ("video", "seconds", json!(3_601)),
        ("video", "seconds", text()),
        ("video", "fps", text()),
        ("video", "width", json!(0)),
        ("mesh", "imageUrl", json!("")),
        ("mesh", "imageUrl", json!(1)),
        ("mesh", "seed", text()),
    ] {
        for task in [wrong(kind, name, value.clone()), snake(&wrong(kind, name, value.clone()))] {
            let named = to_snake(name);
            match Task::from_json(&task) {
                Err(ClaimProblem::Parameter { name, problem }) => {
                    assert_eq!(name, named, "{task}: {problem}");
                    assert!(!problem.is_empty());
                }
                other => panic!("{task}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_kind_is_wanted() {
    for (task, name) in [
        (json!({ "prompt": "p" }), "kind"),
        (json!({ "kind": null }), "kind"),
        (json!({ "kind": 1 }), "kind"),
        (json!("image"), "task"),
        (json!([]), "task"),
        (json!(null), "task"),
    ] {
        let problem = Task::from_json(&task).unwrap_err();
        assert!(problem.to_string().contains(&format!("`{name}`")), "{task}: {problem}");
    }
    for kind in ["hologram", "Image", "vision", ""] {
        assert_eq!(
            Task::from_json(&json!({ "kind": kind, "width": "wide" })),
            Err(ClaimProblem::UnknownKind { kind: kind.into() })
        );
    }
}

#[test]
fn a_parameter_of_another_kind_may_be_anything() {
    for (least, _) in examples() {
        let mut task = least.clone();
        for (name, value) in [
            ("messages", json!("none")),
            ("steps", json!("many")),
            ("voice", json!([1])),
            ("fps", json!({})),
            ("translate", json!("yes")),
            ("imageUrl", json!(false)),
        ] {
            let kind = TaskKind::parse(least["kind"].as_str().unwrap()).unwrap();
            if !parameters_of(kind).contains(&to_snake(name).as_str()) {
                task[name] = value;
            }
        }
        assert_eq!(read(&task), read(&least));
    }
}

#[test]
fn the_reported_prompt_is_the_whole_one() {
    for (task, prompt) in [
        (json!({ "kind": "image", "prompt": "a" }), "a"),
        (json!({ "kind": "video", "prompt": "b" }), "b"),
        (json!({ "kind": "audio_tts", "text": "c" }), "c"),
        (json!({ "kind": "audio_stt", "inputUrl": "d", "prompt": "x" }), "d"),
        (json!({ "kind": "mesh", "imageUrl": "e" }), ""),
        (
            json!({ "kind": "llm", "system": "s", "messages": [
                { "role": "user", "content": "first" }, { "role": "assistant", "content": "last" },
            ]}),
            "last",
        ),
    ] {
        assert_eq!(read(&task).prompt(), prompt);
    }
}

#[test]
fn kinds_have_one_name() {
    for kind in TaskKind::ALL {
        assert_eq!(TaskKind::parse(kind.name()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

/// Any JSON, not deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_so_that_it_reads_back(
        kind in 0_usize..6,
        changes in proptest::collection::vec((0_usize..13, any_json()), 0..4),
    ) {
        let (_, mut example) = examples().swap_remove(kind);
        let names = parameters_of(TaskKind::ALL[kind]);
        for (at, value) in changes {
            example[names[at % names.len()]] = value;
        }
        if let Ok(task) = Task::from_json(&example) {
            for form in [TaskForm::Camel, TaskForm::Snake] {
                prop_assert_eq!(&read(&task.to_json(form)), &task);
            }
        }
    }
}
