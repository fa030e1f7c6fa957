//! How far bytes have moved: seen, logged at steps, and not counted by the clock of the run.

use alloc::{string::String, vec::Vec};

use super::{jobs::held, rig::*};
use crate::{
    engine::{Output, Payload, SpilledFile},
    machine::Transfer,
    worker::{Action, Command, HttpFailure, Input, JobProgress, Moves, Observation, RunId, states::JobState},
};

const MIB: u64 = 1 << 20;

impl Rig {
    fn moves(&mut self, name: &str, done: u64, total: Option<u64>) {
        let transfer = Some(Transfer { name: name.into(), done, total, came: done });
        let run = self.run();
        self.input(Input::RunProgress { run, transfer });
    }

    /// The download is over.
    fn moved(&mut self) {
        let run = self.run();
        self.input(Input::RunProgress { run, transfer: None });
    }

    fn sent(&mut self, sent: u64) {
        let request = self.request();
        self.input(Input::UploadProgress { request, sent });
    }

    /// The lines of one category, in their order.
    fn lines(&self, category: &str) -> Vec<String> {
        let of = |action: &Action| match action {
            Action::Log(line) if line.category == category => {
                assert_eq!(line.job_id, Some("j-1".into()));
                Some(line.message.clone())
            }
            _ => None,
        };
        self.history.iter().filter_map(of).collect()
    }

    /// What observers were shown of it since the last look.
    fn shown(&mut self) -> Vec<Option<JobProgress>> {
        let of = |action| match action {
            Action::Observe(Observation::CurrentJob(job)) => Some(job?.progress),
            _ => None,
        };
        core::mem::take(&mut self.seen).into_iter().filter_map(of).collect()
    }
}

#[test]
fn a_download_is_seen_with_what_was_there_before() {
    let mut rig = running("j-1");
    let since = rig.now.wall;
    rig.moves("a.gguf", 10 * MIB, Some(100 * MIB));
    rig.pass(secs(4));
    rig.moves("a.gguf", 50 * MIB, Some(100 * MIB));
    let progress = rig.shown().pop().flatten().unwrap();
    let moves = Moves::Download("a.gguf".into());
    let wanted = JobProgress { moves, done: 50 * MIB, total: Some(100 * MIB), since, before: 10 * MIB };
    assert_eq!(progress, wanted);
    assert_eq!(progress.rate(rig.now.wall), Some(10 * MIB));
    assert_eq!(progress.time_left(rig.now.wall), Some(secs(5)));
    rig.run_ends(bytes());
    assert_eq!(rig.shown(), [None], "it is over");
}

