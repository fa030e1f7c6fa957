//! Who may connect: requests, decisions, workers and tokens (section 2).

use alloc::{
    borrow::ToOwned,
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
};
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Answer, CallId, Record, Refusal, RegistrationRecord, Standing, Studio, WorkerRecord, cut,
    sessions::SessionEnd,
};
use crate::{
    time::{Mono, Wall},
    wire::{
        Capabilities, Secret,
        registration::{Decision, RegisterAnswer, RegisterRequest, secret_hash},
    },
};

/// The window in which registration requests are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Peer addresses that are counted at a time.
const MAX_PEERS: usize = 10_000;
/// The largest registration body that is read, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// Everybody that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Registry {
    registrations: BTreeMap<String, Arc<RegistrationRecord>>,
    /// The one registration of each install id that counts.
    by_install: BTreeMap<String, String>,
    /// When somebody last asked for each registration that is pending.
    pending: BTreeMap<String, Mono>,
    workers: BTreeMap<String, Arc<WorkerRecord>>,
    /// Requests of each peer address: since when, how many.
    peers: BTreeMap<String, (Mono, u32)>,
    next_place: u64,
}

impl Registry {
    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.workers.values().map(Arc::as_ref)
    }

    pub(super) fn worker(&self, id: &str) -> Option<&Arc<WorkerRecord>> {
        self.workers.get(id)
    }

    pub(super) fn registrations(&self) -> impl Iterator<Item = &RegistrationRecord> {
        self.registrations.values().map(Arc::as_ref)
    }

    pub(super) fn registration(&self, request_id: &str) -> Option<&Arc<RegistrationRecord>> {
        self.registrations.get(request_id)
    }

    pub(super) fn restore_worker(&mut self, worker: Arc<WorkerRecord>) {
        if worker.revoked_at.is_none() {
            self.workers.insert(worker.id.clone(), worker);
        }
    }

    pub(super) fn restore_registration(&mut self, registration: Arc<RegistrationRecord>, now: Mono) {
        self.next_place = self.next_place.max(registration.place.saturating_add(1));
        if registration.standing == Standing::Expired {
            return;
        }
        let known = self.by_install.get(&registration.install_id).and_then(|id| self.registrations.get(id));
        if known.is_none_or(|known| known.place <= registration.place) {
            self.drop_registration_of(&registration.install_id);
            self.put(registration, now);
        }
    }

    /// Puts times on a clock that starts now and forgets those for people, to compare states by.
    pub(super) fn forget_times(&mut self, now: Mono) {
        let shift = |at: Mono| Mono::ZERO + now.since(at);
        self.pending.values_mut().for_each(|at| *at = shift(*at));
        self.peers.retain(|_, (since, _)| now.since(*since) < WINDOW);
        self.peers.values_mut().for_each(|(since, _)| *since = shift(*since));
        for worker in self.workers.values_mut().map(Arc::make_mut) {
            (worker.approved_at, worker.seen_at) = (Wall::default(), None);
        }
        let places: BTreeSet<u64> =
            self.registrations.values().map(|registration| registration.place).collect();
        for registration in self.registrations.values_mut().map(Arc::make_mut) {
            registration.place = places.range(..registration.place).count() as u64;
            (registration.asked_at, registration.decided_at) = (Wall::default(), None);
        }
        self.next_place = 0;
    }

    /// Puts a registration in its place, whatever it stood at before.
    fn put(&mut self, registration: Arc<RegistrationRecord>, now: Mono) {
        let id = registration.request_id.clone();
        if registration.standing == Standing::Pending {
            self.pending.insert(id.clone(), now);
        } else {
            self.pending.remove(&id);
        }
        self.by_install.insert(registration.install_id.clone(), id.clone());
        self.registrations.insert(id, registration);
    }

    fn drop_registration_of(&mut self, install_id: &str) -> Option<Arc<RegistrationRecord>> {
        let id = self.by_install.remove(install_id)?;
        self.pending.remove(&id);
        self.registrations.remove(&id)
    }

    /// Counts a request of `peer`; the error says in how many seconds it may come again.
    fn count(&mut self, peer: &str, most: u32, now: Mono) -> Result<(), u64> {
        let open = |since: Mono| now.since(since) < WINDOW;
        if !self.peers.contains_key(peer) && self.peers.len() >= MAX_PEERS {
            self.peers.retain(|_, (since, _)| open(*since));
            if self.peers.len() >= MAX_PEERS {
                return Err(WINDOW.as_secs());
            }
        }
        let (since, count) = self.peers.entry(peer.to_owned()).or_insert((now, 0));
        if !open(*since) {
            (*since, *count) = (now, 0);
        }
        if *count >= most {
            let left = WINDOW.saturating_sub(now.since(*since));
            return Err(left.as_secs() + u64::from(left.subsec_nanos() > 0));
        }
        *count += 1;
        Ok(())
    }
}

