//! Fuzz body: the studio alone, with workers, people and servers that do anything in any order.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use super::told::Told;
use crate::{
    studio::{
        Action, Answer, CallId, ConnId, Input, JobRecord, NewJob, Options, Record, Standing, Step, Studio,
        Upload,
    },
    time::{Mono, Now, Wall},
    wire::{
        JobId, Secret, StudioFrame,
        registration::{Decision, secret_hash},
    },
};

/// Steps of one run; a longer input is cut.
const MAX_STEPS: usize = 800;
/// Actions that a studio may decide on one input; more is a loop.
const MAX_ACTIONS: usize = 4_096;
/// What every registration of a run is asked with.
const SECRET: &str = "the-secret-of-every-registration";

/// Plays `data` against a studio as operations: one byte says what happens, the ones behind it to whom and how.
///
/// Each request is answered once, also by a studio that refuses it. What a studio knows is what it stored, and reads back; a
/// restart changes nothing but the claims. Nothing is sent before a session is open or after it was closed; a session
/// holds one job at most, and each job that is held has one session. Attempts only grow, and to their bound; what is over
/// stays so. Queues keep their bounds. Neither a token nor a secret is stored or logged.
///
/// # Panics
/// When a promise is broken: that is the finding.
pub fn studio(data: &[u8]) {
    let mut told = Told::new(data);
    let mut game = Game::new();
    for _ in 0..MAX_STEPS {
        if !told.goes_on() {
            break;
        }
        game.play(&mut told);
        game.check();
    }
    game.restart();
    game.check();
}

/// A worker that was let in.
#[derive(Clone)]
struct Member {
    id: String,
    token: Secret,
}

struct Game {
    studio: Studio,
    now: Now,
    ids: u64,
    members: Vec<Member>,
    conns: Vec<ConnId>,
    jobs: Vec<JobId>,
    /// Uploads that were let through.
    uploads: Vec<CallId>,
    /// Sessions that may be spoken to.
    open: BTreeSet<ConnId>,
    /// Requests that wait for their answer.
    asked: BTreeSet<CallId>,
    /// The newest answers, by request.
    answers: BTreeMap<CallId, Answer>,
    /// What a server has in its storage, as it reads back.
    stored: BTreeMap<(&'static str, String), Record>,
    over: BTreeSet<JobId>,
}

fn options() -> Options {
    Options { max_jobs: 6, max_pending: 2, registrations_per_minute: 4, ..Options::default() }
}

/// What workers of both generations say of themselves.
fn capabilities(how: u8) -> Value {
    let mut capabilities = json!({
        "machineName": "box", "agentVersion": "0.2.0", "engine": "synthetic", "vramThresholdGb": how % 16,
        "autoEnabled": how % 8 != 7, "supportedModels": ["flux", "synthetic"], "taskKinds": ["image", "llm"],
    });
    if how % 2 == 1 {
        capabilities["modelEngines"] = json!(["sd-cpp", "synthetic"]);
    }
    capabilities
}

impl Game {
    fn new() -> Self {
        let now = Now { mono: Mono::ZERO, wall: Wall::from_millis(1_764_054_000_000) };
        let nobody = Member { id: "nobody".into(), token: Secret::new("no-token") };
        let mut game = Self {
            studio: Studio::new(options(), [1; 32], now),
            now,
            ids: 0,
            members: vec![nobody],
            conns: vec![ConnId(1_000_000)],
            jobs: vec![JobId::from("none")],
            uploads: vec![CallId(1_000_000)],
            open: BTreeSet::new(),
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
            stored: BTreeMap::new(),
            over: BTreeSet::new(),
        };
        for install_id in ["a", "b"] {
            let request_id = game.register(install_id, "p");
            game.call(|call| Input::Approve { call, request_id: request_id.clone() });
            game.poll(&request_id, SECRET);
        }
        game
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A request and its answer.
    fn call(&mut self, input: impl FnOnce(CallId) -> Input) -> Answer {
        let call = CallId(self.id());
        self.asked.insert(call);
        self.input(input(call));
        let answer = self.answers.remove(&call);
        assert!(answer.is_some(), "a request without an answer");
        answer.unwrap_or(Answer::Proceed)
    }

    fn input(&mut self, input: Input) {
        if let Input::Closed { conn } = &input {
            self.open.remove(conn);
        }
        self.studio.handle(self.now, input);
        for _ in 0..MAX_ACTIONS {
            match self.studio.next() {
                Step::Do(action) => self.carry_out(action),
                Step::Wait { until, .. } => {
                    return assert!(until > self.now.mono, "a wait must be for later");
                }
            }
        }
        panic!("the studio never waits");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Save(record) => self.save(&record),
            Action::Answer { call, answer } => {
                assert!(self.asked.remove(&call), "an answer that nobody waits for: {answer:?}");
                self.answers.insert(call, answer);
            }
            Action::Send { conn, frame, .. } => {
                assert!(self.open.contains(&conn), "a frame on a session that is not open: {frame:?}");
                if let StudioFrame::Offer(offer) = frame {
                    assert!(!self.over.contains(offer.job_id()), "an offer of a job that is over");
                }
            }
            Action::Close { conn, .. } => {
                assert!(self.open.remove(&conn), "a close of a session that is not open");
            }
            Action::Log(line) => self.forbid(&line.message),
            Action::StoreLogs { .. } | Action::Discard { .. } => {}
        }
    }

