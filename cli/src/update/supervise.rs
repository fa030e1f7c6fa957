//! The trial of a new version: the old one starts it and watches it work, and is the one that a service manager or a shell
//! knows. What is decided is decided by [`Trial`].
//!
//! The new version knows by a variable that it is on trial, and says how it fares in a file: one line for its welcome, one
//! when it was told to end, one when it has lived through its time and hands over. Then the old version becomes the new
//! one, with the same arguments.

use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::{
    drive::WorkerHandle,
    time::Mono,
    update::{
        Record, Trial, Verdict, Version,
        trial::{End, Seen, ending},
    },
    worker::Exit,
};

use super::{Place, place::SUPERVISED};
use crate::{config::Config, signals::Shutdown};

/// Tells a version that it is on trial: the file in which it says how it fares.
const ON_TRIAL: &str = "STUDIO_WORKER_ON_TRIAL";

const WELCOMED: &str = "welcomed";
const TOLD: &str = "told to end";
const PASSED: &str = "passed";

/// Between two looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one that goes has to end by itself.
const END_BOUND: Duration = Duration::from_secs(10);

/// What became of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept: this process is to become it ([`become_it`]).
    Kept,
    /// It went, for this reason; the version before is in place again.
    WentBack(String),
    /// The owner ended it: with this exit code this process is to end, too.
    Ended(u8),
}

