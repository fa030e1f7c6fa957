//! The loop.

use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, select},
};

use super::{
    LOG_TARGET, Meter, Store, TIMER_SLACK, WorkerObservers,
    frames::HeartbeatText,
    link::{Link, Reading},
    mailbox::{Mailbox, Wish},
    runs::{Progressed, Runs, guarded, sleep_past},
    runtime::{Progress, Runtime},
};
use crate::{
    engine::{EngineError, Output, Payload},
    machine::Memory,
    time::{Mono, Now},
    wire::LogLevel,
    worker::{
        Action, Change, Command, ConnId, ConnectFailure, Exit, HttpAnswer, HttpFailure, Input, LogLine,
        MeasureId, RequestId, RunId, Step, StoreId, Worker,
    },
};

/// Turns without a rest, after which others on the same thread get theirs.
const MAX_TURNS_A_POLL: usize = 16;
/// Log lines that are taken over at a time.
const MAX_LINES_A_TURN: usize = 64;
/// Between two reports of an upload's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// The longest that a timer is asked for: some clocks don't take more, and waking up is free at that rate.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);
/// How long the answer to a peer's close frame may take.
pub(super) const FAREWELL_BOUND: Duration = Duration::from_millis(500);

/// A worker and everything that is under way for it.
pub(super) struct Driver<R: Runtime> {
    pub(super) runtime: R,
    pub(super) worker: Worker,
    pub(super) user_agent: Arc<str>,
    pub(super) store: Arc<dyn Store>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) observers: WorkerObservers,
    pub(super) runs: Runs<R>,
    pub(super) heartbeat: HeartbeatText,
    pub(super) link: Option<Link<R::Socket>>,
    /// What is under way: a handful at most, so each turn polls them all.
    pub(super) tasks: Vec<(Task, BoxFuture<'static, Outcome<R>>)>,
    pub(super) saves: VecDeque<(StoreId, Vec<Change>)>,
    /// The owner's lines that are still to be taken over.
    lines: VecDeque<LogLine>,
    pub(super) uploads: BTreeMap<RequestId, Watched>,
    /// What happened and was not handed to the worker yet.
    pub(super) inputs: VecDeque<Input>,
    /// What the owner wants and the worker was not told yet.
    wishes: VecDeque<Wish>,
    /// When the worker wants to hear of the time, if nothing else happens.
    deadline: Mono,
    timer: Option<Timer>,
    #[cfg(any(test, feature = "sim"))]
    pub(super) witness: Option<Box<dyn super::Witness>>,
}

/// What a future is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Connect(ConnId),
    Exchange(RequestId),
    Run(RunId),
    Measure(MeasureId),
    Save,
    /// A server is kept for the next job, until this is over.
    Idle,
    /// Nobody waits for it while the worker lives.
    Tidy,
}

/// What became of it.
pub(super) enum Outcome<R: Runtime> {
    Connected(ConnId, Result<R::Socket, ConnectFailure>),
    Answered(RequestId, Result<HttpAnswer, HttpFailure>),
    Progressed(RunId, Progressed),
    Measured(MeasureId, Memory, bool),
    Saved(StoreId, Result<(), String>),
    Idled,
    Tidied,
}

/// An upload whose progress is reported.
pub(super) struct Watched {
    pub(super) progress: Progress,
    /// Not before then.
    pub(super) due: Mono,
    /// Bytes that the meter was told of.
    pub(super) told: u64,
}

impl Watched {
    /// Tells the meter of what moved since it heard last.
    fn metered(&mut self, sent: u64, meter: Option<&Arc<dyn Meter>>) {
        let moved = sent.saturating_sub(std::mem::replace(&mut self.told, sent));
        if let Some(meter) = meter.filter(|_| moved > 0) {
            meter.uploaded(moved);
        }
    }
}

struct Timer {
    at: Mono,
    future: BoxFuture<'static, ()>,
}

/// The end of the loop, however it comes: by its exit, or because it was dropped.
struct Ends<R: Runtime> {
    mailbox: Arc<Mailbox>,
    observers: WorkerObservers,
    runtime: R,
}

