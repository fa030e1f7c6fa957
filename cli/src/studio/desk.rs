//! The desk: one thread that owns the studio machine and the database. Everything that happens is put on it as a
//! [`Note`]; what the machine decides is carried out in its order, and nothing is told to anybody before what
//! it depends on is stored.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use studio_worker_core::{
    studio::{Action, Answer, CallId, ConnId, Input, LogLine, Record, Refusal, Step, Studio, Upload},
    time::{Mono, Now, Wall},
    wire::{CloseCode, JobId, LogLevel, Secret},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{
    LOG_TARGET,
    problem::Problem,
    store::{Batch, Store},
};

/// How long somebody waits for the desk. It is only ever busy for long when the database can't be written.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts to write what could not be written.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How many notes are taken up at once, to be stored in one transaction.
const NOTES_A_TURN: usize = 64;

/// How many frames may wait for a session's peer. A worker is sent a few at a time: one that lets so many lie
/// doesn't read.
const OUTGOING: usize = 256;

/// Something to be read from the database.
type Look = Box<dyn FnOnce(&Store, &Studio) + Send>;

/// Something for the desk.
enum Note {
    /// Something happened that nobody waits for. A frame's permit is given back when it was handled.
    Happened(Input, Option<OwnedSemaphorePermit>),
    /// Something happened, and somebody waits for the answer.
    Call { call: CallId, input: Input, reply: oneshot::Sender<Answer> },
    /// Somebody wants to connect.
    Upgrade { call: CallId, input: Input, reply: oneshot::Sender<Answer>, conn: ConnId, line: Line },
    /// Somebody wants to look something up, after all that was noted before is stored.
    Look(Look),
}

/// What a session's socket is to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A text frame.
    Text(String),
    /// A close frame, the last thing.
    Close(CloseCode, String),
}

/// The desk's end of a session. When it is dropped, the session ends.
struct Line {
    outgoing: mpsc::Sender<Outgoing>,
    _alive: oneshot::Sender<()>,
    worker_id: String,
}

/// The session's end.
pub(crate) struct Ear {
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    /// Resolves when the studio has done with the session.
    pub(crate) over: oneshot::Receiver<()>,
}

/// A session, or the wish for one. When it is dropped, the studio hears that it ended.
pub(crate) struct SessionCall {
    desk: Desk,
    conn: ConnId,
}

impl SessionCall {
    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }

    /// A frame came; `permit` is given back when it was handled.
    pub(crate) fn received(&self, input: Input, permit: OwnedSemaphorePermit) {
        self.desk.put(Note::Happened(input, Some(permit)));
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        self.desk.put(Note::Happened(Input::Closed { conn: self.conn }, None));
    }
}

/// An upload. When it is dropped before its end, the studio hears that it broke.
pub(crate) struct UploadCall {
    desk: Desk,
    call: CallId,
    under_way: bool,
}

impl UploadCall {
    /// Whether the upload is wanted.
    pub(crate) async fn begin(
        &self,
        worker_id: String,
        job_id: JobId,
        bearer: Option<Secret>,
    ) -> Result<(), Problem> {
        let call = self.call;
        self.desk.ask(call, Input::UploadBegins { call, worker_id, job_id, bearer }).await.map(drop)
    }

    /// The upload is whole and durable.
    pub(crate) async fn end(mut self, upload: Upload) -> Result<Answer, Problem> {
        self.under_way = false;
        self.desk.ask(self.call, Input::UploadEnds { call: self.call, upload }).await
    }
}

impl Drop for UploadCall {
    fn drop(&mut self) {
        if self.under_way {
            self.desk.put(Note::Happened(Input::UploadBreaks { call: self.call }, None));
        }
    }
}

/// What could not be stored in the end.
#[derive(Debug, thiserror::Error)]
#[error("the studio stopped with something that could not be stored: {0}")]
pub struct NotStored(#[from] rusqlite::Error);

/// A handle to put notes on the desk. Cheap to clone; the desk closes when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Desk {
    notes: mpsc::UnboundedSender<Note>,
    ids: Arc<AtomicU64>,
}

