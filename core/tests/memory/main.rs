//! What a worker allocates, and what it keeps. `-- --nocapture` prints the numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[allow(dead_code, reason = "shared with the benchmarks")]
#[path = "../../benches/common/mod.rs"]
mod common;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use common::{
    offers,
    quiet::{Prompt, Quiet, World},
    rig::{ACK, Rig, settings},
};
use studio_worker_core::{
    drive::WorkerHandle,
    wire::{LogLevel, TaskKind},
    worker::{HEARTBEAT_INTERVAL, LogLine, RECENT_JOBS_CAP, Settings},
};

/// Heartbeats that are counted.
const HEARTBEATS: usize = 10_000;
/// What a driven worker of one kind may keep at rest, after 50 jobs with prompts of 40 characters, in bytes.
const AT_REST: i64 = 8 * 1024;

/// The same for each of many heartbeats, and nothing of it is kept.
fn costs_the_same_each_time(mut heartbeat: impl FnMut()) -> AllocationInfo {
    heartbeat();
    let first = measure(&mut heartbeat);
    for n in 1..HEARTBEATS {
        let cost = measure(&mut heartbeat);
        assert_eq!(cost, first, "heartbeat {n}");
    }
    assert_eq!((first.count_current, first.bytes_current), (0, 0));
    first
}

#[test]
fn a_heartbeat_of_a_worker_allocates_nothing_that_stays() {
    let mut rig = Rig::serving();
    let (mut before, mut sent) = (rig.sent(), 0);
    let cost = costs_the_same_each_time(|| {
        rig.pass(HEARTBEAT_INTERVAL);
        rig.hear(ACK.into());
        sent += rig.sent() - before;
        before = rig.sent();
    });
    println!("a heartbeat of the worker alone: {} allocations, {} bytes", cost.count_total, cost.bytes_total);
    assert_eq!(sent, HEARTBEATS as u64 + 1);
    assert!(cost.count_total <= 4, "{cost:?}");
}

/// Nor is anything written twice: were the capabilities made into text each time, there would be more allocations.
#[test]
fn a_heartbeat_of_a_driven_worker_allocates_nothing_that_stays() {
    let mut quiet = Quiet::serving();
    let before = quiet.sent();
    let cost = costs_the_same_each_time(|| {
        quiet.pass(HEARTBEAT_INTERVAL);
        quiet.hear(ACK.into());
    });
    println!("a heartbeat of a driven worker: {} allocations, {} bytes", cost.count_total, cost.bytes_total);
    assert_eq!(quiet.sent() - before, HEARTBEATS + 1);
    assert!(cost.count_total <= 12, "{cost:?}");
}

/// What a driven worker keeps after 50 jobs with these settings; it is printed by part.
fn at_rest(settings: &Settings) -> i64 {
    // The engine and the world may be those of many workers.
    let (world, engine, kinds) = (World::new(), Prompt::new(settings), settings.services.len());
    let mut quiet = None;
    let own = measure(|| quiet = Some(Quiet::of(settings.clone(), world, engine)));
    let mut quiet = quiet.unwrap();
    let jobs: Vec<_> =
        (0..RECENT_JOBS_CAP).map(|n| (offers::job(n), offers::ack("completeAck", n))).collect();
    let worked = measure(|| jobs.iter().for_each(|(offer, ack)| quiet.job(offer, ack)));
    let seen = quiet.handle.observers().recent_jobs();
    assert_eq!(seen.len(), RECENT_JOBS_CAP);
    assert_eq!(seen[0].prompt, offers::prompt(RECENT_JOBS_CAP - 1));

    // As much again changes nothing: what is kept is bounded.
    let again = measure(|| jobs.iter().for_each(|(offer, ack)| quiet.job(offer, ack)));
    assert_eq!(again.bytes_current, 0, "{again:?}");

    let (all, future, handle) =
        (own.bytes_current + worked.bytes_current, quiet.future_bytes, quiet.handle.clone());
    let dropped = measure(|| drop(quiet));
    let seen = measure(|| drop::<WorkerHandle>(handle));
    println!(
        "a driven worker at rest that serves {kinds} of the kinds, after {RECENT_JOBS_CAP} jobs: {all} bytes"
    );
    println!("  {future:>5}  the future of the loop, with the worker in it");
    println!("  {:>5}  what they point to", -dropped.bytes_current - i64::try_from(future).unwrap());
    println!("  {:>5}  what is seen through the handle, recent jobs above all", -seen.bytes_current);
    println!("  {:>5}  of all that came with the jobs", worked.bytes_current);
    assert!(future <= 4 * 1024, "{future}");
    all
}

#[test]
fn a_driven_worker_at_rest_keeps_little_of_fifty_jobs() {
    let all_kinds = settings();
    let mut one_kind = settings();
    one_kind.services.retain(|service| service.kind == TaskKind::Llm);
    one_kind.services.shrink_to_fit();
    assert!(at_rest(&one_kind) <= AT_REST);
    // Each kind that is served has its own in the settings and the capabilities.
    assert!(at_rest(&all_kinds) <= AT_REST + 5 * 128);
}

#[test]
fn a_flood_leaves_no_room_behind() {
    let mut quiet = Quiet::serving();
    let flood = measure(|| {
        for n in 0..5_000 {
            quiet.handle.log(LogLine {
                level: LogLevel::Warn,
                category: "test".into(),
                message: format!("line {n} of many, that the worker takes and the studio is told"),
                job_id: None,
            });
            if n % 500 == 0 {
                quiet.pass(Duration::from_millis(1));
                quiet.hear(ACK.into());
            }
        }
        for _ in 0..60 {
            quiet.pass(Duration::from_secs(1));
            quiet.hear(ACK.into());
        }
    });
    assert!(flood.bytes_max > 100_000, "{flood:?}");
    assert!(flood.bytes_current <= 128, "{flood:?}");
}