    fn save(&mut self, record: &Record) {
        let text = serde_json::to_string(record).unwrap_or_default();
        let Ok(read) = serde_json::from_str::<Record>(&text) else { panic!("can't be read back: {text}") };
        assert_eq!(read, *record, "reads back as something else");
        self.forbid(&text);
        let (kind, id) = record.key();
        if let Record::Job(job) = record {
            assert!(!self.over.contains(&job.id), "a job that is over changes");
            let before = self.stored_job(&job.id);
            assert!(before.is_none_or(|before| before.attempts <= job.attempts), "attempts only grow");
            assert!(job.attempts <= options().max_attempts);
            if job.state.is_over() {
                self.over.insert(job.id.clone());
            }
        }
        self.stored.insert((kind, id.into()), read);
    }

    fn stored_job(&self, id: &JobId) -> Option<&JobRecord> {
        match self.stored.get(&("job", id.to_string()))? {
            Record::Job(job) => Some(job),
            _ => None,
        }
    }

    fn forbid(&self, text: &str) {
        let secrets = self.members.iter().map(|member| member.token.reveal()).chain([SECRET]);
        for secret in secrets.filter(|secret| *secret != "no-token") {
            assert!(!text.contains(secret), "a secret in {text}");
        }
    }

    /// A request to be registered; its id, or nothing when it was refused.
    fn register(&mut self, install_id: &str, peer: &str) -> String {
        let body = json!({
            "installId": install_id, "registrationSecretHash": secret_hash(&Secret::new(SECRET)),
            "label": "box", "capabilities": capabilities(1), "userAgent": "studio-worker/1",
        });
        let body = body.to_string().into_bytes();
        match self.call(|call| Input::Register { call, peer: peer.into(), body }) {
            Answer::Registered(answer) => answer.request_id,
            _ => String::new(),
        }
    }

    fn poll(&mut self, request_id: &str, secret: &str) {
        let (request_id, bearer) = (request_id.to_string(), Some(Secret::new(secret)));
        let answer = self.call(|call| Input::Poll { call, request_id, bearer });
        if let Answer::Decision(Decision::Approved { worker_id: id, auth_token: token }) = answer {
            assert_eq!(secret, SECRET, "a token for somebody else");
            self.members.push(Member { id, token });
        }
    }

    fn upgrade(&mut self, member: &Member, token: Secret) -> Option<ConnId> {
        let conn = ConnId(self.id());
        let worker_id = member.id.clone();
        // A studio that lets it through may speak at once.
        self.open.insert(conn);
        let answer = self.call(|call| Input::Upgrade { call, conn, worker_id, bearer: Some(token) });
        if answer == Answer::Proceed {
            self.conns.push(conn);
            return Some(conn);
        }
        self.open.remove(&conn);
        None
    }

    fn say(&mut self, conn: ConnId, frame: &Value) {
        self.input(Input::Text { conn, text: frame.to_string() });
    }

