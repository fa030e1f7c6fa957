//! Fuzz body: registration (section 2), with a studio that answers anything and a disk that may be full.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use serde_json::json;

use super::{oracle::Oracle, secrecy::Secrecy, told::Told};
use crate::{
    http::{HttpAnswer, HttpFailure, HttpRequest, Method},
    time::{Mono, Now, Wall},
    wire::{
        ApiBase, CloseCode, Secret,
        registration::{Decision, RegisterAnswer, RegisterRequest, secret_hash},
        retry_after,
    },
    worker::{
        Action, Change, ConnId, ConnectFailure, Identity, Input, Key, LogLine, Options, RequestId,
        SessionEnd, Settings, StoreId, Worker,
    },
};

/// Steps of one run; a longer input is cut.
const MAX_STEPS: usize = 600;
/// The shortest pause before a poll (section 2).
const FIRST_POLL: Duration = Duration::from_secs(2);

/// Plays `data` against a worker that is to be registered, with whatever a configuration may know of it at the start, through
/// answers of every kind, full disks and restarts.
///
/// What is sent is on the disk before: the install id and the hash of the secret in a request, the secret and the request
/// id in a poll, the worker's id and token at a connection. One exchange is under way at a time, never earlier than `Retry-After`
/// asks or than a poll may be. Nothing that is stored is forgotten but for the reasons of section 2. No secret is seen,
/// however a studio echoes it. Bodies that say something say the same after they were written and read again.
///
/// # Panics
/// When a promise is broken: that is the finding.
pub fn registration(data: &[u8]) {
    let mut told = Told::new(data);
    let mut game = Game::new(&mut told);
    for _ in 0..MAX_STEPS {
        if !told.goes_on() {
            break;
        }
        game.play(&mut told);
    }
}

type Disk = BTreeMap<Key, String>;

const KEYS: [Key; 6] = [
    Key::InstallId,
    Key::RegistrationSecret,
    Key::RegistrationRequestId,
    Key::WorkerId,
    Key::AuthToken,
    Key::RegistrationRejected,
];
/// What a studio that knows the request no longer lets be forgotten.
const REQUEST: [Key; 4] =
    [Key::RegistrationRequestId, Key::RegistrationSecret, Key::WorkerId, Key::AuthToken];

struct Game {
    worker: Worker,
    oracle: Oracle,
    secrecy: Secrecy,
    now: Now,
    until: Mono,
    base: ApiBase,
    /// What is in the configuration.
    disk: Disk,
    /// What is asked to be stored and isn't yet, in order.
    stores: VecDeque<(StoreId, Vec<Change>)>,
    /// The exchange under way, and whether it is a poll.
    flight: Option<(RequestId, bool)>,
    /// Nothing is asked for before.
    not_before: Mono,
    /// Nothing connects before.
    no_connect_before: Mono,
    /// What may be forgotten.
    licensed: BTreeSet<Key>,
    /// Makes tokens and seeds that were not there before.
    fresh: u8,
}

impl Game {
    fn new(told: &mut Told<'_>) -> Self {
        let known = told.byte();
        let values =
            ["11111111-1111-4111-8111-111111111111", &"5".repeat(64), "rr-0", "w-0", "tok-of-old", ""];
        let is_known = |(at, _): &(usize, _)| known >> at & 1 == 1 && (*at < 5 || known >= 0xc0);
        let disk: Disk = KEYS
            .into_iter()
            .zip(values.map(String::from))
            .enumerate()
            .filter(is_known)
            .map(|(_, pair)| pair)
            .collect();
        let now = Now { mono: Mono::from_micros(1), wall: Wall::from_millis(1_764_054_000_000) };
        let Ok(base) = ApiBase::parse("https://studio/x") else { unreachable!("a constant address") };
        let (worker, secrecy) = start(&disk, &base, 0, now);
        let mut game = Self {
            worker,
            oracle: Oracle::new(),
            secrecy,
            now,
            until: now.mono,
            base,
            disk,
            stores: VecDeque::new(),
            flight: None,
            not_before: Mono::ZERO,
            no_connect_before: Mono::ZERO,
            licensed: BTreeSet::new(),
            fresh: 0,
        };
        game.started();
        game
    }

