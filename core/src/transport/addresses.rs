//! Which of a host's addresses is connected to.

use std::{
    future::{Future, pending},
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, pin_mut, select_biased, stream::FuturesUnordered};

use crate::http::Reach;

/// How long one address is tried alone (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// Those of the addresses of `host` that may be connected to, at least one.
pub fn admit(
    host: &str,
    addresses: io::Result<impl IntoIterator<Item = SocketAddr>>,
    reach: Reach,
) -> io::Result<Vec<SocketAddr>> {
    let unknown = |kind, why: String| Err(io::Error::new(kind, format!("the host {host} is not known{why}")));
    let mut addresses: Vec<_> = match addresses {
        Ok(addresses) => addresses.into_iter().collect(),
        Err(error) => return unknown(error.kind(), format!(": {error}")),
    };
    if addresses.is_empty() {
        return unknown(ErrorKind::NotFound, String::new());
    }
    addresses.retain(|address| reach.admits(address.ip()));
    if addresses.is_empty() {
        let is_not = if reach == Reach::Loopback { "this machine" } else { "on the internet" };
        let why = format!("{host} is not {is_not}, and no other address is allowed");
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(addresses)
}

/// Tries the addresses in turn, the next one soon: one that swallows packets must not use up the time of one
/// that answers. `sleep` waits that long.
pub async fn first_to_connect<T, C, S>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> C,
    sleep: impl Fn(Duration) -> S,
) -> io::Result<T>
where
    C: Future<Output = io::Result<T>>,
    S: Future<Output = ()>,
{
    let mut attempts = FuturesUnordered::new();
    let mut addresses = addresses.into_iter();
    let mut failure = None;
    loop {
        match addresses.next() {
            Some(address) => attempts.push(connect(address)),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()));
            }
            None => {}
        }
        let alone = async {
            if addresses.len() == 0 {
                pending::<()>().await;
            } else {
                sleep(HEAD_START).await;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{executor::block_on, future::ready};

    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect()
    }

    #[test]
    fn a_host_is_connected_to_where_it_may_be() {
        let both = || Ok([([127, 0, 0, 1], 1).into(), ([8, 8, 8, 8], 1).into()]);
        let admitted = |reach| admit("studio", both(), reach).unwrap();
        assert_eq!(admitted(Reach::Any).len(), 2);
        assert_eq!(admitted(Reach::Loopback), [([127, 0, 0, 1], 1).into()]);
        assert_eq!(admitted(Reach::Public), [([8, 8, 8, 8], 1).into()]);
        let here = || Ok(addresses(&[1]));
        let refused = admit("studio", here(), Reach::Public).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(refused.to_string().starts_with("studio is not on the internet"), "{refused}");
    }

    #[test]
    fn a_host_that_is_not_known_is_named() {
        let failed: io::Result<Vec<SocketAddr>> = Err(io::Error::other("no such name"));
        let unknown = admit("studio", failed, Reach::Any).unwrap_err();
        assert_eq!(unknown.to_string(), "the host studio is not known: no such name");
        let unknown = admit("studio", Ok(Vec::new()), Reach::Any).unwrap_err();
        assert_eq!(unknown.to_string(), "the host studio is not known");
    }

    #[test]
    fn an_address_that_swallows_packets_does_not_hold_up_the_next() {
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => pending().await,
                2 => Err(io::Error::other("refused")),
                port => Ok(port),
            }
        };
        let slept = Mutex::new(Vec::new());
        let sleep = |span| {
            slept.lock().unwrap().push(span);
            ready(())
        };
        let first = block_on(first_to_connect(addresses(&[1, 2, 3, 4]), connect, sleep)).unwrap();
        assert!(first == 3 || first == 4, "{first}");
        assert!(slept.lock().unwrap().iter().all(|span| *span == HEAD_START));
    }

    #[test]
    fn the_last_failure_is_told() {
        let connect = |address: SocketAddr| ready(Err::<(), _>(io::Error::other(address.port().to_string())));
        let failure = block_on(first_to_connect(addresses(&[1, 2]), connect, |_| ready(()))).unwrap_err();
        assert_eq!(failure.to_string(), "2");
        assert!(block_on(first_to_connect(Vec::new(), connect, |_| ready(()))).is_err());
    }
}
