//! An open session, from the studio's side.

use std::{
    io::{self, Write as _},
    net::Shutdown,
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, protocol::CloseFrame};

use super::{Clock, PATIENCE, Stream, offer};

/// An open session.
pub struct Session {
    socket: WebSocket<Box<dyn Stream>>,
    clock: Clock,
    /// The heartbeats that came, oldest first. Each was acknowledged.
    pub heartbeats: Vec<Value>,
    /// The log entries that came, oldest first.
    pub logs: Vec<Value>,
}

impl Session {
    pub(super) fn new(socket: WebSocket<Box<dyn Stream>>, clock: Clock) -> Self {
        Self { socket, clock, heartbeats: Vec::new(), logs: Vec::new() }
    }

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

    /// Waits until the worker ends the session, in whatever way.
    pub fn is_lost(&mut self) {
        while !matches!(self.read(), Ok(Message::Close(_)) | Err(_)) {}
    }

    /// The next frame that is no heartbeat and no log batch; those are taken on the way.
    pub fn frame(&mut self) -> Value {
        let since = self.clock.stopwatch();
        while since.elapsed() < PATIENCE {
            let frame = self.text();
            if !self.takes(&frame) {
                return frame;
            }
        }
        panic!("nothing but heartbeats comes on the session");
    }

    /// The next frame; nothing, when that is a heartbeat or a log batch.
    pub fn frame_if_it_counts(&mut self) -> Option<Value> {
        let frame = self.text();
        (!self.takes(&frame)).then_some(frame)
    }

    /// Offers a chat until the worker isn't busy any more: with a closure that it gave up on, which returns soon.
    pub fn offer_until_accepted(&mut self, job: &str) {
        let since = self.clock.stopwatch();
        loop {
            self.offer(job, "llm", "hello");
            let answer = self.frame();
            assert_eq!(answer["jobId"], job, "{answer}");
            if answer["type"] == "accept" {
                return;
            }
            assert_eq!((&answer["type"], &answer["code"]), (&json!("reject"), &json!("busy")));
            assert!(since.elapsed() < PATIENCE, "the slot is never free again");
            self.clock.sleep(Duration::from_millis(10));
        }
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

    /// Waits until a heartbeat's capabilities have that value.
    pub fn heartbeat_with(&mut self, key: &str, value: impl Into<Value>) {
        let (since, value) = (self.clock.stopwatch(), value.into());
        while self.heartbeat()[key] != value {
            assert!(since.elapsed() < PATIENCE, "no heartbeat says that `{key}` is {value}");
        }
    }

    /// Waits until a log line of the worker's has come that contains `text`.
    pub fn log_with(&mut self, text: &str) -> Value {
        let since = self.clock.stopwatch();
        loop {
            let says =
                |entry: &&Value| entry["message"].as_str().is_some_and(|message| message.contains(text));
            if let Some(entry) = self.logs.iter().find(says) {
                return entry.clone();
            }
            assert!(since.elapsed() < PATIENCE, "nothing like `{text}` is logged");
            self.take();
        }
    }

    fn takes(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str() {
            Some("heartbeat") => {
                self.heartbeats.push(frame.clone());
                // A worker that has said goodbye may be gone by now; what it said after this heartbeat is still read.
                self.try_send(&json!({ "type": "heartbeatAck" }));
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

    /// Sends a frame to a worker that may have ended the session; whether it left.
    pub fn try_send(&mut self, frame: &Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).is_ok()
    }

    /// Sends any message.
    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// Writes bytes past the protocol.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Offers a job whose result is JSON and there at once, and has it delivered.
    pub fn delivers(&mut self, job: &str) {
        self.offer(job, "llm", "hello");
        self.expect("accept", job);
        self.expect("completeJson", job);
        self.complete_ack(job);
    }

    /// Acknowledges the result of a job.
    pub fn complete_ack(&mut self, job: &str) {
        self.send(&json!({ "type": "completeAck", "jobId": job }));
    }

    /// Acknowledges that a job failed.
    pub fn fail_ack(&mut self, job: &str) {
        self.send(&json!({ "type": "failAck", "jobId": job }));
    }

    /// Ends the session with an `error` frame; the worker closes it.
    pub fn error(mut self, code: &str, message: &str) {
        self.send(&json!({ "type": "error", "code": code, "message": message }));
        assert_eq!(self.closed().0, 1000);
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
    pub fn drop_connection(mut self) {
        let _ = self.socket.get_mut().shutdown(Shutdown::Both);
    }
}