    fn started(&mut self) {
        self.licensed.clear();
        // A request id is worth nothing without what it was asked with.
        if !(self.disk.contains_key(&Key::RegistrationSecret) && self.disk.contains_key(&Key::InstallId)) {
            self.licensed.insert(Key::RegistrationRequestId);
        }
        self.drain();
    }

    fn drain(&mut self) {
        let mut actions = Vec::new();
        self.until = self.oracle.drain(&mut self.worker, self.now, |action| actions.push(action));
        for action in actions {
            self.secrecy.check(&action);
            self.check(action);
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Store { store, changes } => {
                for Change { key, value } in &changes {
                    let lost = value.is_none() && self.disk.contains_key(key);
                    assert!(!lost || self.licensed.contains(key), "{key:?} is forgotten for no reason");
                    if value.is_some() {
                        self.licensed.remove(key);
                    }
                }
                self.stores.push_back((store, changes));
            }
            Action::Request { request, http } => {
                assert_eq!(self.flight, None, "two exchanges at once");
                assert!(self.now.mono >= self.not_before, "earlier than it may be");
                self.flight = Some((request, self.check_request(&http)));
            }
            Action::CancelRequest { request } => {
                self.flight.take_if(|(id, _)| *id == request);
            }
            Action::Connect { url, bearer, .. } => {
                assert!(self.now.mono >= self.no_connect_before, "earlier than the studio asked");
                let (id, token) = (self.stored(Key::WorkerId), self.stored(Key::AuthToken));
                assert_eq!((url, bearer.reveal()), (self.base.connect(id), token), "not what is stored");
            }
            _ => {}
        }
    }

    /// Whether a request says what is stored; gives back whether it is a poll.
    fn check_request(&self, http: &HttpRequest) -> bool {
        let secret = Secret::new(self.stored(Key::RegistrationSecret));
        if let Some(body) = &http.body {
            assert_eq!((http.method, &http.url), (Method::Post, &self.base.register_request()));
            assert_eq!(http.bearer, None);
            let body = serde_json::from_slice::<RegisterRequest>(&body.bytes);
            let Ok(body) = body else { panic!("a body that can't be read") };
            assert_eq!(body.install_id, self.stored(Key::InstallId), "not what is stored");
            assert_eq!(body.registration_secret_hash, secret_hash(&secret), "not what is stored");
            assert_eq!(&body.capabilities, &**self.worker.capabilities());
            return false;
        }
        let request_id = self.stored(Key::RegistrationRequestId);
        assert_eq!((http.method, &http.url), (Method::Get, &self.base.registration(request_id)));
        assert_eq!(http.bearer.as_ref(), Some(&secret), "not what is stored");
        true
    }

    fn stored(&self, key: Key) -> &str {
        self.disk.get(&key).map_or("", String::as_str)
    }

    fn input(&mut self, input: Input) {
        self.oracle.happened(&input);
        self.worker.handle(self.now, input);
        self.drain();
    }

