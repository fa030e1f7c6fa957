//! Registration (section 2): an operator approves, and nothing that is stored is lost on the way.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use super::{
    Worker,
    chance::Backoff,
    io::{Action, Change, Exit, Key, RequestId},
    options::Identity,
    states::{SessionEvent, SessionState},
    storing::{Storage, Then},
    timers::{FIRST_POLL, HTTP_BOUND, MAX_POLL, Timer},
};
use crate::{
    http::{HttpAnswer, HttpBody, HttpFailure, HttpRequest},
    wire::{
        LogLevel, Secret,
        registration::{Decision, RegisterAnswer, RegisterRequest, secret_hash},
        retry_after,
    },
};

/// Who this worker is, and how far it has come to be somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) identity: Identity,
    /// The request or poll under way.
    exchange: Option<(RequestId, Exchange)>,
    /// What of it is stored.
    pub(super) storage: Storage,
    failures: Backoff,
    /// The pause before the next poll.
    pause: Duration,
    /// How often this worker has polled again for a newer token since its last welcome.
    pub(super) polled_again: u32,
    /// How often in a row the studio revoked this worker.
    pub(super) revocations: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    Request,
    Poll,
}

impl Registration {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity: identity.normalized(),
            exchange: None,
            storage: Storage::default(),
            failures: Backoff::default(),
            pause: FIRST_POLL,
            polled_again: 0,
            revocations: Backoff::default(),
        }
    }

    /// The worker's id and token, once it has both.
    pub(super) fn credentials(&self) -> Option<(&str, &Secret)> {
        let id = self.identity.worker_id.as_deref().filter(|id| !id.is_empty())?;
        let token = self.identity.auth_token.as_ref().filter(|token| !token.reveal().is_empty())?;
        Some((id, token))
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials().is_some()
    }

    /// Whether there is a request that can be polled for a newer token.
    pub(super) fn can_poll(&self) -> bool {
        self.identity.registration_request_id.is_some() && self.identity.registration_secret.is_some()
    }

    /// Keeps the secrets out of what people read.
    pub(super) fn scrub(&self, text: String) -> String {
        let Identity { auth_token, registration_secret, .. } = &self.identity;
        Secret::scrub_all(auth_token.iter().chain(registration_secret).chain(&self.storage.retired), text)
    }

    /// Gives up the exchange under way.
    pub(super) fn give_up(&mut self) -> Option<RequestId> {
        self.exchange.take().map(|(request, _)| request)
    }

    /// Every id that is waited for, to look at.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.exchange.iter().map(|(request, _)| request.0).chain(self.storage.ids())
    }

    /// Every id that is waited for.
    pub(super) fn ids_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let exchange = self.exchange.as_mut().map(|(request, _)| &mut request.0);
        exchange.into_iter().chain(self.storage.ids_mut())
    }
}

fn set(key: Key, value: impl Into<Secret>) -> Change {
    Change { key, value: Some(value.into()) }
}

fn unset(key: Key) -> Change {
    Change { key, value: None }
}

impl Worker {
    /// The first step: open the session, or ask to be registered.
    pub(super) fn begin(&mut self) {
        let identity = &self.registration.identity;
        if self.registration.has_credentials() {
            self.session_event(SessionEvent::Registered, None);
            self.connect();
        } else if let Some(reason) = identity.registration_rejected.clone() {
            self.finish(Exit::Rejected { reason: Some(reason).filter(|reason| !reason.is_empty()) });
        } else {
            self.observe_session(None);
            self.register();
        }
    }