impl Desk {
    /// Starts the desk's thread, and gives back how it ended, in the end. `stop` tells it not to wait for a
    /// database that can't be written.
    pub(crate) fn start(
        studio: Studio,
        store: Store,
        results: PathBuf,
        start: Instant,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<(Self, oneshot::Receiver<Result<(), NotStored>>)> {
        // What is on the desk is bounded by those who put it there: each request waits for its answer, and
        // each session has a few frames under way.
        let (notes, incoming) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let clerk =
            Clerk { studio, store, results, start, stop, calls: HashMap::new(), sessions: HashMap::new() };
        let (end, done) = oneshot::channel();
        std::thread::Builder::new().name("studio/desk".to_owned()).spawn(move || {
            // The server may not wait for it any more.
            let _ = end.send(runtime.block_on(clerk.work(incoming)));
        })?;
        Ok((Self { notes, ids: Arc::default() }, done))
    }

    /// An id for a call or a session, never used before.
    fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks the studio something. A refusal is a [`Problem`].
    pub(crate) async fn call(&self, input: impl FnOnce(CallId) -> Input) -> Result<Answer, Problem> {
        let call = CallId(self.id());
        self.ask(call, input(call)).await
    }

    async fn ask(&self, call: CallId, input: Input) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        self.put(Note::Call { call, input, reply });
        wait(answer).await.and_then(granted)
    }

    /// Begins an upload: the id for both of its calls, which takes itself back when it is dropped early.
    pub(crate) fn begin_upload(&self) -> UploadCall {
        UploadCall { desk: self.clone(), call: CallId(self.id()), under_way: true }
    }

    /// Asks for a session.
    pub(crate) async fn upgrade(
        &self,
        worker_id: String,
        bearer: Option<Secret>,
    ) -> Result<(SessionCall, Ear), Problem> {
        let (call, conn) = (CallId(self.id()), ConnId(self.id()));
        let (reply, answer) = oneshot::channel();
        let (outgoing, ear) = mpsc::channel(OUTGOING);
        let (alive, over) = oneshot::channel();
        let line = Line { outgoing, _alive: alive, worker_id: worker_id.clone() };
        let session = SessionCall { desk: self.clone(), conn };
        self.put(Note::Upgrade {
            call,
            input: Input::Upgrade { call, conn, worker_id, bearer },
            reply,
            conn,
            line,
        });
        wait(answer).await.and_then(granted)?;
        Ok((session, Ear { outgoing: ear, over }))
    }

    /// The studio is going away.
    pub(crate) fn shut_down(&self) {
        self.put(Note::Happened(Input::ShutDown, None));
    }

    /// Looks something up.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Store, &Studio) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, found) = oneshot::channel();
        self.put(Note::Look(Box::new(move |store, studio| {
            // Who asked may have gone meanwhile.
            let _ = reply.send(look(store, studio));
        })));
        Ok(wait(found).await??)
    }

    fn put(&self, note: Note) {
        // When the desk is gone the reply goes with the note, and who waits for it hears that.
        let _ = self.notes.send(note);
    }
}

fn granted(answer: Answer) -> Result<Answer, Problem> {
    match answer {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer => Ok(answer),
    }
}

async fn wait<T>(reply: oneshot::Receiver<T>) -> Result<T, Problem> {
    let unavailable = |message: &str| Problem {
        retry_after: Some(5),
        ..Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, message)
    };
    match tokio::time::timeout(PATIENCE, reply).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable("the studio is going away")),
        Err(_) => Err(unavailable("the studio can't store anything at the moment")),
    }
}

/// Who works at the desk.
struct Clerk {
    studio: Studio,
    store: Store,
    results: PathBuf,
    start: Instant,
    stop: watch::Receiver<bool>,
    calls: HashMap<CallId, oneshot::Sender<Answer>>,
    /// The open sessions, until the studio or their socket has done with them.
    sessions: HashMap<ConnId, Line>,
}

impl Clerk {
    async fn work(mut self, mut notes: mpsc::UnboundedReceiver<Note>) -> Result<(), NotStored> {
        let mut until = self.turn(Vec::new()).await?;
        loop {
            let first = if until == Mono::NEVER {
                notes.recv().await
            } else {
                let at =
                    tokio::time::Instant::from_std(self.start + Duration::from_micros(until.as_micros()));
                let Ok(note) = tokio::time::timeout_at(at, notes.recv()).await else {
                    self.studio.handle(now(self.start), Input::Tick);
                    until = self.turn(Vec::new()).await?;
                    continue;
                };
                note
            };
            let Some(first) = first else { return Ok(()) };
            let mut looks = Vec::new();
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(note) = next {
                self.take(note, &mut looks);
                taken += 1;
                next = if taken < NOTES_A_TURN { notes.try_recv().ok() } else { None };
            }
            until = self.turn(looks).await?;
        }
    }

