//! A platform for the tests of this module: nothing on it takes time.

use std::{
    future::{Future, pending, ready},
    io,
    net::SocketAddr,
};

use futures::{AsyncRead, AsyncWrite, future::lazy, io::Cursor};

use super::{Platform, admit};
use crate::{
    http::Reach,
    time::{Mono, Now, Wall},
};

/// Whoever dials a host's port gets what `dial` makes of them; every name has the same addresses.
#[derive(Clone)]
pub(super) struct Dials<F> {
    pub(super) dial: F,
    pub(super) addresses: Vec<SocketAddr>,
}

impl<F> Dials<F> {
    pub(super) fn new(dial: F) -> Self {
        Self { dial, addresses: Vec::new() }
    }
}

/// Nobody answers here.
pub(super) fn here() -> impl Platform {
    Dials::new(|_: &str, _| Err::<Cursor<Vec<u8>>, _>(io::ErrorKind::ConnectionRefused.into()))
}

impl<S, F> Platform for Dials<F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(&str, u16) -> io::Result<S> + Clone + Send + Sync + 'static,
{
    type Stream = S;

    fn now(&self) -> Now {
        Now { mono: Mono::ZERO, wall: Wall::from_millis(0) }
    }

    fn sleep_until(&self, _: Mono) -> impl Future<Output = ()> + Send + 'static {
        pending()
    }

    fn dial(
        &self,
        host: &str,
        port: u16,
        _: Reach,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
        ready((self.dial)(host, port))
    }

    fn resolve(
        &self,
        host: &str,
        _: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        ready(admit(host, Ok(self.addresses.clone()), reach))
    }

    fn compute<T, W>(&self, work: W) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        lazy(|_| work())
    }
}
