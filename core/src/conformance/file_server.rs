//! A server of files: threads, and what a test has it say.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) from: Option<u64>,
    pub(super) if_range: Option<String>,
}

impl Asked {
    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.to_ascii_lowercase().contains("\r\naccept-encoding: identity\r\n"), "{head}");
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let from = header("Range").map(|range| {
            range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
        });
        Some(Self { path: head.split(' ').nth(1).unwrap().into(), from, if_range: header("If-Range") })
    }
}

/// Answers as it is told, one connection after the other.
pub(super) struct Server {
    port: u16,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&Asked, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, over) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let (heard, is_over) = (Arc::clone(&asked), Arc::clone(&over));
        let serving = thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Some(asked) = Asked::read(&mut stream) else { continue };
                let number = {
                    let mut heard = heard.lock().unwrap();
                    heard.push(asked.clone());
                    heard.len()
                };
                let _ = stream.write_all(&answer(&asked, number));
            }
        });
        Self { port, asked, over, serving: Some(serving) }
    }

    /// The file that it has, with the name of its state.
    pub(super) fn of(bytes: &'static [u8], etag: &'static str) -> Self {
        Self::new(move |asked, _| file(asked, bytes, etag))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From which byte on it was asked for the file, each time.
    pub(super) fn asked(&self) -> Vec<Option<u64>> {
        self.asked.lock().unwrap().iter().map(|asked| asked.from).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.serving.take().unwrap().join();
    }
}

/// The answer of a server that has this file.
pub(super) fn file(asked: &Asked, bytes: &[u8], etag: &str) -> Vec<u8> {
    let total = bytes.len();
    let from = asked.from.filter(|_| asked.if_range.as_deref().is_none_or(|tag| tag == etag));
    match from.map(|from| usize::try_from(from).unwrap()) {
        None => {
            let head = format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {total}\r\n\r\n");
            [head.as_bytes(), bytes].concat()
        }
        Some(from) if from < total => {
            let (last, length) = (total - 1, total - from);
            let head = format!(
                "HTTP/1.1 206 x\r\nETag: {etag}\r\nContent-Range: bytes {from}-{last}/{total}\r\nContent-Length: {length}\r\n\r\n"
            );
            [head.as_bytes(), &bytes[from..]].concat()
        }
        Some(_) => {
            format!("HTTP/1.1 416 x\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n").into()
        }
    }
}
