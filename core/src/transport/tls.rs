//! TLS over any byte stream.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, lock::Mutex};
use futures_rustls::{TlsConnector, client::TlsStream};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{Fair, Platform};

/// What TLS needs, made at its first use: a plain session needs none of it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tls(Arc<Trusted>);

#[derive(Debug, Default)]
struct Trusted {
    /// Trusted beside the system's certificates.
    roots: Vec<CertificateDer<'static>>,
    /// Locked while it is made, so that of thousands of workers that come together one makes it.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    /// Trusts `roots` beside the system's certificates (or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name).
    pub fn trusting(roots: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Trusted { roots, config: Mutex::default() }))
    }

    /// All certificates that are trusted. Blocks: reads those of the system.
    pub fn roots(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let found = rustls_native_certs::load_native_certs();
        let roots = [&*self.0.roots, &*found.certs].concat();
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(io::Error::other(format!("the system has no certificates to trust{why}")));
        }
        Ok(roots)
    }

    /// Whether more is trusted than what the system trusts.
    pub fn has_roots_of_its_own(&self) -> bool {
        !self.0.roots.is_empty()
    }

    /// Speaks TLS with `host` over `stream`.
    pub async fn wrap<P: Platform>(
        &self,
        platform: &P,
        host: &str,
        stream: Connection<P::Stream>,
    ) -> io::Result<Connection<P::Stream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(self.config(platform).await?).connect(name, stream);
        Ok(Connection::Tls(Box::new(connecting.await.map_err(with_advice)?)))
    }
}

impl Tls {
    async fn config(&self, platform: &impl Platform) -> io::Result<Arc<ClientConfig>> {
        let mut config = self.0.config.lock().await;
        if let Some(config) = &*config {
            return Ok(Arc::clone(config));
        }
        let tls = self.clone();
        let made = platform.block(move || make_config(tls.roots()?)).await?;
        Ok(Arc::clone(config.insert(made)))
    }
}

fn make_config(certificates: Vec<CertificateDer<'static>>) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err(io::Error::other("none of the certificates to trust can be read"));
    }
    // With two providers in a program there is no default one, so this names its own.
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// An authority that nobody trusts may be the network's own: then its certificate is missing.
fn with_advice(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            io::Error::new(error.kind(), format!("{error}: {UNKNOWN_AUTHORITY}"))
        }
        _ => error,
    }
}

/// What to do about a server whose authority is not known.
pub const UNKNOWN_AUTHORITY: &str = "if it is by an authority of your own, name a file with the authority's \
     certificate in `ca_file` or SSL_CERT_FILE";

/// Reads certificates to trust from the text of a PEM file: at least one, each fit for an authority. The error is for a
/// person, and quotes nothing.
pub fn read_authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "it is damaged: what stands between BEGIN and END can't be read".to_owned())?;
    if certificates.is_empty() {
        return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into());
    }
    for (at, certificate) in certificates.iter().enumerate() {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| format!("certificate {} in it can't be read", at + 1))?;
    }
    Ok(certificates)
}

/// A connection, plain or over TLS.
#[derive(Debug)]
pub enum Connection<S> {
    /// As the platform opened it.
    Plain(Fair<S>),
    /// TLS over one: also over that of a proxy.
    Tls(Box<TlsStream<Connection<S>>>),
}

impl<S> Connection<S> {
    /// Over a stream as the platform opened it.
    pub(super) fn plain(stream: S) -> Self {
        Self::Plain(Fair::new(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
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
