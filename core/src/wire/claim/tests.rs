use alloc::{format, string::ToString, vec};

use super::*;
use crate::wire::{FrameError, StudioFrame, TaskKind};

/// What a worker makes of a claim that stands in an offer.
fn offered(claim: &Value) -> Offer {
    match StudioFrame::parse(&json!({ "type": "offer", "claim": claim }).to_string()) {
        Ok(StudioFrame::Offer(offer)) => offer,
        other => panic!("{claim}: {other:?}"),
    }
}

fn readable(claim: &Value) -> Claim {
    match offered(claim) {
        Offer::Readable(claim) => *claim,
        Offer::Unreadable { problem, .. } => panic!("{claim}: {problem}"),
    }
}

/// As a studio of generation 0.4 offers a picture.
fn modern() -> Value {
    json!({
        "jobId": "job-1", "gameId": "game-1", "assetName": "game-1/creatures/koi", "model": "flux1-dev",
        "vramGbEstimate": 11.5,
        "task": { "kind": "image", "prompt": "a koi", "width": 1024, "height": 768, "steps": 20, "ext": "png",
            "negativePrompt": "blurry", "initImageUrl": "https://h/i.png?sig=1" },
        "modelSource": {
            "engine": "sd-cpp",
            "files": [
                { "role": "diffusion-model", "url": "https://h/f.gguf?sig=1", "filename": "f.gguf",
                    "approxBytes": 7_000_000_000_u64, "sha256": "00ff" },
                { "role": "text-encoder-vision", "url": "https://h/v.gguf", "filename": "v.gguf" },
            ],
            "cliDefaults": { "cfgScale": 1, "steps": 8, "width": 1024, "height": 1024, "samplingMethod": "euler",
                "pipeline": "trellis2", "flowShift": 3, "maxVramGib": 10.5, "loraWeight": 0.8, "zeroCondT": true,
                "offloadToCpu": true, "mmap": false, "lowVram": true, "contextSize": 4096, "resolution": 1024,
                "decimationTarget": 20000, "textureSize": 512,
                "chatTemplateKwargs": { "enable_thinking": false }, "vision": { "task": "detect" } },
        },
    })
}

/// As a studio of generation 0.2 offers a picture.
fn legacy() -> Value {
    json!({
        "jobId": "job-1", "gameId": "g", "assetName": "g/x", "model": "synthetic", "vramGbEstimate": 1.0,
        "prompt": "a stone golem", "ext": "png",
    })
}

fn with(mut claim: Value, path: &str, value: Value) -> Value {
    *claim.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
    claim
}

fn without(mut claim: Value, name: &str) -> Value {
    claim.as_object_mut().unwrap().remove(name);
    claim
}

#[test]
fn an_offer_of_0_4_is_read_and_written_whole() {
    let claim = readable(&modern());
    assert_eq!(claim.engine(), Some("sd-cpp"));
    let mut written = claim.to_json(TaskForm::Camel);
    // What 0.2 reads is there as well, and 0.4 ignores it.
    assert_eq!(written["prompt"], "a koi");
    assert_eq!(written["ext"], "png");
    written.as_object_mut().unwrap().retain(|name, _| name != "prompt" && name != "ext");
    assert_eq!(written, modern());
    assert_eq!(readable(&claim.to_json(TaskForm::Camel)), claim);
    assert_eq!(readable(&claim.to_json(TaskForm::Snake)), claim);
}

#[test]
fn what_0_4_requires_is_always_written() {
    let mut claim = readable(&legacy());
    claim.model_source = Some(ModelSource { engine: "synthetic".into(), ..ModelSource::default() });
    let written = claim.to_json(TaskForm::Camel);
    for name in ["jobId", "gameId", "assetName", "model", "vramGbEstimate", "task", "modelSource"] {
        assert!(!written[name].is_null(), "{name}");
    }
    let defaults = json!({ "cfgScale": 1, "steps": 20, "width": 512, "height": 512 });
    assert_eq!(
        written["modelSource"],
        json!({ "engine": "synthetic", "files": [], "cliDefaults": defaults })
    );
}

