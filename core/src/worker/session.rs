//! The session (sections 3 and 6): connecting, greeting, heartbeats, and every way in which it ends.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
};
use core::time::Duration;

use super::{
    Worker,
    io::{Action, ConnId, ConnectFailure, Exit, Observation, SessionEnd},
    observe::{HeartbeatOutcome, HeartbeatStatus},
    registration::excerpt,
    states::{SessionEvent, SessionState},
    timers::{
        ACK_BOUND, CONNECT_BOUND, FAREWELL_BOUND, HEARTBEAT_INTERVAL, LINGER_BOUND, LOG_INTERVAL,
        ORPHAN_BOUND, SILENCE_BOUND, STABLE_AFTER, Timer, UNCONTESTED_AFTER, WELCOME_BOUND,
    },
};
use crate::wire::{
    CloseCode, FrameError, LogLevel, Offer, StudioErrorCode, StudioFrame, WorkerFrame, retry_after,
};

/// Frames that may wait to be written; a peer that lets more pile up doesn't read.
const MAX_UNFLUSHED: u64 = 64;
/// Types of frames that are remembered as unknown.
const MAX_ODD_TYPES: usize = 32;
/// Waits after which a fifth contest in a row ends the worker (section 6).
const MAX_CONTESTS: u32 = 5;
/// How long to leave the id to the other one (section 6).
const CONTEST_WAIT: Duration = Duration::from_secs(30);
/// Batches that go out when the program ends.
const LAST_BATCHES: usize = 5;

/// What belongs to one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Session {
    /// The connection that counts; outcomes of any other are stale.
    pub(super) conn: Option<ConnId>,
    /// Frames handed over for sending on this connection, and how many of them have left.
    sent: u64,
    flushed: u64,
    /// The heartbeat that has not left yet, by its number.
    heartbeat: u64,
    /// What this side closed for.
    closing: Option<Verdict>,
    /// An offer that waits for the upload before it.
    pub(super) parked: Option<Offer>,
    /// Offers declined while an orphan ran, since the last welcome.
    pub(super) passed_over: u32,
    /// Whether the time is over in which a paused or draining worker waits for its unconfirmed job.
    pub(super) recovery_over: bool,
    /// Whether more frames wait than a peer that reads would let pile up.
    clogged: bool,
    skipped: u64,
    last_batch: Option<crate::time::Mono>,
}

impl Session {
    pub(super) fn forget_times(&mut self) {
        // Only the distance between the two counts, and a batch is due or not by its timer.
        self.sent -= self.flushed;
        self.heartbeat = self.heartbeat.saturating_sub(self.flushed);
        self.flushed = 0;
        self.last_batch = None;
        self.skipped = 0;
    }
}

/// What the end of a session means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The token is wrong.
    Unauthorized(String),
    /// The registration was revoked.
    Revoked(String),
    /// Somebody else uses this id.
    Contested(String),
    /// A frame of ours was out of place.
    Violation(String),
    /// A frame of ours was too large.
    TooBig(String),
    /// Anything else.
    Trouble { what: String, retry_after: Option<Duration> },
    /// This side wanted it.
    Wanted,
}

impl Verdict {
    pub(super) fn trouble(what: impl Into<String>) -> Self {
        Self::Trouble { what: what.into(), retry_after: None }
    }

    fn words(&self) -> &str {
        match self {
            Self::Unauthorized(what)
            | Self::Revoked(what)
            | Self::Contested(what)
            | Self::Violation(what)
            | Self::TooBig(what)
            | Self::Trouble { what, .. } => what,
            Self::Wanted => "closed by this side",
        }
    }
}

