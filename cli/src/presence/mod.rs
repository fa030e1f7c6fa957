//! Whether a person uses this machine: told to the worker, which says it to the studio (section 4) and, with
//! `only_when_idle`, takes no jobs meanwhile (section 7). What it means is the worker's business.
//!
//! | system | who is asked |
//! | --- | --- |
//! | Linux | logind, by its program `loginctl`: every session at this machine's own seats and consoles |
//! | macOS | `ioreg`, for how long no key was pressed and no pointer moved |
//! | others | nobody |
//!
//! A desktop says itself when it is idle, and a locked one is; at a console it is five minutes without a key. People who
//! are logged in from elsewhere are not at the machine.

mod read;

use std::{
    convert::Infallible,
    io::{self, Read as _},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::{drive::WorkerHandle, wire::UserPresence};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// The same where no job depends on it: the studio is told, and that is all.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Between two looks where nobody could tell for long.
const BLIND_INTERVAL: Duration = Duration::from_secs(300);
/// Between the first looks, as long as they come to nothing: the worker waits for what they see.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row that may come to nothing before nobody can tell.
const MAX_FAILURES: u32 = 3;
/// Looks in a row that may come to nothing before they become rare: a machine that boots needs its time.
const PERSEVERANCE: u32 = 20;
/// Variables that a program needs to find whom it asks. It gets no others.
const NEEDED: [&str; 2] = ["PATH", "DBUS_SYSTEM_BUS_ADDRESS"];
/// How long a program may take to tell.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const TICK: Duration = Duration::from_millis(20);
/// Bytes that are read of it.
const MAX_SAID: u64 = 64 * 1024;

/// Somebody looks as long as it lives.
#[derive(Debug)]
pub struct Looking {
    _ends: mpsc::Sender<Infallible>,
}

/// Tells the worker from now on whether a person uses the machine, as far as that can be told. `matters` says whether jobs
/// depend on it; it is asked now and then.
pub fn look_for(handle: WorkerHandle, matters: impl FnMut() -> bool + Send + 'static) -> io::Result<Looking> {
    let (ends, ended) = mpsc::channel();
    thread::Builder::new().name("presence".into()).spawn(move || {
        let goes_on = |span| ended.recv_timeout(span) == Err(RecvTimeoutError::Timeout);
        watch(look, |presence| handle.set_presence(presence), matters, goes_on);
    })?;
    Ok(Looking { _ends: ends })
}

/// Looks until it does not go on after a while, or until it is clear that nobody can ever tell.
fn watch(
    mut look: impl FnMut() -> Result<UserPresence, Unknown>,
    mut tell: impl FnMut(Option<UserPresence>),
    mut matters: impl FnMut() -> bool,
    mut goes_on: impl FnMut(Duration) -> bool,
) {
    let (mut told, mut failures) = (None, 0);
    loop {
        let seen = look();
        let interval = match &seen {
            Ok(presence) => {
                failures = 0;
                if told != Some(Some(*presence)) {
                    told = Some(Some(*presence));
                    tell(Some(*presence));
                }
                LOOK_INTERVAL
            }
            Err(unknown) => {
                failures += 1;
                // A session may just have ended while it was looked at, and a machine that boots may not be so far.
                let blind = failures >= MAX_FAILURES || *unknown == Unknown::ForEver;
                if blind && told != Some(None) {
                    log::debug!("whether somebody uses this machine can't be told: {unknown}");
                    told = Some(None);
                    tell(None);
                }
                if *unknown == Unknown::ForEver {
                    return;
                }
                match told {
                    None => FIRST_INTERVAL,
                    Some(_) if failures < PERSEVERANCE => LOOK_INTERVAL,
                    Some(_) => BLIND_INTERVAL,
                }
            }
        };
        let mut rested = interval;
        let mut goes = goes_on(interval);
        while goes && interval == LOOK_INTERVAL && rested < IDLE_INTERVAL && !matters() {
            goes = goes_on(LOOK_INTERVAL);
            rested += LOOK_INTERVAL;
        }
        if !goes {
            return;
        }
    }
}

/// Why it can't be told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unknown {
    /// There is nobody to ask on this system.
    #[error("nobody on this system knows")]
    ForEver,
    /// Whoever was asked didn't say.
    #[error("{0}")]
    ForNow(String),
}

fn look() -> Result<UserPresence, Unknown> {
    if cfg!(target_os = "linux") {
        let listed = said("loginctl", &["list-sessions", "--no-legend", "--no-pager"])?;
        let ids: Vec<_> = read::session_ids(&listed).collect();
        if ids.is_empty() {
            return Ok(UserPresence::Idle);
        }
        let wanted = ["--no-pager", "--property", read::PROPERTIES];
        let args: Vec<_> = ["show-session"].into_iter().chain(ids).chain(wanted).collect();
        Ok(read::logind(&said("loginctl", &args)?, crate::door::now()))
    } else if cfg!(target_os = "macos") {
        let tree = said("ioreg", &["-c", "IOHIDSystem", "-d", "4"])?;
        read::iokit(&tree).ok_or_else(|| Unknown::ForNow("ioreg says nothing of HIDIdleTime".into()))
    } else {
        Err(Unknown::ForEver)
    }
}

