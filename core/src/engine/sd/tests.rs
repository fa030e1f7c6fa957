//! What `sd-cli` is called with, and what becomes of what it draws.

#![allow(clippy::needless_pass_by_value, reason = "what a test says is said where it is used")]

use alloc::{boxed::Box, format, sync::Arc, vec, vec::Vec};

use serde_json::{Value, json};

use super::{Loader, SdCpp};
use crate::{
    engine::{
        contract::{Engine as _, EngineError, Models, Output, Survey},
        input::InputPolicy,
        transcript::{
            PNG, PNG_BASE64, Played, Step, WAV, claim, ended, file, made_file, ok, play_steps, status,
        },
    },
    machine::{Keep, Ran, Source},
    wire::{Claim, ModelSource},
};

const WEBP: &[u8] = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0";

fn engine() -> SdCpp {
    SdCpp::new("/models", vec!["/opt/sd-cli".into(), "sd-cli".into()], InputPolicy::default())
}

fn offered(role: &str, name: &str) -> Value {
    json!({ "role": role, "url": format!("https://hub.test/{name}"), "filename": name })
}

fn job(task: Value, files: &Value, defaults: Value) -> Claim {
    let mut task = task;
    task["kind"] = "image".into();
    if task.get("prompt").is_none() {
        task["prompt"] = "a cat".into();
    }
    let source: ModelSource =
        serde_json::from_value(json!({ "engine": "sd-cpp", "files": files, "cliDefaults": defaults }))
            .unwrap();
    Claim { model: "org/m:1".into(), model_source: Some(source), ..claim(&task) }
}

fn model() -> Value {
    json!([offered("model", "m.safetensors")])
}

fn play(engine: &SdCpp, claim: Claim, steps: Vec<Step>) -> Played<Output> {
    play_steps(engine.recipe(&Arc::new(claim)), steps)
}

fn found() -> Step {
    Step::Find(vec![None, Some("/usr/bin/sd-cli".into())])
}

fn had(path: &'static str) -> Step {
    Step::Have(path, Ok(()))
}

fn had_model() -> Step {
    had("/models/org_m_1/m.safetensors")
}

#[test]
fn a_picture_is_drawn_with_what_the_task_and_the_model_say() {
    let defaults = json!({ "cfgScale": 2.5, "steps": 8, "width": 1024, "height": 1024 });
    let called = "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' --cfg-scale 2.5 --steps 8 -W 64 -H 32 \
                  -o (output.webp) --diffusion-fa";
    let played = play(
        &engine(),
        job(json!({ "width": 64, "height": 32 }), &model(), defaults),
        vec![found(), had_model(), Step::Run(called, made_file(WEBP))],
    );
    assert_eq!(played.sought, [["/opt/sd-cli", "sd-cli"]]);
    assert_eq!(played.had[0].copies, ["/models/m.safetensors"]);
    let process = &played.ran[0];
    assert_eq!((process.keep, process.wants_memory, process.limit), (Keep::File, true, 1 << 30));
    assert_eq!(process.source, Source::File("output.webp".into()));
    assert_eq!(played.outcome, file("webp", WEBP));
}

#[test]
fn every_file_has_its_argument() {
    let files = json!([
        offered("lora", "style v2.safetensors"),
        offered("vae", "v.safetensors"),
        offered("text-encoder-vision", "tv.gguf"),
        offered("text-encoder", "t.gguf"),
        offered("labels", "labels.txt"),
        offered("model", "full.gguf"),
        offered("diffusion-model", "d.gguf"),
        offered("lora", "b.ckpt"),
    ]);
    let called = "/usr/bin/sd-cli --diffusion-model /models/org_m_1/d.gguf --vae /models/org_m_1/v.safetensors --llm \
                  /models/org_m_1/t.gguf --llm_vision /models/org_m_1/tv.gguf --lora-model-dir /models/org_m_1 -p 'a cat \
                  <lora:style v2:0.8> <lora:b:0.8>' --cfg-scale 1 --steps 20 -W 512 -H 512 -o (output.png) --diffusion-fa";
    let played = play(
        &engine(),
        job(json!({ "ext": "PNG" }), &files, json!({ "loraWeight": 0.8 })),
        vec![
            found(),
            had("/models/org_m_1/d.gguf"),
            had("/models/org_m_1/v.safetensors"),
            had("/models/org_m_1/t.gguf"),
            had("/models/org_m_1/tv.gguf"),
            had("/models/org_m_1/style v2.safetensors"),
            had("/models/org_m_1/b.ckpt"),
            Step::Run(called, made_file(PNG)),
        ],
    );
    assert!(played.had[4].copies.is_empty(), "all LoRAs are in one folder");
    assert_eq!(played.outcome, file("png", PNG));
}

