//! What a scenario is played over.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::CertificateDer};

use super::{
    PATIENCE, TestStudio,
    authority::{Authority, FAR},
    clock::{Clock, Watched},
    pipe::{BlockingPipe, Pipe, pipe},
    proxy::{Manner, TestProxy},
    stream::Stream,
    vacancy::Vacancy,
};
use crate::http::proxy::Proxies;

/// What a scenario is played over, and its clock. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    name: &'static str,
    kind: Kind,
    clock: Clock,
    workers: AtomicU8,
    /// The only way to its studios.
    proxy: Option<TestProxy>,
}

enum Kind {
    Loopback,
    Tls(Authority),
    Memory(Watched<Ports>),
}

/// Who listens in memory, and whom they did not take yet.
#[derive(Default)]
struct Ports(BTreeMap<u16, VecDeque<BlockingPipe>>);

/// What its proxy is told, as its address has it.
const CREDENTIALS: &str = "worker:pa%3Ass-of-the-proxy@";

/// The first port in memory.
const FIRST_PORT: u16 = 10_000;

impl Network {
    /// TCP on this machine: `ws` and `http`.
    pub fn loopback() -> Self {
        Self::new("ws", Clock::real(), |_| Kind::Loopback)
    }

    /// TLS on this machine, `wss` and `https`, by an authority of its own: [`Network::roots`].
    pub fn loopback_tls() -> Self {
        Self::new("wss", Clock::real(), |_| Kind::Tls(Authority::new()))
    }

    /// TCP on this machine, to studios with a name that only a proxy knows: [`Network::proxies`].
    pub fn proxied() -> Self {
        Self::behind_proxy("ws by proxy", Kind::Loopback)
    }

    /// The same with TLS.
    pub fn proxied_tls() -> Self {
        Self::behind_proxy("wss by proxy", Kind::Tls(Authority::new()))
    }

    /// Pipes in memory: [`Network::dial`].
    pub fn memory() -> Self {
        Self::new("memory", Clock::real(), Self::in_memory)
    }

    /// Pipes in memory, and a clock that stands still until all threads that take part wait. A thread that waits for a
    /// studio takes part ([`Clock::take_part`]), and so do those that its worker is driven on ([`Clock::spawn`]).
    pub fn virtual_time() -> Self {
        Self::new("virtual", Clock::simulated(), Self::in_memory)
    }

    fn new(name: &'static str, clock: Clock, kind: impl FnOnce(&Clock) -> Kind) -> Self {
        let kind = kind(&clock);
        Self(Arc::new(Inner { name, kind, clock, workers: AtomicU8::new(0), proxy: None }))
    }

    fn behind_proxy(name: &'static str, kind: Kind) -> Self {
        let proxy = Some(TestProxy::new(Manner::Leads));
        Self(Arc::new(Inner { name, kind, clock: Clock::real(), workers: AtomicU8::new(0), proxy }))
    }

    fn in_memory(clock: &Clock) -> Kind {
        Kind::Memory(Watched::new(clock, Ports::default()))
    }

