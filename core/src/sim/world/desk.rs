//! The studio's side: its machine, its server's storage, and the people who use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use super::{net::Way, pipe::Frame, scenario::Scenario, state::State};
use crate::{
    studio::{
        Action, Answer, CallId, ConnId, Input, JobRecord, NewJob, Options, Record, Standing, Step, Studio,
    },
    time::{Mono, Now, Wall},
    wire::{CliDefaults, CloseCode, JobId, LogLevel, ModelFile, ModelSource, Task},
};

/// The studio's program and what it has stored.
pub(super) struct Desk {
    /// None while it is down.
    studio: Option<Studio>,
    options: Options,
    /// When the running program was started, in the world's time.
    started: u64,
    until: Mono,
    records: BTreeMap<(&'static str, String), Record>,
    answers: BTreeMap<CallId, Answer>,
    /// Uploads that the running program receives.
    receiving: BTreeSet<CallId>,
    /// What was uploaded.
    pub(super) files: BTreeMap<String, String>,
    /// Registrations that somebody is about to decide on.
    noticed: BTreeSet<String>,
    pub(super) queued: u32,
}

impl Desk {
    pub(super) fn new(scenario: &Scenario, seed: [u8; 32]) -> Self {
        let options = Options { auto_approve: !scenario.operator, ..Options::default() };
        Self {
            studio: Some(Studio::new(options.clone(), seed, Now::default())),
            options,
            started: 0,
            until: Mono::NEVER,
            records: BTreeMap::new(),
            answers: BTreeMap::new(),
            receiving: BTreeSet::new(),
            files: BTreeMap::new(),
            noticed: BTreeSet::new(),
            queued: 0,
        }
    }

    /// When the studio wants to hear of the time, in the world's.
    pub(super) fn next_due(&self) -> Option<u64> {
        (self.studio.is_some() && self.until < Mono::NEVER).then(|| self.started + self.until.as_micros())
    }

    pub(super) fn receives(&self, call: CallId) -> bool {
        self.receiving.contains(&call)
    }

    pub(super) fn is_up(&self) -> bool {
        self.studio.is_some()
    }
}

impl State {
    fn studio_now(&self) -> Now {
        let wall = i64::try_from(self.now / 1_000).unwrap_or(i64::MAX) + 1_764_054_000_000;
        Now { mono: Mono::from_micros(self.now - self.desk.started), wall: Wall::from_millis(wall) }
    }

    /// Asks the studio; `None` when it is down.
    pub(super) fn ask(&mut self, input: impl FnOnce(CallId) -> Input) -> Option<Answer> {
        let call = CallId(self.number());
        let input = input(call);
        self.answer_of(call, input)
    }

    pub(super) fn answer_of(&mut self, call: CallId, input: Input) -> Option<Answer> {
        let begins = matches!(input, Input::UploadBegins { .. });
        self.desk.receiving.remove(&call);
        self.tell(input);
        let answer = self.desk.answers.remove(&call)?;
        if begins && answer == Answer::Proceed {
            self.desk.receiving.insert(call);
        }
        Some(answer)
    }

    pub(super) fn tell(&mut self, input: Input) {
        let now = self.studio_now();
        let Some(studio) = &mut self.desk.studio else { return };
        studio.handle(now, input);
        let mut actions = Vec::new();
        self.desk.until = loop {
            match studio.next() {
                Step::Do(action) => actions.push(action),
                Step::Wait { until, .. } => {
                    assert!(until > now.mono, "the studio must wait for later than now");
                    break until;
                }
            }
        };
        assert_eq!(studio.counters().impossible, 0, "an event without a transition at the studio");
        if let Some(violation) = studio.violations().next() {
            panic!("a worker broke the protocol: {violation:?}");
        }
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Save(record) => self.save(record),
            Action::Answer { call, answer } => {
                self.desk.answers.insert(call, answer);
            }
            Action::Send { conn: ConnId(conn), frame, form } => {
                self.studio_writes(conn, &Frame::Text(frame.to_text(form)));
            }
            Action::Close { conn: ConnId(conn), code, reason } => {
                self.say(format_args!("session {conn}: the studio closes it, {} {reason}", code.0));
                self.studio_closes(conn, code, reason);
            }
            Action::Discard { file } => {
                assert!(self.desk.files.remove(&file).is_some(), "the studio deletes a file twice");
            }
            Action::Log(line) => {
                self.say(format_args!("studio: {}", line.message));
                assert!(line.level != LogLevel::Error, "the studio logs an error: {}", line.message);
            }
            Action::StoreLogs { entries, .. } => self.report.log_lines += entries.len() as u64,
        }
    }

    fn save(&mut self, record: Record) {
        let (kind, id) = record.key();
        let key = (kind, id.to_owned());
        match &record {
            Record::Job(job) if job.state.is_over() => {
                let file = self.ledger.over(job, &self.desk.files, self.desk.options.max_attempts);
                self.report.jobs += 1;
                file.map(|file| self.desk.files.remove(&file));
                // What is over lives in the server's storage only.
                self.desk.records.remove(&key);
                return;
            }
            Record::Registration(registration) if registration.standing == Standing::Pending => {
                self.notice(registration.request_id.clone());
            }
            _ => {}
        }
        self.desk.records.insert(key, record);
    }

    /// An operator sees a registration after a while, and lets the worker in.
    fn notice(&mut self, request_id: String) {
        if !self.scenario.operator || !self.desk.noticed.insert(request_id.clone()) {
            return;
        }
        let after = self.dice.between(Duration::from_millis(500), Duration::from_secs(45));
        self.after(after, move |state| state.approve(request_id));
    }

