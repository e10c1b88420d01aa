//! [`UdpOptions`]: serving udp URLs.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use getty_driver::core::Config;
use getty_driver::core::codec::{Decoder, Encoder};
use getty_driver::core::datagram::PeerLimits;
use getty_driver::{Items, Listener, Server};

use super::totals::Totals;
use crate::runtime::{BuiltIn, server};
use crate::url::{Transport, Url};

/// Limit of new peers per second on a port.
const NEW_PER_SECOND: u32 = 1_000;

/// Options for sessions of udp URLs.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "UDP options")]
pub struct UdpOptions {
    /// Gives each peer a session of its own, which opens, idles and ends like one over tcp, instead of one
    /// session for all peers. A port has at most MAX sessions [default: 10000]; beyond that, a new peer
    /// replaces the one silent the longest. At most 1000 new peers per second are accepted, and datagrams of
    /// others dropped. The addresses of a name share both limits evenly, and so do the sockets of each
    /// address (on Linux, one per thread)
    #[arg(long, value_name = "MAX", num_args = 0..=1, require_equals = true, default_missing_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub peers: Option<u32>,

    /// Limit of new peers per second.
    #[arg(skip = NEW_PER_SECOND)]
    new_per_second: u32,
}

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions { peers: None, new_per_second: NEW_PER_SECOND }
    }
}

impl UdpOptions {
    /// The share of each of `servers` servers, rounded up.
    pub fn shared_out(self, servers: usize) -> Self {
        let share = |limit: u32| limit.div_ceil(servers as u32);
        UdpOptions { peers: self.peers.map(share), new_per_second: share(self.new_per_second) }
    }

    /// Checks that a URL uses these options.
    pub fn check(&self, urls: &[Url]) -> Result<(), String> {
        if self.peers.is_some() && urls.iter().all(|url| url.transport != Transport::Udp) {
            return Err("--peers needs a udp URL".to_owned());
        }
        Ok(())
    }

    /// Serves `url` with one socket per thread where sockets can share a port. The system then distributes
    /// datagrams by sender, so that all of a peer's datagrams reach the same socket.
    pub async fn start<R, C, L>(
        self,
        url: &Url,
        threads: usize,
        config: Arc<Config>,
        totals: Option<Arc<Totals>>,
        codec: impl Fn() -> C,
        listener: impl Fn() -> L + Clone + Send + 'static,
    ) -> anyhow::Result<Vec<Server<R>>>
    where
        R: BuiltIn,
        C: Decoder<Item = Bytes> + Encoder<Bytes> + Send + 'static,
        L: Listener<Items<Bytes>> + Send + 'static,
    {
        let mut address = url.address().to_owned();
        let mut sockets = if cfg!(target_os = "linux") { threads } else { 1 };
        if let Some(peers) = self.peers {
            sockets = sockets.min(peers as usize);
        }
        if sockets > 1 {
            // A shared port can be joined even if it is in use: this checks that it is free. If not, the one
            // socket fails.
            match UdpSocket::bind(url.host_and_port()).and_then(|socket| socket.local_addr()) {
                Ok(free) => address = url.at(free).address().to_owned(),
                Err(_) => sockets = 1,
            }
        }
        let mut servers = Vec::with_capacity(sockets);
        for _ in 0..sockets {
            let builder = server::<R>().config(config.clone()).udp_options(socket_options(sockets > 1));
            servers.push(match self.peers {
                None => builder.udp(&address, codec(), listener()).await?,
                Some(peers) => {
                    let limits = PeerLimits::new()
                        .max_peers(peers as usize / sockets)
                        .new_per_second(self.new_per_second / sockets as u32);
                    let (listener, totals) = (listener.clone(), totals.clone());
                    let builder = builder.on_dropped(move |dropped| {
                        if let Some(totals) = &totals {
                            totals.count_dropped(dropped);
                        }
                    });
                    builder.udp_peers(&address, limits, codec(), move |_| Some(listener())).await?
                }
            });
        }
        Ok(servers)
    }
}

/// Options of a socket that shares its port or not.
fn socket_options(shares: bool) -> getty_driver::UdpOptions {
    let options = getty_driver::UdpOptions::new();
    #[cfg(target_os = "linux")]
    let options = options.reuse_port(shares);
    #[cfg(not(target_os = "linux"))]
    let _ = shares;
    options
}

/// Shuts all of them down. Returns the number of aborted sessions.
pub async fn shut_down<R: BuiltIn>(servers: Vec<Server<R>>, grace: Duration) -> usize {
    let ends = join_all(servers.into_iter().map(|server| server.shutdown(grace))).await;
    ends.iter().map(|end| end.aborted).sum()
}
