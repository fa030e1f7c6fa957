//! Section 6: the delivery of bytes.

use alloc::{format, string::String};

use serde_json::json;

use super::rig::*;
use crate::worker::{HttpAnswer, HttpFailure, Input, JobOutcome, RequestId, states::JobState};

const HOUR: u64 = 3_600;

fn broken() -> Result<HttpAnswer, HttpFailure> {
    Err(HttpFailure("connection reset".into()))
}

#[allow(clippy::unnecessary_wraps, reason = "what an engine or a studio says is a `Result`")]
fn later(status: u16, retry_after: &str) -> Result<HttpAnswer, HttpFailure> {
    Ok(HttpAnswer { status, retry_after: Some(retry_after.into()), ..HttpAnswer::default() })
}

/// Waits for the next upload; how long that took.
fn next_upload(rig: &mut Rig) -> core::time::Duration {
    let (before, uploads) = (rig.now.mono, rig.uploads());
    for _ in 0..2_000 {
        if rig.uploads() > uploads {
            return rig.now.mono.since(before);
        }
        let (until, _) = rig.wait();
        rig.pass(until.since(rig.now.mono));
    }
    panic!("no further upload");
}

/// The failure that was sent and not looked at.
fn failure_sent(rig: &mut Rig) -> Option<(String, bool)> {
    let fail = rig.frames().into_iter().find(|frame| frame["type"] == "fail")?;
    Some((fail["error"].as_str()?.into(), fail["retryable"].as_bool()?))
}

#[test]
fn any_2xx_delivers() {
    for code in [200, 201, 202, 204, 299] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        assert!(rig.completed("j-1"), "{code}");
        assert_eq!(rig.answer_to(&image("j-2")), "accept");
    }
}

#[test]
fn an_upload_carries_the_bytes_and_what_they_are() {
    let mut rig = Rig::serving();
    rig.frame(&offer("j 1", json!({ "kind": "image", "prompt": "a cat", "ext": "png" })));
    rig.run_ends(bytes());
    let upload = rig.last_upload();
    assert_eq!(upload.url, "http://studio/graphics/api/workers/w-1/jobs/j%201/complete");
    assert_eq!(upload.bearer.reveal(), "tok-secret");
    let head = String::from_utf8(upload.envelope.head).unwrap();
    assert!(
        head.contains("j 1.webp") && !head.contains("png"),
        "what was made, not what was asked for: {head}"
    );
    assert!(!rig.said().contains(&"readyForMore".into()));
}

#[test]
fn an_extension_that_is_none_is_sent_as_bin() {
    let mut rig = running("j-1");
    let payload = alloc::vec![1].into();
    rig.run_ends(Ok(crate::engine::Output::Bytes { ext: "../x\"".into(), payload }));
    let head = String::from_utf8(rig.last_upload().envelope.head).unwrap();
    assert!(head.contains("j-1.bin") && !head.contains(".."), "{head}");
}

#[test]
fn an_upload_for_a_claim_that_is_over_is_held_and_not_failed() {
    for code in [404, 409, 410] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        assert!(!rig.said().contains(&"fail".into()), "the studio holds nothing that could fail");
        assert_eq!(rig.state_of("j-1"), Some(JobState::Held), "{code}");
        rig.pass(secs(25));
        assert_eq!(rig.uploads(), 1);
        rig.frame(&image("j-1"));
        rig.answered(status(200));
        assert_eq!((rig.completed("j-1"), rig.runs_of("j-1"), rig.uploads()), (true, 1, 2));
    }
}

#[test]
fn a_claim_that_is_over_frees_the_worker_for_other_jobs() {
    let mut rig = uploading("j-1");
    rig.answered(status(409));
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (true, None));
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
}

#[test]
fn an_upload_goes_on_when_the_socket_drops() {
    let mut rig = uploading("j-1");
    rig.reopen();
    assert!(!rig.cancelled(rig.request()));
    rig.answered(status(200));
    assert_eq!(rig.outcomes(), [("j-1".into(), JobOutcome::Completed)]);
    // The studio may offer it all the same, for another run: once what was on its way before that has come.
    rig.pass(secs(10));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
}

#[test]
fn an_upload_that_outlives_its_claim_ends_with_the_claim() {
    for code in [404, 409, 410] {
        let mut rig = uploading("j-1");
        rig.reopen();
        rig.answered(status(code));
        assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
        assert!(rig.said().is_empty());
        rig.frame(&image("j-1"));
        assert_eq!(rig.uploads(), 2);
        rig.answered(status(200));
        assert_eq!((rig.completed("j-1"), rig.runs_of("j-1")), (true, 1));
    }
}

