//! A proxy of threads and blocking connections, that does on demand what a bad one does.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Clock, PATIENCE, clock::Watched};

/// What a proxy does when it is asked for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Leads to the port that it was asked for, on this machine, whatever the host.
    Leads,
    /// Answers with this status.
    Refuses(u16),
    /// Answers with these bytes, and hangs up.
    Says(&'static str),
    /// Says nothing, for as long as the other end waits.
    Silent,
}

/// What a proxy was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The host and port of `CONNECT`.
    pub authority: String,
    /// Its header `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// A proxy on a loopback port of its own.
pub struct TestProxy {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Watched<Vec<Asked>>,
    closed: Arc<AtomicBool>,
}

impl TestProxy {
    /// A proxy that does so.
    pub fn new(manner: Manner) -> Self {
        Self::serving(manner, |mut stream, manner, asked| {
            let mut answer = None;
            let head = read_connect(&mut stream)?;
            let port = head.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
            asked.change(|asked| asked.push(head));
            match manner {
                Manner::Leads => return tunnel(stream, port),
                Manner::Refuses(status) => answer = Some(format!("HTTP/1.1 {status} No\r\n\r\n")),
                Manner::Says(text) => answer = Some(text.to_owned()),
                Manner::Silent => {}
            }
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes())?;
                stream.shutdown(Shutdown::Write)?;
            }
            io::copy(&mut stream, &mut io::sink()).map(|_| ())
        })
    }

    /// A proxy that speaks TLS, and at the end of its tunnels a server that speaks TLS in it and answers any request so.
    pub(super) fn secure(tls: Arc<ServerConfig>, answer: &'static str) -> Self {
        Self::serving(Manner::Silent, move |stream, _, asked| {
            let over = |stream| io::Result::Ok(StreamOwned::new(server(&tls)?, stream));
            let mut proxy = over(stream)?;
            let head = read_connect(&mut proxy)?;
            asked.change(|asked| asked.push(head));
            proxy.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let mut end = StreamOwned::new(server(&tls)?, proxy);
            read_head(&mut end)?;
            end.write_all(answer.as_bytes())?;
            end.conn.send_close_notify();
            end.flush()?;
            io::copy(&mut end.sock.sock, &mut io::sink()).map(|_| ())
        })
    }

    fn serving(
        manner: Manner,
        serve: impl Fn(TcpStream, Manner, &Watched<Vec<Asked>>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, asked) = (Arc::new(Mutex::new(manner)), Watched::new(&Clock::real(), Vec::new()));
        let (closed, serve) = (Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let proxy =
            Self { address, manner: Arc::clone(&manner), asked: asked.clone(), closed: Arc::clone(&closed) };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (manner, asked, serve) = (*manner.lock().unwrap(), asked.clone(), Arc::clone(&serve));
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    // Whoever hangs up has his reasons.
                    let _ = serve(stream, manner, &asked);
                });
            }
        });
        proxy
    }

    /// Its address, as a variable names it: `http://` and these credentials, if there are any, such as `name:password@`.
    pub fn named(&self, credentials: &str) -> String {
        format!("http://{credentials}{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does so.
    pub fn turns(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// What it was asked for until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.attempt(|asked| Some(asked.clone())).unwrap_or_default()
    }

    /// Waits until it was asked so often.
    pub fn is_asked(&self, times: usize) {
        let enough = |asked: &mut Vec<Asked>| (asked.len() >= times).then_some(());
        self.asked.take_within(PATIENCE, enough).expect("nobody asks the proxy");
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn server(tls: &Arc<ServerConfig>) -> io::Result<ServerConnection> {
    ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)
}

/// Reads a head, and nothing beyond it.
fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn read_connect(stream: &mut impl Read) -> io::Result<Asked> {
    let head = read_head(stream)?;
    let mut lines = head.lines();
    let authority = lines.next().and_then(|line| line.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1"));
    let authority = authority.ok_or(io::ErrorKind::InvalidData)?.to_owned();
    let authorization = lines.find_map(|line| line.strip_prefix("Proxy-Authorization: ")).map(str::to_owned);
    Ok(Asked { authority, authorization })
}

fn tunnel(mut near: TcpStream, port: u16) -> io::Result<()> {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)) else {
        return near.write_all(b"HTTP/1.1 502 Nobody there\r\n\r\n");
    };
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    // As long as a session is quiet.
    near.set_read_timeout(None)?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (far.try_clone()?, near.try_clone()?);
    let back = thread::spawn(move || pass(&mut from, &mut to));
    pass(&mut near, &mut far);
    let _ = back.join();
    Ok(())
}

/// Passes on what comes, and its end, be it a good one or not.
fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    let ended = io::copy(from, to);
    let _ = to.shutdown(if ended.is_ok() { Shutdown::Write } else { Shutdown::Both });
    if ended.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
}
