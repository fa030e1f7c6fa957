use alloc::{format, string::ToString};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wire::{Claim, Finite, Task};

fn capabilities() -> (Arc<Capabilities>, Value) {
    let capabilities = Capabilities {
        machine_name: "box".into(),
        username: "u".into(),
        agent_version: "1.0.0".into(),
        engine: "multi".into(),
        vram_total_gb: Finite::from(24),
        vram_threshold_gb: Finite::from(12),
        auto_enabled: true,
        supported_models: alloc::vec!["m".into()],
        task_kinds: alloc::vec!["llm".into()],
        supported_models_per_kind: [("llm".into(), alloc::vec!["m".into()])].into(),
        model_engines: Some(alloc::vec!["synthetic".into()]),
        ..Capabilities::default()
    };
    let json = json!({
        "machineName": "box", "username": "u", "agentVersion": "1.0.0", "engine": "multi", "vramTotalGb": 24,
        "vramThresholdGb": 12, "autoEnabled": true, "autoStart": false, "supportedModels": ["m"],
        "taskKinds": ["llm"], "supportedModelsPerKind": { "llm": ["m"] }, "modelEngines": ["synthetic"],
    });
    (Arc::new(capabilities), json)
}

fn job() -> JobId {
    JobId::from("job/1")
}

/// Every frame of a worker as section 3 has it.
fn worker_frames() -> Vec<(WorkerFrame, Value)> {
    let (capabilities, told) = capabilities();
    let entry = |level, job_id: Option<JobId>| LogEntry {
        ts: "2026-01-02T03:04:05.678Z".into(),
        level,
        category: "engine".into(),
        message: "hi".into(),
        job_id,
    };
    let reject = |code| WorkerFrame::Reject { job_id: job(), reason: "r".into(), code };
    [
        (
            WorkerFrame::Hello { auth_token: Secret::new("t0k3n"), capabilities: capabilities.clone() },
            json!({ "type": "hello", "authToken": "t0k3n", "capabilities": told }),
        ),
        (
            WorkerFrame::Heartbeat { capabilities: capabilities.clone(), current_job_id: None },
            json!({ "type": "heartbeat", "capabilities": told }),
        ),
        (
            WorkerFrame::Heartbeat { capabilities, current_job_id: Some(job()) },
            json!({ "type": "heartbeat", "capabilities": told, "currentJobId": "job/1" }),
        ),
        (WorkerFrame::Accept { job_id: job() }, json!({ "type": "accept", "jobId": "job/1" })),
        (reject(None), json!({ "type": "reject", "jobId": "job/1", "reason": "r" })),
        (
            reject(Some(RejectCode::Busy)),
            json!({ "type": "reject", "jobId": "job/1", "reason": "r", "code": "busy" }),
        ),
        (
            reject(Some(RejectCode::Paused)),
            json!({ "type": "reject", "jobId": "job/1", "reason": "r", "code": "paused" }),
        ),
        (
            reject(Some(RejectCode::InsufficientMemory)),
            json!({ "type": "reject", "jobId": "job/1", "reason": "r", "code": "insufficient_memory" }),
        ),
        (
            WorkerFrame::CompleteJson {
                job_id: job(),
                result: Arc::new(json!({ "any": [1, null, "x"] })),
                prompt: "p".into(),
            },
            json!({ "type": "completeJson", "jobId": "job/1", "result": { "any": [1, null, "x"] }, "prompt": "p" }),
        ),
        (
            WorkerFrame::Fail { job_id: job(), error: "e".into(), retryable: true },
            json!({ "type": "fail", "jobId": "job/1", "error": "e", "retryable": true }),
        ),
        (
            WorkerFrame::LogBatch {
                entries: alloc::vec![
                    entry(LogLevel::Info, None),
                    entry(LogLevel::Warn, Some(job())),
                    entry(LogLevel::Error, None),
                ],
            },
            json!({ "type": "logBatch", "entries": [
                { "ts": "2026-01-02T03:04:05.678Z", "level": "info", "category": "engine", "message": "hi" },
                { "ts": "2026-01-02T03:04:05.678Z", "level": "warn", "category": "engine", "message": "hi",
                    "jobId": "job/1" },
                { "ts": "2026-01-02T03:04:05.678Z", "level": "error", "category": "engine", "message": "hi" },
            ]}),
        ),
        (WorkerFrame::ReadyForMore, json!({ "type": "readyForMore" })),
    ]
    .into()
}

