//! What outlives the process: who this worker is, what of it is on the disk, and which edits are somebody
//! else's (sections 2 and 7).

use alloc::{format, vec::Vec};
use core::time::Duration;

use super::{
    Worker,
    chance::Backoff,
    io::{Action, Change, Key, StoreId},
    options::Identity,
    registration::Registration,
    timers::Timer,
};
use crate::{
    time::Mono,
    wire::{LogLevel, Secret},
};

/// For how long after a change of this worker's own a configuration may still be the one before it.
const STALE_READ: Duration = Duration::from_secs(3);
/// Identities of earlier that are remembered.
const MAX_BEFORE: usize = 8;
/// Secrets of earlier that are kept out of sight.
const MAX_RETIRED: usize = 8;
/// Unanswered requests to store that are remembered.
const MAX_IN_FLIGHT: usize = 8;

/// How far what is known has come to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Storage {
    /// What is being stored, the newest last.
    in_flight: Vec<(StoreId, Vec<Key>)>,
    /// What could not be stored, and must be.
    unsaved: Vec<Key>,
    /// What follows once it is stored, and the request that it waits for; none between two tries.
    then: Option<(Option<StoreId>, Then)>,
    failures: Backoff,
    /// Earlier identities, and until when a reader of the configuration may still come with each.
    before: Vec<(Identity, Mono)>,
    /// Secrets of earlier: they open nothing here any more, but perhaps elsewhere.
    pub(super) retired: Vec<Secret>,
}

/// What must not happen before something is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Go on with the registration.
    Register,
    /// Open the session.
    Connect,
    /// End, since the operator said no.
    Reject,
}

impl Storage {
    /// Whether something must be stored before the registration goes on.
    pub(super) fn is_awaited(&self) -> bool {
        self.then.is_some()
    }

    /// Keeps a secret of earlier out of sight, too.
    pub(super) fn retire(&mut self, secret: Option<Secret>) {
        if let Some(secret) = secret.filter(|secret| !self.retired.contains(secret)) {
            if self.retired.len() >= MAX_RETIRED {
                self.retired.remove(0);
            }
            self.retired.push(secret);
        }
    }

    /// Every id that is waited for.
    pub(super) fn ids_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let awaited = self.then.as_mut().and_then(|(store, _)| store.as_mut());
        self.in_flight.iter_mut().map(|(store, _)| store).chain(awaited).map(|store| &mut store.0)
    }

    /// The same, to look at.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let awaited = self.then.as_ref().and_then(|(store, _)| store.as_ref());
        self.in_flight.iter().map(|(store, _)| store).chain(awaited).map(|store| store.0)
    }

    /// Identities that a reader of the configuration may still come with.
    pub(super) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.before.iter().map(|(identity, _)| identity)
    }

    /// Puts times on a clock that starts now, to compare states by.
    pub(super) fn forget_times(&mut self, now: Mono) {
        self.before.retain(|(_, until)| now < *until);
        for (_, until) in &mut self.before {
            *until = if *until == Mono::NEVER { *until } else { Mono::ZERO + until.since(now) };
        }
        self.retired.clear();
    }
}

impl Registration {
    /// Whether `new` is somebody's edit of the identity: neither what this worker has, nor what it had a
    /// moment ago, nor what the configuration is known to say.
    pub(super) fn is_foreign(&self, new: &Identity, configured: &Identity, now: Mono) -> bool {
        let new = new.clone().normalized();
        let late = self.storage.before.iter().any(|(before, until)| now < *until && *before == new);
        new != self.identity && new != configured.clone().normalized() && !late
    }

    /// Changes the identity, and remembers the one before it.
    fn change(&mut self, changes: &[Change], now: Mono) {
        let before = &mut self.storage.before;
        before.retain(|(_, until)| now < *until);
        if before.len() >= MAX_BEFORE {
            before.remove(0);
        }
        before.push((self.identity.clone(), Mono::NEVER));
        for change in changes {
            self.set(change);
        }
    }

    fn set(&mut self, change: &Change) {
        let identity = &mut self.identity;
        let old = match change.key {
            Key::RegistrationSecret => identity.registration_secret.take(),
            Key::AuthToken => identity.auth_token.take(),
            _ => None,
        };
        identity.set(change);
        self.storage.retire(old);
    }

