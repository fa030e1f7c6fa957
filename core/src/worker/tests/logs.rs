//! Section 3: log lines on their way to the studio, and what no line may carry (section 2).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use serde_json::json;

use super::rig::*;
use crate::{
    wire::LogLevel,
    worker::{
        Action, Command, ConnectFailure, HttpFailure, Identity, Input, LogLine, MAX_BATCH_ENTRIES, SessionEnd,
    },
};

fn line(message: &str) -> Input {
    Input::Log(LogLine {
        level: LogLevel::Warn,
        category: "engine".into(),
        message: message.into(),
        job_id: Some("j-1".into()),
    })
}

/// The messages that were shipped so far.
fn shipped(rig: &Rig) -> Vec<String> {
    rig.batches().into_iter().flatten().map(|entry| entry.message).collect()
}

/// A session whose own lines have gone out, and more than a second ago.
fn quiet() -> Rig {
    let mut rig = Rig::serving();
    rig.pass(secs(7));
    rig.flush();
    rig
}

#[test]
fn a_line_goes_out_with_its_time_level_and_job() {
    let mut rig = quiet();
    let before = rig.batches().len();
    let stamp = rig.now.wall.to_rfc3339();
    rig.input(line("hot"));
    let batches = rig.batches();
    assert_eq!(batches.len(), before + 1, "at once, since nothing waits");
    let entry = serde_json::to_value(&batches[before][0]).unwrap();
    let wanted = json!({
        "ts": stamp, "level": "warn", "category": "engine", "message": "hot", "jobId": "j-1",
    });
    assert_eq!(entry, wanted);
}

#[test]
fn at_most_one_batch_goes_out_a_second_also_over_a_reconnect() {
    for seed in 0..10 {
        let mut rig = Rig::seeded(settings(registered()), [seed; 32]);
        rig.open();
        for n in 0..100 {
            // The first reconnect may come half a second after the break.
            if n == 30 {
                rig.break_connection();
                rig.open();
            }
            rig.input(line("again"));
            rig.flush();
            rig.pass(Duration::from_millis(70));
        }
        assert!(rig.batched_at.len() > 5, "{:?}", rig.batched_at);
        for pair in rig.batched_at.windows(2) {
            assert!(pair[1].since(pair[0]) >= secs(1), "{pair:?}");
        }
    }
}

#[test]
fn a_batch_waits_while_anything_else_waits_to_be_written() {
    let mut rig = quiet();
    let before = rig.batches().len();
    rig.command(Command::Pause);
    rig.input(line("hot"));
    rig.pass_in_silence(secs(4));
    assert_eq!(rig.batches().len(), before, "the heartbeat that says so waits");
    rig.flush();
    assert_eq!(rig.batches().len(), before + 1);
    assert!(shipped(&rig).contains(&"hot".to_string()));
}

#[test]
fn lines_before_the_session_are_kept_for_it() {
    let mut rig = Rig::new(settings(registered()));
    rig.input(line("early"));
    assert!(rig.batches().is_empty());
    rig.open();
    assert!(shipped(&rig).contains(&"early".to_string()));
}

#[test]
fn a_line_goes_out_at_most_once_also_over_reconnects() {
    let mut rig = Rig::serving();
    let mut sent = 0;
    for _ in 0..20 {
        for _ in 0..30 {
            rig.input(line(&format!("line {sent}")));
            sent += 1;
        }
        rig.pass(Duration::from_millis(1_500));
        rig.break_connection();
        rig.open();
    }
    let mut seen: Vec<_> = shipped(&rig).into_iter().filter(|message| message.starts_with("line ")).collect();
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "twice");
    assert!(count > 300);
}

#[test]
fn a_batch_has_at_most_200_entries_and_what_falls_over_the_bound_is_counted() {
    let mut rig = Rig::new(settings(registered()));
    for n in 0..5_000 {
        rig.input(line(&format!("flood {n}")));
    }
    rig.open();
    rig.pass(secs(20));
    let batches = rig.batches();
    assert!(batches.iter().all(|batch| batch.len() <= MAX_BATCH_ENTRIES));
    let floods = shipped(&rig).iter().filter(|message| message.starts_with("flood")).count() as u64;
    let dropped = rig.worker.counters().dropped_log_lines;
    assert!((4_000..5_000).contains(&dropped), "{dropped}");
    assert!(floods >= 900);
    assert!(shipped(&rig).iter().any(|message| message.contains("older log lines were dropped")));
}

#[test]
fn a_worker_that_logs_nothing_sends_no_batch() {
    let mut rig = quiet();
    let before = rig.batches().len();
    rig.pass(secs(600));
    assert_eq!(rig.batches().len(), before);
}

#[test]
fn the_last_lines_go_out_before_the_close() {
    let mut rig = Rig::serving();
    rig.pass(secs(4));
    for n in 0..10 {
        rig.input(line(&format!("last {n}")));
    }
    rig.command(Command::Drain);
    let close = rig.history.iter().position(|action| matches!(action, Action::Close { .. })).unwrap();
    let text = format!("{:?}", &rig.history[..close]);
    assert!(text.contains("last 9"));
    assert!(shipped(&rig).contains(&"drained".to_string()));
}

// Secrets.

const SECRETS: [&str; 4] = ["tok-secret", "tok-fresh", "reg-secret", "tok-other"];