/// Every frame of a studio as section 3 has it, but the offer, whose tables stand with the claim.
fn studio_frames() -> Vec<(StudioFrame, Value)> {
    let error = |code| StudioFrame::Error { code, message: "m".into() };
    let mut frames: Vec<_> = [
        (
            StudioFrame::Welcome { worker_id: "w-1".into(), server_time: "2026-01-02T03:04:05Z".into() },
            json!({ "type": "welcome", "workerId": "w-1", "serverTime": "2026-01-02T03:04:05Z" }),
        ),
        (StudioFrame::HeartbeatAck, json!({ "type": "heartbeatAck" })),
        (StudioFrame::CompleteAck { job_id: job() }, json!({ "type": "completeAck", "jobId": "job/1" })),
        (StudioFrame::FailAck { job_id: job() }, json!({ "type": "failAck", "jobId": "job/1" })),
    ]
    .into();
    for (code, name) in [
        (StudioErrorCode::AuthFailed, "auth_failed"),
        (StudioErrorCode::ProtocolViolation, "protocol_violation"),
        (StudioErrorCode::DuplicateWorker, "duplicate_worker"),
        (StudioErrorCode::WorkerDeleted, "worker_deleted"),
        (StudioErrorCode::InternalError, "internal_error"),
        (StudioErrorCode::Other("out_of_tea".into()), "out_of_tea"),
    ] {
        frames.push((error(code), json!({ "type": "error", "code": name, "message": "m" })));
    }
    frames
}

