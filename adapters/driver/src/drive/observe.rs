//! Reports of an endpoint about sessions that begin and end, and about limits: events of [`tracing`] and
//! counters of [`metrics`], each behind the feature of that name. Without them, this module does nothing.
//! Payloads are never reported.
//!
//! | event (target `getty`) | level | fields |
//! |---|---|---|
//! | session open | debug | id, local, peer |
//! | session closed | debug; info unless it ended cleanly | id, peer, reason, messages and bytes each way |
//! | connection refused | debug, since a flood of connections would flood the log | limit |
//! | accepting failed | warn | error |
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `getty_sessions` | gauge | - |
//! | `getty_sessions_opened_total` | counter | - |
//! | `getty_sessions_closed_total` | counter | `reason`: the kind of [`CloseReason`] |
//! | `getty_received_messages_total`, `getty_sent_messages_total` | counter, when a session ends | - |
//! | `getty_received_bytes_total`, `getty_sent_bytes_total` | counter, when a session ends | - |
//! | `getty_connections_refused_total` | counter | `limit`: which of [`ServerLimits`](crate::ServerLimits) |
//! | `getty_accept_failures_total` | counter | - |
//!
//! Listener callbacks run in a span `session` (debug) with the fields id and peer, so that the
//! application's own events show their session.
#![cfg_attr(not(all(feature = "tracing", feature = "metrics")), allow(unused_variables))]

use std::io;
use std::net::SocketAddr;

use getty_core::{CloseReason, Stats};

use crate::session::id::SessionId;

/// Reports that a session is open.
pub(crate) fn opened(id: SessionId, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "getty", %id, local = local.map(display), peer = peer.map(display), "session open");
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("getty_sessions_opened_total").increment(1);
        metrics::gauge!("getty_sessions").increment(1.0);
    }
}

/// Reports that a session is over; `opened` says whether its opening was reported.
pub(crate) fn closed(
    id: SessionId,
    peer: Option<SocketAddr>,
    reason: &CloseReason,
    stats: &Stats,
    opened: bool,
) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! tell {
            ($level:expr) => {
                tracing::event!(
                    target: "getty",
                    $level,
                    %id,
                    peer = peer.map(display),
                    %reason,
                    received_messages = stats.received.messages,
                    received_bytes = stats.received.bytes,
                    sent_messages = stats.sent.messages,
                    sent_bytes = stats.sent.bytes,
                    "session closed"
                )
            };
        }
        if reason.is_clean() {
            tell!(tracing::Level::DEBUG);
        } else {
            tell!(tracing::Level::INFO);
        }
    }
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("getty_sessions_closed_total", "reason" => kind(reason)).increment(1);
        metrics::counter!("getty_received_messages_total").increment(stats.received.messages);
        metrics::counter!("getty_received_bytes_total").increment(stats.received.bytes);
        metrics::counter!("getty_sent_messages_total").increment(stats.sent.messages);
        metrics::counter!("getty_sent_bytes_total").increment(stats.sent.bytes);
        if opened {
            metrics::gauge!("getty_sessions").decrement(1.0);
        }
    }
}

/// Reports a connection that was closed at once because of `limit`.
pub(crate) fn refused(limit: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "getty", limit, "connection refused");
    #[cfg(feature = "metrics")]
    metrics::counter!("getty_connections_refused_total", "limit" => limit).increment(1);
}

/// Reports that accepting failed and will be retried.
pub(crate) fn accept_failed(error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "getty", %error, "accepting failed");
    #[cfg(feature = "metrics")]
    metrics::counter!("getty_accept_failures_total").increment(1);
}

/// Runs a session's `callback` in its span.
pub(crate) fn in_session<T>(id: SessionId, peer: Option<SocketAddr>, callback: impl FnOnce() -> T) -> T {
    #[cfg(feature = "tracing")]
    let _entered = tracing::debug_span!(target: "getty", "session", %id, peer = peer.map(display)).entered();
    callback()
}

/// The kind of a reason, as a label: few and fixed values.
#[cfg(feature = "metrics")]
fn kind(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Local { .. } => "local",
        CloseReason::Eof { mid_frame: false } => "eof",
        CloseReason::Eof { mid_frame: true } => "cut_off",
        CloseReason::Timeout(_) => "timeout",
        CloseReason::Refused(_) => "refused",
        CloseReason::Codec(_) | CloseReason::Decoder(_) => "codec",
        CloseReason::Evicted => "evicted",
        CloseReason::Displaced => "displaced",
        CloseReason::Panicked => "panicked",
        CloseReason::Layer(_) => "layer",
        CloseReason::Io(_) => "io",
        #[cfg(feature = "websocket")]
        CloseReason::Peer(_) => "peer",
        #[cfg(feature = "websocket")]
        CloseReason::Handshake(_) => "handshake",
        #[cfg(feature = "websocket")]
        CloseReason::Protocol(_) => "protocol",
        _ => "other",
    }
}
