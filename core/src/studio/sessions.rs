//! Sessions: upgrade, hello, frames, violations and ends (sections 3 and 6).

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use super::{
    Action, Answer, CallId, ConnId, JobEvent, JobOutput, Refusal, Studio, VIOLATIONS_CAP, Violation, cut,
};
use crate::{
    time::{Mono, Wall},
    wire::{
        Capabilities, CloseCode, FrameError, JobId, LogEntry, LogLevel, RejectCode, Secret, StudioErrorCode,
        StudioFrame, TaskForm, WorkerFrame,
    },
};

/// Entries of a log batch that are kept (section 3); the rest is dropped.
pub const MAX_LOG_ENTRIES: usize = 200;
/// Results per session whose accept may still come. Uploads have connections of their own: where frames are slow, quick jobs
/// can be over one after another before the first accept arrives, for as long as a heartbeat may take.
const MAX_EARLY: usize = 256;

/// A connection, from its upgrade to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) worker_id: String,
    /// Whether `hello` came and was answered.
    pub(super) welcomed: bool,
    /// The order of the welcomes.
    pub(super) place: u64,
    /// When the worker counts as gone.
    deadline: Mono,
    pub(super) capabilities: Arc<Capabilities>,
    /// The job that the worker holds, from its offer to its end.
    pub(super) job: Option<JobId>,
    /// Whether it said that it does it.
    accepted: bool,
    /// Jobs whose result came before their accept, which is on its way.
    early: VecDeque<JobId>,
    /// The worker said `busy` or `paused`.
    pub(super) resting_until: Option<Mono>,
    /// Jobs that the worker rejected for now.
    pub(super) declined: BTreeMap<JobId, Mono>,
    connected_at: Wall,
    heard_at: Wall,
}

/// What can be seen of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView<'a> {
    /// Its id.
    pub conn: ConnId,
    /// When it was welcomed.
    pub connected_at: Wall,
    /// When the last heartbeat (or `hello`) came.
    pub heard_at: Wall,
    /// What the worker last said of itself.
    pub capabilities: &'a Capabilities,
    /// The job that the worker holds.
    pub job_id: Option<&'a JobId>,
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The socket closed.
    Closed,
    /// No `hello` in time.
    NoHello,
    /// No heartbeat in time.
    Silent,
    /// The token in `hello` is not the newest one.
    AuthFailed,
    /// A frame was out of place.
    Violation(String),
    /// Another connection took over the worker's id.
    Duplicate,
    /// An operator revoked the worker.
    Revoked,
    /// The studio goes away.
    ShutDown,
}

impl SessionEnd {
    /// The error frame, the close code and the words for it; nothing is sent on a socket that is closed.
    fn farewell(&self) -> Option<(Option<StudioErrorCode>, CloseCode, &str)> {
        use StudioErrorCode as E;
        Some(match self {
            Self::Closed => return None,
            Self::NoHello => (None, CloseCode::POLICY, "no hello in time"),
            Self::Silent => (None, CloseCode::POLICY, "no heartbeat in time"),
            Self::AuthFailed => {
                (Some(E::AuthFailed), CloseCode::AUTH_FAILED, "this is not the worker's newest token")
            }
            Self::Violation(what) => (Some(E::ProtocolViolation), CloseCode::PROTOCOL_VIOLATION, what),
            Self::Duplicate => (
                Some(E::DuplicateWorker),
                CloseCode::DUPLICATE_WORKER,
                "another connection uses this worker id",
            ),
            Self::Revoked => (Some(E::WorkerDeleted), CloseCode::WORKER_DELETED, "the worker was deleted"),
            Self::ShutDown => (None, CloseCode::GOING_AWAY, "the studio is going away"),
        })
    }

    fn words(&self) -> &str {
        self.farewell().map_or("the connection closed", |(_, _, words)| words)
    }
}

impl Session {
    /// The worker is asked for a job.
    pub(super) fn hold(&mut self, job_id: JobId) {
        self.job = Some(job_id);
        self.accepted = false;
    }