#[test]
fn an_offer_of_0_2_without_a_task_is_a_picture() {
    let claim = readable(&legacy());
    assert_eq!(claim.task, Task::image("a stone golem".into(), "png".into()));
    assert_eq!((claim.engine(), claim.vram_gb_estimate), (None, Finite::from(1)));
    for bare in [
        without(without(legacy(), "prompt"), "ext"),
        with(with(legacy(), "/prompt", json!(null)), "/ext", json!(null)),
        with(with(legacy(), "/prompt", json!(7)), "/ext", json!({})),
        with(without(legacy(), "prompt"), "/ext", json!("../../etc")),
    ] {
        assert_eq!(readable(&bare).task, Task::image(String::new(), "webp".into()), "{bare}");
    }
}

#[test]
fn an_offer_of_0_2_spells_its_parameters_in_snake_case() {
    let mut claim = legacy();
    claim["task"] =
        json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 32 });
    let read = readable(&claim);
    let Task::Llm(task) = &read.task else { panic!("a chat") };
    assert_eq!(task.max_tokens, 32);
    let written = read.to_json(TaskForm::Snake);
    assert_eq!(written["task"]["max_tokens"], 32);
    assert_eq!(written["prompt"], "hi");
    assert_eq!(written.get("modelSource"), None);
}

#[test]
fn nothing_but_an_id_a_model_and_a_task_is_needed() {
    let least = json!({ "jobId": "j", "model": "m", "task": { "kind": "mesh", "imageUrl": "https://h/i" } });
    let claim = readable(&least);
    assert_eq!((claim.game_id.as_str(), claim.asset_name.as_str()), ("", ""));
    assert_eq!((claim.vram_gb_estimate, claim.model_source.is_none()), (Finite::ZERO, true));
    let mut padded = least.clone();
    for (name, value) in [
        ("gameId", json!(7)),
        ("assetName", json!([])),
        ("vramGbEstimate", json!("much")),
        ("prompt", json!(1)),
        ("ext", json!(1)),
        ("modelSource", json!(null)),
        ("priority", json!({ "newer": true })),
    ] {
        padded[name] = value;
    }
    assert_eq!(readable(&padded), claim);
}

#[test]
fn newer_words_inside_a_model_source_are_kept() {
    let mut newer = with(modern(), "/modelSource/engine", json!("quantum"));
    newer["modelSource"]["files"][0]["role"] = json!("adapter");
    newer["modelSource"]["newer"] = json!(1);
    newer["modelSource"]["cliDefaults"]["newer"] = json!(1);
    let claim = readable(&newer);
    assert_eq!(claim.engine(), Some("quantum"));
    assert_eq!(claim.model_source.unwrap().files[0].role, "adapter");

    let bare =
        with(modern(), "/modelSource", json!({ "engine": "onnx", "files": null, "cliDefaults": null }));
    assert_eq!(
        readable(&bare).model_source,
        Some(ModelSource { engine: "onnx".into(), ..ModelSource::default() })
    );
}