/// Everything that a person could come to read, and every frame but `hello`.
fn assert_discreet(rig: &Rig) {
    let mut texts = Vec::from([format!("{:?}", rig.worker), format!("{:#?}", rig.worker)]);
    for action in &rig.history {
        texts.push(format!("{action:?}"));
        match action {
            Action::Send { frame, .. } if frame.name() != "hello" => texts.push(frame.to_text()),
            Action::SendHeartbeat { capabilities, .. } => {
                texts.push(serde_json::to_string(capabilities).unwrap());
            }
            Action::Request { http, .. } => texts.push(format!("{} {}", http.url, text(http))),
            Action::Upload { upload, .. } => texts.push(upload.url.clone()),
            Action::Connect { url, .. } => texts.push(url.clone()),
            Action::Exit(exit) => texts.push(exit.to_string()),
            _ => {}
        }
    }
    for text in texts {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
            // Not even most of one.
            assert!(!text.contains(&secret[..secret.len() - 1]), "most of {secret} in {text}");
        }
    }
}

/// A text that a peer or a library made, with every secret in it, one of them where texts are cut.
fn telltale() -> String {
    let all = SECRETS.join(" ");
    let mut text = format!("{all} {}", "x".repeat(196 - all.len() - 7));
    text.push_str(" tok-secret and more");
    text
}

#[test]
fn no_secret_shows_while_registering() {
    let mut rig = Rig::new(settings(Identity {
        install_id: registered().install_id,
        registration_secret: Some("reg-secret".into()),
        registration_request_id: Some("rr-1".into()),
        ..Identity::default()
    }));
    rig.answered(Err(HttpFailure("reg-secret".into())));
    rig.next_timer();
    rig.answer(body(500, "reg-secret is what you sent"));
    rig.next_timer();
    rig.answer(body(200, r#"{"status":"approved","workerId":"w-1","authToken":"tok-secret"}"#));
    rig.store_fails("can't write tok-secret");
    rig.next_timer();
    rig.stored();
    rig.refuse(body(401, "tok-secret is wrong"));
    rig.answer(body(200, r#"{"status":"approved","workerId":"w-1","authToken":"tok-fresh"}"#));
    rig.stored();
    rig.input(line("somebody still says tok-secret"));
    rig.open();
    rig.pass(secs(3));
    rig.closed(4001);
    assert!(rig.exit().is_some());
    assert_discreet(&rig);
}

#[test]
fn no_secret_shows_in_a_rejection() {
    let mut rig = Rig::new(settings(Identity {
        install_id: registered().install_id,
        registration_secret: Some("reg-secret".into()),
        registration_request_id: Some("rr-1".into()),
        ..Identity::default()
    }));
    rig.answer(body(200, r#"{"status":"rejected","reason":"reg-secret is known to be stolen"}"#));
    rig.stored();
    assert!(rig.exit().is_some());
    assert_discreet(&rig);
}

#[test]
fn no_secret_shows_in_what_becomes_of_a_session() {
    let known = || {
        let mut rig =
            Rig::new(settings(Identity { registration_secret: Some("reg-secret".into()), ..registered() }));
        rig.command(Command::Reconfigure(
            settings(Identity { auth_token: Some("tok-fresh".into()), ..registered() }).into(),
        ));
        rig.command(Command::Reconfigure(
            settings(Identity { auth_token: Some("tok-other".into()), ..registered() }).into(),
        ));
        rig
    };
    let ends: [fn(&mut Rig); 9] = [
        |rig| rig.refuse(body(401, &telltale())),
        |rig| rig.refuse(body(404, &format!("worker not found {}", telltale()))),
        |rig| rig.refuse(body(503, &telltale())),
        |rig| {
            let conn = rig.connecting();
            rig.input(Input::ConnectFailed { conn, failure: ConnectFailure::Trouble(telltale()) });
        },
        |rig| {
            let conn = rig.open();
            rig.input(Input::Closed { conn, end: SessionEnd::Dropped(telltale()) });
        },
        |rig| {
            rig.open();
            rig.frame(&json!({ "type": "error", "code": "auth_failed", "message": telltale() }));
            rig.closed(4001);
        },
        |rig| {
            rig.open();
            rig.frame(&json!({ "type": "error", "code": telltale(), "message": telltale() }));
            rig.frame(&json!({ "type": telltale() }));
            rig.pass(secs(3));
        },
        |rig| {
            rig.open();
            rig.frame(&image("j-1"));
            rig.run_ends(bytes());
            rig.answer(body(413, &telltale()));
            rig.frame(&json!({ "type": "failAck", "jobId": "j-1" }));
        },
        |rig| {
            rig.open();
            rig.frame(&image("j-1"));
            rig.run_ends(bytes());
            rig.answered(Err(HttpFailure(telltale())));
            rig.pass(secs(3_700));
        },
    ];
    for end in ends {
        let mut rig = known();
        end(&mut rig);
        assert_discreet(&rig);
    }
}

#[test]
fn attempts_that_are_used_up_do_not_tell_either() {
    let mut settings = settings(registered());
    settings.reconnect_attempts = Some(1);
    let mut rig = Rig::new(settings);
    for _ in 0..2 {
        rig.refuse(body(500, &telltale()));
    }
    let exit = rig.exit().unwrap();
    assert!(!exit.to_string().contains("tok-secret"), "{exit}");
    assert!(!format!("{exit:?}").contains("tok-secret"), "{exit:?}");
}