    fn play(&mut self, told: &mut Told<'_>) {
        let (what, whom, how) = (told.byte(), usize::from(told.byte()), told.byte());
        // The newest are of interest more often.
        let newest = |len: usize| len - 1 - (whom % len).min(whom / 16 % len);
        let member = self.members[newest(self.members.len())].clone();
        let conn = self.conns[newest(self.conns.len())];
        let job = self.jobs[self.jobs.len() - 1 - usize::from(how) % self.jobs.len()].clone();
        match what % 24 {
            0..=2 => {
                if let Some(conn) = self.upgrade(&member, member.token.clone()) {
                    let hello = json!({
                        "type": "hello", "authToken": member.token.reveal(), "capabilities": capabilities(how),
                    });
                    self.say(conn, &hello);
                }
            }
            3 => drop(self.upgrade(&member, member.token.clone())),
            4 => drop(self.upgrade(&member, Secret::new("wrong"))),
            5 | 6 => self.say(conn, &json!({ "type": "heartbeat", "capabilities": capabilities(how) })),
            7 | 8 => self.queue(told, how),
            9..=11 => self.say(conn, &json!({ "type": "accept", "jobId": job })),
            12 => self
                .say(conn, &json!({ "type": "completeJson", "jobId": job, "result": [how], "prompt": "p" })),
            13 => {
                let retryable = how >= 128;
                self.say(
                    conn,
                    &json!({ "type": "fail", "jobId": job, "error": "e", "retryable": retryable }),
                );
            }
            14 => {
                let code = [json!("busy"), json!("paused"), json!("insufficient_memory"), json!(null)];
                self.say(
                    conn,
                    &json!({ "type": "reject", "jobId": job, "reason": "r", "code": code[whom % 4] }),
                );
            }
            15 => self.input(Input::Closed { conn }),
            16 | 17 => self.upload(&member, job, how),
            19 => drop(self.call(|call| Input::CancelJob { call, job_id: job })),
            20 => self.apply(told, whom, how),
            21 => {
                let text = told.text();
                self.input(if how == 255 { Input::Binary { conn } } else { Input::Text { conn, text } });
            }
            22 if how < 16 => drop(self.call(|call| Input::Revoke { call, worker_id: member.id })),
            23 if how < 8 => self.restart(),
            23 if how > 250 => {
                // Whoever is served is told to go; nobody is offered anything any more.
                self.input(Input::ShutDown);
            }
            _ => self.pass(how),
        }
    }

    fn queue(&mut self, told: &mut Told<'_>, how: u8) {
        let body = match how % 4 {
            0 | 1 => json!({ "model": "synthetic", "task": { "kind": "image", "prompt": "p" } }),
            2 => json!({ "model": "flux", "vramGbEstimate": how / 16, "modelSource": { "engine": "sd-cpp" },
                "task": { "kind": "llm", "messages": [{ "role": "user", "content": "c" }] } }),
            _ => {
                json!({ "model": told.text(), "id": told.text(), "task": { "kind": "mesh", "imageUrl": "u" } })
            }
        };
        let Ok(new) = NewJob::parse(body.to_string().as_bytes()) else { return };
        // A server asks only for ids that it never had.
        if new.id.as_ref().is_some_and(|id| self.stored.contains_key(&("job", id.to_string()))) {
            return;
        }
        if let Answer::Job(job) = self.call(|call| Input::QueueJob { call, job: new.into() }) {
            self.jobs.push(job.id);
        }
    }

    fn upload(&mut self, member: &Member, job_id: JobId, how: u8) {
        let newest = self.uploads.len() - 1;
        let call = self.uploads[newest - usize::from(how / 4) % self.uploads.len()];
        match how % 4 {
            0 | 1 => {
                let call = CallId(self.id());
                self.asked.insert(call);
                let (worker_id, bearer) = (member.id.clone(), Some(member.token.clone()));
                self.input(Input::UploadBegins { call, worker_id, job_id, bearer });
                match self.answers.remove(&call) {
                    Some(Answer::Proceed) => self.uploads.push(call),
                    answer => assert!(answer.is_some(), "an upload without an answer"),
                }
            }
            2 => {
                // Whatever became of it meanwhile, its end is answered.
                self.asked.insert(call);
                let file = format!("file-{}", call.0);
                self.input(Input::UploadEnds {
                    call,
                    upload: Upload { file, bytes: 1, ext: "webp".into(), prompt: String::new() },
                });
                assert!(self.answers.remove(&call).is_some(), "an upload's end without an answer");
                self.uploads.retain(|upload| *upload != call || upload.0 == 1_000_000);
            }
            _ => {
                self.input(Input::UploadBreaks { call });
                self.uploads.retain(|upload| *upload != call || upload.0 == 1_000_000);
            }
        }
    }

