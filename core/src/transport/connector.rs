//! The way to a server: straight, or through a proxy; with TLS where it is due.
//!
//! Whatever is said through a proxy goes through a tunnel (`CONNECT`), also what is plain HTTP: so a proxy's refusal is never
//! taken for a server's word, and a host whose addresses had to be checked is named to the proxy by the one that was
//! checked.

use std::{env, io};

use futures::AsyncWriteExt as _;

use super::{
    CertificateDer, Connection, Platform, Tls,
    head::{NoHead, read_head},
};
use crate::http::{
    Reach,
    proxy::{Destination, Proxies, Proxy},
};

/// What this process's environment says about proxies.
pub fn proxies() -> Proxies {
    // What is no text can be no address, and must not be taken for nothing.
    Proxies::read(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// Opens connections, for sessions and HTTP alike. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector<P> {
    platform: P,
    tls: Tls,
    proxies: Proxies,
}

impl<P: Platform> Connector<P> {
    /// Connects straight, and trusts what the system trusts.
    pub fn new(platform: P) -> Self {
        Self { platform, tls: Tls::default(), proxies: Proxies::default() }
    }

    /// Trusts `roots` beside the system's certificates.
    #[must_use]
    pub fn with_roots(self, roots: Vec<CertificateDer<'static>>) -> Self {
        Self { tls: Tls::trusting(roots), ..self }
    }

    /// Goes through these proxies.
    #[must_use]
    pub fn with_proxies(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// What it is on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// What its TLS needs.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The proxies that it goes through.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Connects. There is no bound in time: whoever asks has one, and drops the future.
    pub async fn open(&self, to: Destination<'_>) -> io::Result<Connection<P::Stream>> {
        let connection = match self.proxies.to(&to).map_err(io::Error::other)? {
            None => Connection::plain(self.platform.dial(to.host, to.port, to.reach).await?),
            // Apart: who connects straight has nothing of it.
            Some(proxy) => Box::pin(self.through(proxy, to)).await?,
        };
        if to.secure { self.tls.wrap(&self.platform, to.host, connection).await } else { Ok(connection) }
    }

    /// A tunnel through a proxy.
    async fn through(&self, proxy: &Proxy, to: Destination<'_>) -> io::Result<Connection<P::Stream>> {
        if to.reach == Reach::Any {
            return self.tunnel(proxy, &to.authority()).await.map_err(NoTunnel::into_inner);
        }
        let mut failure = None;
        for address in self.platform.resolve(to.host, to.port, to.reach).await? {
            match self.tunnel(proxy, &address.to_string()).await {
                Ok(tunnel) => return Ok(tunnel),
                // A name may have an address that leads nowhere from there.
                Err(NoTunnel::Refused(error)) => failure = Some(error),
                Err(NoTunnel::NoProxy(error)) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    async fn tunnel(&self, proxy: &Proxy, authority: &str) -> Result<Connection<P::Stream>, NoTunnel> {
        let broken = |why: String| NoTunnel::NoProxy(io::Error::other(format!("the proxy {proxy} {why}")));
        let dialed = self.platform.dial(proxy.host(), proxy.port(), Reach::Any).await;
        let unreachable =
            |error: io::Error| broken(format!("can't be reached: {error}; {} names it", proxy.variable()));
        let mut connection = Connection::plain(dialed.map_err(unreachable)?);
        if proxy.is_secure() {
            let wrapped = self.tls.wrap(&self.platform, proxy.host(), connection).await;
            connection = wrapped.map_err(unreachable)?;
        }
        let asked = async {
            connection.write_all(proxy.request(authority).reveal().as_bytes()).await?;
            connection.flush().await
        };
        asked.await.map_err(|error| broken(format!("can't be asked: {error}")))?;
        let (head, rest) = read_head(&mut connection).await.map_err(|none| match none {
            NoHead::NotHttp => broken("does not answer as one: what it says is not HTTP".into()),
            NoHead::Ended => broken("hung up without an answer".into()),
            NoHead::Broken(error) => broken(format!("broke the connection: {error}")),
        })?;
        if !(200..300).contains(&head.status) {
            let refused = io::Error::other(proxy.refusal(authority, head.status));
            // Of another address it would say the same.
            return Err(if head.status == 407 {
                NoTunnel::NoProxy(refused)
            } else {
                NoTunnel::Refused(refused)
            });
        }
        // Whoever is at the other end waits to be asked.
        if !rest.is_empty() {
            return Err(broken("does not answer as one: it says more than that there is a tunnel".into()));
        }
        Ok(connection)
    }
}

/// Why there is no tunnel.
enum NoTunnel {
    /// The proxy does not connect to that address.
    Refused(io::Error),
    /// There is no proxy to use.
    NoProxy(io::Error),
}

impl NoTunnel {
    fn into_inner(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::NoProxy(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
