//! What the worker asks of the studio: requests, and attempts to open a session.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::Shutdown,
    time::Duration,
};

use serde_json::Value;
use tungstenite::{
    WebSocket,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

use super::{Clock, PATIENCE, Session, Stream};
use crate::wire::SUB_PROTOCOL;

/// A request whose body has not been read.
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    stream: BufReader<Box<dyn Stream>>,
    clock: Clock,
}

impl Request {
    pub(super) fn read(mut stream: Box<dyn Stream>, clock: Clock) -> io::Result<Self> {
        stream.set_read_timeout(PATIENCE)?;
        stream.set_write_timeout(PATIENCE)?;
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
        Ok(Self { method, path, headers, stream, clock })
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

    /// Reads that much of the body.
    pub fn read_some(&mut self, length: usize) -> Vec<u8> {
        let mut some = vec![0; length];
        self.stream.read_exact(&mut some).unwrap();
        some
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

    /// Answers with a status, and hangs up without having said so.
    pub fn answer_and_hang_up(mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
        self.stream.get_mut().write_all(answer.as_bytes()).unwrap();
        self.end();
    }

    /// Answers with a status and the beginning of a body whose rest does not come with it.
    pub fn answer_in_part(&mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 100\r\n\r\n{{\"ok\":");
        self.stream.get_mut().write_all(answer.as_bytes()).unwrap();
    }

    /// Says that the answer will follow.
    pub fn interim(&mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} Status\r\n\r\n");
        self.stream.get_mut().write_all(answer.as_bytes()).unwrap();
    }

    /// Drops the connection without an answer.
    pub fn drop_connection(mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Both);
    }

    /// Ends the connection in good form, whatever was still to be said.
    pub fn hang_up(self) {
        self.end();
    }

    /// Waits until the worker ends the connection, which it does without another byte.
    pub fn ends(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "the connection should have ended, but this came: {rest:?}");
    }

    /// Ends the connection as a good server does: what still comes is read, or the reset that it would cause
    /// could overtake the answer.
    fn end(self) {
        let Self { mut stream, clock, .. } = self;
        clock.spawn(move || {
            let _ = stream.get_mut().shutdown(Shutdown::Write);
            let _ = io::copy(&mut stream, &mut io::sink());
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
        self.accept_writing(headers, |stream, answer| stream.write_all(answer).unwrap())
    }

    /// The same, with the answer written as `write` does it.
    pub fn accept_writing(self, headers: &str, write: impl FnOnce(&mut dyn Stream, &[u8])) -> Session {
        let Self(mut request) = self;
        let accept = derive_accept_key(request.header("sec-websocket-key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
        );
        write(request.stream.get_mut().as_mut(), answer.as_bytes());
        let early = request.stream.buffer().to_vec();
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let socket =
            WebSocket::from_partially_read(request.stream.into_inner(), early, Role::Server, Some(config));
        Session::new(socket, request.clock)
    }

    /// Opens the session.
    pub fn accept(self) -> Session {
        assert_eq!(self.0.header("sec-websocket-protocol"), SUB_PROTOCOL);
        self.accept_with(&format!("Sec-WebSocket-Protocol: {SUB_PROTOCOL}\r\n"))
    }

    /// Refuses it. The body comes in a packet of its own, some time after the head.
    pub fn refuse(self, status: u16, body: &str) {
        self.refuse_with(status, "", body);
    }

    /// Refuses it with more headers (each ended by a line break).
    pub fn refuse_with(self, status: u16, headers: &str, body: &str) {
        let Self(mut request) = self;
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        request.stream.get_mut().write_all(head.as_bytes()).unwrap();
        request.clock.sleep(Duration::from_millis(50));
        request.stream.get_mut().write_all(body.as_bytes()).unwrap();
        request.end();
    }
}