#[test]
fn what_a_task_says_comes_before_what_the_model_wants() {
    let task = json!({ "steps": 30, "cfgScale": 7.5, "samplingMethod": "dpm++2m", "seed": u64::MAX, "ext": "jpeg",
                       "negativePrompt": "dog <lora:/etc/x:1>", "prompt": "-a <lora:../x:1><lora:own:2> cat <lora:\\x" });
    let defaults = json!({ "cfgScale": 2, "steps": 8, "samplingMethod": "euler", "flowShift": 3, "zeroCondT": true,
                           "offloadToCpu": true, "mmap": true, "maxVramGib": 7.5 });
    let called = "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p '-a < lora:../x:1>< lora:own:2> cat < lora:\\x' \
                  --negative-prompt 'dog < lora:/etc/x:1>' --cfg-scale 7.5 --steps 30 -W 512 -H 512 -o (output.jpg) --seed 9223372036854775807 --sampling-method \
                  dpm++2m --flow-shift 3 --model-args qwen_image_zero_cond_t=true --offload-to-cpu --mmap --max-vram 7.5 \
                  --diffusion-fa";
    let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF";
    let played = play(
        &engine(),
        job(task, &model(), defaults),
        vec![found(), had_model(), Step::Run(called, made_file(jpeg))],
    );
    assert_eq!(played.outcome, file("jpeg", jpeg));
    let off =
        json!({ "cfgScale": 0, "steps": 0, "samplingMethod": "euler", "zeroCondT": false, "mmap": false });
    let called = "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' --cfg-scale 1 --steps 20 -W 512 -H 512 \
                  -o (output.bmp) --sampling-method euler --diffusion-fa";
    let task = json!({ "negativePrompt": "", "cfgScale": 0, "ext": "bmp" });
    let run = Step::Run(called, made_file(PNG));
    let played = play(&engine(), job(task, &model(), off), vec![found(), had_model(), run]);
    assert_eq!(played.outcome, file("png", PNG));
}

#[test]
fn pictures_to_start_from_are_named_by_what_they_are() {
    let png = format!("data:image/png;base64,{PNG_BASE64}");
    let get = || {
        Step::Exchange("GET https://a.test/latest.webp?sig=signature-1".into(), ok(b"\xff\xd8\xff\xe0JFIF"))
    };
    let at = "https://a.test/latest.webp?sig=signature-1";
    let tail = "--cfg-scale 1 --steps 20 -W 512 -H 512 -o (output.webp) --diffusion-fa";
    for (task, fetches, arguments, files) in [
        (json!({ "initImageUrl": at }), true, "--init-img (init.jpg) --strength 0.75 ", vec!["init.jpg"]),
        (
            json!({ "initImageUrl": at, "maskUrl": png, "denoise": 0.4 }),
            true,
            "--init-img (init.jpg) --strength 0.4 --mask (mask.png) ",
            vec!["init.jpg", "mask.png"],
        ),
        (
            json!({ "refImageUrl": png, "initImageUrl": at, "maskUrl": png, "denoise": 0.4 }),
            false,
            "-r (reference.png) --mask (mask.png) ",
            vec!["reference.png", "mask.png"],
        ),
    ] {
        let called =
            format!("/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' {arguments}{tail}");
        let mut steps = vec![found()];
        steps.extend(fetches.then(get));
        steps.extend([had_model(), Step::Run(Box::leak(called.into_boxed_str()), made_file(WEBP))]);
        let played = play(&engine(), job(task, &model(), json!({})), steps);
        assert_eq!(played.ran[0].inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), files);
        assert_eq!(played.outcome, file("webp", WEBP));
    }
    let get = |answer| Step::Exchange("GET https://a.test/latest.webp?sig=signature-1".into(), answer);
    let claim = || job(json!({ "initImageUrl": at }), &model(), json!({}));
    play(&engine(), claim(), vec![found(), get(ok("<html>"))])
        .fails(false, "the picture for init isn't a picture");
    play(&engine(), claim(), vec![found(), get(status(403, ""))])
        .fails(true, "an input can't be fetched: https://a.test/latest.webp answers 403");
}

#[test]
fn the_library_beside_the_program_is_found() {
    let called = "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' --cfg-scale 1 --steps 20 -W 512 -H 512 \
                  -o (output.webp) --diffusion-fa";
    let set = |folders: &str| -> &'static str {
        Box::leak(format!("LD_LIBRARY_PATH={folders} {called}").into_boxed_str())
    };
    for (inherited, is_there, line) in [
        (None, true, set("/usr/bin")),
        (Some("/cuda"), true, set("/usr/bin:/cuda")),
        (Some(""), true, set("/usr/bin")),
        (Some("/cuda"), false, called),
    ] {
        let engine = engine().with_loader(Loader::linux(inherited.map(Into::into)));
        let there = if is_there { Ok(()) } else { Err(EngineError::transient("it is not there")) };
        play(
            &engine,
            job(json!({}), &model(), json!({})),
            vec![
                found(),
                had_model(),
                Step::Have("/usr/bin/libstable-diffusion.so", there),
                Step::Run(line, made_file(WEBP)),
            ],
        )
        .outcome
        .unwrap();
    }
    assert_eq!(Loader::macos(None).variable, "DYLD_LIBRARY_PATH");
}

