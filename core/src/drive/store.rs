//! Where values that outlive the process are kept.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    wire::Secret,
    worker::{Change, Identity, Key},
};

/// Keeps what a worker must know again after a restart: its install id, its registration and its credentials
/// (section 2).
///
/// `save` may block: it is called on a thread off the loop, and never twice at a time. The worker waits for
/// it before it relies on what was stored, and tries again when it fails.
pub trait Store: Send + Sync + 'static {
    /// Writes `changes`, all or nothing, and returns once they are durable. The error is for a person to
    /// read, and must not quote a value: some of them are secrets.
    fn save(&self, changes: &[Change]) -> Result<(), String>;
}

/// Keeps them in memory only: for those who link the library and keep an identity themselves, or want a new
/// one at each start.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<Key, Secret>>);

impl MemoryStore {
    /// A store that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is stored now, to start a worker with.
    pub fn identity(&self) -> Identity {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        identity_of(|key| values.get(&key).cloned())
    }
}

/// The identity that is made of these values.
pub(crate) fn identity_of(value: impl Fn(Key) -> Option<Secret>) -> Identity {
    let text = |key| value(key).map(|value| value.reveal().to_owned());
    Identity {
        install_id: text(Key::InstallId),
        registration_secret: value(Key::RegistrationSecret),
        registration_request_id: text(Key::RegistrationRequestId),
        registration_rejected: text(Key::RegistrationRejected),
        worker_id: text(Key::WorkerId),
        auth_token: value(Key::AuthToken),
    }
}

impl Store for MemoryStore {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Change { key, value } in changes {
            match value {
                Some(value) => values.insert(*key, value.clone()),
                None => values.remove(key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_there_and_what_is_removed_is_not() {
        let store = MemoryStore::new();
        let change = |key, value: Option<&str>| Change { key, value: value.map(Secret::from) };
        store.save(&[change(Key::WorkerId, Some("w-1")), change(Key::AuthToken, Some("t"))]).unwrap();
        store.save(&[change(Key::WorkerId, None), change(Key::InstallId, Some("i"))]).unwrap();
        let wanted =
            Identity { install_id: Some("i".into()), auth_token: Some("t".into()), ..Identity::default() };
        assert_eq!(store.identity(), wanted);
    }
}
