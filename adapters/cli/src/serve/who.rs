//! Lists the sessions of a server, one line each.

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use getty_driver::SessionInfo;

use crate::diagnostics;

/// Maximum number of listed sessions. The others are counted.
const LINES: usize = 1000;

/// Lists `sessions` on standard error, the oldest first, in a thread of its own: a long list takes a while,
/// and the caller's thread may serve sessions.
pub fn print(sessions: Vec<SessionInfo>) {
    if let Err(error) = thread::Builder::new().name("list".to_owned()).spawn(move || list(sessions)) {
        diagnostics::report(format_args!("can't list the sessions: {error}"));
    }
}

fn list(mut sessions: Vec<SessionInfo>) {
    sessions.sort_unstable_by_key(|session| session.id);
    let now = Instant::now();
    let mut lines = vec![format!("getty: {} sessions", sessions.len())];
    lines.extend(sessions.iter().take(LINES).map(|session| describe(session, now)));
    match sessions.len().saturating_sub(LINES) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    diagnostics::lines(lines);
}

fn describe(session: &SessionInfo, now: Instant) -> String {
    let SessionInfo { id, local, peer, is_open, since, last_active, stats, .. } = session;
    format!(
        "session {id}: {} from {}, {}, for {:.1} s, last active {:.1} s ago, queued {} B, messages in {} out {}",
        address(*local),
        address(*peer),
        if *is_open { "open" } else { "not open" },
        now.saturating_duration_since(*since).as_secs_f64(),
        now.saturating_duration_since(*last_active).as_secs_f64(),
        stats.queued,
        stats.received.messages,
        stats.sent.messages,
    )
}

/// Formats an address. Unix sockets have none, and a session shared by all peers of a socket has no peer's.
fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}