impl Worker {
    pub(super) fn connect(&mut self) {
        if self.state != SessionState::Waiting || self.exit.is_some() {
            return;
        }
        let Some((worker_id, token)) = self.registration.credentials() else {
            self.session_event(SessionEvent::Forgotten, None);
            self.register();
            return;
        };
        let (url, bearer) = (self.options.settings.api_base.connect(worker_id), token.clone());
        let conn = ConnId(self.id());
        let recovery_over = self.session.recovery_over;
        self.session = Session { conn: Some(conn), recovery_over, ..Session::default() };
        self.session_event(SessionEvent::Due, None);
        self.timers.set(Timer::Connect, self.after(CONNECT_BOUND));
        self.act(Action::Connect { conn, url, bearer });
    }

    pub(super) fn on_connected(&mut self, conn: ConnId) {
        if !self.is_current(conn) || self.state != SessionState::Connecting {
            self.counters.stale_inputs += 1;
            return;
        }
        self.timers.clear(Timer::Connect);
        self.session_event(SessionEvent::Upgraded, None);
        self.timers.set(Timer::Welcome, self.after(WELCOME_BOUND));
        if let Some((_, token)) = self.registration.credentials() {
            let frame = WorkerFrame::Hello {
                auth_token: token.clone(),
                capabilities: Arc::clone(&self.capabilities),
            };
            self.send(frame);
        }
    }

    pub(super) fn on_connect_failed(&mut self, conn: ConnId, failure: ConnectFailure) {
        if !self.is_current(conn) || self.state != SessionState::Connecting {
            self.counters.stale_inputs += 1;
            return;
        }
        let verdict = match failure {
            ConnectFailure::Trouble(what) => Verdict::trouble(what),
            ConnectFailure::Refused(answer) => {
                let said = excerpt(&answer.body);
                let what = format!("the upgrade was answered with {}{said}", answer.status);
                match answer.status {
                    401 => Verdict::Unauthorized(what),
                    404 if says_worker_not_found(&answer.body) => Verdict::Revoked(what),
                    _ => Verdict::Trouble {
                        what,
                        retry_after: answer
                            .retry_after
                            .as_deref()
                            .and_then(|wait| retry_after::parse(wait, answer.date.as_deref())),
                    },
                }
            }
        };
        self.lose(verdict);
    }

    pub(super) fn on_connect_timeout(&mut self) {
        self.drop_connection();
        self.lose(Verdict::trouble("no upgrade within 15 s"));
    }

    pub(super) fn on_welcome_timeout(&mut self) {
        self.drop_connection();
        self.lose(Verdict::trouble("no welcome within 15 s"));
    }

    pub(super) fn on_silence(&mut self) {
        self.drop_connection();
        let what =
            if self.session.clogged { "the studio doesn't read" } else { "the studio was silent for 20 s" };
        self.lose(Verdict::trouble(what));
    }

    pub(super) fn on_text(&mut self, conn: ConnId, text: &str) {
        if !self.hears(conn) {
            return;
        }
        match StudioFrame::parse(text) {
            Ok(frame) => self.on_frame(frame),
            Err(FrameError::OfferWithoutJob) => {
                self.counters.skipped_frames += 1;
                self.close(
                    CloseCode::POLICY,
                    "an offer without a readable jobId",
                    Verdict::trouble("the studio sent an offer without a readable jobId"),
                );
            }
            Err(FrameError::UnknownType(name)) => {
                self.counters.skipped_frames += 1;
                let name: String = name.chars().take(64).collect();
                if self.known_odd_frames.len() < MAX_ODD_TYPES && self.known_odd_frames.insert(name.clone()) {
                    self.log(
                        LogLevel::Warn,
                        "session",
                        format_args!("frames of the unknown type {name:?} are skipped"),
                        None,
                    );
                }
            }
            Err(error) => self.skip(&error.to_string()),
        }
    }

    pub(super) fn on_other_frame(&mut self, conn: ConnId, binary: bool) {
        if self.hears(conn) && binary {
            self.skip("a binary frame");
        }
    }

    /// Logs a frame that is skipped: the first few, then ever rarer, since a hostile peer has many.
    fn skip(&mut self, what: &str) {
        self.counters.skipped_frames += 1;
        self.session.skipped += 1;
        let nth = self.session.skipped;
        if nth <= 4 || nth.is_power_of_two() {
            let what = super::truncate_prompt(what);
            self.log(
                LogLevel::Warn,
                "session",
                format_args!("frame skipped (number {nth} of this session): {what}"),
                None,
            );
        }
    }

