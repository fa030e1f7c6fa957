//! Comparing states: what decides the future, without times, names and numbers.

use super::{
    Counters, Identity, Worker,
    jobs::{JobKey, Product},
    timers::DOWNLOAD_STALL_BOUND,
};
#[cfg(any(feature = "sim", test))]
use super::{
    chance::Chance,
    states::JobState,
    timers::{HELD_BOUND, Timer},
};
use crate::{
    digested::Digested,
    engine::{Output, Payload},
    time::{Mono, Now, Wall},
};
use alloc::{collections::BTreeSet, vec::Vec};

impl Worker {
    /// A digest of what decides the worker's future behaviour, on a clock that starts now: two workers with
    /// equal fingerprints behave alike, whatever the time and however many ids they have given out. Their
    /// jitter differs, and so does what only logs show. To be taken when [`Worker::next`] has said to wait.
    pub fn fingerprint(&self) -> [u8; 32] {
        let known: BTreeSet<u64> = self.ids().collect();
        self.fingerprint_by(|id| known.range(..id).count() as u64)
    }

    /// The same with names for ids that others, who know some of them too, agree on. `rank` must keep their order.
    pub(crate) fn fingerprint_by(&self, rank: impl Fn(u64) -> u64) -> [u8; 32] {
        let mut digest = Digested::default();
        let mut same = self.clone();
        same.timers = self.timers.relative_to(self.now.mono);
        same.now = Now::default();
        same.session.forget_times(self.now.mono);
        same.forget_progress_shown();
        same.known_odd_frames.clear();
        same.hindrance_shown = None;
        same.log_book.forget();
        digest.debug(&self.log_book.weight());
        same.counters = Counters::default();
        same.registration.storage.forget_times(self.now.mono);
        for job in &mut same.jobs.all {
            job.subject.accepted_at = Wall::default();
            job.progress = None;
            job.upload.iter_mut().for_each(|upload| upload.began = Wall::default());
        }
        if let Some(moved) = same.jobs.slot.as_mut().and_then(|slot| slot.moved.as_mut()) {
            // From the bound on it makes no difference.
            moved.at = Mono::ZERO + self.now.mono.since(moved.at).min(DOWNLOAD_STALL_BOUND);
        }
        same.forget_ids(rank);
        digest.debug(&same);
        same.digest_hidden(&mut digest);
        digest.finish()
    }

    /// What is not printed, but decides: secrets, and the bytes of results.
    fn digest_hidden(&self, digest: &mut Digested) {
        let changed = self.reconfigured.as_ref().and_then(|changed| changed.identity());
        let identities = [&self.registration.identity, &self.options.settings.identity];
        for Identity { registration_secret, auth_token, .. } in
            identities.into_iter().chain(changed).chain(self.registration.storage.identities())
        {
            for secret in [registration_secret, auth_token] {
                digest.bytes(secret.as_ref().map_or(&[], |secret| secret.reveal().as_bytes()));
            }
        }
        for job in &self.jobs.all {
            if let Some(Product::Output(Output::Bytes { payload: Payload::Memory(bytes), .. })) = &job.product
            {
                digest.bytes(bytes);
            }
        }
    }

    /// Every id whose outcome is waited for.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        let requests = self.jobs.all.iter().filter_map(|job| Some(job.upload.as_ref()?.request.as_ref()?.0));
        let conn = self.session.conn.as_ref().map(|conn| conn.0);
        let run = self.jobs.slot.as_ref().map(|slot| slot.run.0);
        requests.chain(conn).chain(run).chain(self.admission.asked()).chain(self.registration.ids())
    }

    /// Numbers of connections, exchanges, runs and jobs become their ranks: only which are equal, and which is
    /// older, decides anything.
    fn forget_ids(&mut self, rank: impl Fn(u64) -> u64) {
        let keys: BTreeSet<_> = self.jobs.all.iter().map(|job| job.key).collect();
        let rekey = |key: JobKey| JobKey(keys.range(..key).count() as u64);
        self.jobs.all.iter_mut().for_each(|job| job.key = rekey(job.key));
        self.jobs.slot.iter_mut().for_each(|slot| slot.job = slot.job.map(rekey));
        // One that is over is shown as long as one that is not is.
        self.shown.job = self.shown.job.filter(|shown| keys.contains(shown)).map(rekey);
        self.timers.rekey(rekey);
        self.jobs.last_key = 0;
        self.ids = 0;

        let uploads = self.jobs.all.iter_mut().filter_map(|job| job.upload.as_mut()?.request.as_mut());
        let ids: Vec<&mut u64> = uploads
            .map(|request| &mut request.0)
            .chain(self.session.conn.as_mut().map(|conn| &mut conn.0))
            .chain(self.jobs.slot.as_mut().map(|slot| &mut slot.run.0))
            .chain(self.admission.asked_mut())
            .chain(self.registration.ids_mut())
            .collect();
        for id in ids {
            *id = rank(*id);
        }
    }
}

#[cfg(any(feature = "sim", test))]
impl Worker {
    /// Takes away what makes no difference to a search, so that equal fingerprints mean equal futures and there are
    /// few of them: lines for the studio's log, what the jitter has come to, timers that would change nothing. For a
    /// worker at rest.
    pub(crate) fn simplify(&mut self) {
        self.log_book.forget();
        self.session.forget_batch();
        self.known_odd_frames.clear();
        self.chance = Chance::new([0; 32]);
        self.timers.clear(Timer::LogBatch);
        if self.failures.failures() == 0 && self.registration.revocations.failures() == 0 {
            self.timers.clear(Timer::Stable);
        }
        if self.contested == 0 {
            self.timers.clear(Timer::Uncontested);
        }
    }

    /// What it waits for besides heartbeats that are sent and answered.
    pub(crate) fn next_besides_heartbeats(&self) -> Option<Mono> {
        self.timers.next_without(&[Timer::Heartbeat, Timer::Silence])
    }

    /// Whether every result that is held is let go of within 15 minutes, if nobody asks for it (section 6).
    pub(crate) fn held_results_expire(&self) -> bool {
        let bound = self.now.mono + HELD_BOUND;
        let mut held = self.jobs.all.iter().filter(|job| job.state == JobState::Held);
        held.all(|job| self.timers.at(Timer::Expire(job.key)).is_some_and(|at| at <= bound))
    }
}
