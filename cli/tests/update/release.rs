//! Releases to install, and a server that lists and has them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, LazyLock, Mutex},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use studio_worker::{VERSION, update::TARGET};
use tar::{Builder, Header};

/// The version after this one: its digits are as many, so that it fits where they stand.
pub(crate) static NEXT: LazyLock<String> = LazyLock::new(|| after(1));
/// The one after that.
pub(crate) static AFTER_NEXT: LazyLock<String> = LazyLock::new(|| after(2));

fn after(steps: u8) -> String {
    let mut digits = VERSION.as_bytes().to_vec();
    let last = digits.last_mut().unwrap();
    *last = if *last + steps <= b'9' { *last + steps } else { *last };
    let next = String::from_utf8(digits).unwrap();
    assert_ne!(next, VERSION, "a version that ends with so high a digit has none after it of that length");
    next
}

/// This program, saying that it is of another version.
pub(crate) fn program(version: &str) -> Vec<u8> {
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_studio-worker")).unwrap();
    let (old, new) = (VERSION.as_bytes(), version.as_bytes());
    assert_eq!(old.len(), new.len());
    let places: Vec<_> = memchr::memmem::find_iter(&bytes, old).collect();
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

/// A program that says its version and how it is run, and does something else when it is to work.
pub(crate) fn broken(version: &str, does: &str) -> Vec<u8> {
    useless(version, &format!("if [ \"$1 $2\" = 'run --help' ]; then exit 0; fi\n{does}"))
}

/// A program that says its version, and does something else otherwise.
pub(crate) fn useless(version: &str, does: &str) -> Vec<u8> {
    format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo studio-worker {version}; exit 0; fi\n{does}\n")
        .into()
}

pub(crate) fn archive(program: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    tar.append_data(&mut header, "studio-worker/studio-worker", program).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

/// The archive of the next version, which takes a moment to make.
pub(crate) fn next_archive() -> Arc<Vec<u8>> {
    static ARCHIVE: LazyLock<Arc<Vec<u8>>> = LazyLock::new(|| archive(&program(&NEXT)).into());
    Arc::clone(&ARCHIVE)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

pub(crate) fn archive_name(version: &str) -> String {
    format!("studio-worker-{version}-{TARGET}.tar.gz")
}

type Answers = BTreeMap<String, (String, Arc<Vec<u8>>)>;

/// A feed on loopback, and the files that it lists.
#[derive(Clone)]
pub(crate) struct Feed {
    port: u16,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Feed {
    /// A feed that lists nothing.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let feed = Self { port, answers: Arc::default(), asked: Arc::default() };
        feed.says("/feed", "200 OK", b"[]".to_vec());
        let serving = feed.clone();
        // It ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                thread::spawn(move || serving.answer(stream));
            }
        });
        feed
    }

    /// A feed that lists this release.
    pub(crate) fn with(version: &str, archive: Arc<Vec<u8>>) -> Self {
        let feed = Self::new();
        feed.lists(version, archive);
        feed
    }

    pub(crate) fn url(&self) -> String {
        self.at("/feed")
    }

    pub(crate) fn says(&self, path: &str, status: &str, body: impl Into<Arc<Vec<u8>>>) {
        self.answers.lock().unwrap().insert(path.into(), (status.into(), body.into()));
    }

    /// Lists a release with a right hash.
    pub(crate) fn lists(&self, version: &str, archive: Arc<Vec<u8>>) {
        let name = archive_name(version);
        let hash = format!("{}  {name}\n", sha256(&archive));
        self.says(&format!("/{name}"), "200 OK", archive);
        self.says(&format!("/{name}.sha256"), "200 OK", hash.into_bytes());
        self.lists_files(version, &[&name, &format!("{name}.sha256")]);
    }

    /// Lists a release of these files.
    pub(crate) fn lists_files(&self, version: &str, names: &[&str]) {
        let assets: Vec<Value> = names
            .iter()
            .map(|name| json!({ "name": name, "browser_download_url": format!("http://127.0.0.1:{}/{name}", self.port) }))
            .collect();
        let feed = json!([{ "tag_name": format!("v{version}"), "draft": false, "prerelease": false, "assets": assets }]);
        self.says("/feed", "200 OK", feed.to_string().into_bytes());
    }

    /// What is answered there.
    pub(crate) fn says_of(&self, path: &str) -> Arc<Vec<u8>> {
        Arc::clone(&self.answers.lock().unwrap()[path].1)
    }

    /// What is asked for there leads elsewhere.
    pub(crate) fn leads(&self, path: &str, to: &str) {
        self.says(path, &format!("302 Found\r\nLocation: {to}"), Vec::new());
    }

    /// Where this is.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// How often anything was asked for.
    pub(crate) fn asked_in_all(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How often this was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        if reader.read_line(&mut head).is_err() {
            return;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            line.clear();
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        let (status, body) = answer.unwrap_or_else(|| ("404 Not Found".into(), Arc::default()));
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0]);
    }
}