    /// Whether a frame of this connection counts; it shows that the peer lives.
    fn hears(&mut self, conn: ConnId) -> bool {
        if !self.is_current(conn) || self.session.closing.is_some() {
            self.counters.stale_inputs += 1;
            return false;
        }
        if self.state == SessionState::Serving {
            self.timers.set(Timer::Silence, self.after(SILENCE_BOUND));
        }
        matches!(self.state, SessionState::Greeting | SessionState::Serving)
    }

    fn on_frame(&mut self, frame: StudioFrame) {
        match (self.state, frame) {
            (_, StudioFrame::Error { code, message }) => self.on_error(&code, &message),
            (SessionState::Greeting, StudioFrame::Welcome { worker_id, .. }) => self.on_welcome(&worker_id),
            (SessionState::Serving, StudioFrame::Offer(offer)) => self.on_offer(offer),
            (SessionState::Serving, StudioFrame::HeartbeatAck) => {
                let status = HeartbeatStatus { at: self.now.wall, outcome: HeartbeatOutcome::Ok };
                self.act(Action::Observe(Observation::Heartbeat(status)));
            }
            (
                SessionState::Serving,
                StudioFrame::CompleteAck { job_id } | StudioFrame::FailAck { job_id },
            ) => {
                self.on_ack(&job_id);
            }
            (SessionState::Greeting, StudioFrame::Offer(_)) => self.close(
                CloseCode::POLICY,
                "an offer before the welcome",
                Verdict::trouble("the studio sent an offer before its welcome"),
            ),
            (_, _) => self.skip("a frame that is out of place"),
        }
    }

    fn on_welcome(&mut self, worker_id: &str) {
        self.timers.clear(Timer::Welcome);
        self.counters.sessions += 1;
        self.session_event(SessionEvent::Welcomed, None);
        let own = self.registration.credentials().map(|(id, _)| id.to_string()).unwrap_or_default();
        self.log(LogLevel::Info, "session", format_args!("session open as {own}"), None);
        if !worker_id.is_empty() && worker_id != own {
            self.log(
                LogLevel::Warn,
                "session",
                format_args!("the studio calls this worker {worker_id:?} rather than {own:?}"),
                None,
            );
        }
        self.registration_done();
        self.timers.set(Timer::Silence, self.after(SILENCE_BOUND));
        self.timers.set(Timer::Stable, self.after(STABLE_AFTER));
        self.timers.set(Timer::Uncontested, self.after(UNCONTESTED_AFTER));
        if self.jobs.orphan().is_some() {
            self.timers.set(Timer::Orphan, self.after(ORPHAN_BOUND));
        }
        self.arm_recovery();
        self.refresh_capabilities();
        self.heartbeat();
    }

    fn on_error(&mut self, code: &StudioErrorCode, message: &str) {
        let what = format!("the studio ends the session: {}{}", code.name(), excerpt(message.as_bytes()));
        let verdict = match code {
            StudioErrorCode::AuthFailed => Verdict::Unauthorized(what),
            StudioErrorCode::WorkerDeleted => Verdict::Revoked(what),
            StudioErrorCode::DuplicateWorker => Verdict::Contested(what),
            StudioErrorCode::ProtocolViolation => Verdict::Violation(what),
            StudioErrorCode::InternalError => Verdict::trouble(what),
            StudioErrorCode::Other(_) => {
                let what = super::truncate_prompt(&what);
                self.log(LogLevel::Warn, "session", format_args!("{what}"), None);
                return;
            }
        };
        self.close(CloseCode::NORMAL, "", verdict);
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, end: SessionEnd) {
        if !self.is_current(conn) {
            self.counters.stale_inputs += 1;
            return;
        }
        let verdict = match (self.session.closing.take(), end) {
            // What this side closed for is known already.
            (Some(verdict), _) => verdict,
            (None, SessionEnd::Dropped(what)) => Verdict::trouble(what),
            (None, SessionEnd::TooLarge) => Verdict::trouble("the studio sent a frame above 64 MiB"),
            (None, SessionEnd::Closed { code, reason }) => {
                let what = format!("the studio closed the session: {code}{}", excerpt(reason.as_bytes()));
                match code {
                    CloseCode::AUTH_FAILED => Verdict::Unauthorized(what),
                    CloseCode::PROTOCOL_VIOLATION => Verdict::Violation(what),
                    CloseCode::DUPLICATE_WORKER => Verdict::Contested(what),
                    CloseCode::WORKER_DELETED => Verdict::Revoked(what),
                    CloseCode::TOO_BIG => Verdict::TooBig(what),
                    _ => Verdict::trouble(what),
                }
            }
        };
        self.lose(verdict);
    }

