//! [`Proxy`]: the network between two nodes, which can be cut.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where a proxy forwards to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The port of the node, which changes with each start.
    pub(crate) port: u16,
    /// Whether the link is cut: connections are broken, and no new one is accepted.
    pub(crate) is_cut: bool,
}

/// Forwards TCP connections from one node to another.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    route: watch::Sender<Route>,
}

impl Proxy {
    /// Starts a proxy on a free port.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot listen.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (route, routes) = watch::channel(Route { port: 0, is_cut: false });
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, routes.clone()));
            }
        });
        Ok(Self { address, route })
    }

    /// Returns the address on which the proxy listens.
    #[must_use]
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the route. Connections of another route are broken.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Route)) {
        self.route.send_modify(change);
    }
}

/// Forwards one connection until either side closes it or the route changes.
async fn forward(mut client: TcpStream, mut routes: watch::Receiver<Route>) -> io::Result<()> {
    let route = *routes.borrow_and_update();
    if route.is_cut {
        return Ok(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", route.port)).await?;
    tokio::select! {
        _ = routes.wait_for(|now| *now != route) => Ok(()),
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => copied.map(drop),
    }
}
