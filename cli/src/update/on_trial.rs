//! A version on trial, seen from within.

use std::{
    env,
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::{
    drive::WorkerHandle,
    update::SIGN_INTERVAL,
    worker::{Exit, Hindrance},
};

use super::{
    is_paused,
    supervise::{
        ALIVE, IS_PAUSED, LOOK_INTERVAL, ON_TRIAL, PASSED, PAUSED, REFUSED, RESUMED, TOLD, UNREACHED,
        WATCHED_BY,
    },
};
use crate::{
    config::{Config, ConfigFile},
    engines,
};

/// A version on trial, seen from within.
#[derive(Debug, Clone)]
pub struct OnTrial {
    /// This process's stdout, if that could be had.
    report: Option<Arc<File>>,
    /// The process that watches it.
    watched_by: Option<u32>,
    time: Duration,
    began: Instant,
    /// Whether the version that ran right before was paused.
    is_paused: bool,
}

impl OnTrial {
    /// Whether this process is on trial.
    pub fn is_here() -> bool {
        env::var_os(ON_TRIAL).is_some()
    }

    /// This process, if it is on trial.
    pub fn here(config: &Config) -> Option<Self> {
        env::var_os(ON_TRIAL)?;
        let report = own_stdout().inspect_err(|error| log::warn!("how it fares can't be said: {error}"));
        Some(Self {
            report: report.ok().map(Arc::new),
            watched_by: env::var(WATCHED_BY).ok().and_then(|pid| pid.parse().ok()),
            time: Duration::from_secs(config.auto_update_trial_secs.max(1).into()),
            began: Instant::now(),
            is_paused: env::var_os(IS_PAUSED).is_some(),
        })
    }

    /// Whether it is to begin paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Says whether the worker is paused, whenever that changes.
    fn tell_of_pauses(&self, handle: &WorkerHandle) {
        let (trial, said) = (self.clone(), AtomicBool::new(self.is_paused));
        // One that begins paused is not resumed before it has heard that.
        let began = AtomicBool::new(!self.is_paused);
        handle.observers().on_change(move |observers| {
            let status = observers.status();
            let Some(session) = &status.session else { return true };
            let is_paused = is_paused(&status);
            if is_paused {
                began.store(true, Ordering::Relaxed);
            }
            // One that drains says nothing of that any more.
            let counts = began.load(Ordering::Relaxed) && session.hindrance != Some(Hindrance::Draining);
            if counts && said.swap(is_paused, Ordering::Relaxed) != is_paused {
                trial.say(if is_paused { PAUSED } else { RESUMED });
            }
            true
        });
    }

    /// Says when the worker is welcomed or paused and, from then on, that it turns; has it make way when it has lived through
    /// its time and could start again with what is in `file`.
    pub fn beside(&self, handle: &WorkerHandle, file: &ConfigFile) {
        self.tell_of_pauses(handle);
        let welcomed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&welcomed);
        handle.observers().on_change(move |observers| {
            let is_connected = observers.status().is_connected();
            if is_connected {
                seen.store(true, Ordering::Release);
            }
            // Once is enough.
            !is_connected
        });
        let (trial, handle, file) = (self.clone(), handle.clone(), file.clone());
        let wait = move || {
            let (mut said, mut turns, mut asked) = (None::<Instant>, handle.turns(), None::<Instant>);
            while !handle.has_ended() {
                if cfg!(unix) && trial.watched_by != parent() {
                    // Nobody knows of this process any more: neither a service manager nor a shell.
                    log::warn!("what watches this version has gone, so it ends, too");
                    handle.drain();
                    return;
                }
                let is_due = said.is_none_or(|said| said.elapsed() >= SIGN_INTERVAL);
                if is_due && welcomed.load(Ordering::Acquire) && (said.is_none() || handle.turns() != turns) {
                    trial.say(ALIVE);
                    said = Some(Instant::now());
                    turns = handle.turns();
                    handle.ring();
                }
                if is_paused(&handle.observers().status()) {
                    // That takes it back.
                    asked = None;
                } else if said.is_some()
                    && trial.began.elapsed() >= trial.time
                    && asked.is_none_or(|asked| asked.elapsed() >= SIGN_INTERVAL)
                    && engines::usable(&file).is_ok()
                {
                    if asked.is_none() {
                        log::info!("the trial is over: this version takes over once it is free");
                    }
                    asked = Some(Instant::now());
                    // Again, for a pause that came and went unseen.
                    handle.make_way();
                }
                thread::sleep(LOOK_INTERVAL);
            }
        };
        if let Err(error) = thread::Builder::new().name("trial".into()).spawn(wait) {
            log::warn!("this version stays on trial, since no thread could be had: {error}");
        }
    }

    /// Says how the worker ended.
    pub fn ended(&self, exit: &Exit) {
        match exit {
            Exit::MadeWay => self.say(PASSED),
            Exit::Drained | Exit::Stopped => self.say(TOLD),
            Exit::Unauthorized { .. } | Exit::Rejected { .. } | Exit::DuplicateWorker | Exit::EngineStuck => {
                self.say(REFUSED);
            }
            Exit::AttemptsExhausted { .. } => self.say(UNREACHED),
        }
    }

    fn say(&self, line: &str) {
        let Some(mut report) = self.report.as_deref() else { return };
        // Where nobody listens any more, nobody needs to know.
        if let Err(error) = report.write_all(format!("{line}\n").as_bytes()) {
            log::debug!("`{line}` can't be said: {error}");
        }
    }
}

/// Where this process's stdout leads, for itself alone: the library's lock on it is held as long as a command runs.
fn own_stdout() -> io::Result<File> {
    let stdout = io::stdout();
    #[cfg(unix)]
    let own = std::os::fd::AsFd::as_fd(&stdout).try_clone_to_owned()?;
    #[cfg(windows)]
    let own = std::os::windows::io::AsHandle::as_handle(&stdout).try_clone_to_owned()?;
    Ok(own.into())
}

#[cfg(unix)]
fn parent() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
}

#[cfg(not(unix))]
fn parent() -> Option<u32> {
    None
}
