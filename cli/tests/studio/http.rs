//! A client that says exactly what it is told to say.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take, also behind a slow disk.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status, and which field the error blames.
    pub(crate) fn blame(&self) -> (u16, Option<String>) {
        let field = self.json().pointer("/error/field").and_then(Value::as_str).map(str::to_owned);
        (self.status, field)
    }
}

/// One request on a connection of its own. What every request has is added unless it
/// is named.
pub(crate) fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = begin(to, method, path, headers, body.len() as u64);
    // A server may refuse before it has read everything.
    let _ = stream.write_all(body);
    finish(stream)
}

/// Sends the head of a request with a body of `length` bytes.
pub(crate) fn begin(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: u64,
) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let host = to.to_string();
    let length = length.to_string();
    let usual = [("Host", host.as_str()), ("Content-Length", length.as_str()), ("Connection", "close")];
    for (name, value) in usual {
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
    }
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    stream
}

/// Reads the answer.
pub(crate) fn finish(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.get(9..12).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {line:?}"));
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = Vec::new();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(u64::MAX);
    reader.take(length).read_to_end(&mut body).unwrap();
    Answer { status, headers, body }
}