    /// Closes the session for `verdict`, which is acted on when it is gone.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str, verdict: Verdict) {
        let Some(conn) = self.session.conn else { return };
        // Nothing more is sent on this session, so its claim ends here.
        self.lose_claim(&verdict);
        self.session.closing = Some(verdict);
        self.session_event(SessionEvent::Close, None);
        for timer in [Timer::Silence, Timer::Heartbeat, Timer::Welcome, Timer::LogBatch, Timer::Ack] {
            self.timers.clear(timer);
        }
        let bound = if self.exit.is_some() { FAREWELL_BOUND } else { LINGER_BOUND };
        self.timers.set(Timer::Linger, self.after(bound));
        self.act(Action::Close { conn, code, reason: reason.into() });
    }

    pub(super) fn on_linger_over(&mut self) {
        self.drop_connection();
        let verdict = self.session.closing.take().unwrap_or(Verdict::Wanted);
        self.lose(verdict);
    }

    /// The program ends: says goodbye where there is somebody to say it to.
    pub(super) fn farewell(&mut self) {
        match self.state {
            SessionState::Serving => self.close(CloseCode::NORMAL, "the worker ends", Verdict::Wanted),
            SessionState::Closing => self.timers.set(Timer::Linger, self.after(FAREWELL_BOUND)),
            SessionState::Connecting | SessionState::Greeting => {
                self.drop_connection();
                self.lose(Verdict::Wanted);
            }
            SessionState::Unregistered | SessionState::Waiting => self.end(),
            SessionState::Ended => {}
        }
    }

    fn drop_connection(&mut self) {
        if let Some(conn) = self.session.conn {
            self.act(Action::Drop { conn });
        }
    }

    /// The connection is gone, or never came to be: what now?
    pub(super) fn lose(&mut self, verdict: Verdict) {
        let served = self.state == SessionState::Serving || self.timers.is_set(Timer::Stable);
        for timer in [
            Timer::Connect,
            Timer::Welcome,
            Timer::Silence,
            Timer::Heartbeat,
            Timer::Linger,
            Timer::Ack,
            Timer::Stable,
            Timer::Uncontested,
            Timer::Orphan,
            Timer::Recover,
            Timer::LogBatch,
        ] {
            self.timers.clear(timer);
        }
        let recovery_over = self.session.recovery_over;
        self.session = Session { recovery_over, ..Session::default() };
        self.session_event(SessionEvent::Lost, Some(verdict.words().to_string()));
        if served && verdict != Verdict::Wanted {
            let outcome =
                HeartbeatOutcome::Err { reason: self.registration.scrub(verdict.words().to_string()) };
            let status = HeartbeatStatus { at: self.now.wall, outcome };
            self.act(Action::Observe(Observation::Heartbeat(status)));
        }
        self.lose_claim(&verdict);
        self.refresh_capabilities();
        if self.exit.is_some() {
            self.end();
            return;
        }
        match verdict {
            Verdict::Wanted => {
                self.failures.reset();
                self.timers.set(Timer::Reconnect, self.now.mono);
            }
            Verdict::Unauthorized(what) => self.on_unauthorized(what),
            Verdict::Revoked(what) => {
                self.log(
                    LogLevel::Warn,
                    "session",
                    format_args!("the registration was revoked, asking anew: {what}"),
                    None,
                );
                self.session_event(SessionEvent::Forgotten, Some(what));
                self.forget_credentials();
            }
            Verdict::Contested(what) => self.on_contested(&what),
            Verdict::Violation(what) | Verdict::TooBig(what) => self.wait_and_reconnect(&what, None),
            Verdict::Trouble { what, retry_after } => self.wait_and_reconnect(&what, retry_after),
        }
    }

    fn on_unauthorized(&mut self, reason: String) {
        if self.registration.can_poll() && !self.registration.polled_again && !self.draining {
            self.registration.polled_again = true;
            self.log(
                LogLevel::Warn,
                "session",
                format_args!("the token was refused, asking for the newest one: {reason}"),
                None,
            );
            self.session_event(SessionEvent::Forgotten, Some(reason));
            self.register();
        } else {
            self.finish(Exit::Unauthorized { reason });
        }
    }

    fn on_contested(&mut self, what: &str) {
        self.contested += 1;
        if self.contested >= MAX_CONTESTS {
            self.finish(Exit::DuplicateWorker);
            return;
        }
        if self.is_exhausted(what) {
            return;
        }
        let wait = CONTEST_WAIT + self.failures.failed(&mut self.chance, None);
        self.log(
            LogLevel::Warn,
            "session",
            format_args!("somebody else uses this worker's id, waiting {} s: {what}", wait.as_secs()),
            None,
        );
        self.timers.set(Timer::Reconnect, self.after(wait));
    }

    fn wait_and_reconnect(&mut self, what: &str, asked: Option<Duration>) {
        if self.is_exhausted(what) {
            return;
        }
        let wait = self.failures.failed(&mut self.chance, asked);
        self.log(
            LogLevel::Warn,
            "session",
            format_args!(
                "no session, trying again in {}.{} s: {what}",
                wait.as_secs(),
                wait.subsec_millis() / 100
            ),
            None,
        );
        self.timers.set(Timer::Reconnect, self.after(wait));
    }

    /// Ends the worker at failure n+1 in a row, when n are allowed.
    fn is_exhausted(&mut self, what: &str) -> bool {
        let allowed = self.options.settings.reconnect_attempts.unwrap_or(0);
        let exhausted = allowed > 0 && self.failures.failures() >= allowed;
        if exhausted {
            let attempts = self.failures.failures() + 1;
            self.finish(Exit::AttemptsExhausted { attempts, last: self.registration.scrub(what.into()) });
        }
        exhausted
    }

    /// The regular heartbeat. One that still waits to be written is enough.
    pub(super) fn on_heartbeat_due(&mut self) {
        if self.session.heartbeat > self.session.flushed {
            self.timers.set(Timer::Heartbeat, self.after(HEARTBEAT_INTERVAL));
        } else {
            self.heartbeat();
        }
    }

    /// Says that the worker lives, and what it wants now.
    pub(super) fn heartbeat(&mut self) {
        let Some(conn) = self.session.conn.filter(|_| self.state == SessionState::Serving) else { return };
        self.timers.set(Timer::Heartbeat, self.after(HEARTBEAT_INTERVAL));
        // What was sent to end a claim is read before this heartbeat: the job has ended.
        let open = self.jobs.claimed().filter(|job| job.sent.is_none());
        let current_job_id = open.map(|job| job.subject.job_id.clone());
        self.count_sent();
        self.session.heartbeat = self.session.sent;
        self.act(Action::SendHeartbeat {
            conn,
            capabilities: Arc::clone(&self.capabilities),
            current_job_id,
        });
    }

    pub(super) fn send(&mut self, frame: WorkerFrame) {
        if let Some(conn) = self.session.conn {
            self.count_sent();
            self.act(Action::Send { conn, frame });
        }
    }

    /// Sends a frame that ends a claim and must be acknowledged in time.
    pub(super) fn send_for_ack(&mut self, frame: WorkerFrame) {
        self.send(frame);
        self.timers.set(Timer::Ack, self.after(ACK_BOUND));
    }

    fn count_sent(&mut self) {
        self.session.sent += 1;
        if self.session.sent - self.session.flushed > MAX_UNFLUSHED && self.session.closing.is_none() {
            // Acted on at the end of this input, so that what it decides stays in order.
            self.session.clogged = true;
            self.timers.set(Timer::Silence, self.now.mono);
        }
    }

    pub(super) fn on_flushed(&mut self, conn: ConnId, upto: u64) {
        if self.is_current(conn) {
            self.session.flushed = self.session.flushed.max(upto.min(self.session.sent));
        } else {
            self.counters.stale_inputs += 1;
        }
    }

    /// Sends waiting log lines: at most a batch a second, and only when nothing else waits to be written.
    pub(super) fn ship_logs(&mut self) {
        if self.state != SessionState::Serving
            || self.log_book.is_empty()
            || self.timers.is_set(Timer::LogBatch)
        {
            return;
        }
        let due = self.session.last_batch.map_or(self.now.mono, |last| last + LOG_INTERVAL);
        if due > self.now.mono {
            self.timers.set(Timer::LogBatch, due);
        } else if self.session.flushed == self.session.sent {
            self.send_batch();
        }
    }

    /// The last lines go out without waiting.
    pub(super) fn ship_last_logs(&mut self) {
        for _ in 0..LAST_BATCHES {
            if self.log_book.is_empty() {
                break;
            }
            self.send_batch();
        }
    }

    fn send_batch(&mut self) {
        let entries = self.log_book.take_batch(self.now.wall);
        self.session.last_batch = Some(self.now.mono);
        self.send(WorkerFrame::LogBatch { entries });
    }

    /// Takes over changed credentials or a changed address once no job is in hand (section 7).
    pub(super) fn apply_reconfiguration(&mut self) {
        let busy = self.jobs.claimed().is_some() || self.jobs.orphan().is_some();
        if busy || self.exit.is_some() || self.state == SessionState::Closing {
            return;
        }
        if self.reconfigured.is_none() {
            return;
        }
        match self.state {
            SessionState::Serving => {
                self.log(LogLevel::Info, "session", format_args!("reconnecting with changed settings"), None);
                self.close(CloseCode::NORMAL, "reconnecting", Verdict::Wanted);
                return;
            }
            SessionState::Connecting | SessionState::Greeting => {
                self.drop_connection();
                self.lose(Verdict::Wanted);
            }
            _ => {}
        }
        let Some(settings) = self.reconfigured.take() else { return };
        self.options.settings.api_base = settings.api_base;
        self.options.settings.identity = settings.identity.clone();
        self.adopt_identity(settings.identity);
        if self.registration.has_credentials() {
            if self.state == SessionState::Unregistered {
                self.session_event(SessionEvent::Registered, None);
            }
            self.timers.set(Timer::Reconnect, self.now.mono);
            self.connect();
        } else if self.state == SessionState::Waiting {
            self.timers.clear(Timer::Reconnect);
            self.session_event(SessionEvent::Forgotten, None);
            self.register();
        } else {
            self.register();
        }
    }

    fn is_current(&self, conn: ConnId) -> bool {
        self.session.conn == Some(conn)
    }
}

/// Whether the body of a 404 speaks of the worker (section 6), rather than of an address that nobody serves:
/// a gateway may well quote the path, which has `workers` in it.
fn says_worker_not_found(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase().replace(['_', '-'], " ");
    text.contains("unknown worker")
        || text.match_indices("worker").any(|(at, word)| {
            let rest = &text[at + word.len()..];
            !rest.starts_with('s')
                && rest.find("not found").is_some_and(|end| end < 80 && !rest[..end].contains('/'))
        })
}
