//! Where a running worker keeps what must outlive it.

use studio_worker_core::{
    drive::Store,
    worker::{Change, Key},
};

use super::{ConfigFile, Edit};
use crate::logging;

/// Stores in the configuration, by the same merge as every other change.
#[derive(Debug, Clone)]
pub struct ConfigStore(ConfigFile);

impl ConfigStore {
    /// A store in `file`.
    pub fn new(file: ConfigFile) -> Self {
        Self(file)
    }
}

impl Store for ConfigStore {
    fn save(&self, changes: &[Change]) -> Result<(), String> {
        let edits: Vec<_> = changes
            .iter()
            .map(|Change { key, value }| {
                if let (Key::AuthToken | Key::RegistrationSecret, Some(secret)) = (key, value) {
                    logging::learn_issued(secret);
                }
                let value = value.as_ref().map(|value| value.reveal().into());
                Edit { key: key.name(), value }
            })
            .collect();
        self.0.store(&edits).map_err(|error| error.to_string())
    }
}