/// Why a bearer does not open a worker's doors.
pub(super) enum Denied {
    /// There is no such worker (any more).
    Unknown,
    /// It is not the worker's newest token.
    WrongToken,
}

impl Denied {
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            // A worker looks for these words to know that it was revoked (section 6).
            Self::Unknown => Refusal::new(404, "worker not found"),
            Self::WrongToken => Refusal::new(401, "this is not the worker's newest token"),
        }
    }
}

impl Studio {
    /// Whether `bearer` is the newest token of a worker that is let in.
    pub(super) fn authorise(&self, worker_id: &str, bearer: Option<&Secret>) -> Result<(), Denied> {
        let worker = self.registry.worker(worker_id).ok_or(Denied::Unknown)?;
        match (&worker.token_hash, bearer) {
            (Some(hash), Some(bearer)) if *hash == secret_hash(bearer) => Ok(()),
            _ => Err(Denied::WrongToken),
        }
    }

    pub(super) fn on_register(&mut self, call: CallId, peer: &str, body: &[u8]) {
        if let Err(seconds) = self.registry.count(peer, self.options.registrations_per_minute, self.now.mono)
        {
            let mut refusal = Refusal::new(429, "too many registration requests from this address");
            refusal.retry_after = Some(seconds);
            return self.refuse(call, refusal);
        }
        let request = match read_request(body) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(call, refusal),
        };
        let known = self.registry.by_install.get(&request.install_id);
        if let Some(request_id) = known.filter(|id| self.registry.pending.contains_key(*id)).cloned() {
            // Also with another secret: its polls are refused then, and the one who asked first keeps the request.
            return self.answer_pending(call, request_id);
        }
        if !self.make_room() {
            let mut refusal = Refusal::new(503, "too many registrations wait for a decision");
            refusal.retry_after = Some(WINDOW.as_secs());
            return self.refuse(call, refusal);
        }
        if let Some(older) = self.registry.drop_registration_of(&request.install_id) {
            self.expire(&older);
        }
        let request_id = self.chance.id("rr");
        let place = self.registry.next_place;
        self.registry.next_place += 1;
        let record = Arc::new(RegistrationRecord {
            request_id: request_id.clone(),
            place,
            install_id: request.install_id,
            secret_hash: request.registration_secret_hash,
            label: request.label,
            capabilities: Arc::new(request.capabilities),
            user_agent: request.user_agent,
            standing: Standing::Pending,
            asked_at: self.now.wall,
            decided_at: None,
        });
        let label = record.label.as_ref().map(|label| format!(", called {label:?}")).unwrap_or_default();
        let machine = &record.capabilities.machine_name;
        self.info(format!("registration {request_id} asked for by the machine {machine:?}{label}"));
        self.registry.put(record.clone(), self.now.mono);
        if self.options.auto_approve {
            self.approve(&record);
        } else {
            self.save(Record::Registration(record));
        }
        self.answer_pending(call, request_id);
    }

    fn answer_pending(&mut self, call: CallId, request_id: String) {
        self.answer(call, Answer::Registered(RegisterAnswer { request_id, status: "pending".to_owned() }));
    }

    /// Whether another registration may wait for a decision; the one that nobody asked for the longest time goes.
    fn make_room(&mut self) -> bool {
        if self.registry.pending.len() < self.options.max_pending {
            return true;
        }
        let Some((id, asked)) = self.registry.pending.iter().min_by_key(|(_, asked)| **asked) else {
            return false;
        };
        if self.now.mono.since(*asked) < self.options.abandoned_after {
            return false;
        }
        let install_id = self.registry.registrations.get(id).map(|record| record.install_id.clone());
        let Some(record) = install_id.and_then(|id| self.registry.drop_registration_of(&id)) else {
            return false;
        };
        self.expire(&record);
        true
    }

    fn expire(&mut self, record: &RegistrationRecord) {
        self.save(Record::Registration(Arc::new(RegistrationRecord {
            standing: Standing::Expired,
            ..record.clone()
        })));
    }

    pub(super) fn on_poll(&mut self, call: CallId, request_id: &str, bearer: Option<&Secret>) {
        let Some(record) = self.registry.registrations.get(request_id).cloned() else {
            return self.refuse(call, Refusal::new(404, "registration request not found"));
        };
        if bearer.is_none_or(|bearer| secret_hash(bearer) != record.secret_hash) {
            return self.refuse(call, Refusal::new(401, "this is not the secret that was registered"));
        }
        let decision = match &record.standing {
            Standing::Pending => {
                self.registry.pending.insert(request_id.to_owned(), self.now.mono);
                Decision::Pending
            }
            Standing::Rejected { reason } => Decision::Rejected { reason: reason.clone() },
            Standing::Approved { worker_id } => match self.mint(worker_id) {
                Some(auth_token) => Decision::Approved { worker_id: worker_id.clone(), auth_token },
                None => return self.refuse(call, Refusal::new(404, "registration request not found")),
            },
            Standing::Expired => {
                return self.refuse(call, Refusal::new(404, "registration request not found"));
            }
        };
        self.answer(call, Answer::Decision(decision));
    }

    /// A fresh token for a worker; from now on no other counts.
    fn mint(&mut self, worker_id: &str) -> Option<Secret> {
        let token = self.chance.token();
        let worker = self.registry.workers.get_mut(worker_id)?;
        Arc::make_mut(worker).token_hash = Some(secret_hash(&token));
        let record = Record::Worker(worker.clone());
        self.save(record);
        Some(token)
    }

    pub(super) fn on_approve(&mut self, call: CallId, request_id: &str) {
        let Some(record) = self.registry.registrations.get(request_id).cloned() else {
            return self.refuse(call, Refusal::new(404, "registration request not found"));
        };
        let record = match record.standing {
            Standing::Pending => self.approve(&record),
            Standing::Approved { .. } => record,
            Standing::Rejected { .. } | Standing::Expired => {
                let error = format!("the registration is {} already", record.standing.name());
                return self.refuse(call, Refusal::new(409, error));
            }
        };
        self.answer(call, Answer::Registration(alloc::boxed::Box::new((*record).clone())));
    }

    /// Lets a worker in. A machine that is known keeps its id; its new token ends the old one at the first poll.
    fn approve(&mut self, registration: &RegistrationRecord) -> Arc<RegistrationRecord> {
        let known = self.registry.workers().find(|worker| worker.install_id == registration.install_id);
        let known = known.map(|worker| (worker.id.clone(), worker.token_hash.clone(), worker.seen_at));
        let (id, token_hash, seen_at) = known.unwrap_or_else(|| (self.chance.id("w"), None, None));
        let worker = Arc::new(WorkerRecord {
            id: id.clone(),
            install_id: registration.install_id.clone(),
            label: registration.label.clone(),
            capabilities: registration.capabilities.clone(),
            token_hash,
            approved_at: self.now.wall,
            seen_at,
            revoked_at: None,
        });
        self.registry.workers.insert(id.clone(), worker.clone());
        self.save(Record::Worker(worker));
        self.info(format!("registration {} approved as {id}", registration.request_id));
        self.decide(registration, Standing::Approved { worker_id: id })
    }

    fn decide(&mut self, registration: &RegistrationRecord, standing: Standing) -> Arc<RegistrationRecord> {
        let record = Arc::new(RegistrationRecord {
            standing,
            decided_at: Some(self.now.wall),
            ..registration.clone()
        });
        self.registry.put(record.clone(), self.now.mono);
        self.save(Record::Registration(record.clone()));
        record
    }

    pub(super) fn on_reject_registration(&mut self, call: CallId, request_id: &str, reason: Option<String>) {
        let Some(record) = self.registry.registrations.get(request_id).cloned() else {
            return self.refuse(call, Refusal::new(404, "registration request not found"));
        };
        let record = match record.standing {
            Standing::Pending => {
                let reason = reason.map(|reason| cut(reason, 500)).filter(|reason| !reason.is_empty());
                self.info(format!("registration {request_id} rejected"));
                self.decide(&record, Standing::Rejected { reason })
            }
            Standing::Rejected { .. } => record,
            Standing::Approved { .. } | Standing::Expired => {
                let error = "the registration is approved already: revoke the worker";
                return self.refuse(call, Refusal::new(409, error));
            }
        };
        self.answer(call, Answer::Registration(alloc::boxed::Box::new((*record).clone())));
    }

    pub(super) fn on_revoke(&mut self, call: CallId, worker_id: &str) {
        let Some(mut worker) = self.registry.workers.remove(worker_id) else {
            return self.refuse(call, Denied::Unknown.refusal());
        };
        let record = Arc::make_mut(&mut worker);
        record.token_hash = None;
        record.revoked_at = Some(self.now.wall);
        self.save(Record::Worker(worker.clone()));
        // The request that made it stands for nothing any more: a poll gets 404, and the worker asks anew.
        let request_id = self.registry.by_install.get(&worker.install_id);
        let request = request_id.and_then(|id| self.registry.registrations.get(id));
        if request.is_some_and(|request| matches!(request.standing, Standing::Approved { .. }))
            && let Some(record) = self.registry.drop_registration_of(&worker.install_id)
        {
            self.expire(&record);
        }
        self.info(format!("worker {worker_id} revoked"));
        for conn in self.sessions_of(worker_id) {
            self.end_session(conn, &SessionEnd::Revoked);
        }
        self.answer(call, Answer::Worker(alloc::boxed::Box::new((*worker).clone())));
    }

    /// Notes what a worker said of itself, and when; stored only when `store` says so or it changed.
    pub(super) fn note_worker(&mut self, worker_id: &str, capabilities: &Arc<Capabilities>, store: bool) {
        let wall = self.now.wall;
        let Some(worker) = self.registry.workers.get_mut(worker_id) else {
            return;
        };
        if !store && worker.capabilities == *capabilities {
            return;
        }
        let record = Arc::make_mut(worker);
        record.capabilities = capabilities.clone();
        record.seen_at = Some(wall);
        let record = Record::Worker(worker.clone());
        self.save(record);
    }
}

