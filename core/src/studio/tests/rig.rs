//! A studio in virtual time, with a server that stores what it is told and checks the order.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::super::{
    Action, Answer, CallId, ConnId, Input, JobRecord, JobState, NewJob, Options, Record, Step, Studio, Upload,
};
use crate::{
    time::{Mono, Now, Wall},
    wire::{
        JobId, Secret, StudioFrame, Task, TaskForm,
        registration::{Decision, secret_hash},
    },
};

pub(super) struct Rig {
    pub(super) studio: Studio,
    pub(super) now: Now,
    ids: u64,
    /// The server's storage, as JSON.
    pub(super) stored: BTreeMap<(String, String), String>,
    pub(super) actions: Vec<Action>,
}

/// A worker that was let in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) token: Secret,
}

pub(super) fn start() -> Now {
    Now { mono: Mono::ZERO, wall: Wall::from_millis(1_764_054_000_000) }
}

/// What a 0.2 worker says of itself.
pub(super) fn old() -> Value {
    json!({
        "machineName": "old", "agentVersion": "0.2.0", "engine": "synthetic", "vramThresholdGb": 12,
        "autoEnabled": true, "supportedModels": ["flux", "synthetic"], "taskKinds": ["image", "llm"],
    })
}

/// What a 0.4 worker says of itself.
pub(super) fn new() -> Value {
    json!({
        "machineName": "new", "agentVersion": "0.4.35", "engine": "multi", "vramThresholdGb": 12,
        "autoEnabled": true, "supportedModels": ["flux"], "taskKinds": ["image", "llm"],
        "modelEngines": ["sd-cpp", "synthetic"],
    })
}

pub(super) fn image(model: &str) -> NewJob {
    NewJob::new(model, Task::image("a lighthouse".into(), "webp".into()))
}

