//! The session (sections 3 and 6): connecting, greeting, heartbeats, and every way in which it ends.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use super::{
    Worker,
    ends::Verdict,
    io::{Action, ConnId, Observation},
    jobs::{JobKey, MAX_HELD},
    observe::{HeartbeatOutcome, HeartbeatStatus},
    states::{JobState, SessionEvent, SessionState},
    timers::{
        ACK_BOUND, CONNECT_BOUND, FAREWELL_BOUND, HEARTBEAT_INTERVAL, LOG_INTERVAL, ORPHAN_BOUND,
        PARTING_BOUND, SILENCE_BOUND, STABLE_AFTER, Timer, UNCONTESTED_AFTER, WELCOME_BOUND,
    },
};
use crate::time::Mono;
use crate::wire::{Claim, CloseCode, FrameError, LogLevel, Offer, StudioFrame, WorkerFrame};

/// Frames that may wait to be written; a peer that lets more pile up doesn't read.
const MAX_UNFLUSHED: u64 = 64;
/// Heartbeats that may be due while one still waits to be written: the studio closes at one that is 30 s old.
const MAX_STALLED: u32 = 6;
/// Types of frames that are remembered as unknown.
const MAX_ODD_TYPES: usize = 32;
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
    pub(super) closing: Option<Verdict>,
    /// An offer that waits for the upload before it.
    pub(super) parked: Option<Box<Offer>>,
    /// Offers declined while an orphan ran, since the last welcome.
    pub(super) passed_over: u32,
    /// Whether the time is over in which a paused or draining worker waits for its unconfirmed job.
    pub(super) recovery_over: bool,
    /// Whether more frames wait than a peer that reads would let pile up.
    pub(super) clogged: bool,
    skipped: u64,
    /// Whether the welcome came.
    pub(super) welcomed: bool,
    /// Heartbeats that were due in a row while one still waited to be written.
    stalled: u32,
    /// Heartbeats of this session that were not acknowledged.
    unanswered: u32,
    /// Acknowledgements until the studio has read that no jobs are taken: what it offers is on its way before the last of
    /// them. None while it was told that jobs are taken.
    heard_after: Option<u32>,
    /// Whether the end of the session has waited for those for long enough.
    unheard: bool,
    /// Jobs whose result the studio took, while an offer of the same job may be under way from before that.
    taken: Vec<Taken>,
    /// When the newest log batch went out; kept over a reconnect, since the bound is the worker's.
    last_batch: Option<Mono>,
}

/// A job that the studio has the result of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    claim: Arc<Claim>,
    /// After that many more acknowledgements of heartbeats, every offer is younger than the result.
    answers: u64,
}

impl Session {
    /// What the connection after this one starts with.
    pub(super) fn successor(&self, conn: Option<ConnId>) -> Self {
        Self { conn, recovery_over: self.recovery_over, last_batch: self.last_batch, ..Self::default() }
    }

    /// Puts times on a clock that starts now, to compare states by.
    pub(super) fn forget_times(&mut self, now: Mono) {
        // Only the distance between the two counts.
        self.sent -= self.flushed;
        self.heartbeat = self.heartbeat.saturating_sub(self.flushed);
        self.flushed = 0;
        // When the next batch may go out, unless it may now.
        let due = self.last_batch.map(|last| last + LOG_INTERVAL).filter(|due| *due > now);
        self.last_batch = due.map(|due| Mono::ZERO + due.since(now));
        self.skipped = 0;
    }

    /// What the studio was told of whether jobs are taken.
    fn note_said(&mut self, takes_jobs: bool) {
        if takes_jobs {
            (self.heard_after, self.unheard) = (None, false);
        } else {
            self.heard_after.get_or_insert(self.unanswered);
        }
    }

    /// Whether an offer may be on its way although the studio was told that no jobs are taken.
    fn may_be_asked(&self) -> bool {
        !self.unheard && self.heard_after.is_some_and(|answers| answers > 0)
    }

    fn on_heartbeat_answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.heard_after = self.heard_after.map(|answers| answers.saturating_sub(1));
        self.unheard &= self.heard_after != Some(0);
        self.taken.retain_mut(|taken| {
            taken.answers -= 1;
            taken.answers > 0
        });
    }

    /// Whether an offer is older than the result of its job, which the studio has by now.
    pub(super) fn was_taken(&self, offer: &Claim) -> bool {
        self.taken.iter().any(|taken| taken.claim.job_id == offer.job_id && taken.claim.same_job(offer))
    }

    /// As if no batch had gone out.
    #[cfg(any(feature = "sim", test))]
    pub(super) fn forget_batch(&mut self) {
        self.last_batch = None;
    }
}

