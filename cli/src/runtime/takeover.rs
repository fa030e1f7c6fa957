//! How one version of this program takes over from another: when a worker has made way, and at a start that comes in the
//! middle of that.
//!
//! What is in place is what was tried: a new version works on trial from where it was made ready, and takes its place
//! afterwards. So a machine that loses its power meanwhile starts what it had. Only what a person installs while no worker
//! runs is in place before its trial, which the next start then begins with.

use std::time::Duration;

use studio_worker_core::update::{Record, Version};

use crate::{
    Error,
    config::ConfigFile,
    lock::InstanceLock,
    service::Pulse,
    signals::Shutdown,
    update::{
        self, AFTER_TROUBLE, Before, Place, Ready, UpdateError,
        supervise::{self, Candidate, OnTrial, Outcome},
    },
};

/// What became of a version that was to take over.
pub(super) enum Over {
    /// This process is to end with this exit code.
    Ended(u8),
    /// It did not, and the worker goes on as before.
    AsBefore,
}

/// What the start of this process has to do with an update: it may be there to watch the trial of another version, or be a
/// version that was never tried.
pub(super) fn take_up(
    place: &Place,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Result<Over, Error> {
    if OnTrial::is_here() {
        return Ok(Over::AsBefore);
    }
    // Elsewhere none leaves its place while it runs.
    if cfg!(windows)
        && let Ok(locked) = place.lock()
    {
        place.clear_away(&locked);
    }
    let Some(version) = place.record().on_trial else { return Ok(Over::AsBefore) };
    if supervise::is_to_watch() {
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
        return try_in_place(place, &version, file, shutdown, before);
    }
    if version != update::own_version()? {
        // Somebody put another version in its place.
        if place.is_own() {
            note(place, |record| record.on_trial = None);
        }
    } else if supervise::was_tried() {
        // It could not be remembered then.
        if let Err(error) = place.note(|record| record.keep(&version, version.clone())) {
            log::debug!("{error}");
        }
    } else if place.old().exists() {
        // A second worker is none that its trial could be begun with.
        drop(InstanceLock::acquire(file)?);
        let error = supervise::have_it_watched(place);
        log::warn!(
            "{version} goes on without a trial, since {} can't be run: {error}",
            place.old().display()
        );
        note(place, |record| record.keep(&version, version.clone()));
    }
    Ok(Over::AsBefore)
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
    before.quiet = Duration::ZERO;
    match ready {
        Ready::InUse => Ok(become_it(place, None, before)),
        Ready::InPlace(version, _locked) => try_in_place(place, &version, file, shutdown, before),
        Ready::Staged(version, locked) => {
            let candidate = Candidate::ready(place, version.clone());
            match try_out(&candidate, file, shutdown)? {
                Outcome::Kept => match place.put_ready(&version, true, &locked) {
                    Ok(()) => Ok(become_it(place, Some(&version), before)),
                    Err(error) => {
                        log::error!("{version} was not installed: {error}; this version goes on");
                        before.quiet = AFTER_TROUBLE;
                        Ok(Over::AsBefore)
                    }
                },
                Outcome::WentBack { why, in_doubt } => {
                    go_back(place, &version, &why, in_doubt, before)?;
                    place.clear();
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
    file: &ConfigFile,
    shutdown: &mut Shutdown,
    before: &mut Before,
) -> Result<Over, Error> {
    let candidate = Candidate::in_place(place, version.clone());
    match try_out(&candidate, file, shutdown)? {
        Outcome::Kept => {
            let own = update::own_version()?;
            note(place, |record| record.keep(version, own));
            Ok(become_it(place, Some(version), before))
        }
        Outcome::WentBack { why, in_doubt } => {
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
    // Where it can't be remembered, at least this process knows. Doubts need a memory, since they end with a welcome.
    if let Err(error) = place.note(|record| record.go_back(version.clone(), &own, why, in_doubt)) {
        log::warn!("what became of an update can't be remembered: {error}");
        before.refused.push(version.clone());
        before.quiet = AFTER_TROUBLE;
    }
    Ok(())
}

/// Watches a version on its trial.
fn try_out(candidate: &Candidate, file: &ConfigFile, shutdown: &mut Shutdown) -> Result<Outcome, Error> {
    let pulse = Pulse::of_this_process();
    pulse.say(&format!("version {} is on trial", candidate.version()));
    let on_look = |welcomed| {
        pulse.beat();
        if welcomed {
            pulse.ready();
        }
    };
    Ok(supervise::watch(candidate, &file.load()?, shutdown, on_look))
}

/// Becomes the version in place. Where that can't be done this one goes on: the other is that of the next start.
fn become_it(place: &Place, tried: Option<&Version>, before: &mut Before) -> Over {
    let error = supervise::become_it(place, tried);
    log::error!("the version that is in place can't be started: {error}; this one goes on");
    before.quiet = AFTER_TROUBLE;
    Over::AsBefore
}
