//! The studio of the scenarios: threads and blocking sockets.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use tungstenite::{
    Message, WebSocket,
    handshake::derive_accept_key,
    protocol::{CloseFrame, Role, WebSocketConfig},
};

use super::PATIENCE;
use crate::wire::SUB_PROTOCOL;

/// A studio on a loopback port. It does nothing by itself: the scenario plays it.
pub struct TestStudio {
    address: SocketAddr,
    sessions: mpsc::Receiver<Upgrading>,
    requests: mpsc::Receiver<Request>,
    stops: Arc<AtomicBool>,
    listening: Option<thread::JoinHandle<()>>,
}

impl TestStudio {
    /// Starts listening.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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

    /// Where it is, as `api_base_url` names it.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next attempt of the worker to open a session.
    pub fn upgrade(&self) -> Upgrading {
        self.sessions.recv_timeout(PATIENCE).expect("the worker does not connect")
    }

    /// The next session, welcomed: past its first heartbeat.
    pub fn session(&self) -> Session {
        self.upgrade().accept().welcome()
    }

    /// The next HTTP request.
    pub fn request(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("the worker makes no request")
    }

    /// Whether a request came that nobody took.
    pub fn has_request(&self) -> bool {
        self.requests.try_recv().is_ok()
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

/// A request whose body has not been read.
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    stream: BufReader<TcpStream>,
}

impl Request {
    fn read(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        Ok(Self { method, path, headers, stream })
    }

    /// A header's value; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The length that was announced.
    pub fn content_length(&self) -> usize {
        self.header("content-length").parse().expect("no Content-Length")
    }

    /// Reads the whole body.
    pub fn body(&mut self) -> Vec<u8> {
        let mut body = vec![0; self.content_length()];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// Reads the whole body as JSON.
    pub fn json(&mut self) -> Value {
        serde_json::from_slice(&self.body()).unwrap()
    }

    /// Answers with a status, more headers (each ended by a line break) and a body; then the connection ends.
    pub fn answer(mut self, status: u16, headers: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(answer.as_bytes()).unwrap();
        self.end();
    }

    /// Answers with JSON.
    pub fn answer_json(self, status: u16, body: &Value) {
        self.answer(status, "Content-Type: application/json\r\n", &body.to_string());
    }

    /// Ends the connection as a good server does: what still comes is read, or the reset that it would cause
    /// could overtake the answer.
    fn end(mut self) {
        thread::spawn(move || {
            let _ = self.stream.get_ref().shutdown(Shutdown::Write);
            let _ = io::copy(&mut self.stream, &mut io::sink());
        });
    }
}

/// A worker that wants to open a session.
pub struct Upgrading(
    /// Its request.
    pub Request,
);

impl Upgrading {
    /// Answers with 101 and these headers; see [`Upgrading::accept`].
    pub fn accept_with(self, headers: &str) -> Session {
        let Self(mut request) = self;
        let accept = derive_accept_key(request.header("sec-websocket-key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
        );
        request.stream.get_mut().write_all(answer.as_bytes()).unwrap();
        let early = request.stream.buffer().to_vec();
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let socket =
            WebSocket::from_partially_read(request.stream.into_inner(), early, Role::Server, Some(config));
        Session { socket, heartbeats: Vec::new(), logs: Vec::new() }
    }

    /// Opens the session.
    pub fn accept(self) -> Session {
        assert_eq!(self.0.header("sec-websocket-protocol"), SUB_PROTOCOL);
        self.accept_with(&format!("Sec-WebSocket-Protocol: {SUB_PROTOCOL}\r\n"))
    }

    /// Refuses it. The body comes in a packet of its own, some time after the head.
    pub fn refuse(self, status: u16, body: &str) {
        let Self(mut request) = self;
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n\r\n", body.len());
        request.stream.get_mut().write_all(head.as_bytes()).unwrap();
        thread::sleep(std::time::Duration::from_millis(50));
        request.stream.get_mut().write_all(body.as_bytes()).unwrap();
        request.end();
    }
}

/// An open session.
pub struct Session {
    socket: WebSocket<TcpStream>,
    /// The heartbeats that came, oldest first. Each was acknowledged.
    pub heartbeats: Vec<Value>,
    /// The log entries that came, oldest first.
    pub logs: Vec<Value>,
}

impl Session {
    /// Takes `hello`, welcomes the worker and takes its first heartbeat.
    #[must_use]
    pub fn welcome(mut self) -> Self {
        let hello = self.text();
        assert_eq!(hello["type"], "hello");
        self.send(&json!({ "type": "welcome", "workerId": "w-1", "serverTime": "2026-01-01T00:00:00.000Z" }));
        self.heartbeat();
        self
    }

