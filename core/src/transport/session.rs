//! From an address to an open session (section 1).

use super::{
    Connection, Platform, Socket, Tls,
    upgrade::{Target, upgrade},
};
use crate::{drive::Connect, http::Reach, worker::ConnectFailure};

/// Connects, over TLS if the address asks for it, and upgrades. There is no bound in time: the worker has one, and
/// drops the future.
pub async fn connect<P: Platform>(
    platform: P,
    tls: Tls,
    connect: Connect,
) -> Result<Socket<Connection<P::Stream>>, ConnectFailure> {
    let target = Target::parse(&connect.url)?;
    let connected = async {
        let stream = platform.dial(&target.host, target.port, Reach::Any).await?;
        if target.secure {
            tls.wrap(&platform, &target.host, stream).await
        } else {
            Ok(Connection::Plain(stream))
        }
    };
    let mut connection = connected
        .await
        .map_err(|error| ConnectFailure::Trouble(format!("no connection to {}: {error}", target.host)))?;
    let read = upgrade(&platform, &mut connection, &target, &connect).await?;
    Ok(Socket::new(connection, read).await)
}
