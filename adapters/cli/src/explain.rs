//! Why something failed, a session ended or a datagram came to nothing, in the words of this program.

use std::io::ErrorKind;

use getty_driver::core::codec::{DelimitedError, LengthDelimitedError};
use getty_driver::core::datagram::{DropReason, Dropped};
use getty_driver::core::layer::tls::TlsError;
use getty_driver::core::websocket::{HandshakeError, ProtocolError};
use getty_driver::core::{CloseReason, Deadline};
use getty_driver::tls::rustls::{AlertDescription, CertificateError};

/// An error and its causes in one line, but for those that it tells of itself.
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.ends_with(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

/// Why a session ended, in the words of this program's options.
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

/// The same in the words of the options that a client has.
pub fn explain_at_client(reason: &CloseReason) -> String {
    let option = match tls_error(reason) {
        Some(TlsError::Certificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "--ca"
        }
        Some(TlsError::Certificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "--server-name",
        Some(TlsError::Refused(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired,
        )) => "--cert",
        _ => return explain(reason),
    };
    format!("{} (see {option})", explain(reason))
}

/// Why a session did not open, in the same words.
pub fn explain_unopened(reason: &CloseReason, over_tls: bool) -> String {
    match reason {
        // As `TlsError::EndedInHandshake`, but that the peer did not read all that was sent.
        CloseReason::Io(failure)
            if over_tls && matches!(failure.kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            format!("{failure} during the handshake: does the peer speak TLS?")
        }
        reason => explain_at_client(reason),
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