    fn read(&mut self) -> tungstenite::Result<Message> {
        loop {
            match self.socket.read() {
                // A read with a time limit is not taken up again by the system when a signal interrupts it, such as
                // that of a program's end.
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// The next message, whatever it is.
    pub fn message(&mut self) -> Message {
        self.read().expect("nothing more comes on the session")
    }

    /// The next text frame.
    pub fn text(&mut self) -> Value {
        loop {
            match self.message() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a text frame was due, but this came: {other:?}"),
            }
        }
    }

    /// Takes the next heartbeat or log batch.
    pub fn take(&mut self) {
        let frame = self.text();
        assert!(self.takes(&frame), "a heartbeat or a log batch was due, but this came: {frame}");
    }

    /// The payload of the next pong; heartbeats and log batches are taken on the way.
    pub fn pong(&mut self) -> Vec<u8> {
        loop {
            match self.message() {
                Message::Pong(payload) => return payload.to_vec(),
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    assert!(self.takes(&frame), "a pong was due, but this came: {frame}");
                }
                other => panic!("a pong was due, but this came: {other:?}"),
            }
        }
    }

    /// Waits until the worker ends the connection, without a frame.
    pub fn ends(&mut self) {
        let read = self.read();
        assert!(read.is_err(), "the connection should have ended, but this came: {read:?}");
    }

    /// The next frame that is no heartbeat and no log batch; those are taken on the way.
    pub fn frame(&mut self) -> Value {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let frame = self.text();
            if !self.takes(&frame) {
                return frame;
            }
        }
        panic!("nothing but heartbeats comes on the session");
    }

    /// The next frame of that type, which must be the next that counts.
    pub fn expect(&mut self, kind: &str, job: &str) -> Value {
        let frame = self.frame();
        assert_eq!((frame["type"].as_str(), frame["jobId"].as_str()), (Some(kind), Some(job)), "{frame}");
        frame
    }

    /// The next heartbeat's capabilities.
    pub fn heartbeat(&mut self) -> Value {
        let known = self.heartbeats.len();
        while self.heartbeats.len() == known {
            self.take();
        }
        self.heartbeats[known]["capabilities"].clone()
    }

    fn takes(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str() {
            Some("heartbeat") => {
                self.heartbeats.push(frame.clone());
                self.send(&json!({ "type": "heartbeatAck" }));
                true
            }
            Some("logBatch") => {
                self.logs.extend(frame["entries"].as_array().into_iter().flatten().cloned());
                true
            }
            _ => false,
        }
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Value) {
        self.send_together(std::slice::from_ref(frame));
    }

    /// Sends frames in one write.
    pub fn send_together(&mut self, frames: &[Value]) {
        for frame in frames {
            self.socket.write(Message::text(frame.to_string())).unwrap();
        }
        self.socket.flush().unwrap();
    }

    /// Sends any message.
    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// Writes bytes past the protocol.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Offers a job of that kind.
    pub fn offer(&mut self, job: &str, kind: &str, prompt: &str) {
        self.send(&offer(job, kind, prompt));
    }

    /// Takes the worker's close frame and answers it.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message() {
                Message::Close(Some(CloseFrame { code, reason })) => {
                    // The answer is queued; the connection ends with the session.
                    let _ = self.socket.flush();
                    return (code.into(), reason.as_str().into());
                }
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    assert!(self.takes(&frame), "a close was due, but this came: {frame}");
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a close was due, but this came: {other:?}"),
            }
        }
    }

    /// Closes the session, and waits for the worker's answer.
    pub fn close(mut self, code: u16, reason: &'static str) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).unwrap();
        let answered = loop {
            match self.read() {
                Ok(Message::Close(_)) => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        assert!(answered, "the close was not answered");
    }

    /// Drops the connection without a word.
    pub fn drop_connection(self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// An offer.
pub(super) fn offer(job: &str, kind: &str, prompt: &str) -> Value {
    let task = match kind {
        "image" => json!({ "kind": kind, "prompt": prompt, "width": 64, "height": 64 }),
        _ => json!({ "kind": kind, "messages": [{ "role": "user", "content": prompt }] }),
    };
    json!({ "type": "offer", "claim": {
        "jobId": job, "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2, "task": task,
    }})
}
