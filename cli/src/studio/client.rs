//! A small client of the HTTP API, for what runs on the studio's own machine.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long the studio may take to connect, to take a piece of a request, or to send a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes of a JSON answer.
const MAX_JSON: u64 = 64 * 1024 * 1024;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The studio could not be reached, or broke off.
    #[error("the studio does not answer: {0}")]
    Io(#[from] io::Error),
    /// What came was no answer of a studio.
    #[error("the studio's answer can't be read: {0}")]
    Unreadable(&'static str),
    /// The studio refused.
    #[error("the studio answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        message: String,
    },
}

/// A client of the studio that listens at an address. Each request has a connection of its own.
#[derive(Debug, Clone, Copy)]
pub struct Client(SocketAddr);

impl Client {
    /// A client of the studio at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// `GET`, answered with JSON. `path` begins with `/`.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json("GET", path, None)
    }

    /// `POST`, with or without JSON, answered with JSON.
    pub fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.json("POST", path, body)
    }

    /// `GET`, whatever the answer's type, written to `to`. Gives back the number of bytes.
    pub fn fetch(&self, path: &str, to: &mut impl Write) -> Result<u64, ClientError> {
        let (mut body, length) = self.request("GET", path, None)?;
        let copied = io::copy(&mut body, to)?;
        if copied == length { Ok(copied) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let (body, _) = self.request(method, path, body)?;
        serde_json::from_reader(body.take(MAX_JSON)).map_err(|_| ClientError::Unreadable("not JSON"))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(impl Read + use<>, u64), ClientError> {
        let mut stream = TcpStream::connect_timeout(&self.0, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let host = self.0;
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = BufReader::new(stream);
        let (status, length) = read_head(&mut answer)?;
        let mut body = answer.take(length);
        if (200..300).contains(&status) {
            return Ok((body, length));
        }
        let mut text = String::new();
        body.by_ref().take(64 * 1024).read_to_string(&mut text)?;
        let message = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|problem| Some(problem.pointer("/error/message")?.as_str()?.to_owned()))
            .unwrap_or(text);
        Err(ClientError::Refused { status, message })
    }
}

/// The status and the length of the body. The studio's answers to this client all have one.
fn read_head(answer: &mut impl BufRead) -> Result<(u16, u64), ClientError> {
    let line = |answer: &mut dyn BufRead| -> Result<String, ClientError> {
        let mut line = String::new();
        if answer.take(16 * 1024).read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(line.trim_end().to_owned())
    };
    let status = line(answer)?
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or(ClientError::Unreadable("no HTTP/1.1"))?;
    let mut length = None;
    loop {
        let header = line(answer)?;
        if header.is_empty() {
            return length.map(|length| (status, length)).ok_or(ClientError::Unreadable("no Content-Length"));
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}
