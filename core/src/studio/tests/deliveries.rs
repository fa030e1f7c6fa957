//! Sections 5 and 6: deliveries by upload.

use serde_json::json;

use super::rig::{Member, Rig, image, llm, old};
use crate::{
    studio::{Action, Answer, CallId, Input, JobOutput, JobState, Record},
    wire::{JobId, Secret},
};

#[test]
fn an_upload_completes_its_job_and_the_next_offer_follows() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let (job, next) = (rig.queue(image("flux")), rig.queue(image("flux")));
    rig.about(conn, "accept", &job);
    let (call, answer) = rig.upload_begins(&member, &job);
    assert_eq!(answer, Answer::Proceed);
    rig.take();
    assert_eq!(rig.upload_ends(call, "f").status(), 200);
    let stored = rig.actions.iter().position(
        |action| matches!(action, Action::Save(Record::Job(job)) if job.state == JobState::Completed),
    );
    let told = rig.actions.iter().position(|action| matches!(action, Action::Answer { .. }));
    assert!(stored.unwrap() < told.unwrap());
    assert_eq!(rig.heard(conn), [format!("offer {next}")]);
    let output = JobOutput::File { file: "f".into(), ext: "webp".into(), bytes: 3, prompt: "p".into() };
    assert_eq!(rig.job(&job).output, Some(output));
    assert_eq!(rig.job(&job).public()["file"], json!({ "ext": "webp", "bytes": 3 }));
}

#[test]
fn an_upload_needs_the_workers_token_and_its_claim() {
    let mut rig = Rig::new();
    let (member, _) = rig.worker("i", &old());
    let (other, _) = rig.worker("other", &old());
    let job = rig.queue(image("flux"));
    let wrong = Member { token: Secret::new("x"), ..member.clone() };
    assert_eq!(rig.upload_begins(&wrong, &job).1.status(), 401);
    let nobody = Member { id: "w-none".into(), ..member.clone() };
    assert_eq!(rig.upload_begins(&nobody, &job).1.status(), 404);
    let refused = rig.upload_begins(&other, &job).1;
    assert_eq!(refused.status(), 409);
    assert!(refused.body()["error"].is_string());
    assert_eq!(rig.upload_begins(&member, &JobId::from("none")).1.status(), 409);
    assert_eq!(rig.upload_begins(&member, &job).1, Answer::Proceed);
}

#[test]
fn an_upload_that_lost_its_claim_ends_in_409_and_its_file_goes() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.about(conn, "accept", &job);
    let (call, _) = rig.upload_begins(&member, &job);
    rig.input(Input::Closed { conn });
    rig.take();
    assert_eq!(rig.upload_ends(call, "f").status(), 409);
    assert!(rig.actions.contains(&Action::Discard { file: "f".into() }));
    assert_eq!(rig.state(&job), (JobState::Queued, 1));
}

#[test]
fn an_upload_that_outlives_its_session_delivers_under_the_new_claim() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    rig.about(conn, "accept", &job);
    let (call, _) = rig.upload_begins(&member, &job);
    rig.input(Input::Closed { conn });
    rig.connect(&member, &old());
    assert_eq!(rig.upload_ends(call, "f").status(), 200);
    assert_eq!(rig.state(&job), (JobState::Completed, 1));
}

#[test]
fn the_accept_that_an_upload_overtook_is_no_violation() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let (job, next) = (rig.queue(image("flux")), rig.queue(image("flux")));
    let (call, _) = rig.upload_begins(&member, &job);
    assert_eq!(rig.upload_ends(call, "f").status(), 200);
    rig.take();
    rig.about(conn, "accept", &job);
    assert!(rig.heard(conn).is_empty());
    assert_eq!(rig.state(&next), (JobState::Offered, 0));
}

#[test]
fn of_two_uploads_of_one_job_the_second_is_told_409() {
    let mut rig = Rig::new();
    let (member, _) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    let (first, _) = rig.upload_begins(&member, &job);
    let (second, _) = rig.upload_begins(&member, &job);
    assert_eq!(rig.upload_ends(second, "b").status(), 200);
    assert_eq!(rig.upload_ends(first, "a").status(), 409);
    assert!(matches!(rig.job(&job).output, Some(JobOutput::File { file, .. }) if file == "b"));
}

#[test]
fn the_upload_of_a_cancelled_job_is_taken_and_dropped() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let (job, next) = (rig.queue(image("flux")), rig.queue(image("flux")));
    rig.about(conn, "accept", &job);
    let job_id = job.clone();
    rig.call(|call| Input::CancelJob { call, job_id });
    let (call, _) = rig.upload_begins(&member, &job);
    rig.take();
    assert_eq!(rig.upload_ends(call, "f").status(), 200);
    assert!(rig.actions.contains(&Action::Discard { file: "f".into() }));
    assert_eq!(rig.state(&job), (JobState::Cancelled, 0));
    assert_eq!(rig.heard(conn), [format!("offer {next}")]);
}

#[test]
fn many_accepts_may_be_overtaken_while_frames_are_slow() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let jobs: Vec<_> = (0..30).map(|_| rig.queue(image("flux"))).collect();
    for job in &jobs {
        let (call, _) = rig.upload_begins(&member, job);
        assert_eq!(rig.upload_ends(call, "f").status(), 200);
    }
    for job in &jobs {
        rig.about(conn, "accept", job);
    }
    assert_eq!(rig.studio.counters().violations, 0);
    assert!(rig.studio.session(&member.id).is_some());
}

#[test]
fn a_result_in_the_other_form_is_a_result() {
    let mut rig = Rig::new();
    let (member, conn) = rig.worker("i", &old());
    let (picture, chat) = (rig.queue(image("flux")), rig.queue(llm("flux")));
    rig.about(conn, "completeJson", &picture);
    let (call, _) = rig.upload_begins(&member, &chat);
    assert_eq!(rig.upload_ends(call, "f").status(), 200);
    assert_eq!((rig.state(&picture).0, rig.state(&chat).0), (JobState::Completed, JobState::Completed));
}

#[test]
fn uploads_of_one_worker_are_bounded_and_broken_ones_are_forgotten() {
    let mut rig = Rig::new();
    let (member, _) = rig.worker("i", &old());
    let job = rig.queue(image("flux"));
    let calls: Vec<CallId> = (0..8).map(|_| rig.upload_begins(&member, &job).0).collect();
    assert_eq!(rig.upload_begins(&member, &job).1.status(), 429);
    rig.input(Input::UploadBreaks { call: calls[0] });
    assert_eq!(rig.upload_begins(&member, &job).1, Answer::Proceed);
    rig.take();
    assert_eq!(rig.upload_ends(calls[0], "late").status(), 409);
    assert!(rig.actions.contains(&Action::Discard { file: "late".into() }));
}
