//! How one version of this program takes over from another: at a start that comes in the middle of that, and when a worker has
//! made way.

use std::time::Duration;

use studio_worker_core::update::{Record, Version};

use crate::{
    Error,
    config::ConfigFile,
    service,
    signals::Shutdown,
    update::{
        self, Place, Ready,
        supervise::{self, OnTrial, Outcome},
    },
};

/// What the start of this process has to do with an update: it may be there to watch the trial of another version, or be a
/// version that nobody watches yet. The exit code, if this process is to end.
pub(super) fn take_up(
    place: &Place,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
) -> Result<Option<u8>, Error> {
    let record = place.record();
    if supervise::is_to_watch() {
        return match record.on_trial {
            Some(version) => try_out(place, &version, file, shutdown),
            None => Ok(None),
        };
    }
    let own = update::own_version()?;
    match record.on_trial {
        // Put in place while no worker ran, or this machine lost its power in the trial.
        Some(version) if version == own && !OnTrial::is_here() => {
            if place.old().exists() {
                let error = supervise::have_it_watched(place);
                log::warn!(
                    "{own} goes on without a trial, since {} can't be run: {error}",
                    place.old().display()
                );
            }
            note(place, Record::keep);
        }
        // Somebody put another version in its place.
        Some(version) if version != own => note(place, |record| record.on_trial = None),
        _ => {}
    }
    Ok(None)
}

fn note(place: &Place, change: impl FnOnce(&mut Record)) {
    if let Err(error) = place.note(change) {
        log::warn!("{error}");
    }
}

/// After a version that could not be put in place: a worker that makes way costs a session.
pub(super) const AFTER_TROUBLE: Duration = Duration::from_secs(6 * 60 * 60);

/// What became of a version that was to take over.
pub(super) enum Over {
    /// This process is to end with this exit code.
    Ended(u8),
    /// It was no good, and the worker goes on as before.
    AsBefore,
    /// It could not be put in place.
    NotInPlace,
}

/// Has what is ready take over.
pub(super) fn take_over(
    place: &Place,
    ready: Ready,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
) -> Result<Over, Error> {
    let version = match ready {
        Ready::WentBack => return Err(Error::Become(supervise::become_it(place))),
        Ready::InPlace(version) => version,
        Ready::Staged(version, locked) => match place.put_staged(&version, &locked) {
            Ok(()) => version,
            Err(error) => {
                log::error!("{version} was not installed: {error}; this version goes on");
                return Ok(Over::NotInPlace);
            }
        },
    };
    Ok(try_out(place, &version, file, shutdown)?.map_or(Over::AsBefore, Over::Ended))
}

/// Tries a version that is in place.
fn try_out(
    place: &Place,
    version: &Version,
    file: &ConfigFile,
    shutdown: &mut Shutdown,
) -> Result<Option<u8>, Error> {
    let pulse = service::Pulse::of_this_process();
    pulse.say(&format!("version {version} is on trial"));
    match supervise::watch(place, version, &file.load()?, shutdown, || pulse.beat()) {
        Outcome::Kept => Err(Error::Become(supervise::become_it(place))),
        Outcome::Ended(code) => Ok(Some(code)),
        Outcome::WentBack(_) => Ok(None),
    }
}
