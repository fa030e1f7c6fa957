//! The worker's machine against the studio's, in memory: over a perfect link, and over one that isn't.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    sim::link::{Link, Weather},
    studio::{Input, JobState, NewJob, Options},
    wire::Task,
    worker::{Command, Exit, states::SessionState},
};

fn open() -> Options {
    Options { auto_approve: true, ..Options::default() }
}

/// A job of each kind.
fn jobs() -> Vec<NewJob> {
    [
        json!({ "kind": "image", "prompt": "a lighthouse" }),
        json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }),
        json!({ "kind": "audio_stt", "inputUrl": "https://h/x.wav" }),
        json!({ "kind": "audio_tts", "text": "hello" }),
        json!({ "kind": "video", "prompt": "waves" }),
        json!({ "kind": "mesh", "imageUrl": "https://h/x.png" }),
    ]
    .iter()
    .map(|task| NewJob::new("synthetic", Task::from_json(task).unwrap()))
    .collect()
}

#[test]
fn a_worker_registers_waits_for_its_operator_and_delivers_a_job_of_every_kind() {
    let mut link = Link::new(Options::default(), Weather::Fair);
    link.run_until("the request", |link| link.studio.registrations().next().is_some());
    let request_id = link.studio.registrations().next().unwrap().request_id.clone();
    link.ask(|call| Input::Approve { call, request_id });
    link.run_until("the session", |link| link.worker.state() == SessionState::Serving);
    let ids: Vec<_> = jobs().into_iter().map(|job| link.queue(job)).collect();
    link.run_until("the last result", |link| link.over.len() == 6);
    assert!(link.over.values().all(|job| job.state == JobState::Completed && job.attempts == 0));
    assert_eq!(link.runs, ids, "each once, in order");
    link.command(Command::Drain);
    link.run_until("the end", |link| link.exit.is_some());
    assert_eq!(link.exit, Some(Exit::Drained));
    link.check();
}

/// Whatever is on its way when its owner wants a worker to go, and in whatever order it arrives.
#[test]
fn a_worker_that_goes_costs_its_job_no_attempt_and_one_that_is_stopped_one() {
    let mut ends = BTreeSet::new();
    for (command, exit) in
        [(Command::Drain, Exit::Drained), (Command::MakeWay, Exit::MadeWay), (Command::Stop, Exit::Stopped)]
    {
        for order in 0..512_usize {
            let mut link = Link::new(open(), Weather::Fair);
            link.run_until("the session", |link| link.worker.state() == SessionState::Serving);
            let job = link.queue(jobs().remove(1));
            // So many things arrive before the command; each bit says which of two is first.
            let mut choices = (0..6).map(|bit| order >> bit & 1).cycle();
            (0..order >> 6).for_each(|_| link.arrive_nth(choices.next().unwrap()));
            link.command(command.clone());
            while link.exit.is_none() {
                link.arrive_nth(choices.next().unwrap());
            }
            link.check();
            assert_eq!(link.exit, Some(exit.clone()));
            let waits = link.studio.jobs().find(|known| known.id == job);
            let attempts = waits.map_or_else(|| link.over[&job].attempts, |job| job.attempts);
            assert!(attempts <= u32::from(exit == Exit::Stopped), "order {order:b}, {exit}: {attempts}");
            ends.insert((exit.to_string(), attempts, link.runs.len()));
        }
    }
    assert!(ends.len() >= 6, "each with the job done, and without: {ends:?}");
}

#[test]
fn a_revoked_worker_comes_back_under_a_new_registration() {
    let mut link = Link::new(open(), Weather::Fair);
    link.run_until("the session", |link| link.worker.state() == SessionState::Serving);
    let worker_id = link.studio.workers().next().unwrap().id.clone();
    link.ask(|call| Input::Revoke { call, worker_id: worker_id.clone() });
    link.run_until("another session", |link| {
        link.studio
            .workers()
            .any(|worker| worker.id != worker_id && link.studio.session(&worker.id).is_some())
    });
    let job = link.queue(jobs().remove(0));
    link.run_until("its result", |link| link.over.contains_key(&job));
    assert_eq!(link.over[&job].state, JobState::Completed);
    link.check();
}

#[test]
fn a_rejected_worker_ends() {
    let mut link = Link::new(Options::default(), Weather::Fair);
    link.run_until("the request", |link| link.studio.registrations().next().is_some());
    let request_id = link.studio.registrations().next().unwrap().request_id.clone();
    link.ask(|call| Input::Reject { call, request_id, reason: Some("no".into()) });
    link.run_until("the end", |link| link.exit.is_some());
    assert_eq!(link.exit, Some(Exit::Rejected { reason: Some("no".into()) }));
}

#[test]
fn in_foul_weather_no_frame_is_a_violation_and_every_job_ends() {
    let mut lost_claims = 0;
    for seed in 0..400 {
        let faults = u32::try_from(seed % 12).unwrap();
        let mut link = Link::new(open(), Weather::foul(seed, faults));
        for job in jobs() {
            link.queue(job);
        }
        link.run_until(&format!("seed {seed}: the last job's end"), |link| link.over.len() == 6);
        link.check();
        for job in link.over.values() {
            let runs = link.runs.iter().filter(|run| **run == job.id).count();
            assert!(runs <= 3, "seed {seed}: a job runs once an attempt at most");
            if faults == 0 {
                assert_eq!((job.state, runs), (JobState::Completed, 1), "seed {seed}");
            }
            lost_claims += job.attempts;
        }
    }
    assert!(lost_claims > 100, "the weather was not foul: {lost_claims}");
}

#[test]
fn what_was_computed_is_delivered_without_computing_it_again() {
    // One fault can lose a claim but never a result.
    let mut lost_claims = 0;
    for seed in 0..400 {
        let mut link = Link::new(open(), Weather::foul(seed, 1));
        for job in jobs() {
            link.queue(job);
        }
        link.run_until(&format!("seed {seed}: the last result"), |link| link.over.len() == 6);
        assert!(link.over.values().all(|job| job.state == JobState::Completed), "seed {seed}");
        lost_claims += link.over.values().map(|job| job.attempts).sum::<u32>();
        let distinct: BTreeSet<_> = link.runs.iter().collect();
        assert_eq!(distinct.len(), link.runs.len(), "seed {seed}: {:?}", link.runs);
        link.check();
    }
    assert!(lost_claims > 10, "no claim was at stake: {lost_claims}");
}
