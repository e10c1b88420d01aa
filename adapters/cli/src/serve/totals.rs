//! [`Totals`]: statistics of all sessions of a server.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use getty_driver::core::datagram::Dropped;
use getty_driver::core::layer::tls::TlsError;
use getty_driver::core::websocket::HandshakeError;
use getty_driver::core::{CloseReason, Deadline, Stats};

use super::Server;
use crate::diagnostics;
use crate::explain::{explain_dropped, explain_over, tls_error};
use crate::runtime::{BuiltIn, sleep_until};
use crate::url::Transport;

/// Statistics of all sessions, for `--stats`.
#[derive(Debug, Default)]
pub struct Totals {
    opened: AtomicU64,
    closed: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Totals {
    pub fn count_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub fn count_messages(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts the end of a session, whether or not it had opened.
    pub fn count_closed(&self, transport: Transport, had_opened: bool, reason: &CloseReason, stats: &Stats) {
        self.closed.fetch_add(u64::from(had_opened), Relaxed);
        if is_error(reason) && !(stats.received.bytes == 0 && is_end_of_peer(reason)) {
            self.count_errors(1, explain_over(reason, transport, had_opened));
        }
    }

    /// Counts dropped datagrams.
    pub fn count_dropped(&self, dropped: &Dropped) {
        self.count_errors(dropped.counts.total(), explain_dropped(dropped));
    }

    fn count_errors(&self, errors: u64, last: String) {
        self.errors.fetch_add(errors, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

fn is_error(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::Timeout(Deadline::IdleRead) => false,
        // A request for the page, which was sent.
        CloseReason::Handshake(error) => !matches!(**error, HandshakeError::Refused { status: 200 }),
        reason => !reason.is_clean(),
    }
}

/// Whether the peer has left, in any way. Health checks and port scanners do so before sending a byte.
fn is_end_of_peer(reason: &CloseReason) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    match reason {
        CloseReason::Eof { .. } => true,
        CloseReason::Io(failure) => {
            matches!(failure.kind, ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected)
        }
        reason => matches!(tls_error(reason), Some(TlsError::EndedInHandshake)),
    }
}

/// Prints a line each second, forever; prints nothing without totals.
pub async fn report<R: BuiltIn>(totals: Option<Arc<Totals>>, servers: &[Server<R>]) -> Infallible {
    let Some(totals) = totals else { return std::future::pending().await };
    let (mut since, mut messages, mut bytes) = (Instant::now(), 0, 0);
    loop {
        sleep_until::<R>(since + Duration::from_secs(1)).await;
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let (messages_before, bytes_before) = (messages, bytes);
        (messages, bytes) = (totals.messages.load(Relaxed), totals.bytes.load(Relaxed));
        let (closed, opened) = (totals.closed.load(Relaxed), totals.opened.load(Relaxed));
        let (refused, failures) = servers
            .iter()
            .map(Server::refused)
            .fold((0, 0), |(refused, failures), (more, again)| (refused + more, failures + again));
        let refused = if refused > 0 { format!(", refused {refused}") } else { String::new() };
        let failures = if failures > 0 { format!(", could not accept {failures}") } else { String::new() };
        let last = totals.last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        diagnostics::line(format!(
            "sessions {}, opened {opened}, messages/s {:.0}, MB/s {:.2}{refused}{failures}, errors {}{}",
            opened.saturating_sub(closed),
            (messages - messages_before) as f64 / seconds,
            (bytes - bytes_before) as f64 / seconds / 1e6,
            totals.errors.load(Relaxed),
            last.map(|error| format!(" (last: {error})")).unwrap_or_default(),
        ));
    }
}