    fn approve(&mut self, request_id: String) {
        let id = request_id.clone();
        if self.ask(|call| Input::Approve { call, request_id }).is_none() {
            self.after(Duration::from_secs(5), move |state| state.approve(id));
        }
    }

    /// Somebody wants a job done.
    pub(super) fn new_job(&mut self) {
        if !self.is_foul || self.desk.queued >= self.scenario.jobs {
            return;
        }
        if let Some(gap) = self.scenario.job_gap {
            let gap = self.dice.gap(gap);
            self.after(gap, Self::new_job);
        }
        if !self.desk.is_up() {
            return;
        }
        self.desk.queued += 1;
        let prompt = format!("wish {}", self.desk.queued);
        let is_json = self.dice.below(2) == 0;
        let task = if is_json {
            let asked = json!({ "kind": "llm", "messages": [{ "role": "user", "content": prompt }] });
            Task::from_json(&asked).expect("a chat")
        } else {
            Task::image(prompt.clone(), "webp".into())
        };
        let id = JobId::from(format!("job {}/%", self.desk.queued));
        let is_offloaded = self.scenario.measured && self.dice.below(3) == 0;
        let job = NewJob {
            id: Some(id.clone()),
            vram_gb_estimate: 4.into(),
            model_source: is_offloaded.then(offloaded),
            ..NewJob::new("synthetic", task)
        };
        self.ledger.wanted(prompt, id.clone(), is_json);
        if !matches!(self.ask(|call| Input::QueueJob { call, job: Box::new(job) }), Some(Answer::Job(_))) {
            // The queue is full: nothing was promised.
            self.ledger.refused(&id);
        }
    }

    pub(super) fn cancel_a_job(&mut self) {
        let open: Vec<JobId> = self.open_jobs().map(|job| job.id.clone()).collect();
        if open.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(open.len() as u64)).unwrap_or(0);
        let job_id = open[at].clone();
        self.ledger.unwanted(&job_id);
        self.ask(|call| Input::CancelJob { call, job_id });
    }

    /// Whoever wants a job that every worker has refused for good gives up on it. Again and again: the last refusals may
    /// be under way.
    pub(super) fn give_up_refused(&mut self) {
        self.after(Duration::from_secs(600), Self::give_up_refused);
        let studio = self.desk.studio.iter();
        let workers: Vec<_> = studio.flat_map(Studio::workers).filter(|w| w.revoked_at.is_none()).collect();
        let refused = |job: &&JobRecord| workers.iter().all(|worker| job.refused_by.contains(&worker.id));
        let refused = if workers.is_empty() {
            Vec::new()
        } else {
            self.open_jobs().filter(refused).map(|job| job.id.clone()).collect()
        };
        for job_id in refused {
            self.ledger.unwanted(&job_id);
            self.ask(|call| Input::CancelJob { call, job_id });
        }
    }

    pub(super) fn revoke_a_worker(&mut self) {
        let ids: Vec<String> =
            self.desk.studio.iter().flat_map(Studio::workers).map(|w| w.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(ids.len() as u64)).unwrap_or(0);
        let worker_id = ids[at].clone();
        self.ask(|call| Input::Revoke { call, worker_id });
    }

    fn open_jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.desk.records.values().filter_map(|record| match record {
            Record::Job(job) => Some(Arc::as_ref(job)),
            _ => None,
        })
    }

    /// The studio's program ends, by its own will or not, and is started again after a while.
    pub(super) fn stop_studio(&mut self, by_itself: bool, down_for: Duration) {
        if !self.desk.is_up() {
            return;
        }
        if by_itself {
            self.tell(Input::ShutDown);
        }
        self.desk.studio = None;
        self.desk.receiving.clear();
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        for conn in conns {
            if by_itself {
                self.studio_leaves(conn, Duration::from_millis(1));
            } else {
                self.break_conn(conn, true, true);
            }
        }
        self.after(down_for, Self::start_studio);
    }

    fn start_studio(&mut self) {
        self.desk.started = self.now;
        let seed = self.dice.seed();
        let records = self.desk.records.values().cloned().collect();
        let options = self.desk.options.clone();
        self.desk.studio = Some(Studio::restore(options, seed, self.studio_now(), records));
        self.tell(Input::Tick);
    }

    /// What a newer studio might say, and what a server may.
    pub(super) fn oddities(&mut self, conn: u64) {
        for frame in [
            Frame::Text(r#"{"type":"newsOfTomorrow","about":["everything"]}"#.into()),
            Frame::Binary,
            Frame::Text("not json".into()),
            Frame::Ping,
            Frame::Text(r#"{"type":"heartbeatAck","more":1}"#.into()),
        ] {
            self.studio_writes(conn, &frame);
        }
    }

    /// The studio's server closes a session for a reason of its own: the studio learns of it at once.
    pub(super) fn server_closes(&mut self, conn: u64) {
        let code =
            self.dice.pick(&[CloseCode::GOING_AWAY, CloseCode::NORMAL, CloseCode(1011), CloseCode(1012)]);
        self.tell(Input::Closed { conn: ConnId(conn) });
        self.studio_closes(conn, code, "no reason".into());
    }

    /// Whether `way` names what a slow reader is.
    pub(super) fn slow(&mut self, conn: u64, way: Way) {
        let span = self.dice.between(Duration::from_millis(200), Duration::from_secs(40));
        self.stall(conn, way, span);
    }
}

/// A model whose weights are kept in the host's memory.
fn offloaded() -> ModelSource {
    let file = ModelFile { approx_bytes: Some(8 << 30), ..ModelFile::default() };
    let cli_defaults = CliDefaults { offload_to_cpu: Some(true), ..CliDefaults::default() };
    ModelSource { engine: "synthetic".into(), files: vec![file], cli_defaults }
}