pub(super) fn llm(model: &str) -> NewJob {
    let task = json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }], "maxTokens": 7 });
    NewJob::new(model, Task::from_json(&task).unwrap())
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        Self::of(Studio::new(options, [1; 32], start()), start())
    }

    pub(super) fn of(studio: Studio, now: Now) -> Self {
        let mut rig = Self { studio, now, ids: 0, stored: BTreeMap::new(), actions: Vec::new() };
        rig.drain();
        rig
    }

    /// The studio after a crash, from what was stored.
    pub(super) fn restarted(self) -> Self {
        let snapshot = self.stored.values().map(|text| serde_json::from_str(text).unwrap()).collect();
        let studio = Studio::restore(Options::default(), [2; 32], self.now, snapshot);
        let mut rig = Self { studio, stored: self.stored, ids: self.ids, now: self.now, actions: Vec::new() };
        rig.drain();
        rig
    }

    pub(super) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn input(&mut self, input: Input) {
        self.studio.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.studio.next() {
                Step::Do(action) => {
                    if let Action::Save(record) = &action {
                        let (kind, id) = record.key();
                        let text = serde_json::to_string(record).unwrap();
                        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), *record, "reads back");
                        self.stored.insert((kind.into(), id.into()), text);
                    }
                    self.actions.push(action);
                }
                Step::Wait { until, .. } => {
                    assert!(until > self.now.mono);
                    break;
                }
            }
        }
        assert_eq!(self.studio.counters().impossible, 0);
    }

    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Lets time pass as a server would: with a tick at each deadline.
    pub(super) fn sleep(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let Step::Wait { until, .. } = self.studio.next() else { panic!("not drained") };
            let at = until.min(end);
            let passed = at.since(self.now.mono);
            self.now.mono = at;
            self.now.wall =
                Wall::from_millis(self.now.wall.as_millis() + i64::try_from(passed.as_millis()).unwrap());
            self.input(Input::Tick);
            if at == end {
                break;
            }
        }
    }

    /// A request and its answer.
    pub(super) fn call(&mut self, input: impl FnOnce(CallId) -> Input) -> Answer {
        let call = CallId(self.id());
        let before = self.actions.len();
        self.input(input(call));
        let mut answers = self.actions[before..].iter().filter_map(|action| match action {
            Action::Answer { call: of, answer } if *of == call => Some(answer.clone()),
            _ => None,
        });
        let answer = answers.next().expect("an answer");
        assert_eq!(answers.next(), None, "one answer");
        answer
    }

    pub(super) fn register(&mut self, install_id: &str, secret: &str) -> Answer {
        let body = json!({
            "installId": install_id, "registrationSecretHash": secret_hash(&Secret::new(secret)),
            "label": "box", "capabilities": old(), "userAgent": "studio-worker/1",
        });
        let peer = format!("peer-{}", self.id());
        self.call(|call| Input::Register { call, peer, body: body.to_string().into_bytes() })
    }

    pub(super) fn poll(&mut self, request_id: &str, secret: &str) -> Answer {
        let (request_id, bearer) = (request_id.to_owned(), Some(Secret::new(secret)));
        self.call(|call| Input::Poll { call, request_id, bearer })
    }

    pub(super) fn approve(&mut self, request_id: &str) -> Answer {
        let request_id = request_id.to_owned();
        self.call(|call| Input::Approve { call, request_id })
    }

    /// A worker that asked, was approved and has its token.
    pub(super) fn member(&mut self, install_id: &str) -> Member {
        let request_id = self.register(install_id, "s").body()["requestId"].as_str().unwrap().to_owned();
        assert_eq!(self.approve(&request_id).status(), 200);
        let Answer::Decision(Decision::Approved { worker_id, auth_token }) = self.poll(&request_id, "s")
        else {
            panic!("approved")
        };
        Member { id: worker_id, token: auth_token }
    }

    pub(super) fn upgrade(&mut self, member: &Member) -> (ConnId, Answer) {
        let conn = ConnId(self.id());
        let (worker_id, bearer) = (member.id.clone(), Some(member.token.clone()));
        (conn, self.call(|call| Input::Upgrade { call, conn, worker_id, bearer }))
    }

    pub(super) fn say(&mut self, conn: ConnId, frame: &Value) {
        self.input(Input::Text { conn, text: frame.to_string() });
    }

    pub(super) fn hello(&mut self, conn: ConnId, member: &Member, capabilities: &Value) {
        let frame =
            json!({ "type": "hello", "authToken": member.token.reveal(), "capabilities": capabilities });
        self.say(conn, &frame);
    }

    /// A session that is welcomed.
    pub(super) fn connect(&mut self, member: &Member, capabilities: &Value) -> ConnId {
        let (conn, answer) = self.upgrade(member);
        assert_eq!(answer, Answer::Proceed);
        self.hello(conn, member, capabilities);
        conn
    }

    /// A new worker with a session.
    pub(super) fn worker(&mut self, install_id: &str, capabilities: &Value) -> (Member, ConnId) {
        let member = self.member(install_id);
        let conn = self.connect(&member, capabilities);
        (member, conn)
    }

    pub(super) fn about(&mut self, conn: ConnId, kind: &str, job: &JobId) {
        let frame = match kind {
            "accept" => json!({ "type": kind, "jobId": job }),
            "completeJson" => json!({ "type": kind, "jobId": job, "result": { "x": 1 }, "prompt": "hi" }),
            "fail" => json!({ "type": kind, "jobId": job, "error": "boom", "retryable": true }),
            "ruin" => json!({ "type": "fail", "jobId": job, "error": "boom", "retryable": false }),
            "reject" => json!({ "type": kind, "jobId": job, "reason": "no" }),
            code => json!({ "type": "reject", "jobId": job, "reason": "no", "code": code }),
        };
        self.say(conn, &frame);
    }

    pub(super) fn heartbeat(&mut self, conn: ConnId, capabilities: &Value) {
        self.say(conn, &json!({ "type": "heartbeat", "capabilities": capabilities }));
    }

    pub(super) fn queue(&mut self, job: NewJob) -> JobId {
        match self.call(|call| Input::QueueJob { call, job: Box::new(job) }) {
            Answer::Job(job) => job.id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn upload_begins(&mut self, member: &Member, job: &JobId) -> (CallId, Answer) {
        let (worker_id, bearer, job_id) = (member.id.clone(), Some(member.token.clone()), job.clone());
        let mut call = CallId(0);
        let answer = self.call(|of| {
            call = of;
            Input::UploadBegins { call: of, worker_id, job_id, bearer }
        });
        (call, answer)
    }

    pub(super) fn upload_ends(&mut self, call: CallId, file: &str) -> Answer {
        let before = self.actions.len();
        let upload = Upload { file: file.into(), bytes: 3, ext: "webp".into(), prompt: "p".into() };
        self.input(Input::UploadEnds { call, upload });
        let answer = self.actions[before..].iter().find_map(|action| match action {
            Action::Answer { call: of, answer } if *of == call => Some(answer.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// A job as it was last stored.
    pub(super) fn job(&self, id: &JobId) -> JobRecord {
        match serde_json::from_str(&self.stored[&("job".to_owned(), id.to_string())]).unwrap() {
            Record::Job(job) => (*job).clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self, id: &JobId) -> (JobState, u32) {
        let job = self.job(id);
        (job.state, job.attempts)
    }

    /// What was sent on a session since the last look, as the wire has it; a close is its code.
    pub(super) fn sent(&mut self, conn: ConnId) -> Vec<Value> {
        let (here, other) = self.take().into_iter().partition(|action| match action {
            Action::Send { conn: of, .. } | Action::Close { conn: of, .. } => *of == conn,
            _ => false,
        });
        self.actions = other;
        here.into_iter()
            .map(|action| match action {
                Action::Send { frame, form, .. } => serde_json::from_str(&frame.to_text(form)).unwrap(),
                Action::Close { code, .. } => json!(code.0),
                _ => unreachable!(),
            })
            .collect()
    }

    /// The same, shortened: types of frames, `offer <id>`, codes of errors and closes.
    pub(super) fn heard(&mut self, conn: ConnId) -> Vec<String> {
        let short = |frame: Value| match frame["type"].as_str() {
            Some("offer") => format!("offer {}", frame["claim"]["jobId"].as_str().unwrap()),
            Some("error") => frame["code"].as_str().unwrap().to_owned(),
            Some(kind) => kind.to_owned(),
            None => frame.to_string(),
        };
        self.sent(conn).into_iter().map(short).collect()
    }

    /// Where in the actions since the last look a job was stored in that state, and a frame was sent.
    pub(super) fn positions(&self, state: JobState, wanted: impl Fn(&StudioFrame) -> bool) -> (usize, usize) {
        let saved = self
            .actions
            .iter()
            .position(|action| matches!(action, Action::Save(Record::Job(job)) if job.state == state));
        let sent = self
            .actions
            .iter()
            .position(|action| matches!(action, Action::Send { frame, .. } if wanted(frame)));
        (saved.expect("saved"), sent.expect("sent"))
    }

    pub(super) fn forms(&self) -> Vec<TaskForm> {
        let offers = self.actions.iter().filter_map(|action| match action {
            Action::Send { frame: StudioFrame::Offer(_), form, .. } => Some(*form),
            _ => None,
        });
        offers.collect()
    }
}
