//! Comparing states: what decides the future, without times, names and numbers.

use alloc::collections::BTreeSet;

#[cfg(any(feature = "sim", test))]
use super::sessions::Session;
use super::{CallId, ConnId, Counters, Studio};
#[cfg(any(feature = "sim", test))]
use crate::time::Mono;
use crate::{digested::Digested, time::Now};

impl Studio {
    /// A digest of what decides the studio's future behaviour, on a clock that starts now: two studios with equal
    /// fingerprints behave alike, whatever the time and however many connections, requests and jobs they have seen.
    /// The ids and tokens that they make up differ, and so does what is only there for people to read: times, the
    /// reason of an attempt's end. To be taken when [`Studio::next`] has said to wait.
    pub fn fingerprint(&self) -> [u8; 32] {
        let known: BTreeSet<u64> = self.ids().collect();
        self.fingerprint_by(|id| known.range(..id).count() as u64)
    }

    /// The same with names for ids that others, who know some of them too, agree on. `rank` must keep their order.
    pub(crate) fn fingerprint_by(&self, rank: impl Fn(u64) -> u64) -> [u8; 32] {
        let mut same = self.clone();
        let now = self.now.mono;
        same.now = Now::default();
        same.registry.forget_times(now);
        same.jobs.forget_places();
        let places: BTreeSet<u64> = self.sessions.values().map(|session| session.place).collect();
        for session in same.sessions.values_mut() {
            session.forget_times(now);
            session.place = places.range(..session.place).count() as u64;
        }
        same.sessions =
            same.sessions.into_iter().map(|(conn, session)| (ConnId(rank(conn.0)), session)).collect();
        same.serving.values_mut().for_each(|conn| conn.0 = rank(conn.0));
        same.uploads =
            same.uploads.into_iter().map(|(call, upload)| (CallId(rank(call.0)), upload)).collect();
        same.welcomed = 0;
        same.counters = Counters::default();
        same.violations.clear();
        let mut digest = Digested::default();
        digest.debug(&same);
        digest.finish()
    }

    /// Every connection and upload that is known, by its number.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.sessions.keys().map(|conn| conn.0).chain(self.uploads.keys().map(|call| call.0))
    }
    /// What it waits for, besides the heartbeats of one session if one is named.
    #[cfg(any(feature = "sim", test))]
    pub(crate) fn next_besides_heartbeats(&self, of: Option<ConnId>) -> Option<Mono> {
        let deadline = |(conn, session): (&ConnId, &Session)| {
            if Some(*conn) == of { session.next_rest() } else { Some(session.next_deadline().0) }
        };
        self.sessions.iter().filter_map(deadline).min()
    }
}
