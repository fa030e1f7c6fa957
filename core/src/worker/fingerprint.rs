//! Comparing states: what decides the future, without times, names and numbers.

use alloc::format;

use sha2::{Digest, Sha256};

use super::{Counters, Worker, jobs::JobKey};
use crate::time::{Mono, Now};

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
        same.forget_ids(self.now.mono);
        Sha256::digest(format!("{same:?}").as_bytes()).into()
    }

    /// Ids count from the newest backwards, so that their distance counts and their number does not.
    fn forget_ids(&mut self, now: Mono) {
        let newest = self.ids;
        let rename = |id: &mut u64| *id = newest.saturating_sub(*id);
        self.session.conn.iter_mut().for_each(|conn| rename(&mut conn.0));
        self.jobs.slot.iter_mut().for_each(|slot| rename(&mut slot.run.0));
        for job in &mut self.jobs.all {
            job.subject.accepted_at = crate::time::Wall::default();
            if let Some(request) = job.upload.as_mut().and_then(|upload| upload.request.as_mut()) {
                rename(&mut request.0);
            }
        }
        let newest = self.jobs.last_key;
        let rekey = |key: JobKey| JobKey(newest.saturating_sub(key.0));
        self.jobs.all.iter_mut().for_each(|job| job.key = rekey(job.key));
        self.jobs.slot.iter_mut().for_each(|slot| slot.job = slot.job.map(rekey));
        self.shown = self.shown.map(rekey);
        self.timers.rekey(rekey);
        self.jobs.last_key = 0;
        self.registration.forget(now, rename);
        self.ids = 0;
    }
}
