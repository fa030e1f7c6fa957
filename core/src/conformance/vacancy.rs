//! Places where nobody listens.

use std::net::{SocketAddr, TcpListener, TcpStream};

/// A place where nobody listens, and that nobody is given as long as this is had. A port that was only looked up and let go
/// is soon somebody else's, who then hears what was meant for nobody.
#[derive(Debug)]
pub struct Vacancy {
    address: SocketAddr,
    /// The system gives no port away that a connection has. Where somebody asks for that very port they may listen there.
    _connection: Option<[TcpStream; 2]>,
}

impl Vacancy {
    /// A port of this machine.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).unwrap();
        let (far, _) = listener.accept().unwrap();
        Self { address, _connection: Some([near, far]) }
    }

    /// A place on a network that nobody else is on.
    pub(super) fn of(address: SocketAddr) -> Self {
        Self { address, _connection: None }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Vacancy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn nobody_listens_before_somebody_asks_for_that_very_port() {
        let vacancy = Vacancy::new();
        let connect = || TcpStream::connect(vacancy.address()).map(drop).map_err(|error| error.kind());
        assert_eq!(connect(), Err(ErrorKind::ConnectionRefused));
        for _ in 0..2 {
            let listener = TcpListener::bind(vacancy.address()).unwrap();
            assert_eq!(connect(), Ok(()));
            drop(listener);
            assert_eq!(connect(), Err(ErrorKind::ConnectionRefused));
        }
    }
}
