//! What the loop does for each action. Nothing here waits: what takes time becomes a task.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    future::{BoxFuture, select},
};

use super::{
    LOG_TARGET,
    driver::{Driver, FAREWELL_BOUND, Outcome, Task, Watched},
    link::Remains,
    runs::{Next, panic_text, sleep_past},
    runtime::{Connect, Progress, Runtime},
};
use crate::{
    engine::{EngineError, Output},
    text::plain,
    time::Mono,
    wire::{LogLevel, Secret},
    worker::{Action, ConnId, HttpRequest, Input, LogLine, RequestId, RunId, Upload},
};

impl<R: Runtime> Driver<R> {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, url, bearer } => self.connect(conn, url, bearer),
            Action::SendHeartbeat { conn, capabilities, current_job_id } => {
                if let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) {
                    let text = self.heartbeat.of(&capabilities, current_job_id.as_ref());
                    if let Some(meter) = self.mailbox.meter.get() {
                        meter.sent_frame(text.len());
                    }
                    link.send(text);
                }
            }
            Action::Send { conn, frame } => {
                if let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) {
                    let text = frame.to_text();
                    if let Some(meter) = self.mailbox.meter.get() {
                        meter.sent_frame(text.len());
                    }
                    link.send(text);
                }
            }
            Action::Close { conn, code, reason } => {
                if let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) {
                    link.close(code, reason);
                }
            }
            Action::Drop { conn } => {
                self.link.take_if(|link| link.conn == conn);
                self.drop_task(Task::Connect(conn));
            }
            Action::Request { request, http } => self.exchange(request, http),
            Action::Upload { request, upload } => self.upload(request, upload),
            Action::CancelRequest { request } => {
                self.forget_upload(request);
                self.drop_task(Task::Exchange(request));
            }
            Action::DispatchJob { run, claim } => {
                self.drop_task(Task::Idle);
                let next = self.runs.start(run, &claim);
                self.follow(run, next);
            }
            Action::CancelRun { run } => {
                if let Some(outcome) = self.runs.cancel(run) {
                    self.drop_task(Task::Run(run));
                    self.run_ended(run, outcome);
                }
            }
            Action::Measure { measure, claim } => {
                // Only the newest counts.
                self.tasks.retain(|(task, _)| !matches!(task, Task::Measure(_)));
                let measured = match claim {
                    Some(claim) => {
                        let measured = self.runs.measure(&claim);
                        // A model that is loaded stays until the job comes, or idles anew.
                        self.watch_idler();
                        measured
                    }
                    None => self.runtime.machine().measure().map(|memory| (memory, false)).boxed(),
                };
                self.spawn(
                    Task::Measure(measure),
                    measured
                        .map(move |(memory, resident)| Outcome::Measured(measure, memory, resident))
                        .boxed(),
                );
            }
            Action::Discard(file) => {
                let gone = self.runtime.discard(file);
                self.spawn(Task::Tidy, gone.map(|()| Outcome::Tidied).boxed());
            }
            Action::RecordRecentJob(job) => self.observers.record(&job),
            Action::Observe(observation) => self.observers.observe(observation),
            Action::Store { store, changes } => {
                self.saves.push_back((store, changes));
                self.save_next();
            }
            Action::Log(line) => log_line(&line),
            // The loop has looked for it before it came here.
            Action::Exit(_) => {}
        }
    }

    pub(super) fn spawn(&mut self, task: Task, future: BoxFuture<'static, Outcome<R>>) {
        self.tasks.push((task, future));
    }

    fn drop_task(&mut self, task: Task) {
        self.tasks.retain(|(other, _)| *other != task);
    }

    fn connect(&mut self, conn: ConnId, url: String, bearer: Secret) {
        let connect = Connect { url, bearer, user_agent: Arc::clone(&self.user_agent) };
        let connected = self.runtime.connect(connect);
        self.spawn(
            Task::Connect(conn),
            connected.map(move |outcome| Outcome::Connected(conn, outcome)).boxed(),
        );
    }

    fn exchange(&mut self, request: RequestId, http: HttpRequest) {
        let answered = self.runtime.exchange(http, Arc::clone(&self.user_agent));
        self.spawn(
            Task::Exchange(request),
            answered.map(move |outcome| Outcome::Answered(request, outcome)).boxed(),
        );
    }

    fn upload(&mut self, request: RequestId, upload: Upload) {
        let progress = Progress::new(Arc::clone(&self.mailbox.bell));
        self.uploads.insert(request, Watched { progress: progress.clone(), due: Mono::ZERO, told: 0 });
        let answered = self.runtime.upload(upload, Arc::clone(&self.user_agent), progress);
        self.spawn(
            Task::Exchange(request),
            answered.map(move |outcome| Outcome::Answered(request, outcome)).boxed(),
        );
    }

    /// Does what comes next for a run.
    pub(super) fn follow(&mut self, run: RunId, next: Next) {
        match next {
            Next::Carry(future) => self.spawn(
                Task::Run(run),
                future.map(move |progressed| Outcome::Progressed(run, progressed)).boxed(),
            ),
            Next::Ended(outcome) => self.run_ended(run, outcome),
        }
    }

    /// A run is over: what it leaves behind is cleared away, soon or when nothing comes of it.
    fn run_ended(&mut self, run: RunId, outcome: Result<Output, EngineError>) {
        // What is told too late is of no other run.
        self.runs.take_transfer();
        for file in self.runs.leftovers(&outcome) {
            self.carry_out(Action::Discard(file));
        }
        self.watch_idler();
        self.inputs.push_back(Input::RunEnded { run, outcome });
    }

    /// The server that is kept between jobs, if there is one, idles from now on.
    fn watch_idler(&mut self) {
        self.drop_task(Task::Idle);
        let Some(idle) = self.runs.idle() else { return };
        let runtime = self.runtime.clone();
        let until = runtime.now().mono + idle;
        let idled = async move {
            sleep_past(&runtime, until).await;
            Outcome::Idled
        };
        self.spawn(Task::Idle, idled.boxed());
    }

    /// The server that is kept between jobs was not used for long.
    pub(super) fn stop_idler(&mut self) {
        if let Some(stopped) = self.runs.stop_idler() {
            self.spawn(Task::Tidy, stopped.map(|()| Outcome::Tidied).boxed());
        }
    }

    /// Stores what is next in line: one after the other, so that the newest value stays.
    pub(super) fn save_next(&mut self) {
        if self.tasks.iter().any(|(task, _)| *task == Task::Save) {
            return;
        }
        let Some((id, changes)) = self.saves.pop_front() else { return };
        let store = Arc::clone(&self.store);
        let saved = self.runtime.compute(move || {
            catch_unwind(AssertUnwindSafe(|| store.save(&changes)))
                .unwrap_or_else(|panic| Err(format!("storing panicked: {}", panic_text(&*panic))))
        });
        self.spawn(Task::Save, saved.map(move |outcome| Outcome::Saved(id, outcome)).boxed());
    }

    /// Answers the peer's close, or says why this side ends: for a moment, and without the worker's asking.
    pub(super) fn take_leave(&self, remains: Remains<R::Socket>) -> BoxFuture<'static, Outcome<R>> {
        let bound = self.runtime.now().mono + FAREWELL_BOUND;
        let runtime = self.runtime.clone();
        let Remains { mut socket, farewell } = remains;
        async move {
            let said = async {
                if let Some(frame) = farewell {
                    socket.send(frame).await?;
                }
                socket.flush().await?;
                // The peer ends the connection: an end from here could overtake the answer.
                while socket.next().await.is_some_and(|read| read.is_ok()) {}
                Ok::<_, super::SocketError>(())
            };
            select(Box::pin(said), sleep_past(&runtime, bound).boxed()).await;
            Outcome::Tidied
        }
        .boxed()
    }
}

fn log_line(line: &LogLine) {
    let level = match line.level {
        LogLevel::Error => log::Level::Error,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Info => log::Level::Info,
    };
    let LogLine { category, message, .. } = line;
    match &line.job_id {
        Some(job) => {
            let job = plain(job.to_string());
            log::log!(target: LOG_TARGET, level, "{category}: job {job}: {message}");
        }
        None => log::log!(target: LOG_TARGET, level, "{category}: {message}"),
    }
}
