//! Explanations of failures, ends of sessions and dropped datagrams, in terms of this program's options.

use std::io::ErrorKind;

use getty_driver::core::codec::{DelimitedError, LengthDelimitedError};
use getty_driver::core::datagram::{DropReason, Dropped};
use getty_driver::core::layer::tls::TlsError;
use getty_driver::core::rpc::FramesError;
use getty_driver::core::websocket::{HandshakeError, ProtocolError};
use getty_driver::core::{CloseReason, Deadline};
use getty_driver::tls::rustls::{AlertDescription, CertificateError};

use crate::url::Transport;

/// Formats an error and its causes in one line, without causes whose text the error already contains.
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.ends_with(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// Explains why a session ended.
pub fn explain(reason: &CloseReason) -> String {
    const HINT: &str = "raise --max-message, or check that the peer speaks the same protocol (see --codec)";
    if let CloseReason::Codec(error) = reason {
        if let Some(&LengthDelimitedError::TooLong { length, limit }) = error.downcast_ref() {
            let (length, limit) = (length.saturating_sub(4), limit.saturating_sub(4));
            if is_begin_of_tls(length) {
                return "the peer seems to speak TLS: use a tls:// URL".to_owned();
            }
            return format!("the peer sent a message of {length} bytes, over the limit of {limit}: {HINT}");
        }
        if let Some(&DelimitedError::TooLong { limit }) = error.downcast_ref() {
            let limit = limit.saturating_sub(1);
            return format!("the peer sent a line over the limit of {limit} bytes: {HINT}");
        }
        match error.downcast_ref() {
            Some(&FramesError::TooLong { length, limit }) => {
                let text = "the peer sent a frame of";
                return format!("{text} {length} bytes, over the limit of {limit}: raise --max-message");
            }
            Some(FramesError::Tls) => return "the peer seems to speak TLS: use a tls:// URL".to_owned(),
            Some(FramesError::Http) => {
                return "the peer speaks HTTP or another protocol of text: use the ws:// URL of a getty server"
                    .to_owned();
            }
            _ => {}
        }
    }
    match reason {
        CloseReason::Protocol(ProtocolError::FrameTooLarge { bytes, limit }) => {
            format!("the peer sent a frame of {bytes} bytes, over the limit of {limit}: raise --max-message")
        }
        CloseReason::Protocol(ProtocolError::MessageTooLarge { limit }) => {
            format!("the peer sent a message over the limit of {limit} bytes: raise --max-message")
        }
        CloseReason::Protocol(
            error @ (ProtocolError::Text | ProtocolError::Binary | ProtocolError::Package { .. }),
        ) => {
            format!("{error} (see --codec)")
        }
        CloseReason::Handshake(error) => match &**error {
            HandshakeError::Origin { origin, host } => {
                format!("handshake: pages from {origin:?} may not connect to {host:?} (see --origin)")
            }
            error => format!("handshake: {error}"),
        },
        CloseReason::Timeout(Deadline::Handshake) => {
            "the peer did not finish the handshake in time".to_owned()
        }
        CloseReason::Timeout(Deadline::Pong) => "the peer did not answer a ping in time".to_owned(),
        CloseReason::Timeout(Deadline::Close) => {
            "the peer did not end its side of the closed connection".to_owned()
        }
        CloseReason::Timeout(Deadline::PartialFrame) => {
            "the peer stopped in the middle of a message".to_owned()
        }
        CloseReason::Timeout(Deadline::WriteStall) => "the peer has stopped reading".to_owned(),
        CloseReason::Evicted => {
            "replaced by a new peer, as the peer silent the longest: raise --peers".to_owned()
        }
        CloseReason::Displaced => {
            "replaced by a newer connection before its handshake was finished".to_owned()
        }
        CloseReason::Io(failure) => failure.to_string(),
        other => other.to_string(),
    }
}

/// Explains why a session over `transport` ended. `had_opened` says whether it had opened.
pub fn explain_over(reason: &CloseReason, transport: Transport, had_opened: bool) -> String {
    match reason {
        CloseReason::Eof { .. } if transport.is_websocket() && !had_opened => {
            "closed by the peer: the connection was cut off during the handshake".to_owned()
        }
        CloseReason::Eof { mid_frame: true } if transport.is_websocket() => {
            "closed by the peer: the connection was cut off without a close frame".to_owned()
        }
        reason => explain(reason),
    }
}

/// Explains why an open client session ended, in terms of the client's options.
pub fn explain_at_client(reason: &CloseReason, transport: Transport) -> String {
    match option(reason) {
        None => explain_over(reason, transport, true),
        Some(option) => format!("{} (see {option})", explain(reason)),
    }
}

/// Explains why a client session did not open.
pub fn explain_unopened(reason: &CloseReason, transport: Transport) -> String {
    const WHERE: &str = "during the handshake: does the peer speak";
    let websocket = transport.is_websocket();
    match reason {
        CloseReason::Io(failure)
            if matches!(failure.kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
                && (transport.is_secure() || websocket) =>
        {
            // Treated as an end of the stream: the peer closed without reading everything.
            format!("{failure} {WHERE} {}?", if transport.is_secure() { "TLS" } else { "WebSocket" })
        }
        CloseReason::Eof { .. } | CloseReason::Timeout(Deadline::Handshake) if websocket => {
            format!("{}: does it speak WebSocket?", explain_over(reason, transport, false))
        }
        reason if websocket && matches!(tls_error(reason), Some(TlsError::Truncated)) => {
            format!("{}, {WHERE} WebSocket?", explain(reason))
        }
        reason => match option(reason) {
            None => explain(reason),
            Some(option) => format!("{} (see {option})", explain(reason)),
        },
    }
}

/// The client option related to the end.
fn option(reason: &CloseReason) -> Option<&'static str> {
    match tls_error(reason)? {
        TlsError::Certificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some("--ca")
        }
        TlsError::Certificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("--server-name"),
        TlsError::Refused(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired,
        ) => Some("--cert"),
        _ => None,
    }
}

/// Returns the TLS error that ended a session.
pub fn tls_error(reason: &CloseReason) -> Option<&TlsError> {
    match reason {
        CloseReason::Layer(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether a length of `length` bytes is really the first four bytes of a TLS handshake: an alert, or a
/// client hello.
fn is_begin_of_tls(length: u64) -> bool {
    matches!(length >> 16, 0x1503 | 0x1603)
}

/// Explains a drop of datagrams.
pub fn explain_dropped(dropped: &Dropped) -> String {
    let reason = match &dropped.reason {
        DropReason::Oversized { bytes, limit } => {
            format!("{bytes} bytes, over the limit of {limit}: raise --max-message")
        }
        DropReason::TooManyNew { limit } => format!("more than {limit} new peers within a second"),
        reason => reason.to_string(),
    };
    match dropped.counts.total() {
        1 => format!("a datagram was dropped: {reason}"),
        n => format!("{n} datagrams were dropped, the latest: {reason}"),
    }
}
