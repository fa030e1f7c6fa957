//! What the owner wants: pause, threshold, a changed configuration, and the end (sections 6 and 7).

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
};

use super::{
    Worker,
    ends::Verdict,
    io::{Action, Exit, Observation},
    observe::Hindrance,
    options::{Identity, Settings},
    states::{SessionEvent, SessionState},
    timers::{PRESENCE_BOUND, Timer},
};
use crate::{
    engine::advertise,
    wire::{ApiBase, CloseCode, Finite, LogLevel, UserPresence},
};

/// What is known of a person at the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Presence {
    /// Nothing yet.
    #[default]
    Unknown,
    /// That nobody can tell.
    Untold,
    /// Whether somebody is there.
    Told(UserPresence),
}

impl Presence {
    fn told(self) -> Option<UserPresence> {
        match self {
            Self::Told(presence) => Some(presence),
            Self::Unknown | Self::Untold => None,
        }
    }
}

/// What waits for the current job (section 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reconfigured {
    api_base: ApiBase,
    /// Who to be from then on, if that changed.
    identity: Option<Identity>,
}

impl Reconfigured {
    /// Who to be from then on, if that changed.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl Worker {
    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            // Another version would not know of the pause. Who wants it to take over asks again once it is over.
            let withdrawn = paused && core::mem::take(&mut self.makes_way);
            let what = match (paused, withdrawn) {
                (true, true) => "paused: no more jobs are taken, and no way is made",
                (true, false) => "paused: no more jobs are taken",
                (false, _) => "resumed: jobs are taken again",
            };
            self.log(LogLevel::Info, "session", format_args!("{what}"), None);
            // It was about to make way, and closes its session: it opens another one, paused.
            if paused && self.exit == Some(Exit::MadeWay) {
                self.exit = None;
            }
            self.wants_changed();
        }
    }

    /// Takes what is known of a person at the machine; none when nobody can tell.
    pub(super) fn set_presence(&mut self, presence: Option<UserPresence>) {
        let presence = presence.map_or(Presence::Untold, Presence::Told);
        let before = core::mem::replace(&mut self.presence, presence);
        self.timers.clear(Timer::Presence);
        if self.gives_way() && before != presence {
            self.say_presence();
        }
        self.wants_changed();
    }

    /// Waits for the first word on whether a person is there, as long as it is wanted.
    pub(super) fn await_presence(&mut self) {
        if !self.gives_way() || self.presence != Presence::Unknown {
            self.timers.clear(Timer::Presence);
        } else if !self.timers.is_set(Timer::Presence) {
            self.timers.set(Timer::Presence, self.after(PRESENCE_BOUND));
        }
    }

    /// What it means that a person came, or went.
    fn say_presence(&mut self) {
        let (level, what) = match self.presence {
            Presence::Unknown => return,
            Presence::Told(UserPresence::Active) => {
                (LogLevel::Info, "somebody uses this machine: no jobs are taken meanwhile")
            }
            Presence::Told(UserPresence::Idle) => {
                (LogLevel::Info, "nobody uses this machine: jobs are taken")
            }
            Presence::Untold => (
                LogLevel::Warn,
                "jobs are taken also while somebody uses this machine, since it can't be told whether they do",
            ),
        };
        self.log(level, "session", format_args!("{what}"), None);
    }

    pub(super) fn set_threshold(&mut self, threshold: Finite) {
        if self.threshold != threshold {
            self.threshold = threshold;
            let advertised = self.advertised_threshold();
            self.act(Action::Observe(Observation::Threshold(advertised)));
            let for_now =
                if advertised < threshold { format!(", {advertised} GB for now") } else { String::new() };
            self.log(
                LogLevel::Info,
                "session",
                format_args!("jobs up to {threshold} GB are taken{for_now}"),
                None,
            );
            self.wants_changed();
        }
    }

    /// Takes changed settings: what needs no new session at once, the rest after the current job (section 7).
    pub(super) fn reconfigure(&mut self, settings: Settings) {
        let (api_base, identity) =
            (self.options.settings.api_base.clone(), self.options.settings.identity.clone());
        let moved = settings.api_base != api_base;
        let foreign = self.registration.is_foreign(&settings.identity, &identity, self.now.mono);
        self.reconfigured = (moved || foreign).then(|| {
            Box::new(Reconfigured {
                api_base: settings.api_base.clone(),
                identity: foreign.then(|| settings.identity.clone()),
            })
        });
        let threshold = settings.capabilities.vram_threshold_gb;
        let changed = threshold != self.options.settings.capabilities.vram_threshold_gb;
        let gave_way = self.gives_way();
        self.options.settings = Settings { api_base, identity, ..settings };
        if self.gives_way() && !gave_way {
            self.say_presence();
        }
        self.await_presence();
        if changed {
            self.set_threshold(threshold);
        }
        self.measured_engines_changed();
        self.wants_changed();
    }

    /// Takes over changed credentials or a changed address once no job is in hand (section 7).
    pub(super) fn apply_reconfiguration(&mut self) {
        if self.reconfigured.is_none() || self.exit.is_some() {
            return;
        }
        match self.state {
            SessionState::Serving if self.jobs.claimed().is_some() || self.jobs.orphan().is_some() => return,
            // The drain is about to end this session: another one would have nothing to do.
            SessionState::Serving if self.draining && !self.recovers() => return,
            SessionState::Serving => {
                if !self.may_part() {
                    return;
                }
                self.log(LogLevel::Info, "session", format_args!("reconnecting with changed settings"), None);
                self.close(CloseCode::NORMAL, "reconnecting", Verdict::Wanted);
                return;
            }
            SessionState::Closing | SessionState::Ended => return,
            SessionState::Connecting | SessionState::Greeting => {
                self.drop_connection();
                self.lose(Verdict::Wanted);
            }
            SessionState::Waiting | SessionState::Unregistered => {}
        }
        let Some(changed) = self.reconfigured.take() else { return };
        let Reconfigured { api_base, identity } = *changed;
        if api_base != self.options.settings.api_base {
            // Jobs of one studio are no business of another.
            self.forget_all("the worker went to another studio before it was offered again");
            self.admission.forget_jobs();
        }
        self.options.settings.api_base = api_base;
        self.adopt_identity(identity);
        self.refresh_capabilities();
        self.timers.clear(Timer::Reconnect);
        if self.state == SessionState::Waiting {
            self.session_event(SessionEvent::Forgotten, None);
        }
        self.begin();
    }

    /// What the studio must know changed: it goes out at once, and a parked offer may have to be declined.
    pub(super) fn wants_changed(&mut self) {
        self.say_changes();
        if self.declines() {
            self.decline_parked();
            self.decline_pending();
        }
    }

    /// Says what changed of what the studio must know.
    pub(super) fn say_changes(&mut self) {
        self.arm_recovery();
        let changed = self.refresh_capabilities();
        if changed || self.hindrance_shown != self.hindered_by() {
            self.observe_session(None);
        }
        if changed && self.state == SessionState::Serving {
            self.heartbeat();
        }
    }

    /// Whether offers are declined.
    pub(super) fn declines(&self) -> bool {
        self.hindered_by().is_some()
    }

    /// Why offers are declined; of several reasons the one that lasts longest.
    pub(super) fn hindered_by(&self) -> Option<Hindrance> {
        if self.draining {
            Some(Hindrance::Draining)
        } else if self.paused {
            Some(Hindrance::Paused)
        } else if !self.options.settings.capabilities.auto_enabled {
            Some(Hindrance::Disabled)
        } else if self.gives_way() && self.presence == Presence::Told(UserPresence::Active) {
            Some(Hindrance::PersonPresent)
        } else if self.gives_way() && self.presence == Presence::Unknown {
            Some(Hindrance::PresenceUnknown)
        } else if self.makes_way {
            Some(Hindrance::MakingWay)
        } else if self.reconfigured.is_some() {
            Some(Hindrance::Reconnecting)
        } else {
            None
        }
    }

    /// Whether jobs are wanted only while nobody uses the machine.
    fn gives_way(&self) -> bool {
        self.options.settings.capabilities.only_when_idle == Some(true)
    }

    /// Makes the capabilities anew; whether they changed. They stay the same `Arc` if not.
    pub(super) fn refresh_capabilities(&mut self) -> bool {
        let settings = &self.options.settings;
        let mut capabilities = settings.capabilities.clone();
        capabilities.auto_enabled = !self.declines() || self.recovers();
        capabilities.vram_threshold_gb = self.advertised_threshold();
        capabilities.user_presence = self.presence.told().or(capabilities.user_presence);
        if capabilities.vram_total_gb == Finite::ZERO {
            capabilities.vram_total_gb = self.admission.vram_total().unwrap_or_default();
        }
        advertise(&settings.services, &mut capabilities);
        let changed = capabilities != *self.capabilities;
        if changed {
            self.capabilities = Arc::new(capabilities);
        }
        changed
    }

    /// Takes no more jobs; ends when what is in hand is delivered. Several may want that who don't know of each other, so
    /// another time changes nothing.
    pub(super) fn drain(&mut self) {
        if core::mem::replace(&mut self.draining, true) {
            return;
        }
        // It was about to make way, and nothing is in its hands: its owner's word counts more.
        if let Some(exit @ Exit::MadeWay) = &mut self.exit {
            *exit = Exit::Drained;
            return;
        }
        let bound = self.options.drain_time;
        self.timers.set(Timer::Drain, self.after(bound));
        // What is held is waited for from now on: a pause may have waited before, but not for the last time.
        self.session.recovery_over = false;
        self.timers.clear(Timer::Recover);
        let what = match self.jobs.claimed() {
            Some(job) => format!(
                "draining: job {} is finished first, within {} s",
                job.subject.job_id,
                bound.as_secs()
            ),
            None => "draining".into(),
        };
        self.log(LogLevel::Info, "session", format_args!("{what}"), None);
        self.wants_changed();
    }

    /// Takes no more jobs; ends when nothing is in hand. One that is paused makes no way.
    pub(super) fn make_way(&mut self) {
        if self.makes_way || self.draining || self.paused {
            return;
        }
        self.makes_way = true;
        let is_free = self.jobs.all.is_empty();
        let what = if is_free { "making way" } else { "making way once the jobs in hand are delivered" };
        self.log(LogLevel::Info, "session", format_args!("{what}"), None);
        self.wants_changed();
    }

    /// Ends for another version of the program when nothing is in hand. An upgrade is no reason to lose anything, so there
    /// is no bound: jobs have their limits, and held results expire.
    pub(super) fn finish_making_way(&mut self) {
        let is_free = self.jobs.all.is_empty() && self.jobs.slot.is_none();
        if self.makes_way && is_free && self.exit.is_none() && !self.ended && self.may_part() {
            self.finish(Exit::MadeWay);
        }
    }

    /// Ends when there is nothing left that a session could still deliver.
    pub(super) fn finish_drain(&mut self) {
        if !self.draining || self.exit.is_some() || self.ended || self.jobs.claimed().is_some() {
            return;
        }
        if !self.recovers() && self.may_part() {
            self.finish(Exit::Drained);
        }
    }

    /// Ends at once: a running job is failed as retryable.
    pub(super) fn stop(&mut self, why: &str) {
        if let Some(exit) = &mut self.exit {
            if *exit == Exit::MadeWay {
                *exit = Exit::Stopped;
            }
            // Not even the last frames are waited for any more.
            self.timers.set(Timer::Linger, self.now.mono);
            return;
        }
        self.log(LogLevel::Info, "session", format_args!("stopping: {why}"), None);
        // Said before a job is given back: else the studio would offer that very job again at once, to a worker that is
        // about to close, and count another attempt.
        self.exit = Some(Exit::Stopped);
        self.draining = true;
        self.wants_changed();
        self.release_for_stop(why);
        self.leave();
    }

    /// The end: what can still be said is said, then the session is closed.
    pub(super) fn finish(&mut self, exit: Exit) {
        if self.exit.is_none() && !self.ended {
            self.exit = Some(exit);
            self.leave();
        }
    }

    fn leave(&mut self) {
        let Some(exit) = &self.exit else { return };
        let (words, level) = match exit {
            Exit::Drained | Exit::Stopped | Exit::MadeWay => (exit.to_string(), LogLevel::Info),
            _ => (exit.to_string(), LogLevel::Error),
        };
        if let Some(key) = self.jobs.slot.as_ref().and_then(|slot| slot.job) {
            self.stop_run(key);
        }
        self.log(level, "session", format_args!("{words}"), None);
        if self.state == SessionState::Serving {
            self.ship_last_logs();
        }
        self.farewell();
    }

    /// `Exit`, once and last.
    pub(super) fn end(&mut self) {
        let Some(exit) = self.exit.take() else { return };
        self.forget_all("the worker ended before it was offered again");
        if let Some(request) = self.registration.give_up() {
            self.act(Action::CancelRequest { request });
        }
        self.timers.clear_all();
        self.session_event(SessionEvent::Finished, None);
        self.show_no_jobs();
        self.act(Action::Exit(exit));
        self.ended = true;
    }
}