    pub(super) fn view(&self, conn: ConnId) -> SessionView<'_> {
        SessionView {
            conn,
            connected_at: self.connected_at,
            heard_at: self.heard_at,
            capabilities: &self.capabilities,
            job_id: self.job.as_ref(),
        }
    }

    /// What is due next on this session.
    pub(super) fn next_deadline(&self) -> (Mono, &'static str) {
        let gone = (self.deadline, if self.welcomed { "heartbeat" } else { "hello" });
        self.next_rest().map_or(gone, |rest| gone.min((rest, "rest after a reject")))
    }

    /// When a job may be offered again that could not be before.
    pub(super) fn next_rest(&self) -> Option<Mono> {
        self.resting_until.iter().chain(self.declined.values()).min().copied()
    }

    /// Puts times on a clock that starts now and forgets those for people, to compare states by.
    pub(super) fn forget_times(&mut self, now: Mono) {
        let Self { deadline, resting_until, declined, connected_at, heard_at, .. } = self;
        for at in resting_until.iter_mut().chain(declined.values_mut()).chain([deadline]) {
            *at = Mono::ZERO + at.since(now);
        }
        (*connected_at, *heard_at) = (Wall::default(), Wall::default());
    }

    /// Forgets rejects whose time is over; whether there was one.
    fn wake(&mut self, now: Mono) -> bool {
        let before = (self.resting_until, self.declined.len());
        self.resting_until = self.resting_until.filter(|until| *until > now);
        self.declined.retain(|_, until| *until > now);
        before != (self.resting_until, self.declined.len())
    }
}

impl Studio {
    pub(super) fn expire_sessions(&mut self) {
        let now = self.now.mono;
        let mut gone = Vec::new();
        for (conn, session) in &mut self.sessions {
            if session.deadline <= now {
                gone.push((*conn, if session.welcomed { SessionEnd::Silent } else { SessionEnd::NoHello }));
            } else if session.wake(now) {
                self.may_offer = true;
            }
        }
        for (conn, end) in gone {
            self.end_session(conn, &end);
        }
    }

    pub(super) fn on_upgrade(
        &mut self,
        call: CallId,
        conn: ConnId,
        worker_id: &str,
        bearer: Option<&Secret>,
    ) {
        if self.shut_down {
            return self.refuse(call, Refusal::new(503, "the studio is going away"));
        }
        if let Err(denied) = self.authorise(worker_id, bearer) {
            return self.refuse(call, denied.refusal());
        }
        if self.sessions.contains_key(&conn) {
            self.counters.stale_inputs += 1;
            return self.refuse(call, Refusal::new(409, "this connection has a session already"));
        }
        // The session that serves goes when the new one says hello; of those that have not, the newest counts.
        for other in self.sessions_of(worker_id) {
            if self.sessions.get(&other).is_some_and(|session| !session.welcomed) {
                self.end_session(other, &SessionEnd::Duplicate);
            }
        }
        let session = Session {
            worker_id: worker_id.into(),
            welcomed: false,
            place: 0,
            deadline: self.now.mono + self.options.hello_bound,
            capabilities: Arc::default(),
            job: None,
            accepted: false,
            early: VecDeque::new(),
            resting_until: None,
            declined: BTreeMap::new(),
            connected_at: self.now.wall,
            heard_at: self.now.wall,
        };
        self.sessions.insert(conn, session);
        self.answer(call, Answer::Proceed);
    }

    pub(super) fn on_binary(&mut self, conn: ConnId) {
        if self.sessions.contains_key(&conn) {
            self.counters.skipped_frames += 1;
        } else {
            self.counters.stale_inputs += 1;
        }
    }

    pub(super) fn on_text(&mut self, conn: ConnId, text: &str) {
        let Some(session) = self.sessions.get(&conn) else {
            self.counters.stale_inputs += 1;
            return;
        };
        let frame = match (WorkerFrame::parse(text), session.welcomed) {
            (Ok(frame), true) => frame,
            (Ok(WorkerFrame::Hello { auth_token, capabilities }), false) => {
                return self.on_hello(conn, &auth_token, capabilities);
            }
            (Ok(frame), false) => return self.violation(conn, &format!("`{}` before `hello`", frame.name())),
            // A newer worker's frame is no reason to part with it.
            (Err(FrameError::UnknownType(_)), true) => {
                self.counters.skipped_frames += 1;
                return;
            }
            (Err(error), _) => return self.violation(conn, &error.to_string()),
        };
        match frame {
            WorkerFrame::Hello { .. } => self.violation(conn, "a second `hello`"),
            WorkerFrame::Heartbeat { capabilities, .. } => self.on_heartbeat(conn, &capabilities),
            WorkerFrame::Accept { job_id } => self.on_accept(conn, &job_id),
            WorkerFrame::Reject { job_id, reason, code } => self.on_reject(conn, &job_id, &reason, code),
            WorkerFrame::CompleteJson { job_id, result, prompt } => {
                let Some(worker_id) = self.take_held(conn, &job_id, "completeJson") else {
                    return;
                };
                self.deliver(&job_id, &worker_id, JobOutput::Json { result, prompt });
                self.send(conn, StudioFrame::CompleteAck { job_id });
            }
            WorkerFrame::Fail { job_id, error, retryable } => {
                if self.take_held(conn, &job_id, "fail").is_some() {
                    self.end_attempt(&job_id, error, retryable);
                    self.send(conn, StudioFrame::FailAck { job_id });
                }
            }
            WorkerFrame::LogBatch { entries } => self.on_log_batch(conn, entries),
            WorkerFrame::ReadyForMore => {}
        }
    }

