//! The studio of the scenarios: threads and blocking connections.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, thread, time::Duration};

use super::{Clock, Network, PATIENCE, Request, Session, Upgrading, clock::Watched, network::Listener};

/// A studio on a [`Network`]. It does nothing by itself: the scenario plays it.
pub struct TestStudio {
    base: String,
    clock: Clock,
    listener: Arc<Listener>,
    sessions: Watched<VecDeque<Upgrading>>,
    requests: Watched<VecDeque<Request>>,
    /// Connections that ended before anything was asked.
    silent: Watched<usize>,
    listening: Option<thread::JoinHandle<()>>,
}

impl TestStudio {
    /// A studio on a loopback port of its own: that of [`Network::loopback`].
    pub fn new() -> Self {
        Network::loopback().studio()
    }

    pub(super) fn listening(network: &Network, listener: Listener) -> Self {
        let clock = network.clock().clone();
        let listener = Arc::new(listener);
        let sessions = Watched::new(&clock, VecDeque::new());
        let requests = Watched::new(&clock, VecDeque::new());
        let silent = Watched::new(&clock, 0);
        let listening = clock.spawn({
            let (clock, listener) = (clock.clone(), Arc::clone(&listener));
            let (sessions, requests, silent) = (sessions.clone(), requests.clone(), silent.clone());
            move || {
                while let Some(stream) = listener.accept() {
                    let (sessions, requests, silent) = (sessions.clone(), requests.clone(), silent.clone());
                    let of = clock.clone();
                    // A head that doesn't come must not keep the next connection waiting.
                    clock.spawn(move || {
                        let Ok(request) = Request::read(stream, of) else {
                            silent.change(|silent| *silent += 1);
                            return;
                        };
                        if request.headers.contains_key("upgrade") {
                            sessions.change(|sessions| sessions.push_back(Upgrading(request)));
                        } else {
                            requests.change(|requests| requests.push_back(request));
                        }
                    });
                }
            }
        });
        Self {
            base: network.base(listener.address),
            clock,
            listener,
            sessions,
            requests,
            silent,
            listening: Some(listening),
        }
    }

    /// What time it is where it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Where it is, as `api_base_url` names it.
    pub fn base(&self) -> String {
        self.base.clone()
    }

    /// The next attempt of the worker to open a session.
    pub fn upgrade(&self) -> Upgrading {
        self.upgrade_within(PATIENCE)
    }

    /// The same, for what takes its time.
    pub fn upgrade_within(&self, bound: Duration) -> Upgrading {
        self.sessions.take_within(bound, VecDeque::pop_front).expect("the worker does not connect")
    }

    /// The next session, welcomed: past its first heartbeat.
    pub fn session(&self) -> Session {
        self.upgrade().accept().welcome()
    }

    /// The next HTTP request.
    pub fn request(&self) -> Request {
        self.request_within(PATIENCE)
    }

    /// The same, for what takes its time.
    pub fn request_within(&self, bound: Duration) -> Request {
        self.requests.take_within(bound, VecDeque::pop_front).expect("the worker makes no request")
    }

    /// Waits until a worker connects, and turns away before it has asked for anything.
    pub fn is_turned_away_from(&self) {
        let silent = |silent: &mut usize| (*silent > 0).then(|| *silent -= 1);
        self.silent.take_within(PATIENCE, silent).expect("the worker does not turn away");
    }

    /// A request that came and that nobody took.
    pub fn try_request(&self) -> Option<Request> {
        self.requests.attempt(VecDeque::pop_front)
    }

    /// Whether a request came that nobody took.
    pub fn has_request(&self) -> bool {
        self.try_request().is_some()
    }

    /// Whether an attempt to open a session came that nobody took.
    pub fn has_upgrade(&self) -> bool {
        self.sessions.attempt(VecDeque::pop_front).is_some()
    }
}

impl Default for TestStudio {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestStudio {
    fn drop(&mut self) {
        self.listener.close();
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}