/// What a program says, if it ends well within a few seconds.
fn said(program: &str, args: &[&str]) -> Result<String, Unknown> {
    let mut command = Command::new(program);
    let needed = NEEDED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(needed).env("LC_ALL", "C");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let trouble = |error: io::Error| Unknown::ForNow(format!("{program}: {error}"));
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unknown::ForEver,
        _ => trouble(error),
    })?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(trouble)? {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(TICK),
            None => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Unknown::ForNow(format!(
                    "{program} did not end within {} s",
                    PATIENCE.as_secs()
                )));
            }
        }
    };
    if !status.success() {
        return Err(Unknown::ForNow(format!("{program} failed: {status}")));
    }
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(MAX_SAID).read_to_string(&mut text).map_err(trouble)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use UserPresence::{Active, Idle};

    use super::*;

    /// What the worker is told of what was seen, one look after the other, and how long each rest was.
    fn told(seen: Vec<Result<UserPresence, Unknown>>) -> (Vec<Option<UserPresence>>, Vec<u64>) {
        let mut rests = vec![0];
        let told = watched(seen, || true, &mut rests);
        (told, rests.split_off(1))
    }

    /// The same, with the rests before each look added up, and a word on whether it matters.
    fn watched(
        seen: Vec<Result<UserPresence, Unknown>>,
        matters: impl FnMut() -> bool,
        rests: &mut Vec<u64>,
    ) -> Vec<Option<UserPresence>> {
        let (mut told, looks) = (Vec::new(), std::cell::Cell::new(0));
        let all = seen.len();
        let mut seen = seen.into_iter();
        let look = || {
            looks.set(looks.get() + 1);
            seen.next().unwrap()
        };
        let goes_on = |span: Duration| {
            rests.resize(looks.get() + 1, 0);
            rests[looks.get()] += span.as_secs();
            looks.get() < all
        };
        watch(look, |presence| told.push(presence), matters, goes_on);
        told
    }

    fn failed() -> Result<UserPresence, Unknown> {
        Err(Unknown::ForNow("no bus".into()))
    }

    #[test]
    fn changes_are_told_and_a_look_that_fails_once_changes_nothing() {
        let seen = vec![Ok(Active), Ok(Active), failed(), failed(), Ok(Active), Ok(Idle), Ok(Active)];
        assert_eq!(told(seen), (vec![Some(Active), Some(Idle), Some(Active)], vec![15; 7]));
    }

    #[test]
    fn a_first_look_that_fails_is_soon_followed_by_another() {
        assert_eq!(told(vec![failed(), Ok(Active)]), (vec![Some(Active)], vec![1, 15]));
        assert_eq!(told(vec![failed(), failed(), Ok(Idle)]), (vec![Some(Idle)], vec![1, 1, 15]));
    }

    #[test]
    fn where_nobody_can_tell_that_is_told_once_and_after_a_while_looked_at_seldom() {
        let seen = vec![failed(), failed(), failed(), failed(), Ok(Active), failed()];
        assert_eq!(told(seen), (vec![None, Some(Active)], vec![1, 1, 15, 15, 15, 15]));
        let seen = vec![Ok(Active), failed(), failed(), failed(), failed(), Ok(Active)];
        assert_eq!(told(seen), (vec![Some(Active), None, Some(Active)], vec![15; 6]));
        let (seen, rests) = told((0..22).map(|_| failed()).collect());
        assert_eq!((seen, &rests[18..]), (vec![None], &[15, 300, 300, 300][..]));
        let seen = vec![Ok(Active), Err(Unknown::ForEver)];
        assert_eq!(told(seen).0, [Some(Active), None], "and nobody is asked again");
    }

    #[test]
    fn where_no_job_depends_on_it_looks_are_rare_until_one_does() {
        let mut rests = Vec::new();
        let seen = vec![Ok(Idle), Ok(Idle), Ok(Active), Ok(Active)];
        let mut asked = 0;
        let matters = || {
            asked += 1;
            asked > 4
        };
        assert_eq!(watched(seen, matters, &mut rests), [Some(Idle), Some(Active)]);
        assert_eq!(rests, [0, 60, 30, 15, 15]);
    }

    #[test]
    fn a_program_that_is_not_there_is_not_asked_again() {
        assert_eq!(said("no-such-program-anywhere", &[]), Err(Unknown::ForEver));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_is_heard_when_it_ends_well() {
        assert_eq!(said("sh", &["-c", "echo yes"]), Ok("yes\n".into()));
        assert!(matches!(said("sh", &["-c", "echo no; exit 3"]), Err(Unknown::ForNow(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_asked_sees_no_more_of_the_environment_than_it_needs() {
        let seen = said("env", &[]).unwrap();
        let names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(names.contains(&"PATH") && names.contains(&"LC_ALL"), "{seen}");
        assert!(names.iter().all(|name| NEEDED.contains(name) || *name == "LC_ALL"), "{seen}");
    }
}