    /// The next step of a registration: store who we are, ask, or ask for the decision.
    pub(super) fn register(&mut self) {
        if self.state != SessionState::Unregistered
            || self.registration.exchange.is_some()
            || self.registration.storage.is_awaited()
            || self.exit.is_some()
        {
            return;
        }
        let identity = &self.registration.identity;
        match (&identity.install_id, &identity.registration_secret, &identity.registration_request_id) {
            (Some(install_id), Some(secret), None) => {
                let body = RegisterRequest {
                    install_id: install_id.clone(),
                    registration_secret_hash: secret_hash(secret),
                    label: self.options.settings.label.clone().filter(|label| !label.is_empty()),
                    capabilities: (*self.capabilities).clone(),
                    user_agent: self.options.user_agent.clone(),
                };
                let http = HttpRequest::post(
                    self.options.settings.api_base.register_request(),
                    HttpBody::json(&body),
                );
                let base = self.options.settings.api_base.clone();
                self.log(
                    LogLevel::Info,
                    "registration",
                    format_args!("asking {base} to be registered"),
                    None,
                );
                self.exchange(Exchange::Request, http);
            }
            (Some(_), Some(secret), Some(request_id)) => {
                let http = HttpRequest {
                    bearer: Some(secret.clone()),
                    ..HttpRequest::get(self.options.settings.api_base.registration(request_id))
                };
                self.exchange(Exchange::Poll, http);
            }
            (install_id, secret, _) => {
                // A request id without the secret that it was asked with is worth nothing.
                let mut changes = vec![unset(Key::RegistrationRequestId)];
                if install_id.is_none() {
                    changes.push(set(Key::InstallId, self.chance.uuid()));
                }
                if secret.is_none() {
                    changes.push(set(Key::RegistrationSecret, self.chance.secret()));
                }
                self.store(&changes, Then::Register);
            }
        }
    }

    fn exchange(&mut self, kind: Exchange, http: HttpRequest) {
        let request = RequestId(self.id());
        self.registration.exchange = Some((request, kind));
        self.timers.set(Timer::Exchange, self.after(HTTP_BOUND));
        self.act(Action::Request { request, http });
    }

    pub(super) fn follow(&mut self, then: Then) {
        match then {
            Then::Register => {
                let fresh = self.registration.identity.registration_request_id.is_some();
                if fresh {
                    self.registration.pause = FIRST_POLL;
                    self.timers.set(Timer::Register, self.after(FIRST_POLL));
                } else {
                    self.register();
                }
            }
            Then::Connect => {
                self.session_event(SessionEvent::Registered, None);
                self.timers.set(Timer::Reconnect, self.now.mono);
            }
            Then::Reject => {
                let reason = self.registration.identity.registration_rejected.clone();
                self.finish(Exit::Rejected { reason: reason.filter(|reason| !reason.is_empty()) });
            }
        }
    }

    pub(super) fn on_exchange_timeout(&mut self) {
        if let Some(request) = self.registration.give_up() {
            self.act(Action::CancelRequest { request });
            self.registration_trouble("no answer within 60 s", None);
        }
    }

    /// Takes an answer if it is one to a registration's exchange; gives it back if not.
    pub(super) fn on_registration_answer(
        &mut self,
        request: RequestId,
        outcome: Result<HttpAnswer, HttpFailure>,
    ) -> Result<(), Result<HttpAnswer, HttpFailure>> {
        let Some((_, kind)) = self.registration.exchange.take_if(|(id, _)| *id == request) else {
            return Err(outcome);
        };
        self.timers.clear(Timer::Exchange);
        match outcome {
            Err(failure) => self.registration_trouble(&failure.0, None),
            Ok(answer) => match (kind, answer.status) {
                (Exchange::Request, 200..=299) => self.on_request_accepted(&answer),
                (Exchange::Poll, 200..=299) => self.on_decision(&answer),
                (Exchange::Poll, 404) => self.ask_anew(
                    &answer,
                    "the studio doesn't know the registration request any more",
                    vec![unset(Key::RegistrationRequestId), unset(Key::RegistrationSecret)],
                ),
                (Exchange::Poll, 401) => self.ask_anew(
                    &answer,
                    "the studio doesn't accept the registration secret any more",
                    vec![
                        unset(Key::RegistrationRequestId),
                        unset(Key::RegistrationSecret),
                        unset(Key::InstallId),
                    ],
                ),
                (_, status) => {
                    let said = self.quote(&answer.body);
                    self.registration_trouble(&format!("HTTP {status}{said}"), Some(&answer));
                }
            },
        }
        Ok(())
    }

    fn on_request_accepted(&mut self, answer: &HttpAnswer) {
        match RegisterAnswer::parse(&answer.body) {
            Err(error) => self.registration_trouble(&error.to_string(), None),
            Ok(RegisterAnswer { request_id, .. }) => {
                self.registration.failures.reset();
                self.log(
                    LogLevel::Info,
                    "registration",
                    format_args!("request {request_id} waits for an operator's approval"),
                    None,
                );
                self.observe_session(Some(format!("request {request_id} waits for approval")));
                self.store(&[set(Key::RegistrationRequestId, request_id)], Then::Register);
            }
        }
    }

