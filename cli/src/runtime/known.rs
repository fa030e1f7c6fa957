//! What a worker that goes on knows, where its configuration was broken meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use studio_worker_core::{
    drive::Store,
    worker::{Change, Identity},
};

use super::{adopt::adopt, watch::UNUSABLE};
use crate::{
    Error,
    config::{Config, ConfigFile, ConfigStore},
    engines,
};

/// What a worker starts with. One that goes on after it had made way for another version, which came to nothing, does so
/// with what it `known`: that the configuration was broken meanwhile is no reason to end. Who it is the file says all the
/// same, as far as it can: another version may have stored that.
pub(super) fn configuration(file: &ConfigFile, known: Option<Config>) -> Result<Config, Error> {
    let Some(known) = known else { return adopt(file, file.load()?) };
    let config = engines::usable(file).and_then(|config| adopt(file, config));
    Ok(config.unwrap_or_else(|error| {
        log::warn!("{UNUSABLE}: {error}");
        // One that says nothing at all of that is broken there, too.
        let stored = file.identity().ok().filter(|identity| *identity != Identity::default());
        let identity = stored.unwrap_or_else(|| known.identity.clone());
        Config { identity, ..known }
    }))
}

/// The configuration that counts for a worker, and who it is by now.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<Mutex<Config>>);

impl Known {
    pub(super) fn of(config: Config) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    pub(super) fn config(&self) -> Config {
        self.lock().clone()
    }

    /// Another configuration counts now. Who the worker is it need not know: that may have been stored since it was read.
    pub(super) fn becomes(&self, config: &Config) {
        let mut known = self.lock();
        let identity = std::mem::take(&mut known.identity);
        *known = Config { identity, ..config.clone() };
    }

    /// This is who the worker is now.
    pub(super) fn is(&self, identity: &Identity) {
        self.lock().identity.clone_from(identity);
    }

    /// A store that makes known what goes into it.
    pub(super) fn storing(&self, store: ConfigStore) -> impl Store {
        Storing { store, known: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Config> {
        // A value is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Storing {
    store: ConfigStore,
    known: Known,
}

impl Store for Storing {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let saved = self.store.save(changes);
        // Also where it could not be saved it is who the worker is.
        let mut known = self.known.lock();
        for change in changes {
            known.identity.set(change);
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use studio_worker_core::worker::Key;

    use super::*;

    const WHO: &str = "worker_id = 'w-2'\nauth_token = 'second'\n";

    fn who(config: &Config) -> (&str, &str) {
        let Identity { worker_id, auth_token, .. } = &config.identity;
        (worker_id.as_deref().unwrap_or_default(), auth_token.as_ref().map_or("", |token| token.reveal()))
    }

    fn change(key: Key, value: &str) -> Change {
        Change { key, value: Some(value.into()) }
    }

    #[test]
    fn who_a_worker_is_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "engine = 'synthetic'\n").unwrap();
        let file = ConfigFile::locate(Some(&path)).unwrap();
        let read = file.load().unwrap();
        let known = Known::of(read.clone());
        let store = known.storing(ConfigStore::new(file.clone()));
        store.save(&[change(Key::WorkerId, "w-1"), change(Key::AuthToken, "first")]).unwrap();
        assert_eq!(who(&known.config()), ("w-1", "first"));
        // What was read before says nothing of that.
        known.becomes(&Config { label: Some("other".into()), ..read });
        assert_eq!(
            (who(&known.config()), known.config().label.as_deref()),
            (("w-1", "first"), Some("other"))
        );
        // Where it can't be saved, the worker is that one all the same.
        fs::write(&path, "engine = [").unwrap();
        assert!(store.save(&[change(Key::AuthToken, "next")]).is_err());
        assert_eq!(who(&known.config()), ("w-1", "next"));
        let config = configuration(&file, Some(known.config())).unwrap();
        assert_eq!((who(&config), config.engine.as_str()), (("w-1", "next"), "synthetic"));
    }

    #[test]
    fn who_another_version_has_stored_counts_also_in_a_broken_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let file = ConfigFile::locate(Some(&path)).unwrap();
        let known =
            Config::parse("engine = 'synthetic'\nworker_id = 'w-1'\nauth_token = 'first'", &path).unwrap();
        // Its engine can't be had; what it says of the engine can't be read; it says nothing; it is no configuration.
        let cases = [
            (format!("engine = 'openai'\n{WHO}"), ("w-2", "second")),
            (format!("engine = 5\n{WHO}"), ("w-2", "second")),
            ("engine = 5".into(), ("w-1", "first")),
            (format!("{WHO}engine = ["), ("w-1", "first")),
        ];
        for (text, is) in cases {
            fs::write(&path, &text).unwrap();
            let config = configuration(&file, Some(known.clone())).unwrap();
            assert_eq!((who(&config), config.engine.as_str()), (is, "synthetic"), "{text}");
        }
    }
}
