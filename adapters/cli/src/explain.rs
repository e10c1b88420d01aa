//! Why something failed, a session ended or a datagram came to nothing, in the words of this program.

use std::io::ErrorKind;

use getty_driver::core::codec::{DelimitedError, LengthDelimitedError};
use getty_driver::core::datagram::{DropReason, Dropped};
use getty_driver::core::layer::tls::TlsError;
use getty_driver::core::websocket::{HandshakeError, ProtocolError};
use getty_driver::core::{CloseReason, Deadline};
use getty_driver::tls::rustls::{AlertDescription, CertificateError};

use crate::url::Transport;

/// An error and its causes in one line, but for those that it tells of itself.
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.ends_with(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

/// Why something ended, in the words of this program's options.
pub fn explain(reason: &CloseReason) -> String {
    const HINT: &str = "raise --max-message, or the peer speaks another protocol (see --codec)";
    if let CloseReason::Codec(error) = reason {
        if let Some(&LengthDelimitedError::TooLong { length, limit }) = error.downcast_ref() {
            let (length, limit) = (length.saturating_sub(4), limit.saturating_sub(4));
            if is_begin_of_tls(length) {
                return "the peer speaks TLS, it seems: see tls:// URLs".to_owned();
            }
            return format!("the peer sends a message of {length} bytes, the limit is {limit}: {HINT}");
        }
        if let Some(&DelimitedError::TooLong { limit }) = error.downcast_ref() {
            let limit = limit.saturating_sub(1);
            return format!("the peer sends a line of more than {limit} bytes, the limit: {HINT}");
        }
    }
    match reason {
        CloseReason::Protocol(ProtocolError::FrameTooLarge { bytes, limit }) => {
            format!("the peer sends a frame of {bytes} bytes, the limit is {limit}: raise --max-message")
        }
        CloseReason::Protocol(ProtocolError::MessageTooLarge { limit }) => {
            format!("the peer sends a message of more than {limit} bytes, the limit: raise --max-message")
        }
        CloseReason::Protocol(error @ (ProtocolError::Text | ProtocolError::Package { .. })) => {
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
            "another peer took the place of the one that was silent the longest: raise --peers".to_owned()
        }
        CloseReason::Displaced => {
            "a newer connection took the place of one that had not finished its handshake".to_owned()
        }
        CloseReason::Io(failure) => failure.to_string(),
        other => other.to_string(),
    }
}

/// Why a session over `transport` ended, whether or not it had opened.
pub fn explain_over(reason: &CloseReason, transport: Transport, had_opened: bool) -> String {
    match reason {
        CloseReason::Eof { .. } if transport.is_websocket() && !had_opened => {
            "closed by the peer: something was cut off during the handshake".to_owned()
        }
        CloseReason::Eof { mid_frame: true } if transport.is_websocket() => {
            "closed by the peer: something was cut off, there was no close frame".to_owned()
        }
        reason => explain(reason),
    }
}

/// The same in the words of the options that a client has, of a session that had opened.
pub fn explain_at_client(reason: &CloseReason, transport: Transport) -> String {
    match option(reason) {
        None => explain_over(reason, transport, true),
        Some(option) => format!("{} (see {option})", explain(reason)),
    }
}

/// Why a session did not open, in the same words.
pub fn explain_unopened(reason: &CloseReason, transport: Transport) -> String {
    const WHERE: &str = "during the handshake: does the peer speak";
    let websocket = transport.is_websocket();
    match reason {
        CloseReason::Io(failure)
            if matches!(failure.kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
                && (transport.is_secure() || websocket) =>
        {
            // As for an end of the stream, except that the peer did not read all that was sent.
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

/// The client's option that the end has to do with.
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

/// The error of TLS that ended a session.
pub fn tls_error(reason: &CloseReason) -> Option<&TlsError> {
    match reason {
        CloseReason::Layer(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether a message of so many bytes is the first four of a TLS record of a handshake: an alert, or a client's hello.
fn is_begin_of_tls(length: u64) -> bool {
    matches!(length >> 16, 0x1503 | 0x1603)
}

/// What came to nothing, in the words of this program's options.
pub fn explain_dropped(dropped: &Dropped) -> String {
    let reason = match &dropped.reason {
        DropReason::Oversized { bytes, limit } => {
            format!("{bytes} bytes, more than the limit of {limit}: raise --max-message")
        }
        DropReason::TooManyNew { limit } => format!("more than {limit} new peers within a second"),
        reason => reason.to_string(),
    };
    match dropped.counts.total() {
        1 => format!("a datagram was dropped: {reason}"),
        n => format!("{n} datagrams were dropped, the latest: {reason}"),
    }
}
