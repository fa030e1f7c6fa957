//! Peers and networks that don't do as they should.

use std::time::{Duration, Instant};

use serde_json::json;
use studio_worker_core::conformance::{Hosted, Scene, Session, Start, TestStudio, offer, registered};

use crate::{
    Test,
    program::{Program, resident},
    tests,
};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    sessions_that_end_before_their_welcome_come_ever_rarer_and_cost_no_memory
    of_ten_workers_none_returns_in_step_with_another
    a_studio_that_never_reads_costs_no_memory_and_no_result
};

pub(crate) fn registered_at(on: &'static str, base: &str) -> Program {
    Program::start(on, &Start { base, identity: registered(), held: false })
}

/// A job from offer to acknowledgement.
pub(crate) fn serves(session: &mut Session, job: &str) {
    session.offer(job, "llm", "hello");
    session.expect("accept", job);
    session.expect("completeJson", job);
    session.complete_ack(job);
}

fn sessions_that_end_before_their_welcome_come_ever_rarer_and_cost_no_memory(on: &'static str) {
    let studio = TestStudio::new();
    let program = registered_at(on, &studio.base());
    let mut before = None;
    let mut last: Option<Instant> = None;
    for nth in 0..5 {
        let upgrading = studio.upgrade();
        if let Some(last) = last {
            // Half of the base is the least that the jitter leaves of it.
            let floor = Duration::from_millis(500) * 2_u32.pow(nth - 1);
            assert!(last.elapsed() >= floor, "gap {nth}: {:?}", last.elapsed());
        }
        let mut session = upgrading.accept();
        // Before the worker can know of it.
        last = Some(Instant::now());
        match nth {
            0 => session.drop_connection(),
            1 => {
                session.text();
                session.close(1011, "not yet");
            }
            2 => {
                session.text();
                session.error("internal_error", "not yet");
            }
            3 => session.send_raw(b"no frame at all"),
            // Welcomed, but not for long enough that the count starts anew.
            _ => session.welcome().drop_connection(),
        }
        before.get_or_insert_with(|| resident(&program));
    }
    let mut session = studio.session();
    let grown = resident(&program).saturating_sub(before.unwrap());
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more are resident");
    serves(&mut session, "j-1");
    Scene { studio, worker: Box::new(program) }.drained(&mut session);
}

fn of_ten_workers_none_returns_in_step_with_another(on: &'static str) {
    const WORKERS: usize = 10;
    let studio = TestStudio::new();
    let base = studio.base();
    let workers: Vec<_> = (0..WORKERS).map(|_| registered_at(on, &base)).collect();
    let sessions: Vec<_> = workers.iter().map(|_| studio.session()).collect();
    sessions.into_iter().for_each(Session::drop_connection);
    let mut sessions: Vec<_> = workers.iter().map(|_| studio.session()).collect();
    // Each waits half a second to one and a half: that ten fall into a fifth of that by chance would be news. When they come
    // says less: a machine that is busy may let them come together all the same.
    let waits: Vec<_> = workers.iter().map(tenths).collect();
    let spread = waits.iter().max().unwrap() - waits.iter().min().unwrap();
    assert!(spread >= 2, "{waits:?}");
    for worker in &workers {
        worker.drain();
    }
    for session in &mut sessions {
        assert_eq!(session.closed().0, 1000);
    }
    for worker in workers {
        assert_eq!(worker.ended().code, 0);
    }
}

/// How long it says that it waits before it comes again, in tenths of a second.
fn tenths(worker: &Program) -> u32 {
    let line = worker.logs("no session, trying again in ");
    let (_, wait) = line.split_once("trying again in ").unwrap();
    let (wait, _) = wait.split_once(" s: ").unwrap();
    wait.replace('.', "").parse().unwrap()
}

/// It says much and reads nothing: what would be answered and logged piles up, within bounds. That lines were dropped
/// is told to a studio that reads: a scenario shows it.
fn a_studio_that_never_reads_costs_no_memory_and_no_result(on: &'static str) {
    let scene_studio = TestStudio::new();
    let program = registered_at(on, &scene_studio.base());
    let mut deaf = scene_studio.session();
    let before = resident(&program);
    let mut other = offer("other", "llm", "hello");
    other["claim"]["model"] = json!("somebody-elses-".repeat(20));
    let mut sent = 0;
    let mut most = before;
    while deaf.try_send(&other) {
        sent += 1;
        if sent % 1_000 == 0 {
            most = most.max(resident(&program));
        }
        assert!(sent < 2_000_000, "the worker takes that all for ever");
    }
    program.logs("the studio doesn't read");
    let grown = most - before;
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more were resident after {sent} offers");
    let mut session = scene_studio.session();
    serves(&mut session, "j-1");
    drop(deaf);
    Scene { studio: scene_studio, worker: Box::new(program) }
        .drained(&mut session)
        .expect_jobs(&[("j-1", true)]);
}
