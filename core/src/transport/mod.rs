//! What every runtime on sockets, threads and files has in common.
//!
//! A runtime that brings the five things of a [`Platform`] (a clock, a timer, a way to open a byte stream, threads for
//! what blocks) gets the rest of a [`Runtime`] from [`Transport`]: TLS, the upgrade to a session, WebSocket messages,
//! HTTP with streamed uploads, and private files for large results. One that has an HTTP client of its own takes the
//! parts: [`connect`], [`UploadBody`], [`Folder`].
//!
//! Nothing here decides: when to connect, how long to wait and what to do about a failure is the worker's business.
#![allow(
    clippy::disallowed_methods,
    reason = "part of the runtimes, which touch the world and decide nothing"
)]

mod addresses;
mod body;
mod connector;
mod fair;
mod files;
mod followed;
mod head;
#[cfg(feature = "http")]
mod http;
mod machine;
mod session;
mod socket;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
#[cfg(feature = "http")]
mod whole;

use std::{
    error::Error,
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    time::{Duration, SystemTime},
};

use futures::{AsyncRead, AsyncWrite};

pub use addresses::{admit, first_to_connect};
pub use body::UploadBody;
pub use connector::{Connector, proxies};
pub use fair::Fair;
pub use files::Folder;
#[cfg(feature = "http")]
pub use http::Http;
pub use machine::LocalMachine;
pub use rustls::pki_types::CertificateDer;
pub use session::connect;
pub use socket::Socket;
pub use store::FileStore;
pub use tls::{Connection, Tls, UNKNOWN_AUTHORITY, read_authorities};
pub use upgrade::is_header_text;
#[cfg(feature = "http")]
pub use whole::Transport;

#[cfg(doc)]
use crate::drive::Runtime;
use crate::{
    http::Reach,
    time::{Mono, Now, Wall},
};

/// How long the body of an answer may take when its status says enough: the worker waits.
pub const BODY_BOUND: Duration = Duration::from_secs(2);

/// What a runtime brings.
///
/// The same rules hold as for a [`Runtime`]: what is dropped is given up at once, futures wake when there is something
/// to do.
pub trait Platform: Clone + Send + Sync + 'static {
    /// A connection: bytes both ways. Reading and writing are polled on their own, by one task.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// What time it is: microseconds of a monotonic clock since the platform's start, and the wall clock
    /// ([`wall_clock`]).
    fn now(&self) -> Now;

    /// Waits until the monotonic clock says `at`.
    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static;

    /// Connects to a port of `host`: a name, or an address (without brackets), of which only addresses that `reach`
    /// admits are tried ([`admit`], [`first_to_connect`]). What is written leaves at once (`TCP_NODELAY`).
    fn dial(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The addresses of `host`, as for [`Platform::dial`], that `reach` admits: at least one. The system is asked.
    fn resolve(
        &self,
        host: &str,
        port: u16,
        reach: Reach,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        let (platform, host) = (self.clone(), host.to_owned());
        async move {
            let addresses = if let Ok(address) = host.parse() {
                Ok(vec![SocketAddr::new(address, port)])
            } else {
                let name = host.clone();
                // It may take its time.
                platform.compute(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter)).await
            };
            admit(&host, addresses, reach)
        }
    }

    /// Runs `work` on a thread off the loop, once it is polled, as [`Runtime::compute`].
    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;

    /// Runs `work` that blocks for a moment only, to read or write a file. As [`Platform::compute`], unless there is
    /// something better for that.
    fn block<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.compute(work)
    }

    /// Waits that long.
    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.sleep_until(self.now().mono + span)
    }
}

/// The system gave no randomness, without which there are no secrets.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness(#[from] getrandom::Error);

/// 32 bytes of the system's randomness, as a worker is started with.
pub fn seed() -> Result<[u8; 32], NoRandomness> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// The system's wall clock.
pub fn wall_clock() -> Wall {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Wall::from_millis(match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        // A clock that was never set.
        Err(before) => -millis(before.duration()),
    })
}

/// An error and what led to it, in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut error = error;
    while let Some(cause) = error.source() {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        error = cause;
    }
    line
}

/// What `work` comes to, unless the time is over before.
async fn within<P: Platform, T>(platform: &P, bound: Duration, work: impl Future<Output = T>) -> Option<T> {
    use futures::future::{Either, select};
    let (work, bound) = (std::pin::pin!(work), std::pin::pin!(platform.sleep(bound)));
    match select(work, bound).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
