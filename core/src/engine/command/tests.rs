//! What programs are called with, and what becomes of what they make.

#![allow(clippy::needless_pass_by_value, reason = "what a test says is said where it is used")]

use alloc::{boxed::Box, format, string::String, sync::Arc, vec, vec::Vec};

use serde_json::{Value, json};

use super::{Command, Entry, EntryConfig};
use crate::{
    engine::{
        contract::{Engine as _, Models, Output},
        input::InputPolicy,
        transcript::{
            PNG, PNG_BASE64, Played, Step, WAV, bytes, claim, ended, file, made, made_file, ok, play_steps,
            redirect, result, status,
        },
    },
    machine::{Ended, Keep, ProgramFailure, Ran, Source},
    wire::TaskKind,
};

const GLB: &[u8] = b"glTF\x02\0\0\0";

fn config(kind: &str, args: Value) -> EntryConfig {
    serde_json::from_value(json!({ "kind": kind, "models": ["m-1"], "program": "make", "args": args }))
        .unwrap()
}

fn engine(config: EntryConfig) -> Command {
    Command::new(vec![Entry::new(config).unwrap()], InputPolicy::default())
}

fn play(engine: &Command, task: &Value, steps: Vec<Step>) -> Played<Output> {
    play_steps(engine.recipe(&Arc::new(claim(task))), steps)
}