    /// `ws`, `wss`, `memory` or `virtual`; `ws by proxy` or `wss by proxy`.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What time it is here.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whom a worker must trust to reach a studio here; empty where nothing is signed.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        match &self.0.kind {
            Kind::Tls(authority) => vec![authority.certificate.clone()],
            Kind::Loopback | Kind::Memory(_) => Vec::new(),
        }
    }

    /// The same as a file that `SSL_CERT_FILE` may name.
    pub fn roots_pem(&self) -> Option<&str> {
        match &self.0.kind {
            Kind::Tls(authority) => Some(&authority.pem),
            Kind::Loopback | Kind::Memory(_) => None,
        }
    }

    /// The variables that name its proxy, with credentials; none where there is none.
    pub fn proxy_variables(&self) -> Vec<(&'static str, String)> {
        let proxy = self.0.proxy.iter();
        proxy
            .flat_map(|proxy| ["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name, proxy.named(CREDENTIALS))))
            .collect()
    }

    /// What these variables say: a worker reaches no studio here without.
    pub fn proxies(&self) -> Proxies {
        let variables = self.proxy_variables();
        Proxies::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        })
    }

    /// Its proxy.
    pub fn proxy(&self) -> Option<&TestProxy> {
        self.0.proxy.as_ref()
    }

    /// A studio here.
    pub fn studio(&self) -> TestStudio {
        self.studio_at(([127, 0, 0, 1], 0).into())
    }

    /// A place for a studio here, where there is none: [`Network::studio_at`] opens it.
    pub fn vacancy(&self) -> Vacancy {
        match &self.0.kind {
            Kind::Loopback | Kind::Tls(_) => Vacancy::new(),
            // Its ports are given out here alone.
            Kind::Memory(_) => Vacancy::of(self.studio().address()),
        }
    }

    /// The same in a certain place: where there was none, or where another one was, which has ended.
    pub fn studio_at(&self, address: SocketAddr) -> TestStudio {
        let since = self.0.clock.stopwatch();
        loop {
            match self.listen(address) {
                Ok(listener) => return TestStudio::listening(self, listener),
                // Somebody's connection to elsewhere may go out from that port, by chance.
                Err(error) if error.kind() == ErrorKind::AddrInUse && since.elapsed() < PATIENCE => {
                    self.0.clock.sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("no studio at {address}: {error}"),
            }
        }
    }

    /// Connects to a studio in memory. Where there are real sockets, that is unsupported.
    pub fn dial(&self, host: &str, port: u16) -> io::Result<Pipe> {
        let Kind::Memory(ports) = &self.0.kind else {
            return Err(ErrorKind::Unsupported.into());
        };
        if host != "localhost" && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback()) {
            return Err(io::Error::new(ErrorKind::NotFound, format!("the host {host} is not known")));
        }
        let (worker, studio) = pipe(&self.0.clock);
        // What is refused is dropped after the change: it changes its pipe.
        let refused = ports.change(|ports| match ports.0.get_mut(&port) {
            Some(queue) => {
                queue.push_back(studio);
                None
            }
            None => Some(studio),
        });
        if refused.is_some() { Err(ErrorKind::ConnectionRefused.into()) } else { Ok(worker) }
    }

    /// The next number for a worker here.
    pub(super) fn number(&self) -> u8 {
        self.0.workers.fetch_add(1, Ordering::Relaxed)
    }

    /// The address of a studio that listens there.
    pub(super) fn base(&self, address: SocketAddr) -> String {
        let scheme = if matches!(self.0.kind, Kind::Tls(_)) { "https" } else { "http" };
        match &self.0.proxy {
            Some(_) => format!("{scheme}://{FAR}:{}", address.port()),
            None => format!("{scheme}://{address}"),
        }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let tcp = |tls| {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            let closed = AtomicBool::new(false);
            Ok(Listener { address, how: Listening::Tcp { listener, tls, closed } })
        };
        match &self.0.kind {
            Kind::Loopback => tcp(None),
            Kind::Tls(authority) => tcp(Some(Arc::clone(&authority.server))),
            Kind::Memory(ports) => {
                let port = ports.change(|ports| ports.bind(address.port())).ok_or(ErrorKind::AddrInUse)?;
                let address = SocketAddr::new(address.ip(), port);
                Ok(Listener { address, how: Listening::Memory(ports.clone()) })
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("name", &self.0.name)
            .field("clock", &self.0.clock)
            .finish_non_exhaustive()
    }
}

impl Ports {
    /// That port, or any one for 0; nothing when it is taken.
    fn bind(&mut self, port: u16) -> Option<u16> {
        let port = match port {
            0 => (FIRST_PORT..=u16::MAX).find(|port| !self.0.contains_key(port))?,
            port if self.0.contains_key(&port) => return None,
            port => port,
        };
        self.0.insert(port, VecDeque::new());
        Some(port)
    }
}

/// Where a studio takes connections.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    how: Listening,
}

enum Listening {
    Tcp { listener: TcpListener, tls: Option<Arc<ServerConfig>>, closed: AtomicBool },
    Memory(Watched<Ports>),
}

