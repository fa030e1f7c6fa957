//! The studio of the scenarios: threads and blocking sockets.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{PATIENCE, Request, Session, Upgrading};

/// A studio on a loopback port. It does nothing by itself: the scenario plays it.
pub struct TestStudio {
    address: SocketAddr,
    sessions: mpsc::Receiver<Upgrading>,
    requests: mpsc::Receiver<Request>,
    stops: Arc<AtomicBool>,
    listening: Option<thread::JoinHandle<()>>,
}

impl TestStudio {
    /// Starts listening on a free port.
    pub fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    /// Starts listening there: where another one was, say, which has ended.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (sessions_in, sessions) = mpsc::channel();
        let (requests_in, requests) = mpsc::channel();
        let stops = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stops);
        let listening = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (sessions, requests) = (sessions_in.clone(), requests_in.clone());
                // A head that doesn't come must not keep the next connection waiting.
                thread::spawn(move || {
                    let Ok(request) = stream.and_then(Request::read) else { return };
                    // A scenario that is over wants nothing more.
                    if request.headers.contains_key("upgrade") {
                        let _ = sessions.send(Upgrading(request));
                    } else {
                        let _ = requests.send(request);
                    }
                });
            }
        });
        Self { address, sessions, requests, stops, listening: Some(listening) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, as `api_base_url` names it.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next attempt of the worker to open a session.
    pub fn upgrade(&self) -> Upgrading {
        self.upgrade_within(PATIENCE)
    }

    /// The same, for what takes its time.
    pub fn upgrade_within(&self, bound: Duration) -> Upgrading {
        self.sessions.recv_timeout(bound).expect("the worker does not connect")
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
        self.requests.recv_timeout(bound).expect("the worker makes no request")
    }

    /// A request that came and that nobody took.
    pub fn try_request(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Whether a request came that nobody took.
    pub fn has_request(&self) -> bool {
        self.try_request().is_some()
    }

    /// Whether an attempt to open a session came that nobody took.
    pub fn has_upgrade(&self) -> bool {
        self.sessions.try_recv().is_ok()
    }
}

impl Default for TestStudio {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestStudio {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}