    fn on_decision(&mut self, answer: &HttpAnswer) {
        match Decision::parse(&answer.body) {
            Err(error) => self.registration_trouble(&error.to_string(), None),
            Ok(Decision::Pending) => {
                self.registration.failures.reset();
                self.registration.pause = (self.registration.pause * 2).min(MAX_POLL);
                self.timers.set(Timer::Register, self.after(self.registration.pause));
            }
            Ok(Decision::Approved { worker_id, auth_token }) => {
                self.registration.failures.reset();
                self.log(LogLevel::Info, "registration", format_args!("approved as {worker_id}"), None);
                let changes = vec![
                    set(Key::WorkerId, worker_id),
                    Change { key: Key::AuthToken, value: Some(auth_token) },
                ];
                self.store(&changes, Then::Connect);
            }
            Ok(Decision::Rejected { reason }) => {
                let changes = vec![
                    set(Key::RegistrationRejected, self.registration.scrub(reason.unwrap_or_default())),
                    unset(Key::WorkerId),
                    unset(Key::AuthToken),
                ];
                self.store(&changes, Then::Reject);
            }
        }
    }

    /// Forgets what the studio forgot, and asks again after a back-off.
    fn ask_anew(&mut self, answer: &HttpAnswer, why: &str, mut changes: Vec<Change>) {
        // Credentials that were about to be renewed by that request are no good either.
        changes.extend([unset(Key::WorkerId), unset(Key::AuthToken)]);
        self.store_aside(&changes);
        self.registration_trouble(why, Some(answer));
    }

    /// Nothing that is stored is lost; the next step is taken after a back-off.
    fn registration_trouble(&mut self, why: &str, answer: Option<&HttpAnswer>) {
        let asked = answer
            .and_then(|answer| retry_after::parse(answer.retry_after.as_deref()?, answer.date.as_deref()));
        let wait = self.registration.failures.failed(&mut self.chance, asked);
        self.log(
            LogLevel::Warn,
            "registration",
            format_args!("registration failed, trying again in {} s: {why}", wait.as_secs().max(1)),
            None,
        );
        self.observe_session(Some(why.to_string()));
        self.timers.set(Timer::Register, self.after(wait));
    }

    /// The studio revoked this worker: forgets the credentials, keeps the install id, asks anew. The pause grows
    /// with a studio that approves and revokes again and again.
    pub(super) fn forget_credentials(&mut self) {
        self.store_aside(&[
            unset(Key::WorkerId),
            unset(Key::AuthToken),
            unset(Key::RegistrationRequestId),
            unset(Key::RegistrationSecret),
        ]);
        let wait = self.registration.revocations.failed(&mut self.chance, None);
        self.timers.set(Timer::Register, self.after(wait));
    }

    /// The first welcome ends a registration: its request and secret have done their work.
    pub(super) fn registration_done(&mut self) {
        self.registration.polled_again = 0;
        if self.registration.identity.registration_request_id.is_some()
            || self.registration.identity.registration_secret.is_some()
        {
            self.store_aside(&[unset(Key::RegistrationRequestId), unset(Key::RegistrationSecret)]);
        }
    }

    /// Takes over credentials and address that somebody changed.
    pub(super) fn adopt_identity(&mut self, identity: Option<Identity>) {
        if let Some(request) = self.registration.give_up() {
            self.act(Action::CancelRequest { request });
        }
        for timer in [Timer::Register, Timer::Exchange, Timer::StoreRetry] {
            self.timers.clear(timer);
        }
        let old = self.registration.identity.clone();
        let identity = identity.unwrap_or_else(|| old.clone());
        let (auth_token, secret) = (old.auth_token, old.registration_secret);
        let retired = core::mem::take(&mut self.registration.storage.retired);
        self.registration = Registration::new(identity.clone());
        let storage = &mut self.registration.storage;
        storage.retired = retired;
        storage.retire(auth_token);
        storage.retire(secret);
        self.options.settings.identity = identity;
        self.failures.reset();
        self.contested = 0;
    }

    /// A body as a person reads it behind a status: nothing, or `: ` and its first 200 characters on one
    /// line. Secrets are taken out before it is cut, since half a secret would not be found.
    pub(super) fn quote(&self, body: &[u8]) -> String {
        let text = self.registration.scrub(String::from_utf8_lossy(body).into_owned());
        let line: Vec<_> = text.split_whitespace().collect();
        let line = super::truncate_prompt(&line.join(" "));
        if line.is_empty() { line } else { format!(": {line}") }
    }
}