/// Reads the body of a registration request; what is wrong with it is named.
fn read_request(body: &[u8]) -> Result<RegisterRequest, Refusal> {
    if body.len() > MAX_BODY {
        return Err(Refusal::new(413, "the body is too large"));
    }
    let object: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Refusal::new(400, format!("the body is not a JSON object ({error})")))?;
    let text = |name: &str, most: usize| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= most && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()).filter(|text| !text.is_empty()))
        }
        Some(_) => {
            let error = format!("`{name}` is a text of at most {most} bytes without control characters");
            Err(Refusal::field(name, error))
        }
    };
    let required = |name: &str, most: usize| {
        text(name, most)?.ok_or_else(|| Refusal::field(name, format!("`{name}` is required")))
    };
    let install_id = required("installId", 100)?;
    let registration_secret_hash = required("registrationSecretHash", 64)?.to_ascii_lowercase();
    if registration_secret_hash.len() != 64
        || !registration_secret_hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        let error = "`registrationSecretHash` is a SHA-256 as 64 hex digits";
        return Err(Refusal::field("registrationSecretHash", error));
    }
    let capabilities = object
        .get("capabilities")
        .ok_or_else(|| Refusal::field("capabilities", "`capabilities` is required"))
        .and_then(|value| {
            Capabilities::deserialize(value)
                .map_err(|error| Refusal::field("capabilities", format!("`capabilities`: {error}")))
        })?;
    Ok(RegisterRequest {
        install_id,
        registration_secret_hash,
        label: text("label", 200)?,
        capabilities,
        user_agent: text("userAgent", 500)?.unwrap_or_default(),
    })
}