    /// What `key` is to be on the disk.
    fn wanted(&self, key: Key) -> Change {
        let identity = &self.identity;
        let text = |value: &Option<alloc::string::String>| value.as_deref().map(Secret::from);
        let value = match key {
            Key::InstallId => text(&identity.install_id),
            Key::RegistrationSecret => identity.registration_secret.clone(),
            Key::RegistrationRequestId => text(&identity.registration_request_id),
            Key::RegistrationRejected => text(&identity.registration_rejected),
            Key::WorkerId => text(&identity.worker_id),
            Key::AuthToken => identity.auth_token.clone(),
        };
        Change { key, value }
    }
}

impl Worker {
    /// Stores `changes`; what follows waits until they are on the disk.
    pub(super) fn store(&mut self, changes: &[Change], then: Then) {
        self.registration.change(changes, self.now.mono);
        let store = self.write(changes.iter().map(|change| change.key).collect());
        self.registration.storage.then = Some((Some(store), then));
    }

    /// Stores `changes` when nothing waits for them: they are in force already.
    pub(super) fn store_aside(&mut self, changes: &[Change]) {
        self.registration.change(changes, self.now.mono);
        self.write(changes.iter().map(|change| change.key).collect());
    }

    /// Writes `keys` as they are now, and what could not be written before.
    fn write(&mut self, mut keys: Vec<Key>) -> StoreId {
        let store = StoreId(self.id());
        let storage = &mut self.registration.storage;
        for key in core::mem::take(&mut storage.unsaved) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if storage.in_flight.len() >= MAX_IN_FLIGHT {
            storage.in_flight.remove(0);
        }
        storage.in_flight.push((store, keys.clone()));
        self.timers.clear(Timer::StoreRetry);
        let changes = keys.into_iter().map(|key| self.registration.wanted(key)).collect();
        self.act(Action::Store { store, changes });
        store
    }

    pub(super) fn on_stored(&mut self, store: StoreId, outcome: Result<(), alloc::string::String>) {
        let storage = &mut self.registration.storage;
        let Some(at) = storage.in_flight.iter().position(|(id, _)| *id == store) else {
            self.counters.stale_inputs += 1;
            return;
        };
        let (_, keys) = storage.in_flight.remove(at);
        if let Err(error) = outcome {
            // A key that is on its way once more is that request's to save.
            let newer = |key: &Key| storage.in_flight[at..].iter().any(|(_, keys)| keys.contains(key));
            let unsaved: Vec<_> =
                keys.into_iter().filter(|key| !newer(key) && !storage.unsaved.contains(key)).collect();
            storage.unsaved.extend(unsaved);
            if let Some((awaited, _)) = &mut storage.then
                && *awaited == Some(store)
            {
                *awaited = None;
            }
            self.store_failed(&error);
            return;
        }
        storage.failures.reset();
        if storage.in_flight.is_empty() && storage.unsaved.is_empty() {
            // From now on the configuration says so, too: what it said before is an edit if it comes back.
            let until = self.now.mono + STALE_READ;
            storage.before.iter_mut().for_each(|(_, stale)| *stale = until.min(*stale));
            self.options.settings.identity = self.registration.identity.clone();
        }
        let storage = &mut self.registration.storage;
        if let Some((_, then)) = storage.then.take_if(|(awaited, _)| *awaited == Some(store)) {
            self.follow(then);
        }
    }

    fn store_failed(&mut self, error: &str) {
        let wait = self.registration.storage.failures.failed(&mut self.chance, None);
        let level = if self.registration.storage.is_awaited() { LogLevel::Error } else { LogLevel::Warn };
        self.log(
            level,
            "registration",
            format_args!(
                "the configuration could not be saved, trying again in {} s: {error}",
                wait.as_secs().max(1)
            ),
            None,
        );
        self.observe_session(Some(format!("the configuration could not be saved: {error}")));
        self.timers.set(Timer::StoreRetry, self.after(wait));
    }

    pub(super) fn store_again(&mut self) {
        if self.registration.storage.unsaved.is_empty() {
            return;
        }
        let store = self.write(Vec::new());
        if let Some((awaited, _)) = &mut self.registration.storage.then {
            awaited.get_or_insert(store);
        }
    }
}
