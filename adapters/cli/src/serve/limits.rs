//! How many connections are served.

use clap::Args;
use getty_driver::ServerLimits;

use crate::url::{Transport, Url};

/// Options on how many connections are served.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Limits of connections")]
pub struct LimitOptions {
    /// Sessions at each URL, but for udp (see --peers); what is beyond is closed at once, unless a session
    /// that has not finished its handshake makes room [default: 100000]. The addresses of a name share them
    /// out, rounded up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: Option<u32>,

    /// Of these, sessions of one address; of IPv6, of one network of 64 bits [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_address: Option<u32>,

    /// Connections that are accepted in a second, at each URL; more wait with the system [default: any
    /// number]. The addresses of a name share them out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    accept_rate: Option<u32>,
}

/// Sessions at a URL by default, as many as the library's default.
const MAX_SESSIONS: u32 = 100_000;

impl LimitOptions {
    /// Checks that these options have something to act on.
    pub fn check(&self, urls: &[Url]) -> Result<(), String> {
        let LimitOptions { max_sessions, max_per_address, accept_rate } = self;
        let given = [("--max-sessions", max_sessions.is_some()), ("--accept-rate", accept_rate.is_some())];
        let accepts = urls.iter().any(|url| url.transport != Transport::Udp);
        if let Some((name, _)) = given.into_iter().find(|&(_, given)| given && !accepts) {
            return Err(format!("{name} is for URLs other than udp, and there is none (see --peers)"));
        }
        if max_per_address.is_some() && !urls.iter().any(|url| url.transport.is_over_tcp()) {
            return Err("--max-per-address is for tcp, tls, ws and wss URLs, and there is none".to_owned());
        }
        Ok(())
    }

    fn max_sessions(self) -> u32 {
        self.max_sessions.unwrap_or(MAX_SESSIONS)
    }

    /// What each of so many servers takes of them. One address may have as many sessions at each.
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
