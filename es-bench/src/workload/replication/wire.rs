//! [`Meter`]: counts the bytes of a connection.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Forwards one connection, and counts its bytes in both directions.
#[derive(Debug)]
pub(super) struct Meter {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<u64>>,
}

impl Meter {
    pub(super) async fn start(to: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| Failure::caused_by("listen", &error))?;
        let address = listener.local_addr().map_err(|error| Failure::caused_by("listen", &error))?;
        let task = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await?;
            let mut server = TcpStream::connect(to).await?;
            let (sent, received) = tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            Ok(sent + received)
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the number of bytes of the connection, when it is closed.
    pub(super) async fn stop(self) -> Result<u64, Failure> {
        let counted = self.task.await.map_err(|error| Failure::caused_by("forward a connection", &error))?;
        counted.map_err(|error| Failure::caused_by("forward a connection", &error))
    }
}
