//! The first bytes of a stream: the preface of *getty rpc 2*, or what other protocols begin with.

use crate::rpc::wire::FramesError;

/// The preface of this side: the name of the family, the version, and room.
pub(super) const PREFACE: [u8; 8] = [0xfa, b'g', b't', b'y', VERSION, 0, 0, 0];

/// The version that this side speaks.
pub(super) const VERSION: u8 = 2;

/// The first bytes of Go getty's packages: the number 0x2016_0905, little-endian.
const GO_GETTY: [u8; 4] = [0x05, 0x09, 0x16, 0x20];

/// Checks the first bytes of a stream, as many as have come.
///
/// # Errors
/// [`FramesError`] as soon as they can't be a preface and show what they are.
pub(super) fn check(bytes: &[u8]) -> Result<(), FramesError> {
    let &[first, ref rest @ ..] = bytes else { return Ok(()) };
    match first {
        b'A'..=b'Z' | b'a'..=b'z' => Err(FramesError::Http),
        b'{' | b'[' => Err(FramesError::Json),
        // A record of a handshake, or an alert: a server's answer to what is not TLS.
        0x16 | 0x15 => match rest {
            [] => Ok(()),
            [3, ..] => Err(FramesError::Tls),
            &[byte, ..] => Err(FramesError::Unknown { at: 1, byte }),
        },
        0x05 => expect(&GO_GETTY, bytes, Err(FramesError::GoGetty)),
        _ => expect(&PREFACE[..4], bytes, Ok(())),
    }
}

/// Compares the beginning of `bytes` with `name`. Returns `whole` if all of it is there.
fn expect(name: &[u8], bytes: &[u8], whole: Result<(), FramesError>) -> Result<(), FramesError> {
    match (0..).zip(name.iter().zip(bytes)).find(|(_, (expected, byte))| expected != byte) {
        Some((at, (_, &byte))) => Err(FramesError::Unknown { at, byte }),
        None if bytes.len() < name.len() => Ok(()),
        None => whole,
    }
}