/// How `make` is called for a task.
fn called(kind: &str, args: Value, task: Value) -> String {
    let engine = engine(config(kind, args));
    let mut task = task;
    task["kind"] = kind.into();
    let mut recipe = engine.recipe(&Arc::new(claim(&task)));
    match recipe.next(crate::engine::Happened::Started) {
        crate::engine::Effect::Run(process) => crate::engine::transcript::shown(&process.program),
        crate::engine::Effect::Done(Err(error)) => {
            format!("{}{}", if error.retryable { "again: " } else { "" }, error)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_are_templates_of_the_task() {
    let png = format!("data:image/png;base64,{PNG_BASE64}");
    for (kind, args, task, line) in [
        ("audio_tts", json!(["-w", "{output}", "{text}"]), json!({ "text": "hello there" }), {
            "make -w (output.wav) 'hello there'"
        }),
        (
            "audio_tts",
            json!([["-v", "{language}"], ["-s{speed}"], "{text}"]),
            json!({ "text": "hi", "voice": "default" }),
            "make hi",
        ),
        (
            "audio_tts",
            json!([["-v", "{language}+{voice}"], ["-s{speed}"], "{text}", "{ext}", "{model}"]),
            json!({ "text": "hi", "language": "en", "voice": "f2", "speed": 1.5, "ext": "mp3" }),
            "make -v en+f2 -s1.5 hi mp3 m-1",
        ),
        (
            "audio_tts",
            json!([["-v", "{language}+{voice}"], "{text}"]),
            json!({ "text": "hi", "language": "en", "voice": "default" }),
            "make hi",
        ),
        (
            "image",
            json!(["--size={width}x{height}", "--steps={steps}", "--seed={seed}", "-p", "{prompt}"]),
            json!({ "prompt": "a cat", "width": 64, "height": 32 }),
            "make --size=64x32 -p 'a cat'",
        ),
        (
            "image",
            json!([
                ["-n", "{negative_prompt}"],
                ["--steps", "{steps}"],
                ["-s", "{seed}"],
                ["-c", "{cfg_scale}"],
                ["-d", "{denoise}"],
                ["-m", "{sampling_method}"],
                ["-i", "{input}"],
                ["-k", "{mask}"],
                ["-r", "{reference}"],
                "{prompt}",
                "{output}"
            ]),
            json!({
                "prompt": "p", "negativePrompt": "n", "steps": 4, "seed": u64::MAX, "cfgScale": 7, "denoise": 0.5,
                "samplingMethod": "euler", "initImageUrl": png, "maskUrl": png, "refImageUrl": png, "ext": "JPG"
            }),
            "make -n n --steps 4 -s 18446744073709551615 -c 7 -d 0.5 -m euler -i (input.png) -k (mask.png) -r (reference.png) p (output.JPG)",
        ),
        (
            "video",
            json!(["-t", "{seconds}", "{width}:{height}", ["-r", "{fps}"], "{prompt}", "{output}"]),
            json!({ "prompt": "rain", "seconds": 1.5, "width": 64, "height": 48, "fps": 25, "ext": "webm" }),
            "make -t 1.5 64:48 -r 25 rain (output.webm)",
        ),
        ("mesh", json!(["{input}", ["-s", "{seed}"], "out/{output}"]), json!({ "imageUrl": png }), {
            "make (input.png) out/(output.glb)"
        }),
        (
            "llm",
            json!([
                "{{{prompt}}}",
                "{messages}",
                "{max_tokens}",
                "{temperature}",
                ["{system}"],
                ["{top_p}"],
                ["{stop}"],
                ["{json_schema}"]
            ]),
            json!({ "messages": [{ "role": "user", "content": "hi" }], "stop": ["x"], "system": "s", "topP": 0.5,
                    "jsonSchema": { "type": "object" } }),
            r#"make {hi} [{"content":"hi","role":"user"}] 512 0.7 s 0.5 ["x"] {"type":"object"}"#,
        ),
        (
            "audio_stt",
            json!([
                ["--language", "{language}"],
                ["--task", "{translate}"],
                ["--prompt", "{prompt}"],
                "{input}"
            ]),
            json!({ "inputUrl": "data:audio/wav;base64,UklGRgAAAABXQVZF", "language": "de", "translate": true,
                    "prompt": "names" }),
            "make --language de --task translate --prompt names (input.wav)",
        ),
        ("audio_tts", json!(["", "{text}"]), json!({ "text": "hi" }), "make '' hi"),
    ] {
        assert_eq!(called(kind, args.clone(), task), line, "{args}");
    }
}

#[test]
fn what_counts_and_has_no_place_is_refused_and_what_tunes_is_not() {
    let said = |text: &str| json!({ "role": "user", "content": text });
    let (one, two) = (json!([said("hi")]), json!([said("hi"), said("there")]));
    let lacks = |what: &str| {
        format!("the command for m-1 cannot serve a task with {what}: it has no place for {{{what}}}")
    };
    for (kind, args, task, line) in [
        (
            "llm",
            json!(["{prompt}"]),
            json!({ "messages": one, "temperature": 2, "maxTokens": 3, "topP": 0.1 }),
            { "make hi".into() },
        ),
        ("llm", json!(["{prompt}"]), json!({ "messages": two }), {
            "the command for m-1 cannot serve a chat of several messages: it has no place for {messages}"
                .into()
        }),
        ("llm", json!(["{messages}"]), json!({ "messages": two, "system": "", "stop": [] }), {
            r#"make [{"content":"hi","role":"user"},{"content":"there","role":"user"}]"#.into()
        }),
        ("llm", json!(["{messages}"]), json!({ "messages": two, "system": "s" }), lacks("system")),
        ("llm", json!(["{prompt}"]), json!({ "messages": one, "stop": "x" }), lacks("stop")),
        ("llm", json!(["{prompt}"]), json!({ "messages": one, "jsonSchema": {} }), lacks("json_schema")),
        (
            "image",
            json!(["{prompt}"]),
            json!({ "prompt": "p", "negativePrompt": "n" }),
            lacks("negative_prompt"),
        ),
        (
            "image",
            json!(["{prompt}"]),
            json!({ "prompt": "p", "negativePrompt": "", "steps": 4, "seed": 7, "cfgScale": 2 }),
            { "make p".into() },
        ),
        (
            "video",
            json!(["{prompt}"]),
            json!({ "prompt": "p", "negativePrompt": "n" }),
            lacks("negative_prompt"),
        ),
        ("audio_tts", json!(["{text}"]), json!({ "text": "t", "voice": "f2" }), lacks("voice")),
        ("audio_tts", json!(["{text}"]), json!({ "text": "t", "language": "de" }), lacks("language")),
        ("audio_tts", json!(["{text}"]), json!({ "text": "t", "speed": 2 }), "make t".into()),
    ] {
        assert_eq!(called(kind, args.clone(), task.clone()), line, "{args} {task}");
    }
    let mut config = config("llm", json!(["{prompt}"]));
    config.stdin = Some("{system}".into());
    let task = json!({ "kind": "llm", "messages": one, "system": "s" });
    let played = play(&engine(config), &task, vec![Step::Run("make hi", made(b"hello"))]);
    assert_eq!(played.ran[0].stdin, b"s", "stdin is a place as well");
}

#[test]
fn no_text_of_a_job_becomes_a_flag() {
    for (args, task, line) in [
        (json!(["{text}"]), json!({ "text": "--help" }), "make ' --help'"),
        (json!(["-t", "{text}"]), json!({ "text": "-1 degrees" }), "make -t ' -1 degrees'"),
        (json!(["--text={text}"]), json!({ "text": "-1" }), "make --text=-1"),
        (json!(["--", "{text}"]), json!({ "text": "--help" }), "make -- --help"),
        (json!(["{voice}{text}"]), json!({ "text": "--help", "voice": "" }), "make ' --help'"),
        (json!([["-v", "{voice}"], "{text}"]), json!({ "text": "hi", "voice": "-w/etc/x" }), {
            "voice begins with `-`, and can't be an argument"
        }),
        (json!([["-v{voice}"], "{text}"]), json!({ "text": "hi", "voice": "-w" }), "make -v-w hi"),
        (json!(["{text}"]), json!({ "text": "a\0b" }), {
            "text has a zero byte in it, and can't be an argument"
        }),
        (json!(["{text}"]), json!({ "text": "x".repeat(131_072) }), {
            "text is longer than 131071 bytes, and can't be an argument"
        }),
    ] {
        assert_eq!(called("audio_tts", args.clone(), task), line, "{args}");
    }
}

#[test]
fn a_command_that_can_not_work_is_a_named_error() {
    for (kind, key, value, problem) in [
        ("image", "args", json!(["{seed"]), {
            "`args[0]` of the command make: a `{` is not closed: write `{{` for one that is meant"
        }),
        ("mesh", "args", json!(["-v", ["-x", "{prompt}"]]), {
            "`args[1]` of the command make: there is no {prompt} for mesh: there are {input}, {ext}, {seed}, {model}, {output}"
        }),
        ("image", "args", json!(["--seed", "{seed}"]), {
            "`args[1]` of the command make: a task may have no seed, and --seed would be left alone: write [\"--seed\", \"{seed}\"]"
        }),
        (
            "image",
            "args",
            json!(["a\0"]),
            "`args[0]` of the command make: an argument has no zero byte in it",
        ),
        ("llm", "stdin", json!("{nothing}"), {
            "`stdin` of the command make: there is no {nothing} for llm: there are {prompt}, {messages}, {max_tokens}, {temperature}, {system}, {top_p}, {stop}, {json_schema}, {input}, {model}, {output}"
        }),
        ("image", "models", json!([]), "`models` of the command make: name the models that it stands for"),
        ("image", "models", json!([" "]), "`models` of the command make: name the models that it stands for"),
        ("image", "program", json!(" "), "`program` of the command  : name the program that is to be run"),
        ("image", "ext", json!(".png"), {
            "`ext` of the command make: an extension is 1 to 16 letters and digits, without a dot"
        }),
        (
            "image",
            "max_bytes",
            json!(0),
            "`max_bytes` of the command make: nothing could be made: it must be above 0",
        ),
        ("image", "inherits", json!(["A=B"]), {
            "`inherits` of the command make: these are names of variables, without values"
        }),
    ] {
        let mut command = json!({ "kind": kind, "models": ["m-1"], "program": "make" });
        command[key] = value;
        let config: EntryConfig = serde_json::from_value(command).unwrap();
        assert_eq!(Entry::new(config).unwrap_err().to_string(), problem);
    }
    assert!(
        Entry::new(config("image", json!(["--", ["--seed", "{seed}"], "--cfg={cfg_scale}", ["{seed}"]])))
            .is_ok()
    );
    let unknown = json!({ "kind": "image", "models": ["m-1"], "program": "make", "arg": [] });
    assert!(
        serde_json::from_value::<EntryConfig>(unknown)
            .unwrap_err()
            .to_string()
            .contains("unknown field `arg`")
    );
}

#[test]
fn what_is_made_is_a_file_or_stdout_and_its_ext_follows_its_bytes() {
    let run = |kind: &str, args: Value, ext: Option<&str>, task: Value, ran| {
        let mut config = config(kind, args);
        config.ext = ext.map(Into::into);
        let mut task = task;
        task["kind"] = kind.into();
        play(&engine(config), &task, vec![Step::Run("make", ran)])
    };
    let speak = |ext: &str| json!({ "text": "hi", "ext": ext });
    for (ext, asked, head, outcome) in [
        (None, "wav", WAV, Some("wav")),
        (None, "mp3", WAV, Some("wav")),
        (Some("wav"), "mp3", WAV, Some("wav")),
        (None, "opus", b"OggS\0\x02".as_slice(), Some("opus")),
        (None, "AMR", b"#!AMR\n", Some("amr")),
        (None, "wav", b"not sound", None),
        (None, "wav", PNG, None),
        (None, "wav", b"", None),
    ] {
        let played = run("audio_tts", json!([]), ext, speak(asked), made_file(head));
        let process = &played.ran[0];
        assert_eq!((process.keep, &process.source, process.limit), (Keep::File, &Source::Stdout, 4 << 30));
        match outcome {
            Some(made) => assert_eq!(played.outcome, file(made, head), "{ext:?} {asked}"),
            None => assert!(played.outcome.unwrap_err().retryable, "{ext:?} {asked}"),
        }
    }
    for (kind, task, head, message) in [
        ("audio_tts", speak("wav"), PNG, "make made png, which is no result of audio_tts"),
        ("audio_tts", speak("wav"), b"<html>".as_slice(), "make made something that is not wav"),
        ("image", json!({ "prompt": "x" }), GLB, "make made glb, which is no result of image"),
        ("image", json!({ "prompt": "x" }), b"", "make ended well and made nothing"),
        ("video", json!({ "prompt": "x" }), PNG, "make made png, which is no result of video"),
        (
            "mesh",
            json!({ "imageUrl": format!("data:image/png;base64,{PNG_BASE64}") }),
            WAV,
            "the command for m-1 cannot serve a task with a file for {input}",
        ),
    ] {
        let steps = if kind == "mesh" { vec![] } else { vec![Step::Run("make", made_file(head))] };
        let mut task = task;
        task["kind"] = kind.into();
        play(&engine(config(kind, json!([]))), &task, steps).fails(kind != "mesh", message);
    }
    let played = play(
        &engine(config("image", json!(["{output}"]))),
        &json!({ "kind": "image", "prompt": "x", "ext": "png" }),
        vec![Step::Run("make (output.png)", made(PNG))],
    );
    assert_eq!(played.ran[0].source, Source::File("output.png".into()));
    assert_eq!(played.outcome, bytes("png", PNG));
}

#[test]
fn a_chat_is_a_text_or_a_completion() {
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] });
    let engine = engine(config("llm", json!(["{prompt}"])));
    let run = |said: &str| play(&engine, &task, vec![Step::Run("make hi", made(said.as_bytes()))]);
    let answer = |message: Value| {
        json!({ "id": "chatcmpl-job-1", "object": "chat.completion", "model": "m-1",
                "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] })
    };
    let played = run(" Hello.\n");
    assert_eq!((played.ran[0].keep, played.ran[0].limit), (Keep::Memory, 8 * 1024 * 1024));
    assert_eq!(played.outcome, result(answer(json!({ "role": "assistant", "content": "Hello." }))));
    let thought = json!({ "role": "assistant", "content": "Hello.", "reasoning_content": "hm" });
    assert_eq!(run("<think>hm</think>\nHello.").outcome, result(answer(thought)));
    let json = json!({ "role": "assistant", "content": r#"{"a":1}"# });
    assert_eq!(run(r#"{"a":1}"#).outcome, result(answer(json)));
    let own = r#"{"choices":[{"message":{"role":"assistant","content":"x"}}],"model":"other","usage":{}}"#;
    let expected = json!({ "object": "chat.completion", "model": "m-1", "usage": {},
                           "choices": [{ "message": { "role": "assistant", "content": "x" } }] });
    assert_eq!(run(own).outcome, result(expected));
    run(" \n").fails(true, "make answered nothing");
}

#[test]
fn a_transcript_is_a_text_or_has_whispers_shape() {
    let task = |language: Option<&str>| json!({ "kind": "audio_stt", "inputUrl": "https://a.test/sound.m4a?sig=secret-sig", "language": language });
    let engine = engine(config("audio_stt", json!(["{input}"])));
    let run = |language, sound: &[u8], called: &'static str, said: &str| {
        let fetch = Step::Exchange("GET https://a.test/sound.m4a?sig=secret-sig".into(), ok(sound));
        play(&engine, &task(language), vec![fetch, Step::Run(called, made(said.as_bytes()))])
    };
    let played = run(Some("en"), WAV, "make (input.wav)", "go forward\nten metres\n");
    assert_eq!(played.ran[0].inputs, [("input.wav".into(), WAV.to_vec())]);
    assert_eq!(played.outcome, result(json!({ "text": "go forward\nten metres", "language": "en" })));
    let shape = json!({ "text": "go", "language": "en", "duration": 1.5, "segments": [] });
    assert_eq!(run(None, b"unknown", "make (input.m4a)", &format!(" {shape}\n")).outcome, result(shape));
    assert_eq!(run(None, WAV, "make (input.wav)", "").outcome, result(json!({ "text": "" })));
    for said in [r#"{"text":7}"#, r#"{"text":"cut"#, r#"{"segments":[]}"#] {
        run(None, WAV, "make (input.wav)", said)
            .fails(true, "make wrote JSON that is no transcript: a `text` is wanted in it");
    }
}

#[test]
fn inputs_are_fetched_one_after_the_other_and_named_by_what_they_are() {
    let engine = engine(config("image", json!([["-i", "{input}"], ["-m", "{mask}"], "{output}"])));
    let task = json!({ "kind": "image", "prompt": "x", "initImageUrl": "https://a.test/1.webp?t=signature-1",
                       "maskUrl": format!("data:image/png;base64,{PNG_BASE64}") });
    let get = |answer| Step::Exchange("GET https://a.test/1.webp?t=signature-1".into(), answer);
    let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF";
    let run = Step::Run("make -i (input.jpg) -m (mask.png) (output.webp)", made_file(PNG));
    let played = play(&engine, &task, vec![get(ok(jpeg)), run]);
    assert_eq!(
        played.ran[0].inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["input.jpg", "mask.png"]
    );
    assert_eq!(played.outcome, file("png", PNG));
    for (answer, retryable, message) in [
        (ok("text"), false, "an input isn't a picture"),
        (status(404, ""), false, "an input is not there: https://a.test/1.webp answers 404"),
        (redirect(302, "http://10.0.0.1/?signature-1"), false, {
            "the address of an input leads to a private address, which the configuration doesn't allow"
        }),
    ] {
        play(&engine, &task, vec![get(answer)]).fails(retryable, message);
    }
    let without = super::tests::engine(config("image", json!(["{prompt}"])));
    play(&without, &task, vec![])
        .fails(false, "the command for m-1 cannot serve a task with a file for {input}");
    let translate = json!({ "kind": "audio_stt", "inputUrl": "https://a.test/a", "translate": true });
    play(&super::tests::engine(config("audio_stt", json!(["{input}"]))), &translate, vec![]).fails(
        false,
        "the command for m-1 cannot serve a task with translate: it has no place for {translate}",
    );
    let two = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }],
                      "images": ["https://a.test/a", "https://a.test/b"] });
    play(&super::tests::engine(config("llm", json!(["{input}"]))), &two, vec![])
        .fails(false, "the command for m-1 cannot serve a task with several pictures");
}

#[test]
fn stdin_and_the_rest_of_the_process_are_as_configured() {
    let mut config = config("audio_tts", json!([]));
    config.stdin = Some("{text} -> {output} {language}.".into());
    config.inherits = vec!["HF_TOKEN".into()];
    config.wants_memory = true;
    config.max_bytes = 7;
    let task = json!({ "kind": "audio_tts", "text": "--hi\0" });
    let played = play(&engine(config), &task, vec![Step::Run("make", made_file(WAV))]);
    let process = &played.ran[0];
    assert_eq!(process.stdin, b"--hi\0 -> output.wav .");
    assert_eq!(process.source, Source::File("output.wav".into()));
    assert_eq!((process.limit, process.wants_memory), (7, true));
    assert_eq!(process.program.inherits, ["HF_TOKEN"]);
}

#[test]
fn the_exit_status_and_the_last_line_make_the_error() {
    let mut config = config("audio_tts", json!([]));
    config.permanent_exit_codes = vec![3];
    let engine = engine(config);
    let task = json!({ "kind": "audio_tts", "text": "hi" });
    let program = || String::from("make");
    for (ran, retryable, message) in [
        (ended(1, "loading\nno such voice\n"), true, "make ended with exit code 1: no such voice"),
        (ended(3, "text too long"), false, "make ended with exit code 3: text too long"),
        (ended(0, "done"), true, "make ended well and made no file: done"),
        (Ok(Ran { ended: Ended { signal: Some(11), ..Ended::default() }, made: None }), true, {
            "make was ended by signal 11"
        }),
        (Err(ProgramFailure::NotFound { program: program() }), true, {
            "make is not there: install it, or correct its path in the configuration"
        }),
        (Err(ProgramFailure::TooLarge { program: program(), limit: 7 }), false, {
            "make made a result of more than 7 bytes, and was stopped"
        }),
    ] {
        play(&engine, &task, vec![Step::Run("make", ran)]).fails(retryable, message);
    }
}

#[test]
fn a_survey_finds_out_which_programs_are_there() {
    let mut speak = config("audio_tts", json!([]));
    speak.program = "espeak-ng".into();
    let mut film = config("video", json!([]));
    film.program = "ffmpeg".into();
    let mut again = film.clone();
    again.kind = TaskKind::Image;
    let engine = Command::new(
        [speak, film, again].map(|config| Entry::new(config).unwrap()).into(),
        InputPolicy::default(),
    );
    assert_eq!((engine.name(), engine.services().len()), ("command", 3));
    let found = vec![None, Some("/usr/bin/ffmpeg".into())];
    let played = play_steps(engine.survey().unwrap(), vec![Step::Find(found)]);
    assert_eq!(played.sought, [["espeak-ng", "ffmpeg"]]);
    let survey = played.outcome.unwrap();
    assert_eq!(
        survey.services.iter().map(|service| service.kind).collect::<Vec<_>>(),
        [TaskKind::Video, TaskKind::Image]
    );
    assert_eq!(survey.services[0].models, Models::Listed(vec!["m-1".into()]));
    assert_eq!((survey.missing.len(), survey.missing[0].what.as_str()), (1, "espeak-ng"));
    let other: Box<_> =
        engine.recipe(&Arc::new(claim(&json!({ "kind": "mesh", "imageUrl": "https://a.test/" }))));
    play_steps(other, vec![]).fails(false, "the command engine cannot serve mesh with the model m-1");
}