#[test]
fn what_cannot_be_read_still_says_whose_job_it_is() {
    for (claim, name) in [
        (with(modern(), "/task/width", json!("wide")), "width"),
        (with(modern(), "/task/height", json!(0)), "height"),
        (with(modern(), "/task", json!("draw")), "task"),
        (with(modern(), "/task", json!(["image", "p"])), "task"),
        (with(modern(), "/modelSource", json!(["sd-cpp"])), "modelSource"),
        (with(modern(), "/task", json!({})), "kind"),
        (with(modern(), "/model", json!(1)), "model"),
        (with(modern(), "/model", json!("")), "model"),
        (with(modern(), "/model", json!(null)), "model"),
        (without(modern(), "model"), "model"),
        (with(modern(), "/modelSource", json!("sd-cpp")), "modelSource"),
        (with(modern(), "/modelSource/engine", json!(1)), "modelSource"),
        (with(modern(), "/modelSource/files", json!({})), "modelSource"),
        (with(modern(), "/modelSource/files/0", json!(["vae", "https://h/v", "v"])), "modelSource"),
        (with(modern(), "/modelSource/files/0", json!(null)), "modelSource"),
        (with(modern(), "/modelSource/cliDefaults", json!([1, 20, 512, 512])), "modelSource"),
        (with(modern(), "/modelSource/files/0/approxBytes", json!(-1)), "modelSource"),
        (with(modern(), "/modelSource/cliDefaults/steps", json!("many")), "modelSource"),
    ] {
        let Offer::Unreadable { job_id, problem, .. } = offered(&claim) else { panic!("{claim}") };
        assert_eq!(job_id.as_str(), "job-1");
        assert!(
            matches!(&problem, ClaimProblem::Parameter { name: blamed, .. } if blamed == name),
            "{problem:?}"
        );
        assert!(problem.to_string().contains(&format!("`{name}`")), "{problem}");
    }
}

#[test]
fn an_unreadable_offer_tells_what_a_worker_needs_to_judge_it() {
    let offer = offered(&with(modern(), "/task/width", json!("wide")));
    let Offer::Unreadable { model, kind, engine, .. } = &offer else { panic!("{offer:?}") };
    assert_eq!((model.as_str(), kind.as_str(), engine.as_deref()), ("flux1-dev", "image", Some("sd-cpp")));
    assert_eq!(offer.job_id().as_str(), "job-1");

    let offer = offered(&with(legacy(), "/model", json!(1)));
    let Offer::Unreadable { model, kind, engine, .. } = &offer else { panic!("{offer:?}") };
    assert_eq!((model.as_str(), kind.as_str(), engine.as_deref()), ("", "image", None));
}

#[test]
fn an_unknown_kind_is_another_workers_job() {
    let unknown = with(modern(), "/task", json!({ "kind": "hologram", "width": "wide" }));
    let Offer::Unreadable { kind, problem, .. } = offered(&unknown) else { panic!() };
    assert_eq!(kind, "hologram");
    assert_eq!(problem, ClaimProblem::UnknownKind { kind: "hologram".into() });
    assert!(problem.to_string().contains("cannot serve"));
}

#[test]
fn an_offer_without_a_readable_job_id_is_nobodys() {
    let parse = |text: &str| StudioFrame::parse(text);
    for claim in [
        without(modern(), "jobId"),
        with(modern(), "/jobId", json!(null)),
        with(modern(), "/jobId", json!(7)),
        with(modern(), "/jobId", json!(["job-1"])),
        json!(null),
        json!("job-1"),
        json!([]),
        json!(["job-1", "g", "a", "m"]),
    ] {
        let frame = json!({ "type": "offer", "claim": claim }).to_string();
        assert_eq!(parse(&frame), Err(FrameError::OfferWithoutJob), "{claim}");
    }
    assert_eq!(parse(r#"{"type":"offer"}"#), Err(FrameError::OfferWithoutJob));
}

#[test]
fn a_key_that_comes_twice_counts_as_it_came_last() {
    let frame = r#"{"type":"offer","claim":{"jobId":"a","jobId":"b","model":"m","model":"n",
        "task":{"kind":"image","kind":"video","prompt":"p","seconds":"x","seconds":1}}}"#;
    let Ok(StudioFrame::Offer(Offer::Readable(claim))) = StudioFrame::parse(frame) else { panic!() };
    assert_eq!((claim.job_id.as_str(), claim.model.as_str()), ("b", "n"));
    assert_eq!(claim.task.kind(), TaskKind::Video);
}