/// Watches the version in place on its trial. `alive` is called all the while, for whoever watches this process.
pub fn watch(
    place: &Place,
    version: &Version,
    config: &Config,
    shutdown: &mut Shutdown,
    alive: impl Fn(),
) -> Outcome {
    let time = Duration::from_secs(config.auto_update_trial_secs.max(1).into());
    log::info!(
        "{version} is on trial: it has {} s to be welcomed, and must live that long",
        config.auto_update_trial_secs.max(1)
    );
    let mut watching = Watching { place, child: None, signals: 0 };
    let (mut trial, began) = (Trial::new(time), Instant::now());
    let mut seen = Seen::Nothing;
    loop {
        alive();
        match trial.next(Mono::ZERO + began.elapsed(), seen) {
            Verdict::Start => {
                if let Err(error) = watching.start() {
                    seen = Seen::Unstartable(error.to_string());
                    continue;
                }
            }
            Verdict::Wait(_) => {}
            Verdict::Keep => {
                remember(place, Record::keep);
                place.clear_report();
                return Outcome::Kept;
            }
            Verdict::GoBack { why, in_doubt } => {
                watching.end();
                go_back(place, version, &why, in_doubt);
                return Outcome::WentBack(why);
            }
            Verdict::Leave => {
                place.clear_report();
                return Outcome::Ended(watching.code());
            }
        }
        seen = watching.look(shutdown);
        if seen == Seen::Nothing {
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn go_back(place: &Place, version: &Version, why: &str, in_doubt: bool) {
    log::warn!("{version} is no good: {why}; the version before takes over again");
    if let Err(error) = place.put_back() {
        log::error!("{error}: put a version that works at {} by hand", place.program().display());
    }
    remember(place, |record| record.go_back(version.clone(), why, in_doubt));
    place.clear_report();
}

fn remember(place: &Place, change: impl FnOnce(&mut Record)) {
    if let Err(error) = place.note(change) {
        log::warn!("what became of the update can't be remembered: {error}");
    }
}

struct Watching<'a> {
    place: &'a Place,
    child: Option<Child>,
    /// Signals that were handed on.
    signals: u32,
}

impl Watching<'_> {
    fn start(&mut self) -> io::Result<()> {
        let report = self.place.report();
        match fs::remove_file(&report) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = Command::new(self.place.program());
        command
            .args(env::args_os().skip(1))
            .env(ON_TRIAL, &report)
            .env_remove(SUPERVISED)
            // This process is the one that a service manager knows and listens to.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID");
        // Signals of a terminal reach it through this process, once each.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.child = Some(command.spawn()?);
        self.signals = 0;
        Ok(())
    }

    /// What is to be seen of it now. Signals are handed on.
    fn look(&mut self, shutdown: &mut Shutdown) -> Seen {
        while shutdown.came() {
            self.signals += 1;
            match &self.child {
                Some(child) => terminate(child),
                None => return Seen::Ended(End::Told),
            }
        }
        let Some(child) = &mut self.child else { return Seen::Nothing };
        let ended = match child.try_wait() {
            Ok(ended) => ended,
            Err(error) => return Seen::Unstartable(error.to_string()),
        };
        // Read after that: what it says last, it says just before it ends.
        let said = fs::read_to_string(self.place.report()).unwrap_or_default();
        let says = |line: &str| said.lines().any(|said| said == line);
        match ended {
            None if says(WELCOMED) => Seen::Welcomed,
            None => Seen::Nothing,
            Some(_) if says(PASSED) => Seen::Ended(End::Passed),
            Some(_) if says(TOLD) || self.signals > 0 => Seen::Ended(End::Told),
            Some(status) => {
                self.child = None;
                Seen::Ended(End::ByItself(ending(status.code())))
            }
        }
    }

    /// The exit code of one that ended.
    fn code(&mut self) -> u8 {
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        // One that a signal ended before it listened had nothing to finish.
        status.and_then(|status| status.code()).map_or(0, |code| u8::try_from(code).unwrap_or(1))
    }

    /// Ends it, in any case.
    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The number of one that was waited for may be another's by now.
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        terminate(&child);
        let end = Instant::now() + END_BOUND;
        while Instant::now() < end {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks a program to end.
fn terminate(child: &Child) {
    #[cfg(unix)]
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // One that has ended is there until it was waited for, so that its number is nobody else's.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    #[cfg(not(unix))]
    let _ = child;
}

/// Becomes the program in place, with the same arguments. Comes back only if that can't be done.
pub fn become_it(place: &Place) -> io::Error {
    become_program(place.program(), None)
}

/// Becomes the version before, which then watches the one in place. Comes back only if that can't be done.
pub fn have_it_watched(place: &Place) -> io::Error {
    become_program(&place.old(), Some(place.program()))
}

fn become_program(program: &Path, supervised: Option<&Path>) -> io::Error {
    log::logger().flush();
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env_remove(ON_TRIAL).env_remove(SUPERVISED);
    if let Some(supervised) = supervised {
        command.env(SUPERVISED, supervised);
    }
    #[cfg(unix)]
    return std::os::unix::process::CommandExt::exec(&mut command);
    // Without a way to become another program it is started, and outlives this one.
    #[cfg(not(unix))]
    match command.spawn() {
        Ok(_) => std::process::exit(0),
        Err(error) => error,
    }
}

/// Whether this process watches another version: it was started as the one before for that.
pub fn is_to_watch() -> bool {
    env::var_os(SUPERVISED).is_some()
}

/// A version on trial, seen from within.
#[derive(Debug, Clone)]
pub struct OnTrial {
    report: PathBuf,
    /// The process that watches it.
    watched_by: Option<u32>,
    time: Duration,
    began: Instant,
}

impl OnTrial {
    /// Whether this process is on trial.
    pub fn is_here() -> bool {
        env::var_os(ON_TRIAL).is_some()
    }

    /// This process, if it is on trial.
    pub fn here(config: &Config) -> Option<Self> {
        let report: OsString = env::var_os(ON_TRIAL)?;
        Some(Self {
            report: report.into(),
            watched_by: parent(),
            time: Duration::from_secs(config.auto_update_trial_secs.max(1).into()),
            began: Instant::now(),
        })
    }

    /// Says when the worker is welcomed, and has it make way when it has lived through its time.
    pub fn beside(&self, handle: &WorkerHandle) {
        let welcomed = Arc::new(AtomicBool::new(false));
        let (report, seen) = (self.clone(), Arc::clone(&welcomed));
        handle.observers().on_change(move |observers| {
            let is_connected = observers.status().is_connected();
            if is_connected {
                seen.store(true, Ordering::Release);
                report.say(WELCOMED);
            }
            // Once is enough.
            !is_connected
        });
        let (trial, handle) = (self.clone(), handle.clone());
        let wait = move || {
            let mut is_over = false;
            while !handle.has_ended() {
                if trial.watched_by != parent() {
                    // Nobody knows of this process any more: neither a service manager nor a shell.
                    log::warn!("what watches this version has gone, so it ends, too");
                    handle.drain();
                    return;
                }
                if !is_over && welcomed.load(Ordering::Acquire) && trial.began.elapsed() >= trial.time {
                    is_over = true;
                    log::info!("the trial is over: this version takes over once it is free");
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
            // By itself.
            _ => {}
        }
    }

    fn say(&self, line: &str) {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let said = options.open(&self.report).and_then(|mut file| writeln!(file, "{line}"));
        if let Err(error) = said {
            log::warn!("{} can't be written: {error}", self.report.display());
        }
    }
}

#[cfg(unix)]
fn parent() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
}

#[cfg(not(unix))]
fn parent() -> Option<u32> {
    None
}
