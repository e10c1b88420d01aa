//! Serving udp URLs: [`UdpOptions`].

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

/// How many new peers may come to a port within a second.
const NEW_PER_SECOND: u32 = 1_000;

/// Options on sessions of udp URLs.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "UDP options")]
pub struct UdpOptions {
    /// Gives each peer a session of its own, which opens, is idle and ends as one over tcp, instead of one session for
    /// all. At most MAX of them on a port, 10000 if it is not given: then a new peer takes the place of the one that was
    /// silent the longest. Of more than 1000 new ones a second, datagrams are dropped. Both are shared out evenly among
    /// the addresses of a name, and among the sockets of each, of which there is one for each thread (on
    /// Linux)
    #[arg(long, value_name = "MAX", num_args = 0..=1, require_equals = true, default_missing_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub peers: Option<u32>,

    /// How many new ones may come within a second.
    #[arg(skip = NEW_PER_SECOND)]
    new_per_second: u32,
}

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions { peers: None, new_per_second: NEW_PER_SECOND }
    }
}

impl UdpOptions {
    /// What each of so many servers takes of the limits, rounded up.
    pub fn shared_out(self, servers: usize) -> Self {
        let share = |limit: u32| limit.div_ceil(servers as u32);
        UdpOptions { peers: self.peers.map(share), new_per_second: share(self.new_per_second) }
    }

    /// Checks that these options have something to act on.
    pub fn check(&self, urls: &[Url]) -> Result<(), String> {
        if self.peers.is_some() && urls.iter().all(|url| url.transport != Transport::Udp) {
            return Err("--peers is for udp URLs, and there is none".to_owned());
        }
        Ok(())
    }

    /// Serves `url` with a socket for each thread, where they can share a port: the system then shares out
    /// the datagrams by whose they are, so that one peer's all come to the same.
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
            // Who shares a port joins others that do: this finds out whether it is free. If not, the one socket tells.
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

/// Of a socket that shares its port or not.
fn socket_options(shares: bool) -> getty_driver::UdpOptions {
    let options = getty_driver::UdpOptions::new();
    #[cfg(target_os = "linux")]
    let options = options.reuse_port(shares);
    #[cfg(not(target_os = "linux"))]
    let _ = shares;
    options
}

/// Ends all of them; gives how many sessions were aborted.
pub async fn shut_down<R: BuiltIn>(servers: Vec<Server<R>>, grace: Duration) -> usize {
    let ends = join_all(servers.into_iter().map(|server| server.shutdown(grace))).await;
    ends.iter().map(|end| end.aborted).sum()
}