    fn on_hello(&mut self, conn: ConnId, token: &Secret, capabilities: Arc<Capabilities>) {
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let worker_id = session.worker_id.clone();
        if self.authorise(&worker_id, Some(token)).is_err() {
            return self.end_session(conn, &SessionEnd::AuthFailed);
        }
        if let Some(older) = self.serving.get(&worker_id).copied() {
            self.end_session(older, &SessionEnd::Duplicate);
        }
        self.serving.insert(worker_id.clone(), conn);
        self.note_worker(&worker_id, &capabilities, true);
        self.welcomed += 1;
        let now = self.now;
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.welcomed = true;
            session.place = self.welcomed;
            session.deadline = now.mono + self.options.heartbeat_bound;
            session.capabilities = capabilities;
            (session.connected_at, session.heard_at) = (now.wall, now.wall);
        }
        self.info(format!("worker {worker_id} connected"));
        self.send(conn, StudioFrame::Welcome { worker_id, server_time: now.wall.to_rfc3339() });
        self.may_offer = true;
    }

    fn on_heartbeat(&mut self, conn: ConnId, capabilities: &Arc<Capabilities>) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.deadline = now.mono + self.options.heartbeat_bound;
        session.heard_at = now.wall;
        if session.capabilities != *capabilities {
            session.capabilities = capabilities.clone();
            session.resting_until = None;
            session.declined.clear();
            self.may_offer = true;
            let worker_id = session.worker_id.clone();
            self.note_worker(&worker_id, capabilities, false);
        }
        self.send(conn, StudioFrame::HeartbeatAck);
    }

    fn on_accept(&mut self, conn: ConnId, job_id: &JobId) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.job.as_ref() != Some(job_id) {
            if let Some(at) = session.early.iter().position(|early| early == job_id) {
                // Its result overtook it.
                session.early.remove(at);
                self.counters.skipped_frames += 1;
                return;
            }
            return self.violation(conn, &not_held("accept", job_id));
        }
        if core::mem::replace(&mut session.accepted, true) {
            self.counters.skipped_frames += 1;
            return;
        }
        let (worker_id, wall) = (session.worker_id.clone(), self.now.wall);
        self.move_job(job_id, JobEvent::Accept, |job| {
            job.worker_id = Some(worker_id);
            job.started_at = Some(wall);
        });
    }

    fn on_reject(&mut self, conn: ConnId, job_id: &JobId, reason: &str, code: Option<RejectCode>) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.job.as_ref() != Some(job_id) {
            // The rules don't call this a violation: the job is elsewhere, which is what was wanted.
            self.counters.skipped_frames += 1;
            return;
        }
        if session.accepted {
            return self
                .violation(conn, &format!("`reject` of the job {:?}, which it accepted", job_id.as_str()));
        }
        session.job = None;
        let worker_id = session.worker_id.clone();
        let until = self.now.mono + self.options.rest_after_reject;
        if matches!(code, Some(RejectCode::Busy | RejectCode::Paused)) {
            session.resting_until = Some(until);
        }
        match code {
            Some(RejectCode::Busy | RejectCode::Paused | RejectCode::InsufficientMemory) => {
                session.declined.insert(job_id.clone(), until);
                self.move_job(job_id, JobEvent::Requeue, |_| {});
            }
            Some(RejectCode::Other) | None => {
                let error = format!("rejected by {worker_id}: {reason}");
                self.end_attempt_with(job_id, error, true, |job| {
                    job.refused_by.insert(worker_id);
                });
            }
        }
    }

    fn on_log_batch(&mut self, conn: ConnId, mut entries: Vec<LogEntry>) {
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        if entries.len() > MAX_LOG_ENTRIES {
            self.counters.skipped_frames += 1;
            entries.truncate(MAX_LOG_ENTRIES);
        }
        if !entries.is_empty() {
            self.queue.push_back(Action::StoreLogs { worker_id: session.worker_id.clone(), entries });
        }
    }

    pub(super) fn on_closed(&mut self, conn: ConnId) {
        if self.sessions.contains_key(&conn) {
            self.end_session(conn, &SessionEnd::Closed);
        } else {
            self.counters.stale_inputs += 1;
        }
    }

    pub(super) fn on_shut_down(&mut self) {
        self.shut_down = true;
        let all: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in all {
            self.end_session(conn, &SessionEnd::ShutDown);
        }
    }

    /// The sessions of a worker: the one that serves, and one that has not said hello.
    pub(super) fn sessions_of(&self, worker_id: &str) -> Vec<ConnId> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.worker_id == worker_id)
            .map(|(conn, _)| *conn)
            .collect()
    }

    /// Whether the studio holds the job for this worker.
    pub(super) fn holds(&self, worker_id: &str, job_id: &JobId) -> bool {
        self.session(worker_id).is_some_and(|session| session.job_id == Some(job_id))
    }

    /// The job of a worker's session ends by a result that was uploaded.
    pub(super) fn free_session(&mut self, worker_id: &str) {
        if let Some(conn) = self.serving.get(worker_id).copied() {
            self.free(conn);
        }
    }

    /// The session has no job any more; its accept may still be on its way.
    fn free(&mut self, conn: ConnId) -> Option<String> {
        let session = self.sessions.get_mut(&conn)?;
        let job_id = session.job.take()?;
        if !session.accepted {
            session.early.push_back(job_id);
            if session.early.len() > MAX_EARLY {
                session.early.pop_front();
            }
        }
        Some(session.worker_id.clone())
    }

    /// Takes the job off the session that ends it with `frame`; whose it was. Else that was a violation.
    fn take_held(&mut self, conn: ConnId, job_id: &JobId, frame: &str) -> Option<String> {
        if self.sessions.get(&conn)?.job.as_ref() == Some(job_id) {
            return self.free(conn);
        }
        self.violation(conn, &not_held(frame, job_id));
        None
    }

    fn violation(&mut self, conn: ConnId, what: &str) {
        if let Some(session) = self.sessions.get(&conn) {
            let worker_id = session.worker_id.clone();
            let what = cut(what.replace(char::is_control, " "), 200);
            self.counters.violations += 1;
            self.log(LogLevel::Warn, format!("worker {worker_id} violated the protocol: {what}"));
            self.violations.push_back(Violation { worker_id, what: what.clone() });
            if self.violations.len() > VIOLATIONS_CAP {
                self.violations.pop_front();
            }
            self.end_session(conn, &SessionEnd::Violation(what));
        }
    }

    /// Ends a session and releases its claim.
    pub(super) fn end_session(&mut self, conn: ConnId, end: &SessionEnd) {
        let Some(session) = self.sessions.remove(&conn) else {
            return;
        };
        let Session { worker_id, welcomed, capabilities, job, .. } = session;
        if self.serving.get(&worker_id) == Some(&conn) {
            self.serving.remove(&worker_id);
        }
        if let Some(job_id) = job {
            let error = format!("the session of {worker_id} ended: {}", end.words());
            self.end_attempt(&job_id, error, true);
        }
        if welcomed {
            self.note_worker(&worker_id, &capabilities, true);
            self.info(format!("worker {worker_id} disconnected: {}", end.words()));
        }
        if let Some((error, code, words)) = end.farewell() {
            if let Some(error) = error {
                self.send(conn, StudioFrame::Error { code: error, message: words.into() });
            }
            self.queue.push_back(Action::Close { conn, code, reason: cut(words.into(), 120) });
        }
        self.may_offer = true;
    }

    /// Sends a frame that spells no task.
    fn send(&mut self, conn: ConnId, frame: StudioFrame) {
        self.queue.push_back(Action::Send { conn, frame, form: TaskForm::Camel });
    }
}

fn not_held(frame: &str, job_id: &JobId) -> String {
    format!("`{frame}` for the job {:?}, which this worker does not hold", cut(job_id.as_str().into(), 100))
}