    /// Somebody wants to be a member, and an operator decides.
    fn apply(&mut self, told: &mut Told<'_>, whom: usize, how: u8) {
        if how == 255 {
            let body = told.text().into_bytes();
            self.call(|call| Input::Register { call, peer: "q".into(), body });
            return;
        }
        self.register(["a", "b", "x", "y", "z"][usize::from(how) % 5], ["p", "q"][whom % 2]);
        let ids: Vec<_> = self.studio.registrations().map(|record| record.request_id.clone()).collect();
        let Some(request_id) = ids.get(whom % ids.len().max(1)).cloned() else { return };
        match how / 5 % 4 {
            0 | 1 => drop(self.call(|call| Input::Approve { call, request_id: request_id.clone() })),
            2 => {
                let id = request_id.clone();
                self.call(|call| Input::Reject { call, request_id: id, reason: Some("no".into()) });
            }
            _ => {}
        }
        self.poll(&request_id, if how > 200 { "wrong" } else { SECRET });
    }

    fn pass(&mut self, how: u8) {
        let span = Duration::from_millis(u64::from(how) * 250);
        self.now.mono = self.now.mono + span;
        self.now.wall = Wall::from_millis(self.now.wall.as_millis() + i64::from(how) * 250);
        self.input(Input::Tick);
    }

    /// The studio's program is killed and starts again with what was stored.
    fn restart(&mut self) {
        let before: BTreeMap<_, _> = self.studio.jobs().map(|job| (job.id.clone(), job.place)).collect();
        let workers: Vec<_> = self.studio.workers().map(|worker| worker.id.clone()).collect();
        let records = self.stored.values().cloned().collect();
        let seed = u8::try_from(self.id() % 251).unwrap_or(0) + 4;
        self.studio = Studio::restore(options(), [seed; 32], self.now, records);
        self.open.clear();
        self.asked.clear();
        self.uploads.truncate(1);
        self.input(Input::Tick);
        for job in self.studio.jobs() {
            assert_eq!(before.get(&job.id), Some(&job.place), "a restart made a job up, or moved it");
            assert!(!job.state.is_held(), "nobody holds a job after a restart");
        }
        assert!(
            self.studio.workers().map(|worker| &worker.id).eq(&workers),
            "a restart changed who is let in"
        );
        assert!(
            before.keys().all(|id| self.over.contains(id) || self.studio.job(id).is_some()),
            "a job is lost"
        );
    }

    /// What must hold between two inputs.
    fn check(&self) {
        let Self { studio, .. } = self;
        assert_eq!(studio.counters().impossible, 0, "an event without a transition");
        assert!(self.asked.is_empty(), "requests without an answer: {:?}", self.asked);
        let mut held: Vec<_> = studio
            .workers()
            .filter_map(|worker| studio.session(&worker.id))
            .filter_map(|session| session.job_id.cloned())
            .collect();
        held.sort();
        let by_state = studio.jobs().filter(|job| job.state.is_held()).map(|job| &job.id);
        assert!(
            by_state.eq(&held),
            "each held job has one session, and each session at most one job: {held:?}"
        );
        let Options { max_attempts, max_jobs, max_pending, .. } = options();
        assert!(studio.jobs().all(|job| job.attempts < max_attempts && !job.state.is_over()));
        assert!(studio.jobs().count() <= max_jobs);
        let pending = studio.registrations().filter(|record| record.standing == Standing::Pending).count();
        assert!(pending <= max_pending, "{pending} registrations wait");
        for job in studio.jobs() {
            assert_eq!(self.stored_job(&job.id), Some(job), "what is known is what was stored");
        }
    }
}
