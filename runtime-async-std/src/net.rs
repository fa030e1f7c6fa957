//! Connections: name resolution, TCP and TLS.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use async_std::net::TcpStream;
use futures::{
    AsyncRead, AsyncWrite, FutureExt as _, StreamExt as _, pin_mut, select_biased, stream::FuturesUnordered,
};
use futures_rustls::{TlsConnector, client::TlsStream};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};

use crate::threads::Threads;

/// How long one address is tried alone (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection to a studio.
pub(crate) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What TLS needs, made at its first use: a plain session needs none of it.
#[derive(Debug, Default)]
pub(crate) struct Tls(OnceLock<Result<Arc<ClientConfig>, String>>);

impl Tls {
    /// Blocks: reads the system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        self.0.get_or_init(make_config).clone().map_err(io::Error::other)
    }
}

fn make_config() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("the system has no certificates to trust{why}"));
    }
    // With two providers in a program there is no default one, so this names its own.
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connects to `host` over TCP, and TLS if it is `secure`.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    secure: bool,
    tls: &Arc<Tls>,
    threads: &Threads,
) -> io::Result<Connection> {
    let addresses = resolve(host, port, threads).await?;
    let tcp = connect_any(addresses).await?;
    tcp.set_nodelay(true)?;
    if !secure {
        return Ok(Connection::Plain(tcp));
    }
    let name = ServerName::try_from(bare(host).to_owned()).map_err(io::Error::other)?;
    let tls = Arc::clone(tls);
    let config = threads.run(move || tls.config()).await?;
    Ok(Connection::Tls(Box::new(TlsConnector::from(config).connect(name, tcp).await?)))
}

/// An address in brackets is one of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The addresses of `host`, at least one.
pub(crate) async fn resolve(host: &str, port: u16, threads: &Threads) -> io::Result<Vec<SocketAddr>> {
    let host = bare(host).to_owned();
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let unknown = format!("the host {host} is not known");
    let addresses = threads
        .run(move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{unknown}: {error}")))?;
    if addresses.is_empty() { Err(io::Error::new(ErrorKind::NotFound, unknown)) } else { Ok(addresses) }
}

/// Tries the addresses in turn, the next one soon: one that swallows packets must not use up the time of one
/// that answers.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = FuturesUnordered::new();
    let mut addresses = addresses.into_iter();
    let mut failure = None;
    loop {
        match addresses.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()));
            }
            None => {}
        }
        let alone = async {
            if addresses.len() == 0 {
                std::future::pending::<()>().await;
            } else {
                async_std::task::sleep(HEAD_START).await;
            }
        }
        .fuse();
        pin_mut!(alone);
        select_biased! {
            outcome = attempts.select_next_some() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            },
            () = alone => {}
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            Self::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
