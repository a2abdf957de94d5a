//! The seam to the network: every look-up of a name and every connection of a webhook goes through [`Network`], so that
//! tests bring one whose names lead where they like. [`SystemNetwork`] is the real one. Judges nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Look-ups at once. The system's resolver takes a thread for each, until it gives up by itself.
const LOOKUPS_MAX: usize = 64;

/// An open connection.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for W {}

/// Names and connections.
pub(super) trait Network: Send + Sync + 'static {
    /// The addresses that a name leads to now, the best first.
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;

    /// Connects to exactly this address.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>>;
}

/// The system's resolver and its network. No variable of the environment sends anything through a proxy.
pub(super) struct SystemNetwork {
    lookups: Arc<Semaphore>,
}

impl SystemNetwork {
    pub(super) fn new() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }
}

impl Network for SystemNetwork {
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let lookups = Arc::clone(&self.lookups);
        // The dot keeps the resolver from completing the name from the lists of the machine's own network.
        let name = format!("{name}.");
        Box::pin(async move {
            let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let looked_up = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                // Whoever asked may be gone long before; the thread is taken until now.
                drop(place);
                found.map(|found| found.map(|address| address.ip()).collect())
            });
            looked_up.await.map_err(io::Error::other)?
        })
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }
}