#[test]
fn a_job_is_the_same_whatever_signature_its_urls_carry() {
    let signed = |query: &str| {
        let mut claim = modern();
        claim["task"]["initImageUrl"] = json!(format!("https://h/i.png{query}"));
        claim["modelSource"]["files"][0]["url"] = json!(format!("https://h/f.gguf{query}"));
        readable(&claim)
    };
    let first = signed("?sig=1&expires=2");
    for same in [signed("?sig=2"), signed("")] {
        assert!(first.same_job(&same) && same.same_job(&first));
        assert_ne!(first, same);
    }
    for other in [
        with(modern(), "/jobId", json!("job-2")),
        with(modern(), "/model", json!("sdxl")),
        with(modern(), "/task/initImageUrl", json!("https://h/j.png?sig=1")),
        with(modern(), "/task/prompt", json!("a koi?sig=1")),
        with(modern(), "/task/width", json!(512)),
        with(modern(), "/modelSource/engine", json!("onnx")),
        with(modern(), "/modelSource/files/1/url", json!("https://h/w.gguf")),
        with(modern(), "/modelSource/files/0/sha256", json!("01ff")),
        with(modern(), "/modelSource/cliDefaults/steps", json!(9)),
        without(modern(), "modelSource"),
    ] {
        assert!(!readable(&modern()).same_job(&readable(&other)), "{other}");
    }
    // What says nothing of the work may change between two offers.
    let renamed = with(with(modern(), "/assetName", json!("x")), "/vramGbEstimate", json!(2));
    assert!(readable(&modern()).same_job(&readable(&renamed)));
}

#[test]
fn every_url_of_every_kind_is_compared_without_its_query() {
    for (task, path) in [
        (json!({ "kind": "image", "prompt": "p", "initImageUrl": "" }), "/initImageUrl"),
        (json!({ "kind": "image", "prompt": "p", "maskUrl": "" }), "/maskUrl"),
        (json!({ "kind": "image", "prompt": "p", "refImageUrl": "" }), "/refImageUrl"),
        (
            json!({ "kind": "llm", "messages": [{ "role": "user", "content": "" }], "images": [""] }),
            "/images/0",
        ),
        (json!({ "kind": "audio_stt", "inputUrl": "" }), "/inputUrl"),
        (json!({ "kind": "video", "prompt": "p", "initImageUrl": "" }), "/initImageUrl"),
        (json!({ "kind": "mesh", "imageUrl": "" }), "/imageUrl"),
    ] {
        let at = |url: &str| {
            readable(&json!({ "jobId": "j", "model": "m", "task": with(task.clone(), path, json!(url)) }))
        };
        assert!(at("https://h/a?1").same_job(&at("https://h/a?2")), "{task}");
        assert!(!at("https://h/a?1").same_job(&at("https://h/b?1")), "{task}");
        assert!(!at("data:x?1").same_job(&at("data:x?2")), "{task}");
    }
}

#[test]
fn a_job_id_is_any_text() {
    for id in [" ", "a/b", "ü%20?#", "\"\\\n\u{0}", "\u{1f41f}", &"x".repeat(10_000)] {
        let claim = readable(&with(legacy(), "/jobId", json!(id)));
        assert_eq!((claim.job_id.as_str(), claim.job_id.to_string().as_str()), (id, id));
        assert_eq!(readable(&claim.to_json(TaskForm::Camel)).job_id, JobId::from(id));
    }
    assert_eq!(
        vec![JobId::from("b"), JobId::from("a")].into_iter().min(),
        Some(JobId::from(String::from("a")))
    );
}

#[test]
fn bytes_of_a_job_that_no_address_can_carry_are_nobodys() {
    let chat = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] });
    for id in ["", ".", ".."] {
        let claim = with(modern(), "/jobId", json!(id));
        let Offer::Unreadable { job_id, problem, .. } = offered(&claim) else { panic!("{id:?} was read") };
        assert_eq!(job_id.as_str(), id);
        assert!(matches!(problem, ClaimProblem::Parameter { name, .. } if name == "job_id"));
        // A result that goes out in a frame needs no address.
        assert_eq!(readable(&with(claim, "/task", chat.clone())).job_id.as_str(), id);
    }
}
