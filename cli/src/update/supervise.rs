//! The trial of a new version: the old one starts it and watches it work, and is the one that a service manager or a shell
//! knows. What is decided is decided by [`Trial`].
//!
//! The new version knows by a variable that it is on trial, and says how it fares on its stdout, which is a pipe, line by line:
//! that it is welcomed and turns, that it was paused or resumed, that it was told to end, that it has lived through its time and hands over. Then it takes its
//! place, and the old version becomes it, with the same arguments.

use std::{
    env,
    ffi::OsString,
    io::{self, PipeWriter},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::{
    time::Mono,
    update::{
        Trial, Verdict, Version,
        trial::{End, Seen, ending},
    },
};

pub use super::on_trial::OnTrial;
use super::{Place, kin::Kin, listen::Listening, own_version, place::SUPERVISED};
use crate::{
    config::{Config, ConfigFile},
    engines,
    signals::Shutdown,
    telemetry,
};

/// Tells a version that it is on trial: where it says how it fares.
pub(super) const ON_TRIAL: &str = "STUDIO_WORKER_ON_TRIAL";
pub(super) const STDOUT: &str = "stdout";

/// Tells it which process watches it.
pub(super) const WATCHED_BY: &str = "STUDIO_WORKER_WATCHED_BY";

/// Tells a version that it has passed its trial, also where nothing could be remembered of that.
const TRIED: &str = "STUDIO_WORKER_TRIED";

/// Tells it that it is paused: the one before it was.
pub(super) const IS_PAUSED: &str = "STUDIO_WORKER_PAUSED";

/// Its welcome, and every few seconds that it turns.
pub(super) const ALIVE: &str = "alive";
pub(super) const REFUSED: &str = "refused";
pub(super) const UNREACHED: &str = "unreached";
pub(super) const TOLD: &str = "told to end";
pub(super) const PASSED: &str = "passed";
/// What its owner wants, whenever that changes: a pause ends with the owner's word or restart, and not with a version.
pub(super) const PAUSED: &str = "paused";
pub(super) const RESUMED: &str = "resumed";
const WORDS: &[&str] = &[ALIVE, REFUSED, UNREACHED, TOLD, PASSED, PAUSED, RESUMED];

/// Between two looks at it.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one that goes has to end by itself.
const END_BOUND: Duration = Duration::from_secs(10);

/// What is on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    version: Version,
    program: PathBuf,
}

impl Candidate {
    /// What lies ready in the staging folder.
    pub fn ready(place: &Place, version: Version) -> Self {
        Self { version, program: place.staged() }
    }

    /// What is in place.
    pub fn in_place(place: &Place, version: Version) -> Self {
        Self { version, program: place.program().to_owned() }
    }

    /// Which version it says it is.
    pub fn version(&self) -> &Version {
        &self.version
    }
}

/// What became of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as good as this one.
    Kept,
    /// It is no good.
    WentBack {
        /// Why, for a person.
        why: String,
        /// Whether the studio may be to blame.
        in_doubt: bool,
    },
    /// It could not be tried, through no fault of its own.
    Untried,
    /// The owner ended it: with this exit code this process is to end, too.
    Ended(u8),
}

/// Watches a version on its trial with the configuration in `file`, which says `config`. `on_look` is called all the while,
/// and told whether it is welcomed. What became of it, and whether it was paused in the end.
pub fn watch(
    candidate: &Candidate,
    (file, config): (&ConfigFile, &Config),
    shutdown: &mut Shutdown,
    on_look: impl Fn(bool),
) -> (Outcome, bool) {
    let secs = config.auto_update_trial_secs.max(1);
    let Candidate { version, program } = candidate;
    log::info!("{version} is on trial: it has {secs} s to be welcomed, and must live that long");
    let mut watching =
        Watching { program, child: None, listening: None, signals: 0, said: Vec::new(), is_paused: false };
    let (mut trial, began) = (Trial::new(Duration::from_secs(secs.into())), Instant::now());
    let mut seen = Seen::Nothing;
    let outcome = loop {
        on_look(watching.has_said(ALIVE));
        match trial.next(Mono::ZERO + began.elapsed(), seen) {
            Verdict::Start => match watching.listen() {
                Ok(says) => {
                    if let Err(error) = watching.start(says) {
                        seen = Seen::Unstartable(error.to_string());
                        continue;
                    }
                }
                Err(error) => {
                    log::error!("{version} can't be watched: {error}");
                    break Outcome::Untried;
                }
            },
            Verdict::Wait(_) => {}
            Verdict::Keep => break Outcome::Kept,
            Verdict::GoBack { why, in_doubt } => break Outcome::WentBack { why, in_doubt },
            Verdict::Untried => break Outcome::Untried,
            Verdict::Leave => break Outcome::Ended(watching.code()),
        }
        seen = watching.look(shutdown);
        if matches!(seen, Seen::Ended(End::ByItself(_))) && engines::usable(file).is_err() {
            // No version can start with such a configuration.
            seen = Seen::Ended(End::Refused);
        }
        if seen == Seen::Nothing {
            thread::sleep(LOOK_INTERVAL);
        }
    };
    watching.end();
    (outcome, watching.is_paused)
}

struct Watching<'a> {
    program: &'a Path,
    child: Option<Kin>,
    listening: Option<Listening>,
    /// Signals that were handed on.
    signals: u32,
    /// What it has said so far, each once.
    said: Vec<&'static str>,
    /// Whether its owner wants no more jobs taken, also by what runs next.
    is_paused: bool,
}