#[test]
fn a_program_that_writes_no_webp_draws_png_from_then_on() {
    let line = |ext: &str| -> &'static str {
        Box::leak(
            format!(
                "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' --cfg-scale 1 --steps 20 -W 512 -H 512 \
                 -o (output.{ext}) --diffusion-fa"
            )
            .into_boxed_str(),
        )
    };
    let engine = engine();
    let claim = || job(json!({}), &model(), json!({}));
    let nothing = || ended(0, "save result image to 'output.webp.png'\n");
    let played = play(
        &engine,
        claim(),
        vec![
            found(),
            had_model(),
            Step::Run(line("webp"), nothing()),
            Step::Run(line("png"), made_file(PNG)),
        ],
    );
    assert_eq!(played.outcome, file("png", PNG));
    let steps = vec![found(), had_model(), Step::Run(line("png"), nothing())];
    play(&engine, claim(), steps)
        .fails(true, "sd-cli ended well and made no picture: save result image to 'output.webp.png'");
}

#[test]
fn what_the_program_says_makes_the_error() {
    let line = "/usr/bin/sd-cli --model /models/org_m_1/m.safetensors -p 'a cat' --cfg-scale 1 --steps 20 -W 512 -H 512 -o \
                (output.webp) --diffusion-fa";
    for (ran, message) in [
        (ended(1, "CUDA error: out of memory\n[ERROR] generate failed\n"), {
            "sd-cli ended with exit code 1: CUDA error: out of memory; [ERROR] generate failed"
        }),
        (made_file(WAV), "sd-cli made something that is no picture"),
        (made_file(b""), "sd-cli made something that is no picture"),
        (Ok(Ran { ended: crate::machine::Ended { signal: Some(9), ..Default::default() }, made: None }), {
            "sd-cli was killed (signal 9): did this machine run out of memory?"
        }),
    ] {
        play(
            &engine(),
            job(json!({}), &model(), json!({})),
            vec![found(), had_model(), Step::Run(line, ran)],
        )
        .fails(true, message);
    }
    let nowhere = Step::Find(vec![None, None]);
    play(&engine(), job(json!({}), &model(), json!({})), vec![nowhere]).fails(true, {
        "sd-cli is not there: Get stable-diffusion.cpp, and put its `sd-cli` where it is looked for: /opt/sd-cli, sd-cli."
    });
    let full = EngineError::transient("the disk is full");
    let steps = vec![found(), Step::Have("/models/org_m_1/m.safetensors", Err(full))];
    play(&engine(), job(json!({}), &model(), json!({})), steps).fails(true, "the disk is full");
}

#[test]
fn jobs_that_can_not_be_drawn_are_refused_for_good() {
    for (task, files, message) in [
        (json!({}), json!([offered("vae", "v")]), {
            "the model has no file with the role `diffusion-model` or `model`"
        }),
        (
            json!({ "maskUrl": "https://a.test/" }),
            model(),
            "a mask (maskUrl) is given without a picture that it is for",
        ),
        (json!({ "samplingMethod": "--help" }), model(), "there is no sampling method --help"),
        (json!({ "prompt": "a\0b" }), model(), "prompt has a zero byte in it, and can't be an argument"),
        (json!({}), json!([offered("model", "m"), offered("lora", "l.bin")]), {
            "sd-cli knows no LoRA with a name like l.bin"
        }),
        (json!({}), json!([offered("model", "../m")]), {
            "a file of the model has a name that is no plain file name: ../m"
        }),
    ] {
        play(&engine(), job(task, &files, json!({})), vec![]).fails(false, message);
    }
    for (task, message) in [
        (
            json!({ "kind": "image", "prompt": "x" }),
            "the sd-cpp engine cannot serve a model without knowing its files",
        ),
        (json!({ "kind": "mesh", "imageUrl": "https://a.test/" }), "the sd-cpp engine cannot serve mesh"),
    ] {
        play(&engine(), claim(&task), vec![]).fails(false, message);
    }
}

#[test]
fn a_survey_looks_for_the_program() {
    let survey = |found| play_steps(engine().survey().unwrap(), vec![Step::Find(found)]).outcome.unwrap();
    let there = survey(vec![None, Some("/usr/bin/sd-cli".into())]);
    assert_eq!(there, Survey { services: engine().services(), missing: vec![] });
    assert_eq!((engine().name(), &there.services[0].models), ("sd-cpp", &Models::Sourced));
    let lacks = survey(vec![None, None]);
    assert_eq!((lacks.services.len(), lacks.missing[0].what.as_str()), (0, "sd-cli"));
}