impl<R: Runtime> Drop for Ends<R> {
    fn drop(&mut self) {
        self.mailbox.close();
        self.observers.given_up(self.runtime.now().wall);
    }
}

impl<R: Runtime> Driver<R> {
    pub(super) fn new(
        runtime: R,
        worker: Worker,
        user_agent: Arc<str>,
        store: Arc<dyn Store>,
        mailbox: Arc<Mailbox>,
        observers: WorkerObservers,
        runs: Runs<R>,
    ) -> Self {
        Self {
            runtime,
            worker,
            user_agent,
            store,
            mailbox,
            observers,
            runs,
            heartbeat: HeartbeatText::default(),
            link: None,
            tasks: Vec::new(),
            saves: VecDeque::new(),
            lines: VecDeque::new(),
            uploads: BTreeMap::new(),
            inputs: VecDeque::new(),
            wishes: VecDeque::new(),
            deadline: Mono::ZERO,
            timer: None,
            #[cfg(any(test, feature = "sim"))]
            witness: None,
        }
    }

    /// Not an `async fn`: that has room for `self` twice, as it came and as it is used.
    pub(super) fn run(mut self) -> impl Future<Output = Exit> + Send + 'static {
        // Made here, so that one that is dropped before its first poll has ended, too.
        let ends = Ends {
            mailbox: Arc::clone(&self.mailbox),
            observers: self.observers.clone(),
            runtime: self.runtime.clone(),
        };
        async move {
            let _ends = &ends;
            let exit = poll_fn(|cx| self.poll(cx)).await;
            // Files are deleted and the peer's close is answered: a moment's work, and bounded.
            self.link = None;
            self.discard_unseen();
            self.tasks.retain(|(task, _)| *task == Task::Tidy);
            let bound = self.runtime.now().mono + 2 * FAREWELL_BOUND;
            let tidied = poll_fn(|cx| {
                self.tasks.retain_mut(|(_, future)| future.as_mut().poll(cx).is_pending());
                if self.tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            });
            let runtime = self.runtime.clone();
            select(tidied, sleep_past(&runtime, bound).boxed()).await;
            exit
        }
    }

    /// Deletes the files of a result that came as the worker ended.
    fn discard_unseen(&mut self) {
        for input in std::mem::take(&mut self.inputs) {
            if let Input::RunEnded { outcome: Ok(output), .. } = input
                && let Output::Bytes { payload: Payload::File(file), .. } = output
            {
                self.carry_out(Action::Discard(file));
            }
        }
        // And what was made for a run that is not over.
        for file in self.runs.leftovers(&Err(EngineError::transient("the worker ended"))) {
            self.carry_out(Action::Discard(file));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Exit> {
        // Before anything is looked at, so that nothing that comes meanwhile is missed.
        self.mailbox.bell.hand_to(cx.waker());
        for _ in 0..MAX_TURNS_A_POLL {
            if let Some(exit) = self.decide() {
                return Poll::Ready(exit);
            }
            if !self.look(cx) {
                self.let_go();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A driver at rest keeps no room for what may happen next: there may be thousands of them.
    fn let_go(&mut self) {
        self.inputs.shrink_to_fit();
        self.wishes.shrink_to_fit();
        self.lines.shrink_to_fit();
        self.saves.shrink_to_fit();
        self.tasks.shrink_to_fit();
        self.runs.let_go();
        if self.uploads.is_empty() {
            // A tree keeps the leaf that it began with.
            self.uploads = BTreeMap::new();
        }
        self.link.iter_mut().for_each(Link::let_go);
    }

    /// Hands over what happened, one after the other, and carries out what the worker decides.
    fn decide(&mut self) -> Option<Exit> {
        let now = self.runtime.now();
        loop {
            // Before the next thing is known, what the one before led to is carried out.
            loop {
                let step = self.worker.next();
                #[cfg(any(test, feature = "sim"))]
                self.witness.iter_mut().for_each(|witness| witness.saw(&self.worker, now, &step));
                if let (Some(meter), Step::Do(action)) = (self.mailbox.meter.get(), &step) {
                    meter.decided(now, action);
                }
                match step {
                    Step::Do(Action::Exit(exit)) => return Some(exit),
                    Step::Do(action) => self.carry_out(action),
                    Step::Wait { until, .. } => break self.deadline = until,
                }
            }
            // A result that is there is not lost to a stop that came behind it.
            if let Some(input) = self.inputs.pop_front() {
                #[cfg(any(test, feature = "sim"))]
                self.witness.iter_mut().for_each(|witness| witness.told(&input));
                if let Some(meter) = self.mailbox.meter.get() {
                    meter.told(now, &input);
                }
                self.worker.handle(now, input);
            } else if let Some(wish) = self.wishes.pop_front() {
                self.grant(now, wish);
            } else if self.deadline <= now.mono {
                // Last, and also when things happen all the time.
                self.inputs.push_back(Input::Tick);
            } else {
                if let Some(meter) = self.mailbox.meter.get() {
                    meter.rests(now, self.deadline, &self.worker);
                }
                return None;
            }
        }
    }

    fn grant(&mut self, now: Now, wish: Wish) {
        let command = match wish {
            Wish::Pause => Command::Pause,
            Wish::Resume => Command::Resume,
            Wish::Threshold(gb) => Command::SetThreshold(gb),
            Wish::Drain => Command::Drain,
            Wish::Stop => Command::Stop,
            Wish::MakeWay => Command::MakeWay,
            Wish::Presence(presence) => Command::Presence(presence),
            Wish::Reconfigure(mut settings, engine) => {
                let completed = guarded(|| {
                    super::complete(&mut settings, engine.as_deref().unwrap_or_else(|| self.runs.engine()));
                });
                if let Err(error) = completed {
                    log::error!(target: LOG_TARGET, "changed settings are not taken over: {error}");
                    return;
                }
                if let Some(engine) = engine {
                    self.runs.set_engine(engine);
                }
                Command::Reconfigure(settings)
            }
        };
        if let Err(error) = self.worker.command(now, command) {
            log::warn!(target: LOG_TARGET, "{error}");
        }
    }

    /// Looks at everything once, writing first; whether something happened. Nothing is waited for on the way:
    /// whatever is not ready wakes the loop later.
    fn look(&mut self, cx: &mut Context<'_>) -> bool {
        let mut happened = self.look_at_link(cx);
        happened |= self.look_at_tasks(cx);
        happened |= self.look_at_mailbox();
        self.look_at_transfers();
        let progress_due = self.look_at_uploads();
        happened |= !self.inputs.is_empty();
        // A turn in which something happened is followed by another one, which looks at the clock.
        happened || self.look_at_clock(progress_due, cx)
    }

    fn look_at_link(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(link) = &mut self.link else { return false };
        self.inputs.extend(link.poll_write(cx));
        match link.poll_read(cx, &mut self.inputs) {
            Reading::Waits => false,
            Reading::HasMore => true,
            Reading::Over(end) => {
                let remains = self.link.take().and_then(|link| link.into_remains(&end));
                if let Some(remains) = remains {
                    let bye = self.take_leave(remains);
                    self.spawn(Task::Tidy, bye);
                }
                true
            }
        }
    }

    fn look_at_tasks(&mut self, cx: &mut Context<'_>) -> bool {
        let mut outcomes = Vec::new();
        self.tasks.retain_mut(|(_, future)| match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => {
                outcomes.push(outcome);
                false
            }
            Poll::Pending => true,
        });
        let happened = !outcomes.is_empty();
        for outcome in outcomes {
            self.take_outcome(outcome);
        }
        happened
    }

    fn take_outcome(&mut self, outcome: Outcome<R>) {
        match outcome {
            Outcome::Connected(conn, Ok(socket)) => {
                self.link = Some(Link::new(conn, socket));
                self.inputs.push_back(Input::Connected { conn });
            }
            Outcome::Connected(conn, Err(failure)) => {
                self.inputs.push_back(Input::ConnectFailed { conn, failure });
            }
            Outcome::Answered(request, outcome) => {
                self.forget_upload(request);
                self.inputs.push_back(Input::Answered { request, outcome });
            }
            Outcome::Progressed(run, progressed) => {
                if progressed.ends_download() {
                    self.report_transfer(run);
                    self.inputs.push_back(Input::RunProgress { run, transfer: None });
                }
                if let Some(next) = self.runs.go_on(run, progressed) {
                    self.follow(run, next);
                }
            }
            Outcome::Measured(measure, memory, resident) => {
                self.inputs.push_back(Input::Measured { measure, memory, resident });
            }
            Outcome::Saved(store, outcome) => {
                self.inputs.push_back(Input::Stored { store, outcome });
                self.save_next();
            }
            Outcome::Idled => self.stop_idler(),
            Outcome::Tidied => {}
        }
    }

    fn look_at_mailbox(&mut self) -> bool {
        let mail = self.mailbox.take();
        let mut happened = !mail.wishes.is_empty();
        self.wishes.extend(mail.wishes);
        self.lines.extend(mail.lines);
        if mail.dropped > 0 {
            if let Some(meter) = self.mailbox.meter.get() {
                meter.dropped_lines(mail.dropped);
            }
            self.lines.push_back(LogLine {
                level: LogLevel::Warn,
                category: "log".into(),
                message: format!("{} log lines came faster than they could be taken", mail.dropped),
                job_id: None,
            });
        }
        for line in self.lines.drain(..self.lines.len().min(MAX_LINES_A_TURN)) {
            self.inputs.push_back(Input::Log(line));
            happened = true;
        }
        happened
    }

    /// Reports how far the download is that a run waits for. It is told as often as is wanted.
    fn look_at_transfers(&mut self) {
        let run = self.tasks.iter().find_map(|(task, _)| match task {
            Task::Run(run) => Some(*run),
            _ => None,
        });
        if let Some(run) = run {
            self.report_transfer(run);
        }
    }

    fn report_transfer(&mut self, run: RunId) {
        let transfer = self.runs.take_transfer();
        if transfer.is_some() {
            self.inputs.push_back(Input::RunProgress { run, transfer });
        }
    }

    /// Reports the progress that is due; when the next report is.
    fn look_at_uploads(&mut self) -> Option<Mono> {
        if self.uploads.is_empty() {
            return None;
        }
        let now = self.runtime.now().mono;
        let mut next = None;
        for (request, watched) in &mut self.uploads {
            if !watched.progress.has_moved() {
                continue;
            }
            if watched.due > now {
                next = Some(next.map_or(watched.due, |next: Mono| next.min(watched.due)));
                continue;
            }
            watched.due = now + PROGRESS_INTERVAL;
            let sent = watched.progress.take();
            watched.metered(sent, self.mailbox.meter.get());
            self.inputs.push_back(Input::UploadProgress { request: *request, sent });
        }
        next
    }

    /// The exchange is over, or given up.
    pub(super) fn forget_upload(&mut self, request: RequestId) {
        if let Some(mut watched) = self.uploads.remove(&request) {
            watched.metered(watched.progress.bytes(), self.mailbox.meter.get());
        }
    }

    /// Waits for the next deadline: whether it has come, by the clock. The timer only wakes.
    fn look_at_clock(&mut self, progress_due: Option<Mono>, cx: &mut Context<'_>) -> bool {
        let until = progress_due.map_or(self.deadline, |due| due.min(self.deadline));
        let mut earliest = Mono::ZERO;
        loop {
            let now = self.runtime.now().mono;
            if now >= until {
                self.timer = None;
                return true;
            }
            // A timer for an earlier moment is left as it is: it is asked for the rest when it fires.
            let timer = match &mut self.timer {
                Some(timer) if timer.at <= until => timer,
                slot => {
                    let at = until.min(now + LONGEST_SLEEP).max(earliest);
                    slot.insert(Timer { at, future: self.runtime.sleep_until(at).boxed() })
                }
            };
            if timer.future.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.timer = None;
            // It may have fired early, and is not asked again for the same moment: that could be a busy loop.
            earliest = now + TIMER_SLACK;
        }
    }
}
