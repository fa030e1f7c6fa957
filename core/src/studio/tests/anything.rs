//! Whatever comes, in whatever order: the studio keeps its own promises.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::rig::{Member, Rig, image, llm, new, old};
use crate::{
    studio::{Action, Answer, CallId, ConnId, Input, Options, Upload},
    wire::{JobId, Secret},
};

/// One thing that happens: what, to whom, how.
type Op = (u8, u8, u8);

struct Game {
    rig: Rig,
    members: Vec<Member>,
    conns: Vec<ConnId>,
    jobs: Vec<JobId>,
    calls: Vec<CallId>,
    asked: BTreeMap<CallId, u32>,
}

fn some<T: Clone>(list: &[T], which: u8) -> Option<T> {
    list.get(usize::from(which) % list.len().max(1)).cloned()
}

impl Game {
    fn new() -> Self {
        let options = Options { max_jobs: 6, max_pending: 2, ..Options::default() };
        let mut rig = Rig::with(options);
        let members = vec![rig.member("a"), rig.member("b"), rig.member("c")];
        rig.take();
        let jobs = vec![JobId::from("none")];
        let conns = vec![ConnId(1_000_000)];
        Self { rig, members, conns, jobs, calls: vec![CallId(1_000_000)], asked: BTreeMap::new() }
    }

    fn play(&mut self, (what, whom, how): Op) {
        let member = some(&self.members, whom).unwrap();
        let conn = some(&self.conns, whom).unwrap();
        let job = some(&self.jobs, how).unwrap();
        match what % 20 {
            0 | 1 => {
                let (conn, answer) = self.rig.upgrade(&member);
                if answer == Answer::Proceed {
                    self.conns.push(conn);
                    self.rig.hello(conn, &member, &if how % 2 == 0 { old() } else { new() });
                }
            }
            2 => {
                let (conn, _) = self.rig.upgrade(&member);
                self.conns.push(conn);
            }
            3 => self.rig.hello(conn, &member, &old()),
            4 => self.rig.heartbeat(conn, &if how % 2 == 0 { old() } else { new() }),
            5 => {
                let new = if how % 2 == 0 { image("synthetic") } else { llm("flux") };
                let answer = self.rig.call(|call| Input::QueueJob { call, job: Box::new(new) });
                if let Answer::Job(job) = answer {
                    self.jobs.push(job.id);
                }
            }
            6 | 7 => self.rig.about(conn, "accept", &job),
            8 => self.rig.about(conn, "completeJson", &job),
            9 => self.rig.about(conn, if how % 2 == 0 { "fail" } else { "ruin" }, &job),
            10 => {
                let code = ["busy", "paused", "insufficient_memory", "reject"][usize::from(how % 4)];
                self.rig.about(conn, code, &job);
            }
            11 => self.rig.input(Input::Closed { conn }),
            12 => {
                let (call, answer) = self.rig.upload_begins(&member, &job);
                if answer == Answer::Proceed {
                    self.calls.push(call);
                }
            }
            13 => {
                let call = some(&self.calls, how).unwrap();
                let upload = Upload { file: "f".into(), bytes: 1, ext: "x".into(), prompt: String::new() };
                self.rig.input(Input::UploadEnds { call, upload });
            }
            14 => {
                let call = some(&self.calls, how).unwrap();
                self.rig.input(Input::UploadBreaks { call });
            }
            15 => self.rig.sleep(core::time::Duration::from_millis(u64::from(how) * 200)),
            16 => {
                self.rig.call(|call| Input::CancelJob { call, job_id: job });
            }
            17 => {
                self.rig.register(["a", "b", "x", "y", "z"][usize::from(how % 5)], "s");
                let ids: Vec<_> =
                    self.rig.studio.registrations().map(|record| record.request_id.clone()).collect();
                if let Some(id) = some(&ids, whom) {
                    if how % 3 == 0 {
                        self.rig.approve(&id);
                    }
                    self.rig.poll(&id, if how % 7 == 0 { "x" } else { "s" });
                }
            }
            18 => {
                let texts =
                    ["", "{", "null", "[1]", r#"{"type":7}"#, r#"{"type":"heartbeat"}"#, r#"{"type":"x"}"#];
                let text = texts[usize::from(how) % texts.len()].to_owned();
                self.rig.input(Input::Text { conn, text });
            }
            _ if how % 8 == 0 => {
                let worker_id = member.id;
                self.rig.call(|call| Input::Revoke { call, worker_id });
            }
            _ => {
                let (worker_id, bearer) = (member.id, Some(Secret::new("wrong")));
                self.rig.call(|call| Input::Upgrade { call, conn: ConnId(call.0), worker_id, bearer });
            }
        }
        self.check();
    }

    fn check(&mut self) {
        for action in self.rig.take() {
            if let Action::Answer { call, answer } = action {
                let answers = self.asked.entry(call).or_default();
                *answers += u32::from(answer != Answer::Proceed);
                // An upload that nobody began is refused each time.
                assert!(*answers <= 1 || call == CallId(1_000_000) || self.calls.contains(&call));
            }
        }
        let studio = &self.rig.studio;
        let mut held: Vec<_> = studio
            .workers()
            .filter_map(|worker| studio.session(&worker.id))
            .filter_map(|session| session.job_id.cloned())
            .collect();
        held.sort();
        let by_state: Vec<_> =
            studio.jobs().filter(|job| job.state.is_held()).map(|job| job.id.clone()).collect();
        assert_eq!(held, by_state, "each held job has one session, and each session at most one job");
        assert!(studio.jobs().all(|job| job.attempts < 3 && !job.state.is_over()));
        assert!(studio.jobs().count() <= 6);
        for job in studio.jobs() {
            assert_eq!(self.rig.job(&job.id), *job, "what is known is what was stored");
        }
        for worker in studio.workers() {
            let stored = &self.rig.stored[&("worker".to_owned(), worker.id.clone())];
            assert_eq!(serde_json::from_str::<serde_json::Value>(stored).unwrap()["id"], json!(worker.id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_jobs_and_sessions_stay_in_step(ops in prop::collection::vec(any::<Op>(), 1..150)) {
        let mut game = Game::new();
        for op in ops {
            game.play(op);
        }
        // And a restart changes nothing but the claims.
        let open: Vec<_> = game.rig.studio.jobs().map(|job| job.place).collect();
        let (workers, mut rig) = (game.rig.studio.workers().count(), game.rig.restarted());
        prop_assert!(rig.studio.jobs().all(|job| open.contains(&job.place) && !job.state.is_held()));
        prop_assert_eq!(rig.studio.workers().count(), workers);
        rig.take();
    }

    #[test]
    fn no_body_and_no_frame_makes_it_stumble(body in any::<Vec<u8>>(), text in ".{0,40}") {
        let mut rig = Rig::new();
        let (member, conn) = rig.worker("i", &old());
        rig.call(|call| Input::Register { call, peer: text.clone(), body });
        rig.input(Input::Text { conn, text: text.clone() });
        rig.call(|call| Input::Poll { call, request_id: text.clone(), bearer: Some(Secret::new(text.clone())) });
        rig.upload_begins(&Member { id: text.clone(), ..member }, &JobId::from(text));
    }
}
