//! `check-update` and `rollback`: what a person does by hand.

use std::sync::Arc;

use studio_worker_core::{
    engine::Recipe,
    update::{
        AutoUpdateDecision, Check, Policy, Release, Stage, Version, Wanted, choose, format_check_outcome,
    },
};

use super::{
    Place, TARGET, UpdateError,
    bench::{Workbench, check_runs, version_of},
    feed, own_version, policy,
};
use crate::{config::Config, runtimes::Runtime};

/// What a look at the feed showed.
#[derive(Debug, Clone)]
pub struct Checked {
    own: Version,
    newer: Option<Release>,
}

impl Checked {
    /// The newest release that is newer than this program.
    pub fn newer(&self) -> Option<&Version> {
        self.newer.as_ref().map(|release| &release.version)
    }
}

impl std::fmt::Display for Checked {
    /// The line that scripts read (section 8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_check_outcome(&self.own, self.newer()))
    }
}

/// Looks for a newer version. One that was tried and went back is newer all the same: who asks decides.
pub fn check(config: &Config, on: Runtime) -> Result<Checked, UpdateError> {
    check_by(config, on, &Policy { prereleases: config.auto_update_prerelease, ..Policy::default() })
}

fn check_by(config: &Config, on: Runtime, policy: &Policy) -> Result<Checked, UpdateError> {
    let own = own_version()?;
    let address = feed(config)?;
    let feed = carry_out(on, Box::new(Check::new(address)))
        .map_err(UpdateError::Check)?
        .outcome
        .map_err(|failure| UpdateError::Check(failure.message))?;
    if feed.skipped() > 0 {
        log::warn!("{} entries of the release feed can't be read", feed.skipped());
    }
    let newer = choose(&feed, &own, policy).cloned();
    Ok(Checked { own, newer })
}

/// Carries a recipe out to its end.
pub(super) fn carry_out<T: Send + 'static>(on: Runtime, recipe: Box<dyn Recipe<T>>) -> Result<T, String> {
    match on.block_on(on.carry_out(recipe)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(error.message),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes a release ready on a workbench.
pub(super) fn stage(
    config: &Config,
    on: Runtime,
    bench: Workbench,
    release: Release,
) -> Result<Version, String> {
    bench.place.check().map_err(|error| error.to_string())?;
    bench.prepare().map_err(|error| format!("{} can't be made: {error}", bench.place.staging().display()))?;
    let wanted = Wanted {
        feed: config.auto_update_feed.trim().into(),
        release,
        target: TARGET.into(),
        signed: bench.key.is_some(),
    };
    let place = bench.place.clone();
    let staged = carry_out(on, Box::new(Stage::new(Arc::new(bench), wanted)));
    place.give(&place.staging());
    staged
}

/// Installs the release that [`check`] found, now. Where a worker runs, it lies ready for that one, which tries it once it is
/// free. What to tell the person.
pub fn install(
    config: &Config,
    on: Runtime,
    place: &Place,
    checked: Checked,
    worker_runs: bool,
) -> Result<String, UpdateError> {
    let Checked { own, newer } = checked;
    let Some(release) = newer else { return Ok(format_check_outcome(&own, None)) };
    let version = release.version.clone();
    let locked = place.lock()?;
    let bench = Workbench { place: place.clone(), key: config.auto_update_public_key.clone() };
    let staged = stage(config, on, bench, release).and_then(|_| {
        // Nobody watches the first steps of what is in place before its trial.
        if worker_runs { Ok(()) } else { check_runs(&place.staged()) }
    });
    if let Err(why) = staged {
        place.clear();
        return Err(UpdateError::Stage { version, why });
    }
    if worker_runs {
        place.note(|record| record.make_ready(version.clone()))?;
        return Ok(format!("{version} is ready"));
    }
    place.put_ready(&version, false, &locked)?;
    Ok(format!(
        "installed {version} in place of {own}; `studio-worker rollback` goes back to what is kept as {}",
        place.old().display()
    ))
}

/// Looks once, and installs what is newer unless the worker is busy, for those who have a loop of their own beside a worker
/// ([`AutoUpdates`](super::AutoUpdates) is the one of this program). It is the program of the next start, on trial.
pub fn auto_update_tick(config: &Config, on: Runtime, place: &Place, busy: bool) -> AutoUpdateDecision {
    let policy = policy(config, place);
    if !policy.enabled {
        return AutoUpdateDecision::Disabled;
    }
    let checked = match check_by(config, on, &policy) {
        Ok(checked) => checked,
        Err(error) => return AutoUpdateDecision::CheckError { reason: error.to_string() },
    };
    let Some(version) = checked.newer().cloned() else { return AutoUpdateDecision::UpToDate };
    if place.version().as_ref() == Some(&version) {
        // It is the program of the next start already.
        return AutoUpdateDecision::UpToDate;
    }
    if busy {
        return AutoUpdateDecision::SkippedBusy;
    }
    match install(config, on, place, checked, false) {
        Ok(_) => AutoUpdateDecision::Updated { version },
        Err(UpdateError::Stage { why, .. }) => AutoUpdateDecision::UpdateError { version, reason: why },
        Err(error) => AutoUpdateDecision::UpdateError { version, reason: error.to_string() },
    }
}

/// Puts the version before back, by hand. A worker that runs goes back once it is free. What to tell the person.
pub fn roll_back(place: &Place) -> Result<String, UpdateError> {
    let _locked = place.lock()?;
    let old = place.old();
    if !old.exists() {
        return Err(UpdateError::NothingBefore(old));
    }
    // What can't say its version can't serve either.
    let before = version_of(&old).map_err(UpdateError::NoProgram)?;
    let before = before.split_whitespace().last().and_then(|said| Version::parse(said).ok());
    let before =
        before.ok_or_else(|| UpdateError::NoProgram(format!("{} says no version", old.display())))?;
    // What is in place may be so broken that it says nothing.
    let record = place.record();
    let version = place.version().or(record.on_trial).map_or_else(own_version, Ok)?;
    place.put_back()?;
    place.note(|record| record.put_back(version.clone(), &before))?;
    Ok(format!(
        "went back from {version} to {before}; {version} is not installed by itself again, `check-update --install` does"
    ))
}
