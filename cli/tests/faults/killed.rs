//! A worker that was killed and starts again.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use serde_json::json;
use studio_worker_core::{
    conformance::{Hosted as _, Start, TestStudio},
    worker::Identity,
};

use crate::{Test, program::Program, studio::Studio, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    a_killed_worker_takes_its_job_again_after_its_restart
    a_killed_worker_whose_studio_holds_its_old_session_takes_it_over
    a_killed_worker_asks_on_for_the_approval_that_it_waited_for
};

/// The local studio sees its connection end.
fn a_killed_worker_takes_its_job_again_after_its_restart(on: &'static str) {
    let studio = Studio::start();
    takes_over(on, &studio, studio.address());
}

/// The studio does not see it: what is between them keeps the connection that the worker has lost.
fn a_killed_worker_whose_studio_holds_its_old_session_takes_it_over(on: &'static str) {
    let studio = Studio::start();
    takes_over(on, &studio, relay(studio.address()));
}

fn takes_over(on: &'static str, studio: &Studio, reached_at: SocketAddr) {
    let base = format!("http://{reached_at}");
    let program = Program::start(on, &Start { base: &base, identity: Identity::default(), held: true });
    let job = studio.queue();
    studio.job_is(&job, "running");
    program.logs("the synthetic engine begins the job ");
    let program = program.kill_and_restart();
    program.logs("the synthetic engine begins the job ");
    program.let_go();
    let done = studio.job_is(&job, "completed");
    assert_eq!(done["attempts"], 1, "the claim that was lost counts, once: {done}");
    program.drain();
    let ended = program.ended();
    assert_eq!((ended.code, ended.runs), (0, 1), "{}", ended.said);
    ended.expect_jobs(&[(&job, true)]);
}

/// Listens, and passes on what is said between a worker and the studio. When a worker's side ends, the studio's stays.
fn relay(studio: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for worker in listener.incoming().map_while(Result::ok) {
            let Ok(studio) = TcpStream::connect(studio) else { continue };
            let (Ok(mut from_worker), Ok(mut to_studio)) = (worker.try_clone(), studio.try_clone()) else {
                continue;
            };
            thread::spawn(move || io::copy(&mut from_worker, &mut to_studio));
            thread::spawn(move || {
                let (mut from_studio, mut to_worker) = (studio, worker);
                let _ = io::copy(&mut from_studio, &mut to_worker);
                let _ = to_worker.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// Asks on with what was stored, and not anew.
fn a_killed_worker_asks_on_for_the_approval_that_it_waited_for(on: &'static str) {
    let studio = TestStudio::new();
    let start = Start { base: &studio.base(), identity: Identity::default(), held: false };
    let program = Program::start(on, &start);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let polls = studio.request();
    let bearer = polls.header("authorization").to_owned();
    let program = program.kill_and_restart();
    let polls_again = studio.request();
    assert_eq!((&polls_again.path, polls_again.header("authorization")), (&polls.path, &*bearer));
    let approved = json!({ "status": "approved", "workerId": "w-1", "authToken": "tok-1" });
    polls_again.answer_json(200, &approved);
    let mut session = studio.session();
    program.drain();
    assert_eq!(session.closed().0, 1000);
    assert_eq!(program.ended().code, 0);
}