    fn play(&mut self, told: &mut Told<'_>) {
        match told.below(12) {
            0 | 1 => self.store(true),
            2 => self.store(false),
            3..=5 => self.answer(told),
            6 => {
                if let Some((request, _)) = self.flight.take() {
                    let failure = HttpFailure(self.echo("connection refused, "));
                    self.input(Input::Answered { request, outcome: Err(failure) });
                }
            }
            7 => self.pass(self.until.since(self.now.mono).min(Duration::from_secs(7_200))),
            8 => self.pass(Duration::from_millis(u64::from(told.byte()) * 20)),
            9 => self.meet(told),
            10 => self.restart(told.byte()),
            _ => {
                let message = self.echo("somebody prints it: ");
                let line = LogLine {
                    level: crate::wire::LogLevel::Info,
                    category: "x".into(),
                    message,
                    job_id: None,
                };
                self.input(Input::Log(line));
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.input(Input::Tick);
    }

    /// A text with the newest secret in it, as somebody else may say it.
    fn echo(&self, text: &str) -> String {
        format!("{text}{}", self.secrecy.newest().map_or("", Secret::reveal))
    }

    /// The oldest request to store something is done, or can't be.
    fn store(&mut self, done: bool) {
        let Some((store, changes)) = self.stores.pop_front() else { return };
        if done {
            for Change { key, value } in changes {
                match value {
                    Some(value) => drop(self.disk.insert(key, value.reveal().to_string())),
                    None => drop(self.disk.remove(&key)),
                }
            }
        }
        let outcome = if done { Ok(()) } else { Err("no space left".into()) };
        self.input(Input::Stored { store, outcome });
    }

    /// The program is killed and starts again, perhaps after `register --reset`.
    fn restart(&mut self, how: u8) {
        self.stores.clear();
        self.flight = None;
        (self.not_before, self.no_connect_before) = (Mono::ZERO, Mono::ZERO);
        if how >= 0x80 || self.disk.contains_key(&Key::RegistrationRejected) {
            self.disk.clear();
        }
        self.fresh = self.fresh.wrapping_add(1);
        self.oracle = Oracle::new();
        (self.worker, self.secrecy) = start(&self.disk, &self.base, self.fresh, self.now);
        self.started();
    }

    /// The studio answers the exchange under way.
    fn answer(&mut self, told: &mut Told<'_>) {
        let Some((request, poll)) = self.flight.take() else { return };
        let answer = HttpAnswer { body: self.body(told), ..Self::head(told) };
        let said =
            answer.retry_after.as_deref().and_then(|wait| retry_after::parse(wait, answer.date.as_deref()));
        match (poll, answer.status) {
            (true, 401) => self.licensed.extend(REQUEST.into_iter().chain([Key::InstallId])),
            (true, 404) => self.licensed.extend(REQUEST),
            (true, 200..=299) => match check_decision(&answer.body) {
                Some(Decision::Pending) => self.not_before = self.now.mono + FIRST_POLL,
                Some(Decision::Rejected { .. }) => self.licensed.extend([Key::WorkerId, Key::AuthToken]),
                Some(Decision::Approved { .. }) | None => {}
            },
            (false, 200..=299) if RegisterAnswer::parse(&answer.body).is_ok() => {
                self.not_before = self.now.mono + FIRST_POLL;
            }
            _ => {}
        }
        if !answer.is_success() {
            self.not_before = self.now.mono + said.unwrap_or_default();
        }
        self.input(Input::Answered { request, outcome: Ok(answer) });
    }

    fn head(told: &mut Told<'_>) -> HttpAnswer {
        let status =
            told.one_of(&[200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 410, 429, 500, 502, 503, 599]);
        let (mut retry_after, mut date) = (None, None);
        match told.below(8) {
            0..=3 => {}
            4 => retry_after = Some(told.byte().to_string()),
            5 => retry_after = Some("99999999999999999999".into()),
            6 => {
                retry_after = Some("Tue, 25 Nov 2025 07:10:00 GMT".into());
                date = Some(format!("Tue, 25 Nov 2025 07:{:02}:00 GMT", told.below(60)));
            }
            _ => (retry_after, date) = (Some(told.text()), Some(told.text())),
        }
        HttpAnswer { status, retry_after, date, ..HttpAnswer::default() }
    }

    fn body(&mut self, told: &mut Told<'_>) -> Vec<u8> {
        let json = match told.below(10) {
            0 | 1 => json!({ "requestId": format!("rr-{}", told.byte()), "status": "pending" }),
            2 => json!({ "status": "pending" }),
            3 | 4 => {
                self.fresh = self.fresh.wrapping_add(1);
                let token = format!("tok-number-{}", self.fresh);
                json!({ "status": "approved", "workerId": format!("w-{}", told.byte()), "authToken": token })
            }
            5 => json!({ "status": "rejected", "reason": self.echo("I know you: ") }),
            6 => {
                json!({ "status": told.text(), "requestId": told.text(), "workerId": told.text(), "reason": null })
            }
            7 => json!({ "error": self.echo(&"x ".repeat(told.below(128))), "trace": told.text() }),
            8 => return vec![told.byte(); HttpAnswer::SMALL_BODY],
            _ => return told.text().into_bytes(),
        };
        json.to_string().into_bytes()
    }

    /// What comes of a connection.
    fn meet(&mut self, told: &mut Told<'_>) {
        let Some(conn) = self.oracle.conn() else { return };
        if self.oracle.is_connecting() {
            if told.below(2) == 0 {
                return self.input(Input::Connected { conn });
            }
            let answer = match told.below(4) {
                0 => {
                    HttpAnswer { status: 401, body: self.echo("no: ").into_bytes(), ..HttpAnswer::default() }
                }
                1 => {
                    self.licensed.extend(REQUEST);
                    let body = br#"{"error":"worker not found"}"#.to_vec();
                    HttpAnswer { status: 404, body, ..HttpAnswer::default() }
                }
                _ => Self::head(told),
            };
            if let (429 | 503, Some(wait)) = (answer.status, &answer.retry_after) {
                let wait = retry_after::parse(wait, answer.date.as_deref()).unwrap_or_default();
                self.no_connect_before = self.now.mono + wait;
            }
            return self.input(Input::ConnectFailed { conn, failure: ConnectFailure::Refused(answer) });
        }
        self.converse(conn, told);
    }

    fn converse(&mut self, conn: ConnId, told: &mut Told<'_>) {
        let text = match told.below(6) {
            0 | 1 => {
                self.licensed.extend([Key::RegistrationRequestId, Key::RegistrationSecret]);
                json!({ "type": "welcome", "workerId": "w", "serverTime": "" }).to_string()
            }
            2 => {
                self.licensed.extend(REQUEST);
                json!({ "type": "error", "code": "worker_deleted", "message": self.echo("go, ") }).to_string()
            }
            3 => {
                self.licensed.extend(REQUEST);
                let end = SessionEnd::Closed { code: CloseCode::WORKER_DELETED, reason: self.echo("") };
                return self.input(Input::Closed { conn, end });
            }
            4 => return self.input(Input::Closed { conn, end: SessionEnd::Dropped(self.echo("reset ")) }),
            _ => json!({ "type": self.echo("new-"), "code": "auth_failed", "message": told.text() })
                .to_string(),
        };
        self.input(Input::Text { conn, text });
    }
}

/// A program that starts with what is on the disk.
fn start(disk: &Disk, base: &ApiBase, fresh: u8, now: Now) -> (Worker, Secrecy) {
    let value = |key| disk.get(&key).cloned();
    let identity = Identity {
        install_id: value(Key::InstallId),
        registration_secret: value(Key::RegistrationSecret).map(Secret::from),
        registration_request_id: value(Key::RegistrationRequestId),
        registration_rejected: value(Key::RegistrationRejected),
        worker_id: value(Key::WorkerId),
        auth_token: value(Key::AuthToken).map(Secret::from),
    };
    let secrecy = Secrecy::of(&identity);
    let settings = Settings {
        api_base: base.clone(),
        identity,
        label: Some("box".into()),
        capabilities: crate::wire::Capabilities::default(),
        services: Vec::new(),
        measured_engines: Vec::new(),
        reconnect_attempts: None,
    };
    (Worker::new(Options::new(settings, "studio-worker/fuzz"), [fresh; 32], now), secrecy)
}

/// Reads a decision; it says the same after it was written and read again.
fn check_decision(body: &[u8]) -> Option<Decision> {
    let decision = Decision::parse(body).ok()?;
    assert_eq!(Decision::parse(decision.to_json().to_string().as_bytes()).as_ref(), Ok(&decision));
    Some(decision)
}