#[test]
fn an_offer_adopts_the_upload_that_moves() {
    let mut rig = uploading("j-1");
    rig.reopen();
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.uploads(), 1);
    rig.pass(secs(5));
    assert_eq!(rig.last_heartbeat(), (true, Some("j-1")));
    rig.answered(status(200));
    assert_eq!((rig.completed("j-1"), rig.runs_of("j-1"), rig.uploads()), (true, 1, 1));
}

#[test]
fn an_adopted_upload_that_is_refused_for_its_old_claim_is_uploaded_once_afresh() {
    for code in [404, 409, 410] {
        let mut rig = uploading("j-1");
        rig.reopen();
        rig.frame(&image("j-1"));
        rig.answered(status(code));
        assert_eq!((rig.uploads(), rig.state_of("j-1")), (2, Some(JobState::Delivering)));
        rig.answered(status(200));
        assert!(rig.completed("j-1"));
    }
}

#[test]
fn a_second_409_ends_the_job() {
    let mut rig = uploading("j-1");
    rig.reopen();
    rig.frame(&image("j-1"));
    rig.answered(status(409));
    rig.answered(status(409));
    assert_eq!((rig.uploads(), rig.state_of("j-1")), (2, None));
    assert!(rig.failure("j-1").contains("409"));
    assert!(!rig.said().contains(&"fail".into()));
    assert_eq!(rig.answer_to(&image("j-2")), "accept");
}

#[test]
fn an_adopted_upload_that_breaks_is_tried_again_under_the_new_claim() {
    let mut rig = uploading("j-1");
    rig.reopen();
    rig.frame(&image("j-1"));
    rig.answered(broken());
    next_upload(&mut rig);
    // This one began under the claim of now: that claim is over.
    rig.answered(status(409));
    assert_eq!((rig.uploads(), rig.state_of("j-1")), (2, Some(JobState::Held)));
}

#[test]
fn trouble_is_tried_again_with_back_off() {
    for trouble in [status(408), status(429), status(500), status(502), status(503), broken()] {
        let mut rig = uploading("j-1");
        for base in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            rig.answered(trouble.clone());
            let wait = next_upload(&mut rig).as_millis();
            assert!((base / 2..=base * 3 / 2).contains(&wait), "{base}: {wait}");
        }
        assert_eq!(failure_sent(&mut rig), None);
        rig.answered(status(200));
        assert!(rig.completed("j-1"));
    }
}

#[test]
fn a_retry_honours_retry_after() {
    for code in [408, 429, 503] {
        let mut rig = uploading("j-1");
        rig.answered(later(code, "120"));
        let wait = next_upload(&mut rig);
        assert!(wait >= secs(120) && wait < secs(122), "{wait:?}");
    }
    let mut rig = uploading("j-1");
    rig.answered(later(503, "soon"));
    assert!(next_upload(&mut rig) < secs(2));
}

#[test]
fn after_an_hour_of_trouble_the_job_is_failed_as_retryable_and_its_result_held() {
    let mut rig = uploading("j-1");
    let start = rig.now.mono;
    rig.answered(later(503, "99999"));
    rig.pass(secs(HOUR - 1));
    assert_eq!(failure_sent(&mut rig), None);
    rig.pass(secs(1));
    assert_eq!(rig.now.mono.since(start), secs(HOUR));
    let (error, retryable) = failure_sent(&mut rig).unwrap();
    assert!(retryable && error.contains("503"), "{error}");
    rig.ack("failAck", "j-1");
    assert_eq!(rig.state_of("j-1"), Some(JobState::Held));
    // The studio has queued it again: delivered at its next offer, without a run.
    rig.frame(&image("j-1"));
    rig.answered(status(200));
    assert_eq!((rig.completed("j-1"), rig.runs_of("j-1"), rig.uploads()), (true, 1, 2));
}

#[test]
fn an_hour_of_short_back_offs_ends_the_same_way() {
    let mut rig = uploading("j-1");
    let start = rig.now.mono;
    while rig.state_of("j-1") == Some(JobState::Delivering) && rig.now.mono.since(start) < secs(2 * HOUR) {
        if failure_sent(&mut rig).is_some() {
            break;
        }
        rig.answered(broken());
        let (until, _) = rig.wait();
        rig.pass(until.since(rig.now.mono));
    }
    assert_eq!(rig.now.mono.since(start), secs(HOUR));
}

