//! Connections that are not HTTP/1: each goes to one endpoint, byte for byte.

use tokio::net::TcpStream;

use super::backends::{Backends, Chosen};

/// Carries a connection to its end. Without an endpoint it is closed: there is no way to say why.
pub(super) async fn carry(mut client: TcpStream, backends: &Backends) {
    match backends.connect().await {
        Ok((Chosen { .. }, mut server)) => {
            // the choice is let go here: a connection that stays open must not hold up its pod's end
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        Err(e) => tracing::debug!("connection closed: {e}"),
    }
}