    fn take(&mut self, note: Note, looks: &mut Vec<Look>) {
        let input = match note {
            Note::Look(look) => return looks.push(look),
            Note::Happened(input, _permit) => {
                if let Input::Closed { conn } = &input {
                    self.sessions.remove(conn);
                }
                input
            }
            Note::Call { call, input, reply } => {
                if let Some(refusal) = self.refuse(&input) {
                    let _ = reply.send(Answer::Refused(refusal));
                    return;
                }
                self.calls.insert(call, reply);
                input
            }
            Note::Upgrade { call, input, reply, conn, line } => {
                self.calls.insert(call, reply);
                self.sessions.insert(conn, line);
                input
            }
        };
        self.studio.handle(now(self.start), input);
    }

    /// What the machine leaves to its server: a job's id may be that of a job that is over.
    fn refuse(&self, input: &Input) -> Option<Refusal> {
        let Input::QueueJob { job, .. } = input else { return None };
        let id = job.id.as_ref()?;
        match self.store.job(id.as_str()) {
            Ok(None) => None,
            Ok(Some(_)) => Some(Refusal {
                field: Some("id".to_owned()),
                ..Refusal::new(409, format!("there is a job `{id}` already"))
            }),
            Err(error) => {
                log::error!(target: LOG_TARGET, "the database could not be read: {error}");
                Some(Refusal::new(503, "the database could not be read"))
            }
        }
    }

    /// Carries out what the machine has decided, and gives back when it must be asked again.
    async fn turn(&mut self, looks: Vec<Look>) -> Result<Mono, NotStored> {
        let mut batch = Batch::default();
        let mut rest = Vec::new();
        let until = loop {
            match self.studio.next() {
                Step::Wait { until, .. } => break until,
                Step::Do(Action::Save(record)) => replace(&mut batch.records, record),
                Step::Do(Action::StoreLogs { worker_id, entries }) => batch.logs.push((worker_id, entries)),
                Step::Do(action) => rest.push(action),
            }
        };
        if !batch.is_empty() {
            self.store(&batch).await?;
        }
        for action in rest {
            self.carry_out(action);
        }
        for look in looks {
            look(&self.store, &self.studio);
        }
        Ok(until)
    }

    /// Stores `batch`, however long it takes: whoever waits for it hears nothing meanwhile, and tries again.
    async fn store(&mut self, batch: &Batch) -> Result<(), NotStored> {
        let mut failures = 0_u32;
        loop {
            let error = match self.store.commit(batch) {
                Ok(()) => {
                    if failures > 0 {
                        log::warn!(target: LOG_TARGET, "the database can be written again");
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if *self.stop.borrow() {
                return Err(error.into());
            }
            if failures.is_multiple_of(60) {
                log::error!(
                    target: LOG_TARGET,
                    "the database can't be written ({error}): trying again every second, and confirming nothing"
                );
            }
            failures += 1;
            // A stop is not waited for here but looked at, since the attempt before it must be made anyway.
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Save(_) | Action::StoreLogs { .. } => {} // stored already
            Action::Answer { call, answer } => {
                if let Some(reply) = self.calls.remove(&call) {
                    // Who asked may have gone meanwhile.
                    let _ = reply.send(answer);
                }
            }
            Action::Send { conn, frame, form } => self.send(conn, Outgoing::Text(frame.to_text(form))),
            Action::Close { conn, code, reason } => {
                self.send(conn, Outgoing::Close(code, reason));
                self.sessions.remove(&conn);
            }
            Action::Discard { file } => {
                if let Err(error) = std::fs::remove_file(self.results.join(&file)) {
                    log::warn!(target: LOG_TARGET, "an unwanted result could not be deleted: {error}");
                }
            }
            Action::Log(LogLine { level, message }) => {
                let level = match level {
                    LogLevel::Error => log::Level::Error,
                    LogLevel::Warn => log::Level::Warn,
                    LogLevel::Info => log::Level::Info,
                };
                log::log!(target: LOG_TARGET, level, "{message}");
            }
        }
    }

    fn send(&mut self, conn: ConnId, what: Outgoing) {
        let Some(line) = self.sessions.get(&conn) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = line.outgoing.try_send(what) {
            log::warn!(
                target: LOG_TARGET,
                "worker {} reads nothing: its session is dropped", line.worker_id
            );
            // The session hears that its line is gone, ends, and tells the machine.
            self.sessions.remove(&conn);
        }
    }
}

/// What time it is, on a monotonic clock that began at `start`.
pub(crate) fn now(start: Instant) -> Now {
    let mono = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now {
        mono: Mono::from_micros(mono),
        wall: Wall::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
    }
}

/// Puts `record` among `records`, in place of an older state of the same.
fn replace(records: &mut Vec<Record>, record: Record) {
    match records.iter_mut().find(|older| older.key() == record.key()) {
        Some(older) => *older = record,
        None => records.push(record),
    }
}
