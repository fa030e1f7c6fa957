//! After a restart: what was stored is what is known.

use super::rig::{Rig, image, llm, old};
use crate::{
    studio::{Answer, Input, JobState, Options, Studio},
    wire::registration::Decision,
};

#[test]
fn a_restart_loses_nothing() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let asked = rig.register("waiting", "s").body()["requestId"].as_str().unwrap().to_owned();
    let (running, queued, done) =
        (rig.queue(image("flux")), rig.queue(image("sdxl")), rig.queue(llm("flux")));
    rig.about(conn, "accept", &running);
    rig.about(conn, "completeJson", &running);
    rig.about(conn, "accept", &done);

    let mut rig = rig.restarted();
    assert_eq!(rig.state(&running), (JobState::Completed, 0));
    assert_eq!(rig.state(&queued), (JobState::Queued, 0));
    assert_eq!(rig.state(&done), (JobState::Queued, 1), "as when the socket closes");
    assert_eq!(rig.studio.jobs().count(), 2);
    // The worker connects with the token it has, and the request that waited can still be decided.
    let conn = rig.connect(&member, &old());
    assert_eq!(rig.heard(conn), ["welcome".to_owned(), format!("offer {done}")]);
    assert_eq!(rig.poll(&asked, "s"), Answer::Decision(Decision::Pending));
    rig.approve(&asked);
    assert!(matches!(rig.poll(&asked, "s"), Answer::Decision(Decision::Approved { .. })));
}

#[test]
fn jobs_keep_their_order_over_a_restart() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..12).map(|_| rig.queue(image("flux"))).collect();
    let mut rig = rig.restarted();
    let late = rig.queue(image("flux"));
    let (_, conn) = rig.worker("i", &old());
    rig.take();
    let mut order = vec![];
    for _ in 0..13 {
        let job = rig.studio.jobs().find(|job| job.state == JobState::Offered).unwrap().id.clone();
        rig.about(conn, "completeJson", &job);
        order.push(job);
    }
    assert_eq!(order, [ids, vec![late]].concat());
}

#[test]
fn the_third_restart_with_a_job_in_hand_fails_it() {
    let mut rig = Rig::new();
    let member = rig.member("i");
    let job = rig.queue(image("flux"));
    for attempt in 1..=3 {
        let conn = rig.connect(&member, &old());
        rig.about(conn, "accept", &job);
        rig = rig.restarted();
        let state = if attempt < 3 { JobState::Queued } else { JobState::Failed };
        assert_eq!(rig.state(&job), (state, attempt));
    }
}

#[test]
fn what_is_over_stays_over() {
    let mut rig = Rig::new();
    let (member, _) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    let job_id = job.clone();
    rig.call(|call| Input::CancelJob { call, job_id });
    let worker_id = member.id.clone();
    rig.call(|call| Input::Revoke { call, worker_id });
    let mut rig = rig.restarted();
    assert_eq!(rig.state(&job).0, JobState::Cancelled);
    assert_eq!(rig.upgrade(&member).1.status(), 404);
    assert_eq!((rig.studio.workers().count(), rig.studio.registrations().count()), (0, 0));
}

#[test]
fn the_same_seed_and_inputs_give_the_same_run() {
    let run = || {
        let mut rig = Rig::new();
        let (_, conn) = rig.worker("i", &old());
        let job = rig.queue(image("flux"));
        rig.about(conn, "accept", &job);
        (rig.studio, rig.actions)
    };
    let (a, b) = (run(), run());
    assert_eq!(a, b);
    assert_ne!(a.0, Studio::new(Options::default(), [1; 32], super::rig::start()));
}