impl Worker {
    /// The studio took a result that no claim of this session was for: an upload that outlived its claim. If it offered
    /// the job again meanwhile, that offer is still under way, until what was sent behind the result is answered.
    pub(super) fn note_taken(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(key).filter(|job| job.state == JobState::Held) else { return };
        if let (SessionState::Greeting | SessionState::Serving, Some(claim)) = (self.state, &job.claim) {
            let taken = Taken { claim: Arc::clone(claim), answers: u64::from(self.session.unanswered) + 1 };
            self.session.taken.push(taken);
            if self.session.taken.len() > MAX_HELD {
                self.session.taken.remove(0);
            }
        }
    }

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
        self.session = self.session.successor(Some(conn));
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
            self.session.note_said(self.capabilities.auto_enabled);
            let frame = WorkerFrame::Hello {
                auth_token: token.clone(),
                capabilities: Arc::clone(&self.capabilities),
            };
            self.send(frame);
        }
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
                let name: String = self.registration.scrub(name).chars().take(64).collect();
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
    pub(super) fn skip(&mut self, what: &str) {
        self.counters.skipped_frames += 1;
        self.session.skipped += 1;
        let nth = self.session.skipped;
        if nth <= 4 || nth.is_power_of_two() {
            let what = super::truncate_prompt(&self.registration.scrub(what.into()));
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
                self.session.on_heartbeat_answered();
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
        self.session.welcomed = true;
        self.session_event(SessionEvent::Welcomed, None);
        let own = self.registration.credentials().map(|(id, _)| id.to_string()).unwrap_or_default();
        self.log(LogLevel::Info, "session", format_args!("session open as {own}"), None);
        if !worker_id.is_empty() && worker_id != own {
            self.log(
                LogLevel::Warn,
                "session",
                format_args!(
                    "the studio calls this worker {:?} rather than {own:?}",
                    super::truncate_prompt(&self.registration.scrub(worker_id.into()))
                ),
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

    /// The regular heartbeat. One that still waits to be written is enough.
    pub(super) fn on_heartbeat_due(&mut self) {
        if self.session.heartbeat > self.session.flushed {
            self.session.stalled += 1;
            if self.session.stalled >= MAX_STALLED {
                self.session.clogged = true;
                self.on_silence();
                return;
            }
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
        self.session.unanswered = self.session.unanswered.saturating_add(1);
        self.session.note_said(self.capabilities.auto_enabled);
        if self.capabilities.auto_enabled {
            self.timers.clear(Timer::Parting);
        }
        self.act(Action::SendHeartbeat {
            conn,
            capabilities: Arc::clone(&self.capabilities),
            current_job_id,
        });
    }

    /// Whether a session with nothing in hand may be closed now. An offer that is on its way would cost its job an attempt,
    /// so the studio's word is waited for that it knows that no jobs are taken: for a moment, since nobody is kept waiting.
    pub(super) fn may_part(&mut self) -> bool {
        if self.state != SessionState::Serving || !self.session.may_be_asked() {
            return true;
        }
        if !self.timers.is_set(Timer::Parting) {
            self.timers.set(Timer::Parting, self.after(PARTING_BOUND));
        }
        false
    }

    /// `settle` ends what waited for it.
    pub(super) fn on_parting_over(&mut self) {
        self.session.unheard = self.session.may_be_asked();
    }

    /// How long the close of a worker that ends may take.
    pub(super) fn farewell_by(&self) -> Mono {
        let rest = FAREWELL_BOUND.saturating_sub(PARTING_BOUND);
        match self.timers.at(Timer::Parting) {
            // Whoever slept over it gets a moment all the same.
            Some(bound) => (bound + rest).max(self.after(rest)),
            None if self.session.unheard => self.after(rest),
            None => self.after(FAREWELL_BOUND),
        }
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
            if self.session.flushed >= self.session.heartbeat {
                self.session.stalled = 0;
            }
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

    pub(super) fn is_current(&self, conn: ConnId) -> bool {
        self.session.conn == Some(conn)
    }
}
