//! What a worker is told at its start.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::io::{Change, Key};
use crate::{
    engine::Service,
    wire::{ApiBase, Capabilities, Finite, Secret},
};

/// What can change while a worker runs (section 7): the rest of the configuration does not reach the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the studio is.
    pub api_base: ApiBase,
    /// Who this worker is.
    pub identity: Identity,
    /// The operator's name for the machine.
    pub label: Option<String>,
    /// What the machine is; what it serves is filled in from `services`. `auto_enabled` is the operator's
    /// switch, `vram_threshold_gb` the operator's bound.
    pub capabilities: Capabilities,
    /// What the engine serves.
    pub services: Vec<Service>,
    /// The engines, as [`Service::engine`] and `modelSource.engine` name them, that load models into the memory of this
    /// machine: a job of theirs is accepted when the memory that is free at that moment is enough for it (section 5).
    /// Engines that ask a server elsewhere don't belong here. Empty: nothing is measured.
    pub measured_engines: Vec<String>,
    /// Failures in a row after which the worker ends; `None` or 0: never.
    pub reconnect_attempts: Option<u32>,
}

impl Settings {
    /// The largest estimate that is accepted unless somebody says otherwise, in GB (section 7).
    pub const DEFAULT_THRESHOLD_GB: u32 = 12;

    /// A worker of the studio at `api_base` that wants jobs of up to [`Settings::DEFAULT_THRESHOLD_GB`]. What it serves
    /// is what its engine does; what else it says of itself can be set in `capabilities`.
    pub fn new(api_base: ApiBase, identity: Identity) -> Self {
        let capabilities = Capabilities {
            auto_enabled: true,
            vram_threshold_gb: Finite::from(Self::DEFAULT_THRESHOLD_GB),
            ..Capabilities::default()
        };
        Self {
            api_base,
            identity,
            label: None,
            capabilities,
            services: Vec::new(),
            measured_engines: Vec::new(),
            reconnect_attempts: None,
        }
    }
}

/// What outlives the process (section 2), as it was last stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// UUIDv4, kept until a reset.
    pub install_id: Option<String>,
    /// 256 bits as hex.
    pub registration_secret: Option<Secret>,
    /// What is polled for.
    pub registration_request_id: Option<String>,
    /// Set when an operator refused; the reason, or an empty text.
    pub registration_rejected: Option<String>,
    /// The worker's id at the studio.
    pub worker_id: Option<String>,
    /// The worker's credential.
    pub auth_token: Option<Secret>,
}

impl Identity {
    /// Who that is once `change` is stored.
    pub fn set(&mut self, change: &Change) {
        let Change { key, value } = change;
        let text = || value.as_ref().map(|value| value.reveal().into());
        match key {
            Key::InstallId => self.install_id = text(),
            Key::RegistrationSecret => self.registration_secret.clone_from(value),
            Key::RegistrationRequestId => self.registration_request_id = text(),
            Key::RegistrationRejected => self.registration_rejected = text(),
            Key::WorkerId => self.worker_id = text(),
            Key::AuthToken => self.auth_token.clone_from(value),
        }
    }
}

/// Everything that a worker is made from, beside its seed and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What can change later.
    pub settings: Settings,
    /// The `User-Agent` of every request, `studio-worker/<version>`.
    pub user_agent: String,
    /// How long a drain may take (10 minutes).
    pub drain_time: Duration,
    /// How long a run of the engine may take (30 minutes). The time in which bytes of a download move for it does not
    /// count.
    pub run_limit: Duration,
}

impl Options {
    /// Options with the bounds of the protocol document.
    pub fn new(settings: Settings, user_agent: impl Into<String>) -> Self {
        Self {
            settings,
            user_agent: user_agent.into(),
            drain_time: Duration::from_secs(600),
            run_limit: Duration::from_secs(1_800),
        }
    }
}

impl Identity {
    /// The same, where an empty text in a configuration means that nothing is there.
    pub(super) fn normalized(mut self) -> Self {
        let Self { install_id, registration_secret, registration_request_id, worker_id, auth_token, .. } =
            &mut self;
        for text in [install_id, registration_request_id, worker_id] {
            text.take_if(|text| text.is_empty());
        }
        for secret in [registration_secret, auth_token] {
            secret.take_if(|secret| secret.reveal().is_empty());
        }
        self
    }
}