#[test]
fn an_offer_without_an_ack_confirms_the_failure_of_an_upload_too() {
    let mut rig = uploading("j-1");
    rig.answered(later(503, "99999"));
    rig.pass(secs(HOUR));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!((rig.uploads(), rig.runs_of("j-1")), (2, 1));
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
}

#[test]
fn a_result_whose_upload_was_given_up_is_recorded_as_failed_when_it_is_not_offered_again() {
    let mut rig = uploading("j-1");
    rig.answered(broken());
    rig.answered(broken());
    while failure_sent(&mut rig).is_none() {
        let (until, _) = rig.wait();
        rig.pass(until.since(rig.now.mono));
        rig.answered(later(503, "600"));
    }
    rig.ack("failAck", "j-1");
    rig.pass(secs(15 * 60));
    assert!(rig.failure("j-1").contains("could not be uploaded"), "{:?}", rig.outcomes());
}

#[test]
fn a_new_claim_has_an_hour_of_its_own() {
    let mut rig = uploading("j-1");
    rig.answered(later(503, "3000"));
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    next_upload(&mut rig);
    rig.answered(later(503, "3000"));
    rig.pass(secs(700));
    assert_eq!(failure_sent(&mut rig), None);
}

#[test]
fn an_answer_that_a_gateway_may_have_given_leaves_open_whether_the_result_arrived() {
    for (code, completed) in [(500, true), (502, true), (504, true), (503, false), (429, false)] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        next_upload(&mut rig);
        rig.answered(status(409));
        rig.pass(secs(15 * 60));
        assert_eq!(rig.completed("j-1"), completed, "{code}");
    }
}

#[test]
fn an_upload_that_is_cut_off_leaves_open_whether_the_result_arrived() {
    let mut rig = uploading("j-1");
    rig.break_connection();
    rig.command(crate::worker::Command::Stop);
    assert!(rig.completed("j-1") && rig.logged("unconfirmed"));
}

#[test]
fn a_refused_token_is_tried_three_times() {
    for code in [401, 403] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        next_upload(&mut rig);
        rig.answered(status(code));
        next_upload(&mut rig);
        assert_eq!(failure_sent(&mut rig), None);
        rig.answered(status(code));
        let (error, retryable) = failure_sent(&mut rig).unwrap();
        assert!(retryable && error.contains(&format!("{code}")), "{error}");
        rig.ack("failAck", "j-1");
        assert_eq!((rig.uploads(), rig.state_of("j-1")), (3, Some(JobState::Held)));
        assert!(rig.stores().is_empty(), "the stored token stays");
        rig.frame(&image("j-1"));
        rig.answered(status(200));
        assert_eq!((rig.completed("j-1"), rig.runs_of("j-1")), (true, 1));
    }
}

#[test]
fn a_refused_result_is_failed_for_good_with_status_and_excerpt() {
    for code in [400, 413, 415, 418, 422, 451] {
        let mut rig = running("j-1");
        rig.run_ends(file("f"));
        rig.answered(Ok(body(code, &format!("{}tail", "long words ".repeat(100)))));
        let (error, retryable) = failure_sent(&mut rig).unwrap();
        assert!(!retryable && error.contains(&format!("{code}")) && error.contains("long words"), "{error}");
        assert!(!error.contains("tail"), "an excerpt only");
        assert_eq!(rig.discarded(), ["f"]);
        rig.ack("failAck", "j-1");
        assert!(rig.failure("j-1").contains(&format!("{code}")));
    }
}

#[test]
fn a_result_that_is_refused_without_a_claim_is_failed_for_good_at_its_next_offer() {
    let mut rig = uploading("j-1");
    rig.reopen();
    rig.answered(status(413));
    assert_eq!(failure_sent(&mut rig), None);
    rig.frame(&image("j-1"));
    let (error, retryable) = failure_sent(&mut rig).unwrap();
    assert!(!retryable && error.contains("413"));
    assert_eq!((rig.runs_of("j-1"), rig.uploads()), (1, 1));
}

#[test]
fn an_upload_of_which_no_byte_moves_for_60_s_is_broken() {
    let mut rig = uploading("j-1");
    let request = rig.request();
    rig.pass(secs(59));
    assert!(!rig.cancelled(request));
    rig.pass(secs(1));
    assert!(rig.cancelled(request));
    next_upload(&mut rig);
    rig.input(Input::Answered { request, outcome: status(200) });
    assert!(!rig.completed("j-1"), "its answer comes too late");
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
}

