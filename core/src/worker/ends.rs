//! Every way in which a session ends, and what follows (the table of section 6).

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use super::{
    Worker,
    io::{Action, ConnId, ConnectFailure, Exit, Observation, SessionEnd},
    observe::{HeartbeatOutcome, HeartbeatStatus},
    states::{SessionEvent, SessionState},
    timers::{FAREWELL_BOUND, FIRST_POLL, LINGER_BOUND, Timer},
};
use crate::wire::{CloseCode, LogLevel, StudioErrorCode, retry_after};

/// Contests in a row at which the worker ends (section 6).
const MAX_CONTESTS: u32 = 5;
/// How long to leave the id to the other one (section 6).
const CONTEST_WAIT: Duration = Duration::from_secs(30);
/// Polls for a newer token, in a row, before a refused one ends the worker: what repeats a request on its way makes the
/// studio give out two, and the older one may be what arrives (section 2).
const MAX_POLLED_AGAIN: u32 = 3;

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
    pub(super) fn on_connect_failed(&mut self, conn: ConnId, failure: ConnectFailure) {
        if !self.is_current(conn) || self.state != SessionState::Connecting {
            self.counters.stale_inputs += 1;
            return;
        }
        let verdict = match failure {
            ConnectFailure::Trouble(what) => Verdict::trouble(what),
            ConnectFailure::Refused(answer) => {
                let said = self.quote(&answer.body);
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

    pub(super) fn on_error(&mut self, code: &StudioErrorCode, message: &str) {
        let what = format!("the studio ends the session: {}{}", code.name(), self.quote(message.as_bytes()));
        let verdict = match code {
            StudioErrorCode::AuthFailed => Verdict::Unauthorized(what),
            StudioErrorCode::WorkerDeleted => Verdict::Revoked(what),
            StudioErrorCode::DuplicateWorker => Verdict::Contested(what),
            StudioErrorCode::ProtocolViolation => Verdict::Violation(what),
            StudioErrorCode::InternalError => Verdict::trouble(what),
            // Of a newer studio: whether the session ends is for its close frame to say.
            StudioErrorCode::Other(name) => {
                let name = super::truncate_prompt(&self.registration.scrub(name.clone()));
                self.skip(&format!(
                    "an error of the unknown code {name:?}{}",
                    self.quote(message.as_bytes())
                ));
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
                let what = format!("the studio closed the session: {code}{}", self.quote(reason.as_bytes()));
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
        self.session_event(SessionEvent::Close, None);
        // Nothing more is sent on this session, so its claim ends here.
        self.lose_claim(&verdict);
        self.session.closing = Some(verdict);
        let by = if self.exit.is_some() { self.farewell_by() } else { self.after(LINGER_BOUND) };
        for timer in
            [Timer::Silence, Timer::Heartbeat, Timer::Welcome, Timer::LogBatch, Timer::Ack, Timer::Parting]
        {
            self.timers.clear(timer);
        }
        self.timers.set(Timer::Linger, by);
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

    pub(super) fn drop_connection(&mut self) {
        if let Some(conn) = self.session.conn {
            self.act(Action::Drop { conn });
        }
    }

    /// The connection is gone, or never came to be: what now?
    pub(super) fn lose(&mut self, verdict: Verdict) {
        let served = self.session.welcomed;
        for timer in [
            Timer::Connect,
            Timer::Welcome,
            Timer::Silence,
            Timer::Heartbeat,
            Timer::Linger,
            Timer::Parting,
            Timer::Ack,
            Timer::Stable,
            Timer::Uncontested,
            Timer::Orphan,
            Timer::Recover,
            Timer::LogBatch,
        ] {
            self.timers.clear(timer);
        }
        self.session = self.session.successor(None);
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
        if self.reconfigured.is_some() {
            // Changed settings are taken over once this input is dealt with; the old ones may well be to blame.
            return;
        }
        match verdict {
            Verdict::Wanted => self.timers.set(Timer::Reconnect, self.now.mono),
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

    pub(super) fn on_unauthorized(&mut self, reason: String) {
        let polled = self.registration.polled_again;
        if self.registration.can_poll() && polled < MAX_POLLED_AGAIN && !self.draining {
            self.registration.polled_again += 1;
            self.log(
                LogLevel::Warn,
                "session",
                format_args!("the token was refused, asking for the newest one: {reason}"),
                None,
            );
            self.session_event(SessionEvent::Forgotten, Some(reason));
            if polled == 0 {
                self.register();
            } else {
                self.timers.set(Timer::Register, self.after(FIRST_POLL * polled));
            }
        } else {
            self.finish(Exit::Unauthorized { reason });
        }
    }

    pub(super) fn on_contested(&mut self, what: &str) {
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

    pub(super) fn wait_and_reconnect(&mut self, what: &str, asked: Option<Duration>) {
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
    pub(super) fn is_exhausted(&mut self, what: &str) -> bool {
        let allowed = self.options.settings.reconnect_attempts.unwrap_or(0);
        let exhausted = allowed > 0 && self.failures.failures() >= allowed;
        if exhausted {
            let attempts = self.failures.failures() + 1;
            self.finish(Exit::AttemptsExhausted { attempts, last: self.registration.scrub(what.into()) });
        }
        exhausted
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
