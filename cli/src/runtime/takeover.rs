//! How one version of this program takes over from another: when a worker has made way, and at a start that comes in the
//! middle of that.
//!
//! What is in place is what was tried: a new version works on trial from where it was made ready, and takes its place
//! afterwards. So a machine that loses its power meanwhile starts what it had. Only what a person installs while no worker
//! runs is in place before its trial, which the next start then begins with.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use studio_worker_core::update::{Record, Version};

use crate::{
    Error,
    config::{Config, ConfigFile, resolve},
    engines,
    lock::{self, InstanceLock},
    service::Pulse,
    signals::Shutdown,
    update::{
        self, AFTER_TROUBLE, Before, Place, Ready, Unremembered, UpdateError,
        supervise::{self, Candidate, OnTrial, Outcome, Remains},
    },
};

/// What became of a version that was to take over.
pub(super) enum Over {
    /// This process is to end with this exit code.
    Ended(u8),
    /// It did not, and the worker goes on as before.
    AsBefore,
}

/// Has this process watched by the version before, if it is a version that was never tried.
pub(super) fn have_watched(place: &Place, file: &ConfigFile, shutdown: &mut Shutdown) -> Result<Over, Error> {
    if OnTrial::is_here() || supervise::is_to_watch() {
        return Ok(Over::AsBefore);
    }
    // Elsewhere none leaves its place while it runs.
    if cfg!(windows)
        && let Ok(locked) = place.lock()
    {
        place.clear_away(&locked);
    }
    let Some(version) = place.record().on_trial else { return Ok(Over::AsBefore) };
    if version != update::own_version()? {
        // Somebody put another version in its place.
        if place.is_own() {
            note(place, |record| record.on_trial = None);
        }
    } else if supervise::was_tried() || is_tried(file, place) {
        // It could not be remembered then, and perhaps can't now: the next start is to know it all the same.
        match place.note(|record| record.keep(&version, version.clone())) {
            Ok(()) => drop(fs::remove_file(tried(file))),
            Err(error) => {
                log::debug!("{error}");
                remember_tried(file, place);
            }
        }
    } else if place.old().exists() {
        // A second worker is none that its trial could be begun with.
        drop(InstanceLock::acquire(file)?);
        match supervise::have_it_watched(place, shutdown) {
            Remains::Told => return Ok(Over::Ended(0)),
            Remains::Unable(error) => log::warn!(
                "{version} goes on without a trial, since {} can't be run: {error}",
                place.old().display()
            ),
        }
        note(place, |record| record.keep(&version, version.clone()));
    }
    Ok(Over::AsBefore)
}

/// Watches the trial of another version, if this process was started for that.
pub(super) fn take_up(
    place: &Place,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Result<Over, Error> {
    if OnTrial::is_here() || !supervise::is_to_watch() {
        return Ok(Over::AsBefore);
    }
    let Some(version) = place.record().on_trial else { return Ok(Over::AsBefore) };
    let _locked = match place.lock() {
        Ok(locked) => Some(locked),
        // Somebody else tries it already; what comes of that is seen later.
        Err(error @ UpdateError::Locked(_)) => {
            log::info!("{error}");
            return Ok(Over::AsBefore);
        }
        // Whoever put it there may do what this user may not. The trial is worth it all the same: what is no good is not
        // used by this process.
        Err(error) => {
            log::warn!("what comes of {version} can't be remembered: {error}");
            None
        }
    };
    match usable(file) {
        Some(config) => try_in_place(place, &version, (file, &config), shutdown, before),
        None => Ok(Over::AsBefore),
    }
}

/// Where a worker remembers that it has passed its trial if it can't write to its program's folder.
fn tried(file: &ConfigFile) -> PathBuf {
    lock::beside(&resolve(file.path()), "tried")
}

/// The very file that was tried: the same version may be built anew.
fn stamp(place: &Place) -> io::Result<String> {
    let file = fs::metadata(place.program())?;
    let changed = file.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} bytes of {}\n", file.len(), changed.as_micros()))
}

fn is_tried(file: &ConfigFile, place: &Place) -> bool {
    stamp(place).is_ok_and(|stamp| fs::read_to_string(tried(file)).is_ok_and(|tried| tried == stamp))
}

fn remember_tried(file: &ConfigFile, place: &Place) {
    let path = tried(file);
    if let Err(error) = stamp(place).and_then(|stamp| fs::write(&path, stamp)) {
        log::debug!("{} can't be written: {error}", path.display());
    }
}

fn note(place: &Place, change: impl FnOnce(&mut Record)) {
    if let Err(error) = place.note(change) {
        log::warn!("what became of an update can't be remembered: {error}");
    }
}

