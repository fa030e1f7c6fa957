//! From an address to an open session (section 1).

use super::{
    Connection, Connector, Platform, Socket,
    upgrade::{Target, upgrade},
};
use crate::{drive::Connect, worker::ConnectFailure};

/// Connects, over TLS if the address asks for it, and upgrades. There is no bound in time: the worker has one, and
/// drops the future.
pub async fn connect<P: Platform>(
    connector: Connector<P>,
    connect: Connect,
) -> Result<Socket<Connection<P::Stream>>, ConnectFailure> {
    let target = Target::parse(&connect.url)?;
    let opened = connector.open(target.destination()).await;
    let mut connection = opened
        .map_err(|error| ConnectFailure::Trouble(format!("no connection to {}: {error}", target.host)))?;
    let read = upgrade(connector.platform(), &mut connection, &target, &connect).await?;
    Ok(Socket::new(connection, read).await)
}
