//! Comparing states: what decides the future, without times, names and numbers.

use alloc::{collections::BTreeSet, format, vec::Vec};

use sha2::{Digest, Sha256};

use super::{Counters, Worker, jobs::JobKey};
use crate::time::{Now, Wall};

impl Worker {
    /// A digest of what decides the worker's future behaviour, on a clock that starts now: two workers with
    /// equal fingerprints behave alike, whatever the time and however many ids they have given out. Their
    /// jitter differs, and so does what only logs show. To be taken when [`Worker::next`] has said to wait.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut same = self.clone();
        same.timers = self.timers.relative_to(self.now.mono);
        same.now = Now::default();
        same.session.forget_times();
        same.known_odd_frames.clear();
        same.log_book.forget();
        same.counters = Counters::default();
        same.registration.storage.forget_times(self.now.mono);
        for job in &mut same.jobs.all {
            job.subject.accepted_at = Wall::default();
        }
        same.forget_ids();
        Sha256::digest(format!("{same:?}").as_bytes()).into()
    }

    /// Numbers of connections, exchanges, runs and jobs become their ranks: only which are equal, and which is
    /// older, decides anything.
    fn forget_ids(&mut self) {
        let keys: BTreeSet<_> = self.jobs.all.iter().map(|job| job.key).collect();
        let rekey = |key: JobKey| JobKey(keys.range(..key).count() as u64);
        self.jobs.all.iter_mut().for_each(|job| job.key = rekey(job.key));
        self.jobs.slot.iter_mut().for_each(|slot| slot.job = slot.job.map(rekey));
        self.shown = self.shown.map(rekey);
        self.timers.rekey(rekey);
        self.jobs.last_key = 0;
        self.ids = 0;

        let uploads = self.jobs.all.iter_mut().filter_map(|job| job.upload.as_mut()?.request.as_mut());
        let ids: Vec<&mut u64> = uploads
            .map(|request| &mut request.0)
            .chain(self.session.conn.as_mut().map(|conn| &mut conn.0))
            .chain(self.jobs.slot.as_mut().map(|slot| &mut slot.run.0))
            .chain(self.registration.ids_mut())
            .collect();
        let known: BTreeSet<u64> = ids.iter().map(|id| **id).collect();
        for id in ids {
            *id = known.range(..*id).count() as u64;
        }
    }
}