/// Has what is ready take over.
pub(super) fn take_over(
    place: &Place,
    ready: Ready,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Result<Over, Error> {
    (before.quiet, before.went_back) = (Duration::ZERO, false);
    let Some(config) = usable(file) else { return Ok(Over::AsBefore) };
    match ready {
        Ready::InUse => {
            // This version may have fetched it, too, or another one.
            if let Ok(locked) = place.lock() {
                place.clear_unwanted(&locked);
            }
            Ok(become_it(place, None, file, shutdown, before))
        }
        Ready::InPlace(version, _locked) => try_in_place(place, &version, (file, &config), shutdown, before),
        Ready::Staged(version, locked) => {
            let candidate = Candidate::ready(place, version.clone());
            match try_out(&candidate, (file, &config), shutdown, before) {
                Outcome::Kept => match place.put_ready(&version, true, &locked) {
                    Ok(()) => Ok(become_it(place, Some(&version), file, shutdown, before)),
                    Err(error) => {
                        log::error!("{version} was not installed: {error}; this version goes on");
                        before.quiet = AFTER_TROUBLE;
                        Ok(Over::AsBefore)
                    }
                },
                Outcome::WentBack { why, in_doubt } => {
                    go_back(place, &version, &why, in_doubt, before)?;
                    // What was installed by hand lies ready until it is known whether it is to blame.
                    if !place.record().is_in_doubt() {
                        place.clear();
                    }
                    place.clear_unwanted(&locked);
                    Ok(Over::AsBefore)
                }
                Outcome::Untried => {
                    before.quiet = AFTER_TROUBLE;
                    Ok(Over::AsBefore)
                }
                Outcome::Ended(code) => Ok(Over::Ended(code)),
            }
        }
    }
}

/// Tries a version that is in place already. Nobody else changes that meanwhile, as far as this process can see to it.
fn try_in_place(
    place: &Place,
    version: &Version,
    with: (&ConfigFile, &Config),
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Result<Over, Error> {
    let candidate = Candidate::in_place(place, version.clone());
    match try_out(&candidate, with, shutdown, before) {
        Outcome::Kept => {
            let own = update::own_version()?;
            note(place, |record| record.keep(version, own));
            Ok(become_it(place, Some(version), with.0, shutdown, before))
        }
        Outcome::WentBack { why, in_doubt } => {
            // It was put there by hand: if it is not to blame, it is tried again.
            if in_doubt && place.old().exists() && place.set_aside() {
                note(place, |record| record.pending = Some(version.clone()));
            }
            if let Err(error) = place.put_back() {
                log::error!("{error}: put a version that works at {} by hand", place.program().display());
            }
            go_back(place, version, &why, in_doubt, before)?;
            Ok(Over::AsBefore)
        }
        Outcome::Untried => {
            before.quiet = AFTER_TROUBLE;
            Ok(Over::AsBefore)
        }
        Outcome::Ended(code) => Ok(Over::Ended(code)),
    }
}

fn go_back(
    place: &Place,
    version: &Version,
    why: &str,
    in_doubt: bool,
    before: &mut Before,
) -> Result<(), Error> {
    log::warn!("{version} is no good: {why}; the version before goes on");
    let own = update::own_version()?;
    before.went_back = true;
    // Where it can't be remembered, at least this process knows. Doubts need a memory, since they end with a welcome.
    if let Err(error) = place.note(|record| record.go_back(version.clone(), &own, why, in_doubt)) {
        log::warn!("what became of an update can't be remembered: {error}");
        before.refused.push(Unremembered::now(version.clone(), place));
        before.quiet = AFTER_TROUBLE;
    }
    Ok(())
}

/// Watches a version on its trial.
fn try_out(
    candidate: &Candidate,
    with: (&ConfigFile, &Config),
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Outcome {
    let pulse = Pulse::of_this_process();
    pulse.say(&format!("version {} is on trial", candidate.version()));
    let on_look = |welcomed| {
        pulse.beat();
        if welcomed {
            pulse.ready();
        }
    };
    let (outcome, is_paused) = supervise::watch(candidate, with, shutdown, on_look);
    before.paused = is_paused;
    outcome
}

/// The configuration, unless no version could start with it: it is looked at again once it can be used.
fn usable(file: &ConfigFile) -> Option<Config> {
    let warn = |error| {
        log::warn!(
            "this version goes on, since no other one could start with the configuration as it is now: {error}"
        );
    };
    engines::usable(file).map_err(warn).ok()
}

/// Becomes the version in place. Where that can't be done this one goes on: the other is that of the next start.
fn become_it(
    place: &Place,
    tried: Option<&Version>,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Over {
    // It may have been broken while the trial went on.
    if usable(file).is_none() {
        return Over::AsBefore;
    }
    match supervise::become_it(place, tried, shutdown) {
        Remains::Told => Over::Ended(0),
        Remains::Unable(error) => {
            log::error!("the version that is in place can't be started: {error}; this one goes on");
            before.quiet = AFTER_TROUBLE;
            Over::AsBefore
        }
    }
}
