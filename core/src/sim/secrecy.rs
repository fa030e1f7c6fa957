//! Secrets are nowhere but where section 2 allows.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    wire::{Secret, WorkerFrame},
    worker::{Action, HeartbeatOutcome, Identity, JobOutcome, Key, Observation},
};

/// Watches the texts of a worker for the secrets that it has, or had.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrecy(Vec<Secret>);

impl Secrecy {
    /// A watch on the secrets of a worker that starts with `identity`.
    pub(super) fn of(identity: &Identity) -> Self {
        let mut secrecy = Self::default();
        let Identity { auth_token, registration_secret, .. } = identity;
        auth_token.iter().chain(registration_secret).for_each(|secret| secrecy.learn(secret));
        secrecy
    }

    fn learn(&mut self, secret: &Secret) {
        if !secret.reveal().is_empty() && !self.0.contains(secret) {
            self.0.push(secret.clone());
        }
    }

    /// The secret that was learned last.
    pub(super) fn newest(&self) -> Option<&Secret> {
        self.0.last()
    }

    /// Looks at every text of `action` that a person may see. Where it goes is not one of them: ids in addresses are the
    /// studio's own words.
    ///
    /// # Panics
    /// When there is a secret in it.
    pub(super) fn check(&mut self, action: &Action) {
        match action {
            Action::Store { changes, .. } => {
                for change in changes {
                    if let (Key::AuthToken | Key::RegistrationSecret, Some(secret)) =
                        (change.key, &change.value)
                    {
                        self.learn(secret);
                    }
                }
            }
            Action::Log(line) => self.forbid("a log line", [&line.message, &line.category]),
            Action::Observe(Observation::Session(status)) => self.forbid("the status", &status.detail),
            Action::Observe(Observation::Heartbeat(status)) => {
                if let HeartbeatOutcome::Err { reason } = &status.outcome {
                    self.forbid("the last heartbeat", [reason]);
                }
            }
            Action::RecordRecentJob(job) => {
                if let JobOutcome::Failed { reason } = &job.outcome {
                    self.forbid("a job's outcome", [reason]);
                }
            }
            Action::Close { reason, .. } => self.forbid("a close frame", [reason]),
            Action::Exit(exit) => self.forbid("the last words", [&exit.to_string()]),
            Action::Send { frame, .. } => match frame {
                WorkerFrame::Reject { reason, .. } => self.forbid("a reject", [reason]),
                WorkerFrame::Fail { error, .. } => self.forbid("a fail", [error]),
                WorkerFrame::LogBatch { entries } => {
                    self.forbid("a log batch", entries.iter().map(|entry| &entry.message));
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn forbid<'a>(&self, place: &str, texts: impl IntoIterator<Item = &'a String>) {
        for text in texts {
            let secret = self.0.iter().find(|secret| text.contains(secret.reveal()));
            assert!(secret.is_none(), "a secret in {place}: {text}");
        }
    }
}