impl Watching<'_> {
    /// Listens to what says something through the pipe that comes back.
    fn listen(&mut self) -> io::Result<PipeWriter> {
        let (said, says) = io::pipe()?;
        self.listening = Some(Listening::to(said, WORDS)?);
        Ok(says)
    }

    fn start(&mut self, says: PipeWriter) -> io::Result<()> {
        let mut command = Command::new(self.program);
        command
            .args(env::args_os().skip(1))
            .stdout(says)
            .env(ON_TRIAL, STDOUT)
            .env(WATCHED_BY, std::process::id().to_string())
            .env_remove(SUPERVISED)
            .env_remove(TRIED)
            // This process is the one that a service manager knows and listens to.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID");
        if self.is_paused {
            command.env(IS_PAUSED, "yes");
        } else {
            command.env_remove(IS_PAUSED);
        }
        self.child = Some(Kin::start(&mut command)?);
        self.signals = 0;
        self.said.clear();
        Ok(())
    }

    fn has_said(&self, word: &str) -> bool {
        self.said.contains(&word)
    }

    /// Hears what was said, of one that has ended to its end; whether it is alive.
    fn hear(&mut self, has_ended: bool) -> bool {
        let mut is_alive = false;
        let Some(listening) = &mut self.listening else { return false };
        while let Some(word) = if has_ended { listening.last() } else { listening.next() } {
            is_alive |= word == ALIVE;
            if [PAUSED, RESUMED].contains(&word) {
                self.is_paused = word == PAUSED;
                continue;
            }
            if !self.said.contains(&word) {
                self.said.push(word);
            }
            // Of how it ends it says one word.
            if has_ended && word != ALIVE {
                break;
            }
        }
        is_alive
    }

    /// What is to be seen of it now. Signals are handed on, and count more than what it says.
    fn look(&mut self, shutdown: &mut Shutdown) -> Seen {
        while shutdown.came() {
            self.signals += 1;
            match &self.child {
                Some(child) => child.terminate(),
                None => return Seen::Ended(End::Told),
            }
        }
        let Some(child) = &mut self.child else { return Seen::Nothing };
        let ended = match child.try_wait() {
            Ok(ended) => ended,
            Err(error) => return Seen::Unstartable(error.to_string()),
        };
        // Heard after that: what it says last, it says just before it ends.
        let is_alive = self.hear(ended.is_some());
        let says = |word| self.has_said(word);
        match ended {
            None if is_alive => Seen::Alive,
            None => Seen::Nothing,
            Some(_) if says(TOLD) || self.signals > 0 => Seen::Ended(End::Told),
            Some(_) if says(PASSED) => Seen::Ended(End::Passed),
            Some(_) if says(REFUSED) => Seen::Ended(End::Refused),
            Some(_) if says(UNREACHED) => Seen::Ended(End::Unreached),
            Some(status) => {
                self.child = None;
                Seen::Ended(End::ByItself(ending(status.code())))
            }
        }
    }

    /// The exit code of one that ended.
    fn code(&mut self) -> u8 {
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        // One that a signal ended before it listened had nothing to finish.
        status.and_then(|status| status.code()).map_or(0, |code| u8::try_from(code).unwrap_or(1))
    }

    /// Ends it, in any case, with all that it started.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.end(END_BOUND);
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why a process that was to become another program has not.
#[derive(Debug)]
pub enum Remains {
    /// A signal came before: it is to end, since nothing is in its hands.
    Told,
    /// The other program can't be run.
    Unable(io::Error),
}

/// Becomes the program in place, with the same arguments: a version that was `tried`, or one that needs no trial. Comes back
/// only if that is not to be, or can't be done.
pub fn become_it(place: &Place, tried: Option<&Version>, shutdown: &mut Shutdown) -> Remains {
    become_program(place.program(), tried.map(|version| (TRIED, version.to_string().into())), shutdown)
}

/// Becomes the version before, which then watches the one in place. Comes back only if that is not to be, or can't be done.
pub fn have_it_watched(place: &Place, shutdown: &mut Shutdown) -> Remains {
    become_program(&place.old(), Some((SUPERVISED, place.program().into())), shutdown)
}

fn become_program(program: &Path, told: Option<(&str, OsString)>, shutdown: &mut Shutdown) -> Remains {
    telemetry::flush();
    log::logger().flush();
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1));
    for variable in [ON_TRIAL, WATCHED_BY, SUPERVISED, TRIED, IS_PAUSED] {
        command.env_remove(variable);
    }
    command.envs(told);
    // Last, since the other program knows nothing of a signal that came before.
    if shutdown.leave() {
        return Remains::Told;
    }
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    // Without a way to become another program it is started, and outlives this one.
    #[cfg(not(unix))]
    let error = match command.spawn() {
        Ok(_) => std::process::exit(0),
        Err(error) => error,
    };
    shutdown.stay();
    Remains::Unable(error)
}

/// Whether this process watches another version: it was started as the one before for that.
pub fn is_to_watch() -> bool {
    env::var_os(SUPERVISED).is_some()
}

/// Whether this version has passed its trial already, as the one before said when it became this one.
pub fn was_tried() -> bool {
    let tried = env::var(TRIED).ok().and_then(|version| Version::parse(&version).ok());
    tried.is_some() && tried == own_version().ok()
}