#[test]
fn progress_keeps_an_upload_alive_for_as_long_as_it_takes() {
    let mut rig = uploading("j-1");
    let request = rig.request();
    for sent in 1..200 {
        rig.pass(secs(59));
        rig.input(Input::UploadProgress { request, sent });
    }
    assert!(!rig.cancelled(request));
    // What does not move is no progress.
    rig.pass(secs(30));
    rig.input(Input::UploadProgress { request, sent: 199 });
    rig.pass(secs(30));
    assert!(rig.cancelled(request));
}

#[test]
fn a_retry_shows_progress_from_its_own_start() {
    let mut rig = uploading("j-1");
    rig.input(Input::UploadProgress { request: rig.request(), sent: 100 });
    rig.answered(broken());
    next_upload(&mut rig);
    let request = rig.request();
    rig.pass(secs(40));
    rig.input(Input::UploadProgress { request, sent: 50 });
    rig.pass(secs(40));
    assert!(!rig.cancelled(request));
}

#[test]
fn an_upload_that_moves_outlives_the_time_that_its_result_is_held() {
    let mut rig = uploading("j-1");
    let request = rig.request();
    rig.reopen();
    for sent in 1..30 {
        rig.pass(secs(59));
        rig.input(Input::UploadProgress { request, sent });
    }
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
}

#[test]
fn what_becomes_of_an_unknown_exchange_is_ignored_and_counted() {
    let mut rig = uploading("j-1");
    let before = rig.worker.counters().stale_inputs;
    rig.input(Input::UploadProgress { request: RequestId(999), sent: 9 });
    rig.input(Input::Answered { request: RequestId(999), outcome: status(500) });
    assert_eq!(rig.worker.counters().stale_inputs, before + 2);
    assert_eq!(rig.state_of("j-1"), Some(JobState::Delivering));
}

#[test]
fn another_task_under_its_id_stops_the_upload() {
    let mut rig = running("j-1");
    rig.run_ends(file("f"));
    let request = rig.request();
    rig.reopen();
    assert_eq!(rig.answer_to(&llm("j-1")), "accept");
    assert!(rig.cancelled(request));
    assert_eq!(rig.discarded(), ["f"]);
}

#[test]
fn after_a_close_4002_the_result_goes_out_only_under_a_new_offer() {
    let mut rig = uploading("j-1");
    let request = rig.request();
    rig.closed(4002);
    rig.open();
    assert!(rig.cancelled(request));
    rig.pass(secs(120));
    assert_eq!((rig.uploads(), rig.state_of("j-1")), (1, Some(JobState::Held)));
    rig.frame(&image("j-1"));
    assert_eq!(rig.uploads(), 2);
    rig.closed(4002);
    assert_eq!(rig.state_of("j-1"), None);
}

#[test]
fn a_file_is_deleted_once_however_its_job_ends() {
    let endings: [fn(&mut Rig); 9] = [
        |rig| rig.answered(status(200)),
        |rig| rig.answered(status(413)),
        |rig| {
            rig.answered(status(409));
            rig.pass(secs(15 * 60));
        },
        |rig| {
            rig.reopen();
            rig.frame(&image("j-1"));
            rig.answered(status(409));
            rig.answered(status(409));
        },
        |rig| {
            rig.reopen();
            rig.answered(status(200));
        },
        |rig| {
            rig.closed(4002);
            rig.open();
            rig.frame(&image("j-1"));
            rig.closed(4002);
        },
        |rig| {
            rig.answered(later(503, "99999"));
            rig.pass(secs(HOUR));
            rig.ack("failAck", "j-1");
            rig.pass(secs(15 * 60));
        },
        |rig| {
            rig.command(crate::worker::Command::Stop);
            rig.closed(1000);
        },
        |rig| {
            rig.break_connection();
            rig.command(crate::worker::Command::Stop);
        },
    ];
    for (nth, end) in endings.into_iter().enumerate() {
        let mut rig = running("j-1");
        rig.run_ends(file("f"));
        rig.flush();
        end(&mut rig);
        assert_eq!(rig.discarded(), ["f"], "ending {nth}");
    }
}

/// A gateway may say it of a result that the studio took.
#[test]
fn a_stop_in_the_back_off_leaves_the_claim_to_the_end_of_the_session() {
    for code in [408, 429, 500, 503] {
        let mut rig = uploading("j-1");
        rig.answered(status(code));
        rig.seen.clear();
        rig.command(crate::worker::Command::Stop);
        assert_eq!(failure_sent(&mut rig), None, "{code}");
        assert!(rig.failure("j-1").contains("before the studio confirmed"), "{code}");
    }
}
