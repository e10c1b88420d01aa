//! Limits on connections.

use clap::Args;
use getty_driver::ServerLimits;

use crate::url::{Transport, Url};

/// Options that limit connections.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Connection limits")]
pub struct LimitOptions {
    /// Maximum number of sessions per URL, except udp (see --peers). Further connections are closed at once,
    /// unless one that has not finished its handshake can make room [default: 100000]. The addresses of a
    /// name share the limit, rounded up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: Option<u32>,

    /// Maximum number of sessions per client address, or per /64 network for IPv6 [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_address: Option<u32>,

    /// Maximum number of connections accepted per second and URL; others wait in the system's queue [default:
    /// no limit]. The addresses of a name share the rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    accept_rate: Option<u32>,
}

/// The default number of sessions per URL, the same as the library's.
const MAX_SESSIONS: u32 = 100_000;

impl LimitOptions {
    /// Checks that the URLs use these options.
    pub fn check(&self, urls: &[Url]) -> Result<(), String> {
        let LimitOptions { max_sessions, max_per_address, accept_rate } = self;
        let given = [("--max-sessions", max_sessions.is_some()), ("--accept-rate", accept_rate.is_some())];
        let accepts = urls.iter().any(|url| url.transport != Transport::Udp);
        if let Some((name, _)) = given.into_iter().find(|&(_, given)| given && !accepts) {
            return Err(format!("{name} needs a URL other than udp (for udp see --peers)"));
        }
        if max_per_address.is_some() && !urls.iter().any(|url| url.transport.is_over_tcp()) {
            return Err("--max-per-address needs a tcp, tls, ws or wss URL".to_owned());
        }
        Ok(())
    }

    fn max_sessions(self) -> u32 {
        self.max_sessions.unwrap_or(MAX_SESSIONS)
    }

    /// The share of each of `servers` servers. The limit per address stays, and applies at each server.
    pub fn shared_out(self, servers: usize) -> Self {
        let accept_rate = self.accept_rate.map(|rate| (rate / servers as u32).max(1));
        LimitOptions { max_sessions: Some(self.max_sessions().div_ceil(servers as u32)), accept_rate, ..self }
    }

    pub fn limits(self) -> ServerLimits {
        ServerLimits::new()
            .max_sessions(self.max_sessions() as usize)
            .max_sessions_per_address(self.max_per_address)
            .accepts_per_second(self.accept_rate)
    }
}
