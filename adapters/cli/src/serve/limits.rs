//! How many connections are served.

use clap::Args;
use getty_driver::ServerLimits;

/// Options on how many connections are served. Those beyond a limit are closed at once.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Limits of connections")]
pub struct LimitOptions {
    /// Sessions at each URL, but for udp (see --peers); what is beyond is closed at once, unless a session
    /// that has not finished its handshake makes room
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_sessions: usize,

    /// Of these, sessions of one address; of IPv6, of one network of 64 bits [default: any number]
    #[arg(long, value_name = "N")]
    max_per_address: Option<u32>,

    /// Connections that are accepted in a second, at each URL; more wait with the system [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    accept_rate: Option<u32>,
}

impl LimitOptions {
    /// What each of so many servers takes of them. One address may have as many sessions at each.
    pub fn shared_out(self, servers: usize) -> Self {
        let accept_rate = self.accept_rate.map(|rate| (rate / servers as u32).max(1));
        LimitOptions { max_sessions: self.max_sessions.div_ceil(servers), accept_rate, ..self }
    }

    pub fn limits(self) -> ServerLimits {
        ServerLimits::new()
            .max_sessions(self.max_sessions)
            .max_sessions_per_address(self.max_per_address)
            .accepts_per_second(self.accept_rate)
    }
}

impl Default for LimitOptions {
    fn default() -> Self {
        LimitOptions { max_sessions: 100_000, max_per_address: None, accept_rate: None }
    }
}
