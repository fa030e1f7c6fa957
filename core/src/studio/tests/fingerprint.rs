//! States that are the same at another time, and under other numbers.

use std::time::Duration;

use super::rig::{Member, Rig, image, new, old};
use crate::{
    studio::{ConnId, Input, NewJob, Options},
    wire::JobId,
};

/// A job of that name.
fn job(id: &str) -> NewJob {
    NewJob { id: Some(id.into()), ..image("synthetic") }
}

/// A studio with a worker, after so many jobs and sessions of earlier.
fn after(earlier: u32) -> (Rig, Member, ConnId) {
    let mut rig = Rig::new();
    let (member, mut conn) = rig.worker("a", &old());
    for nth in 0..earlier {
        let id = rig.queue(job(&format!("earlier-{nth}")));
        rig.about(conn, "accept", &id);
        rig.about(conn, "completeJson", &id);
        rig.sleep(Duration::from_secs(7));
        rig.input(Input::Closed { conn });
        conn = rig.connect(&member, &old());
    }
    rig.heartbeat(conn, &old());
    // What peers asked for is counted for a minute.
    for _ in 0..4 {
        rig.sleep(Duration::from_secs(25));
        rig.heartbeat(conn, &old());
    }
    (rig, member, conn)
}

#[test]
fn states_that_behave_alike_have_one_fingerprint() {
    for stage in 0..4 {
        let [a, b] = [0, 5].map(|earlier| {
            let (mut rig, member, conn) = after(earlier);
            let id = rig.queue(job("j"));
            if stage > 0 {
                rig.about(conn, "accept", &id);
            }
            if stage > 1 {
                rig.upload_begins(&member, &id);
            }
            if stage > 2 {
                rig.sleep(Duration::from_secs(1));
                rig.input(Input::Closed { conn });
            }
            rig
        });
        assert_eq!(a.studio.fingerprint(), b.studio.fingerprint(), "\n{:?}\n{:?}", a.studio, b.studio);
    }
}

#[test]
fn states_that_behave_differently_have_different_fingerprints() {
    let changes: [fn(&mut Rig, &Member, ConnId, &JobId); 10] = [
        |_, _, _, _| {},
        |rig, _, conn, id| rig.about(conn, "accept", id),
        |rig, _, conn, id| rig.about(conn, "busy", id),
        |rig, _, conn, id| rig.about(conn, "fail", id),
        |rig, member, _, id| drop(rig.upload_begins(member, id)),
        |rig, _, conn, _| rig.input(Input::Closed { conn }),
        |rig, _, _, _| rig.sleep(Duration::from_millis(1)),
        |rig, _, conn, _| rig.heartbeat(conn, &new()),
        |rig, _, _, _| drop(rig.register("b", "s")),
        |rig, member, _, _| drop(rig.upgrade(member)),
    ];
    let states = changes.map(|change| {
        let (mut rig, member, conn) = after(0);
        let id = rig.queue(job("j"));
        change(&mut rig, &member, conn, &id);
        rig.studio
    });
    for (nth, a) in states.iter().enumerate() {
        for b in &states[..nth] {
            assert_ne!(a.fingerprint(), b.fingerprint(), "{nth}");
        }
    }
    let open = Rig::with(Options { auto_approve: true, ..Options::default() });
    assert_ne!(open.studio.fingerprint(), Rig::new().studio.fingerprint());
}

#[test]
fn a_fingerprint_changes_nothing() {
    let (rig, _, _) = after(1);
    let before = rig.studio.clone();
    rig.studio.fingerprint();
    assert_eq!(rig.studio, before);
}