/// The frame with fields that a newer peer might add, and with its `type` last.
fn newer(frame: &Value) -> String {
    let fields = frame.as_object().unwrap().iter().filter(|(name, _)| *name != "type");
    let fields =
        fields.fold(String::new(), |text, (name, value)| text + &format!("{}:{value},", json!(name)));
    format!(r#"{{"zNew":{{"a":[1]}},{fields}"aNew":null,"type":{}}}"#, frame["type"])
}

#[test]
fn each_frame_of_a_worker_is_written_and_read() {
    for (frame, json) in worker_frames() {
        let text = frame.to_text();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
        assert_eq!(json["type"], frame.name());
        for text in [text, json.to_string(), newer(&json), format!(" {json}\n")] {
            assert_eq!(WorkerFrame::parse(&text).as_ref(), Ok(&frame), "{text}");
        }
    }
}

#[test]
fn each_frame_of_a_studio_is_written_and_read() {
    for (frame, json) in studio_frames() {
        let text = frame.to_text(TaskForm::Camel);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
        for text in [text, json.to_string(), newer(&json), format!("\t{json} ")] {
            assert_eq!(StudioFrame::parse(&text).as_ref(), Ok(&frame), "{text}");
        }
    }
}

#[test]
fn an_offer_is_read_wherever_its_type_stands() {
    let claim = Claim {
        job_id: job(),
        game_id: "g".into(),
        asset_name: "a".into(),
        model: "m".into(),
        vram_gb_estimate: Finite::ZERO,
        task: Task::image("p".into(), "png".into()),
        model_source: None,
    };
    let offer = StudioFrame::Offer(Offer::Readable(claim.clone().into()));
    for form in [TaskForm::Camel, TaskForm::Snake] {
        let claim = claim.to_json(form);
        assert_eq!(
            serde_json::from_str::<Value>(&offer.to_text(form)).unwrap(),
            json!({ "type": "offer", "claim": claim })
        );
        for text in [
            format!(r#"{{"type":"offer","claim":{claim}}}"#),
            format!(r#"{{"claim":{claim},"type":"offer"}}"#),
            format!(r#"{{"jobId":7,"code":[],"claim":{claim},"workerId":{{}},"type":"offer"}}"#),
            format!(r#"{{"type":"hello","claim":{claim},"type":"offer"}}"#),
        ] {
            assert_eq!(StudioFrame::parse(&text).as_ref(), Ok(&offer), "{text}");
        }
    }
}

#[test]
fn what_decides_nothing_may_be_missing_or_odd() {
    let welcome = |id: &str| StudioFrame::Welcome { worker_id: id.into(), server_time: String::new() };
    for (text, frame) in [
        (r#"{"type":"welcome"}"#, welcome("")),
        (r#"{"type":"welcome","workerId":null,"serverTime":null}"#, welcome("")),
        (r#"{"type":"welcome","workerId":"w","serverTime":1767323045}"#, welcome("w")),
        (r#"{"type":"heartbeatAck","jobId":7,"claim":"x","message":{}}"#, StudioFrame::HeartbeatAck),
        (r#"{"type":"heartbeatAck","type":"heartbeatAck"}"#, StudioFrame::HeartbeatAck),
        (
            r#"{"type":"error"}"#,
            StudioFrame::Error { code: StudioErrorCode::Other(String::new()), message: String::new() },
        ),
        (
            r#"{"type":"error","code":4001,"message":"m"}"#,
            StudioFrame::Error { code: StudioErrorCode::Other(String::new()), message: "m".into() },
        ),
    ] {
        assert_eq!(StudioFrame::parse(text).as_ref(), Ok(&frame), "{text}");
    }
}

#[test]
fn a_published_worker_is_read() {
    // 0.2 says this of every job, and sends no prompt when it has none.
    let (_, told) = capabilities();
    let heartbeat = json!({ "type": "heartbeat", "capabilities": told, "currentJobId": "in-flight" });
    assert!(matches!(
        WorkerFrame::parse(&heartbeat.to_string()),
        Ok(WorkerFrame::Heartbeat { current_job_id: Some(id), .. }) if id.as_str() == "in-flight"
    ));
    for prompt in ["", r#","prompt":null"#] {
        let complete = format!(r#"{{"type":"completeJson","jobId":"j","result":null{prompt}}}"#);
        assert_eq!(
            WorkerFrame::parse(&complete),
            Ok(WorkerFrame::CompleteJson {
                job_id: "j".into(),
                result: Arc::new(Value::Null),
                prompt: String::new(),
            })
        );
    }
    assert_eq!(
        WorkerFrame::parse(r#"{"type":"fail","jobId":"j","error":null}"#),
        Ok(WorkerFrame::Fail { job_id: "j".into(), error: String::new(), retryable: false })
    );
}

#[test]
fn words_of_a_newer_worker_are_read() {
    assert!(matches!(
        WorkerFrame::parse(r#"{"type":"reject","jobId":"j","reason":"r","code":"too_hot"}"#),
        Ok(WorkerFrame::Reject { code: Some(RejectCode::Other), .. })
    ));
    assert!(matches!(
        WorkerFrame::parse(r#"{"type":"reject","jobId":"j","reason":"r","code":null}"#),
        Ok(WorkerFrame::Reject { code: None, .. })
    ));
    let batch = r#"{"type":"logBatch","entries":[{"ts":"t","level":"trace","message":"m","jobId":null}]}"#;
    let Ok(WorkerFrame::LogBatch { entries }) = WorkerFrame::parse(batch) else { panic!() };
    assert_eq!((entries[0].level, entries[0].job_id.as_ref()), (LogLevel::Info, None));
}

#[test]
fn what_is_no_frame_is_said() {
    let unknown = |name: &str| FrameError::UnknownType(name.into());
    for name in ["", "Offer", "heartbeat_ack", "newer"] {
        let text = json!({ "type": name, "claim": 1 }).to_string();
        assert_eq!(StudioFrame::parse(&text), Err(unknown(name)));
        assert_eq!(WorkerFrame::parse(&text), Err(unknown(name)));
    }
    let deep = "[".repeat(100_000);
    for text in [
        "",
        " ",
        "null",
        "7",
        "\"offer\"",
        "[]",
        r#"["heartbeatAck"]"#,
        r#"["accept","j"]"#,
        r#"["accept",{"jobId":"j"}]"#,
        "{}",
        r#"{"type":null}"#,
        r#"{"type":7}"#,
        r#"{"type":["offer"]}"#,
        r#"{"type":"heartbeatAck""#,
        r#"{"type":"heartbeatAck"} x"#,
        "{\"type\":\"heartbeatAck\",\"x\":\"\u{1}\"}",
        &deep,
        &format!(r#"{{"type":"offer","claim":{deep}"#),
        &format!(r#"{{"type":"hello","capabilities":{}"#, r#"{"a":"#.repeat(100_000)),
        &"\u{1f41f}".repeat(1 << 18),
    ] {
        assert!(matches!(StudioFrame::parse(text), Err(FrameError::NotAFrame(_))), "{text:.80}");
        assert!(matches!(WorkerFrame::parse(text), Err(FrameError::NotAFrame(_))), "{text:.80}");
    }
}

#[test]
fn a_known_frame_without_what_it_must_have_is_malformed() {
    for (text, frame, field) in [
        (r#"{"type":"completeAck"}"#, "completeAck", "jobId"),
        (r#"{"type":"completeAck","jobId":null}"#, "completeAck", "jobId"),
        (r#"{"type":"failAck","jobId":7}"#, "failAck", "jobId"),
    ] {
        assert_eq!(StudioFrame::parse(text), Err(FrameError::Malformed { frame, field }), "{text}");
    }
    for (text, frame, field) in [
        (r#"{"type":"accept"}"#, "accept", "jobId"),
        (r#"{"type":"reject","jobId":"j"}"#, "reject", "reason"),
        (r#"{"type":"completeJson","jobId":"j"}"#, "completeJson", "result"),
        (r#"{"type":"hello","capabilities":{}}"#, "hello", "authToken"),
        (r#"{"type":"heartbeat"}"#, "heartbeat", "capabilities"),
        (r#"{"type":"logBatch"}"#, "logBatch", "entries"),
    ] {
        assert_eq!(WorkerFrame::parse(text), Err(FrameError::Malformed { frame, field }), "{text}");
    }
    // A secret that is in a frame that can't be read is in no error text.
    let error = WorkerFrame::parse(r#"{"type":"hello","authToken":"t0k3n"}"#).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("t0k3n"));
}

#[test]
fn an_unknown_error_code_keeps_its_name() {
    for name in ["auth_failed", "out_of_tea", ""] {
        assert_eq!(StudioErrorCode::parse(name).name(), name);
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in ".{0,400}") {
        let _ = StudioFrame::parse(&text);
        let _ = WorkerFrame::parse(&text);
    }

    #[test]
    fn no_damage_to_a_frame_makes_reading_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        length in 0_usize..8,
        instead in r#"[{}\[\],:"0-9a-z\\ ]{0,8}"#,
    ) {
        let mut texts: Vec<String> = worker_frames().into_iter().map(|(_, json)| json.to_string()).collect();
        texts.extend(studio_frames().into_iter().map(|(_, json)| json.to_string()));
        texts.push(json!({ "type": "offer", "claim": {
            "jobId": "j", "model": "m", "vramGbEstimate": 1.5, "modelSource": { "engine": "e", "files": [{}] },
            "task": { "kind": "llm", "messages": [{ "role": "user", "content": "hi" }], "maxTokens": 5 },
        }}).to_string());
        let mut text = which.get(&texts).clone();
        let at = at.index(text.len());
        text.replace_range(at..(at + length).min(text.len()), &instead);
        if let Ok(frame) = StudioFrame::parse(&text) {
            // An offer that can't be read is written without what could not be.
            if !matches!(frame, StudioFrame::Offer(Offer::Unreadable { .. })) {
                prop_assert_eq!(StudioFrame::parse(&frame.to_text(TaskForm::Camel)), Ok(frame));
            }
        }
        if let Ok(frame) = WorkerFrame::parse(&text) {
            prop_assert_eq!(WorkerFrame::parse(&frame.to_text()), Ok(frame));
        }
    }
}

#[test]
fn of_a_field_that_is_there_twice_the_last_one_counts() {
    for (text, frame) in [
        (r#"{"type":"accept","jobId":"a","jobId":"b"}"#, WorkerFrame::Accept { job_id: "b".into() }),
        (r#"{"type":"accept","type":"readyForMore"}"#, WorkerFrame::ReadyForMore),
    ] {
        assert_eq!(WorkerFrame::parse(text), Ok(frame), "{text}");
    }
    let ack = StudioFrame::parse(r#"{"type":"failAck","jobId":"a","jobId":"b"}"#);
    assert_eq!(ack, Ok(StudioFrame::FailAck { job_id: "b".into() }));
}