#[test]
fn a_download_is_shown_as_long_as_it_moves() {
    let mut rig = running("j-1");
    rig.moves("a.gguf", 10 * MIB, Some(10 * MIB));
    assert!(rig.shown().pop().flatten().is_some());
    rig.moved();
    assert_eq!(rig.shown(), [None], "the engine works on");
    rig.moved();
    assert!(rig.shown().is_empty());
    // Neither does what comes later continue it: here the clock of the run went on in between.
    rig.pass(secs(100));
    rig.moves("a.gguf", 0, None);
    rig.pass(secs(1_700));
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn progress_is_shown_a_few_times_a_second_at_most_and_the_newest_is_shown_in_the_end() {
    let mut rig = running("j-1");
    for done in 0..100 {
        rig.moves("a.gguf", done * MIB, Some(1_000 * MIB));
        rig.leap(secs(1) / 100);
    }
    let shown = rig.shown();
    assert!((4..8).contains(&shown.len()), "{}", shown.len());
    rig.pass(secs(1));
    rig.pass(secs(5));
    let newest = rig.shown().pop().flatten().map(|progress| progress.done);
    assert!(newest.is_none_or(|done| done == 99 * MIB));
    assert_eq!(shown.first().cloned().flatten().map(|progress| progress.done), Some(0));
}

#[test]
fn each_tenth_of_a_download_is_logged_once() {
    let mut rig = running("j-1");
    for percent in 0..=100 {
        for _ in 0..3 {
            rig.moves("a.gguf", percent * MIB, Some(100 * MIB));
        }
        rig.leap(secs(1));
    }
    let lines = rig.lines("download");
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert_eq!(lines[0], "a.gguf: downloading, 100.0 MiB");
    assert_eq!(lines[1], "a.gguf: 10 %, 10.0 MiB of 100.0 MiB, 1.0 MiB/s, 1 min 30 s left");
    assert_eq!(lines[9], "a.gguf: 90 %, 90.0 MiB of 100.0 MiB, 1.0 MiB/s, 10 s left");
    assert_eq!(lines[10], "a.gguf: downloaded 100.0 MiB in 1 min 40 s, 1.0 MiB/s");
}

#[test]
fn the_lines_of_a_download_reach_the_studio() {
    let mut rig = running("j-1");
    rig.pass(secs(2));
    rig.seen.clear();
    rig.moves("a.gguf", MIB, Some(10 * MIB));
    rig.pass(secs(2));
    let told = rig.seen.iter().any(|action| match action {
        Action::Send { frame, .. } => {
            let text = frame.to_text();
            text.contains("logBatch") && text.contains("a.gguf: downloading") && text.contains("\"j-1\"")
        }
        _ => false,
    });
    assert!(told);
}

#[test]
fn several_files_are_told_apart_and_one_of_unknown_size_is_named() {
    let mut rig = running("j-1");
    rig.moves("vae", 5, Some(10));
    rig.moves("vae", 10, Some(10));
    rig.moves("model", 0, None);
    rig.moves("model", 50, None);
    rig.moves("model", 100, Some(100));
    // Begun anew by its server.
    rig.moves("model", 0, Some(100));
    rig.moves("tiny", 3, Some(3));
    assert_eq!(
        rig.lines("download"),
        [
            "vae: downloading, 10 B",
            "vae: downloaded 5 B in 0 s, 4.9 KiB/s",
            "model: downloading",
            "model: downloaded 100 B in 0 s, 97.7 KiB/s",
            "model: downloading, 100 B",
            "tiny: downloaded, 3 B",
        ]
    );
}

#[test]
fn the_clock_of_a_run_stands_still_while_bytes_of_a_download_move() {
    let mut rig = running("j-1");
    // 40 GB on a slow line.
    for minute in 0..90 {
        rig.moves("a.gguf", minute * 64 * MIB, Some(40 << 30));
        rig.pass(secs(60));
    }
    assert_eq!(rig.state_of("j-1"), Some(JobState::Running));
    // The first report and the last minute, in which nothing more came, are all that was counted.
    rig.pass(secs(1_800 - 61));
    assert_eq!((rig.state_of("j-1"), rig.cancelled_runs()), (Some(JobState::Running), 0));
    rig.pass(secs(1));
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn a_download_that_does_not_move_is_on_the_runs_time() {
    let mut rig = running("j-1");
    for _ in 0..18 {
        rig.moves("a.gguf", 7 * MIB, Some(40 << 30));
        rig.pass(secs(100));
    }
    assert_eq!(rig.cancelled_runs(), 1);

    // Nor does one stand it still for longer than it may stall.
    let mut rig = running("j-1");
    for done in 1..=3 {
        rig.moves("a.gguf", done, None);
        rig.pass(secs(600));
    }
    rig.moves("a.gguf", 4, None);
    rig.pass(secs(179));
    assert_eq!(rig.cancelled_runs(), 0, "3 minutes stood");
    rig.pass(secs(1));
    assert_eq!(rig.cancelled_runs(), 1);
}

#[test]
fn a_download_that_never_ends_is_stopped_after_a_day() {
    let mut rig = running("j-1");
    let mut minutes = 0;
    while rig.cancelled_runs() == 0 {
        minutes += 1;
        rig.moves("a.gguf", minutes, None);
        // Without a session, so that little else happens.
        rig.leap(secs(60));
    }
    assert!((24 * 60 + 29..=24 * 60 + 32).contains(&minutes), "{minutes}");
}

#[test]
fn progress_of_another_run_is_stale() {
    let mut rig = running("j-1");
    let transfer = Some(Transfer { name: "a".into(), done: 1, total: None, came: 1 });
    rig.input(Input::RunProgress { run: RunId(999), transfer });
    assert_eq!(rig.worker.counters().stale_inputs, 1);
    assert!(rig.shown().is_empty() && rig.lines("download").is_empty());
    rig.leap(secs(1_800));
    rig.moves("a", 2, None);
    assert_eq!(rig.worker.counters().stale_inputs, 2, "it was told to stop");
}

#[test]
fn an_orphans_download_goes_on_and_is_seen() {
    let mut rig = running("j-1");
    rig.reopen();
    rig.moves("a.gguf", 5, Some(10));
    assert!(rig.shown().pop().flatten().is_some());
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
}

#[test]
fn a_delivery_is_seen_and_begins_anew_with_each_try() {
    let mut rig = running("j-1");
    rig.run_ends(file("result"));
    let began = rig.now.wall;
    rig.pass(secs(10));
    rig.seen.clear();
    rig.sent(50 << 20);
    let progress = rig.shown().pop().flatten().unwrap();
    assert_eq!((progress.moves.clone(), progress.done, progress.since), (Moves::Delivery, 50 << 20, began));
    let total = progress.total.unwrap();
    assert!(total > 100 << 20 && total < (100 << 20) + 1_000, "{total}");
    assert_eq!(progress.rate(rig.now.wall), Some(5 << 20));
    // Fewer bytes than before, or more than there are, are no progress.
    rig.sent(10);
    rig.pass(secs(1));
    rig.sent(u64::MAX);
    assert_eq!(rig.shown().pop().flatten().map(|progress| progress.done), Some(total));
    rig.answered(Err(HttpFailure("reset".into())));
    assert_eq!(rig.shown(), [None]);
    while rig.uploads() < 2 {
        rig.next_timer();
    }
    rig.seen.clear();
    rig.sent(1 << 20);
    assert_eq!(rig.shown().pop().flatten().map(|progress| progress.done), Some(1 << 20));
}

#[test]
fn the_end_of_a_large_delivery_is_logged_with_its_rate() {
    let mut rig = running("j-1");
    let file = SpilledFile { path: "result".into(), bytes: (1 << 30) - 1_000 };
    rig.run_ends(Ok(Output::Bytes { ext: "mp4".into(), payload: Payload::File(file) }));
    for sent in 1..=16 {
        rig.pass(secs(2));
        rig.sent(sent << 26);
    }
    rig.answered(status(200));
    assert_eq!(rig.lines("delivery"), ["delivered 1.0 GiB in 32 s, 32.0 MiB/s"]);
    let mut small = uploading("j-1");
    small.answered(status(200));
    assert!(small.lines("delivery").is_empty());
}

#[test]
fn what_only_observers_see_decides_nothing() {
    let (mut plain, mut moving) = (uploading("j-1"), uploading("j-1"));
    for rig in [&mut plain, &mut moving] {
        rig.sent(100);
    }
    moving.leap(secs(1) / 100);
    moving.sent(100);
    plain.leap(secs(1) / 100);
    assert_eq!(plain.worker.fingerprint(), moving.worker.fingerprint());
    // How long a download has not moved does.
    let (mut plain, mut moving) = (running("j-1"), running("j-1"));
    plain.moves("a", 1, None);
    plain.leap(secs(1));
    moving.leap(secs(1));
    moving.moves("a", 1, None);
    assert_ne!(plain.worker.fingerprint(), moving.worker.fingerprint());
}

/// What observers see of a job after each thing that is said: whether it runs, is held, or is over.
fn seen_of(rig: &Rig, job: &str) -> Vec<(bool, bool, bool)> {
    let (mut now, mut seen) = ((false, false, false), Vec::new());
    for action in &rig.history {
        match action {
            Action::Observe(Observation::CurrentJob(current)) => {
                now.0 = current.as_ref().is_some_and(|current| current.job_id.as_str() == job);
            }
            Action::Observe(Observation::HeldResults(held)) => {
                now.1 = held.iter().any(|held| held.job_id.as_str() == job);
            }
            Action::RecordRecentJob(ended) if ended.job_id.as_str() == job => now.2 = true,
            _ => {}
        }
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    seen
}

/// Whoever waits for the end of a job would take a moment without it for the end.
#[test]
fn a_job_in_hand_is_seen_all_the_time_and_held_results_are() {
    const NOT_YET: (bool, bool, bool) = (false, false, false);
    let mut rig = held(&llm("j-1"), answer());
    let accepted = rig.now.wall;
    assert_eq!(
        seen_of(&rig, "j-1"),
        [NOT_YET, (true, false, false), (true, true, false), (false, true, false)]
    );
    let shown = rig.history.iter().rev().find_map(|action| match action {
        Action::Observe(Observation::HeldResults(held)) => held.last().cloned(),
        _ => None,
    });
    let shown = shown.unwrap();
    assert_eq!((shown.job_id.as_str(), &*shown.kind, &*shown.model), ("j-1", "llm", "synthetic"));
    assert!(shown.started_at <= accepted);
    rig.pass(secs(30));
    rig.frame(&llm("j-1"));
    rig.ack("completeAck", "j-1");
    let last = [(true, true, false), (true, false, false), (true, false, true), (false, false, true)];
    assert!(seen_of(&rig, "j-1").ends_with(&last), "{:?}", seen_of(&rig, "j-1"));
    // One that nobody asks for, and one that is lost to a stop.
    let last = [(false, true, false), (false, true, true), (false, false, true)];
    let mut rig = held(&llm("j-1"), answer());
    rig.pass(secs(16 * 60));
    assert!(seen_of(&rig, "j-1").ends_with(&last), "{:?}", seen_of(&rig, "j-1"));
    let mut rig = held(&llm("j-1"), answer());
    rig.command(Command::Stop);
    rig.closed(1000);
    assert!(seen_of(&rig, "j-1").ends_with(&last), "{:?}", seen_of(&rig, "j-1"));
}