impl Listener {
    /// The next connection. Nothing, once it is closed.
    pub(super) fn accept(&self) -> Option<Box<dyn Stream>> {
        match &self.how {
            Listening::Tcp { listener, tls, closed } => loop {
                let connection = listener.accept();
                if closed.load(Ordering::SeqCst) {
                    return None;
                }
                // One that broke before it was taken is nobody's concern.
                if let Ok(stream) = connection.and_then(|(stream, _)| secured(stream, tls.as_ref())) {
                    return Some(stream);
                }
            },
            Listening::Memory(ports) => ports
                .take_until(None, |ports| match ports.0.get_mut(&self.address.port()) {
                    Some(queue) => queue.pop_front().map(Some),
                    None => Some(None),
                })
                .flatten()
                .map(|stream| Box::new(stream) as _),
        }
    }

    pub(super) fn close(&self) {
        match &self.how {
            Listening::Tcp { closed, .. } => {
                closed.store(true, Ordering::SeqCst);
                // Wakes who accepts.
                let _ = TcpStream::connect(self.address);
            }
            Listening::Memory(ports) => {
                // What was not taken is dropped after the change: it changes its pipe.
                let _queue = ports.change(|ports| ports.0.remove(&self.address.port()));
            }
        }
    }
}

fn secured(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Box<dyn Stream>> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, stream))
        }
        None => Box::new(stream),
    })
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn only_studios_that_listen_are_reached() {
        let network = Network::memory();
        let dial = |host, port| network.dial(host, port).map(|_| ()).map_err(|error| error.kind());
        let studio = network.studio();
        let address = studio.address();
        for host in ["127.0.0.1", "localhost", "::1"] {
            assert_eq!(dial(host, address.port()), Ok(()), "{host}");
        }
        assert_eq!(dial("studio.example", address.port()), Err(ErrorKind::NotFound));
        drop(studio);
        assert_eq!(dial("localhost", address.port()), Err(ErrorKind::ConnectionRefused));
        let again = network.studio_at(address);
        assert_eq!((again.address(), dial("localhost", address.port())), (address, Ok(())));
        assert_ne!(network.studio().address(), address);
        let sockets = Network::loopback().dial("localhost", address.port());
        assert_eq!(sockets.map(|_| ()).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    /// A writer waits for a reader, and a reader for a writer, on either clock.
    #[test]
    fn more_goes_through_a_pipe_than_it_holds() {
        for network in [Network::memory(), Network::virtual_time()] {
            let clock = network.clock().clone();
            let _part = clock.take_part();
            let (mut worker, mut studio) = pipe(&clock);
            let sent: Vec<u8> = (0..1_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
            let echo = clock.spawn(move || {
                let mut read = Vec::new();
                io::Read::read_to_end(&mut studio, &mut read).unwrap();
                io::Write::write_all(&mut studio, &read).unwrap();
            });
            let mut back = Vec::new();
            clock.block_on(async {
                worker.write_all(&sent).await.unwrap();
                worker.close().await.unwrap();
                worker.read_to_end(&mut back).await.unwrap();
            });
            assert!(back == sent);
            echo.join().unwrap();
        }
    }

    #[test]
    fn an_end_that_is_gone_is_told_to_the_other() {
        let clock = Clock::real();
        let (mut worker, studio) = pipe(&clock);
        drop(studio);
        let (read, written) = clock.block_on(async {
            (worker.read(&mut [0]).await, worker.write(&[1]).await.map_err(|error| error.kind()))
        });
        assert_eq!((read.unwrap(), written), (0, Err(ErrorKind::BrokenPipe)));

        let (worker, mut studio) = pipe(&clock);
        studio.set_read_timeout(Duration::from_millis(1)).unwrap();
        assert_eq!(io::Read::read(&mut studio, &mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(worker);
        assert_eq!(io::Read::read(&mut studio, &mut [0]).unwrap(), 0);
        assert_eq!(io::Write::write(&mut studio, &[1]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
