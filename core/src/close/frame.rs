//! Close codes and frames (RFC 6455 section 7), and violations of the protocol.

use std::fmt;

/// The largest payload of a control frame (RFC 6455 section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// The code of a close frame (RFC 6455 section 7.4).
///
/// Only codes that are allowed in a frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999. Libraries register
/// 3000 to 3999; 4000 to 4999 are free for applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the connection has served its purpose.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the endpoint is going away, since a server shuts down or a page is left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// 1003: the endpoint does not accept this kind of data, such as text where it expects binary.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// 1007: the data contradicts its kind, such as text that is not UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: a message violates the endpoint's policy.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: a message is too big.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1010: the server did not agree to an extension that the client needs.
    pub const EXTENSION: CloseCode = CloseCode(1010);
    /// 1011: the server failed.
    pub const INTERNAL: CloseCode = CloseCode(1011);

    /// Returns the code, unless it is not allowed in a frame.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether it reports a regular close: 1000 or 1001.
    pub fn is_clean(self) -> bool {
        self <= CloseCode::GOING_AWAY
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The content of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseFrame {
    /// The code. A frame need not have one; interfaces that require a number use 1005 then.
    pub code: Option<CloseCode>,
    /// A reason for people to read; may be empty.
    pub reason: Box<str>,
}

impl CloseFrame {
    /// Makes a frame of `code` and `reason`. The reason is cut after at most 123 bytes, between two
    /// characters.
    pub fn new(code: CloseCode, reason: &str) -> Self {
        CloseFrame { code: Some(code), reason: fitting(reason).into() }
    }

    /// Reads the payload of a received frame.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return match payload.len() {
                0 => Ok(CloseFrame { code: None, reason: "".into() }),
                _ => Err(ProtocolError::CloseLength),
            };
        };
        let code = u16::from_be_bytes(*code);
        let Some(known) = CloseCode::new(code) else { return Err(ProtocolError::CloseCode { code }) };
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
        Ok(CloseFrame { code: Some(known), reason: reason.into() })
    }

    /// Appends the payload of the frame.
    pub(crate) fn write(&self, payload: &mut Vec<u8>) {
        if let Some(code) = self.code {
            payload.extend_from_slice(&code.get().to_be_bytes());
            payload.extend_from_slice(fitting(&self.reason).as_bytes());
        }
    }
}

/// The part of a reason that fits a frame.
fn fitting(reason: &str) -> &str {
    let fits = MAX_CONTROL - size_of::<u16>();
    let end = (0..=reason.len().min(fits)).rev().find(|&end| reason.is_char_boundary(end));
    &reason[..end.unwrap_or(0)]
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "code {code}")?,
            None => f.write_str("no code")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason.escape_debug()) }
    }
}

/// A violation of the WebSocket protocol, or of a limit of this end, by the peer. The close frame reports its
/// [`code`](Self::code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RFC 6455 section 5.2.
    #[error("reserved bits {bits:#05b} are set, which no negotiated extension allows in this frame")]
    ReservedBits {
        /// RSV1 is 4, RSV2 2, RSV3 1.
        bits: u8,
    },
    /// RFC 6455 section 5.2.
    #[error("opcode {opcode} is reserved")]
    Opcode {
        /// The received opcode.
        opcode: u8,
    },
    /// RFC 6455 section 5.1: a server accepts masked frames only.
    #[error("a frame from the client is not masked")]
    NotMasked,
    /// RFC 6455 section 5.1: a client accepts unmasked frames only.
    #[error("a frame from the server is masked")]
    Masked,
    /// RFC 6455 section 5.5.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// RFC 6455 section 5.5.
    #[error("a control frame has more than 125 bytes")]
    LongControl,
    /// RFC 6455 section 5.2.
    #[error("the length {length} is not written in the shortest form")]
    LongLength {
        /// The length.
        length: u64,
    },
    /// RFC 6455 section 5.2: the top bit of a 64-bit length must be 0.
    #[error("a length has more than 63 bits")]
    NegativeLength,
    /// Over [`Config::max_frame`](crate::Config::max_frame).
    #[error("a frame of {bytes} bytes is larger than the limit of {limit} (Config::max_frame)")]
    FrameTooLarge {
        /// The payload that the frame's header announces.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// Over [`Config::max_message`](crate::Config::max_message).
    #[error("a message is larger than the limit of {limit} bytes (Config::max_message)")]
    MessageTooLarge {
        /// The limit.
        limit: usize,
    },
    /// More than 1024 frames in a message, and more than one for each 32 bytes of it.
    #[error("a message of {bytes} bytes has {fragments} or more fragments")]
    Fragments {
        /// The number of fragments so far.
        fragments: u64,
        /// The number of bytes in them.
        bytes: u64,
    },
    /// RFC 6455 section 5.4.
    #[error("a continuation without a message to continue")]
    NothingToContinue,
    /// RFC 6455 section 5.4.
    #[error("a new message began before the last fragment of the previous one")]
    Interleaved,
    /// RFC 6455 section 8.1.
    #[error("a text message is not UTF-8")]
    Utf8,
    /// RFC 6455 section 5.5.1.
    #[error("a close frame has one byte: expected none, or a code of two")]
    CloseLength,
    /// RFC 6455 section 7.4.
    #[error("close code {code} is not allowed in a frame")]
    CloseCode {
        /// The received code.
        code: u16,
    },
    /// RFC 6455 section 5.5.1.
    #[error("the reason of a close frame is not UTF-8")]
    CloseReason,
    /// RFC 7692 section 6.2.
    #[error("a message can't be decompressed")]
    Deflate,
    /// A compressed message has more final blocks (RFC 7692 section 7.2.3.4) than 16 plus one for each 32
    /// bytes.
    #[error("a compressed message of {bytes} bytes has {blocks} or more final blocks")]
    FinalBlocks {
        /// The number of final blocks so far.
        blocks: u64,
        /// The compressed bytes up to the last of them.
        bytes: u64,
    },
    /// The session carries codec frames, which are binary.
    #[error("a text message came where binary ones are expected")]
    Text,
    /// The session carries codec frames in text messages.
    #[error("a binary message where text is expected")]
    Binary,
    /// The session carries codec frames, one in each message.
    #[error("a message of {bytes} bytes does not contain exactly one codec frame")]
    Package {
        /// Size of the message in bytes.
        bytes: usize,
    },
}

impl ProtocolError {
    /// The code of the close frame that reports it.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::FrameTooLarge { .. } | Self::MessageTooLarge { .. } => CloseCode::TOO_BIG,
            Self::Fragments { .. } | Self::FinalBlocks { .. } => CloseCode::POLICY,
            Self::Utf8 | Self::CloseReason | Self::Deflate | Self::Package { .. } => CloseCode::INVALID_DATA,
            Self::Text | Self::Binary => CloseCode::UNSUPPORTED,
            _ => CloseCode::PROTOCOL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_stand_in_a_frame() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999] {
            let mut payload = Vec::new();
            CloseFrame::new(CloseCode::new(code).unwrap(), "bye").write(&mut payload);
            assert_eq!(CloseFrame::parse(&payload).unwrap().code.unwrap().get(), code);
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 25_209, u16::MAX] {
            assert_eq!(CloseCode::new(code), None);
            let error = CloseFrame::parse(&code.to_be_bytes()).unwrap_err();
            assert_eq!((error, error.code()), (ProtocolError::CloseCode { code }, CloseCode::PROTOCOL));
        }
    }

    #[test]
    fn payloads_that_say_nothing_or_are_malformed() {
        assert_eq!(CloseFrame::parse(b"").unwrap().code, None);
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseLength));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xff"), Err(ProtocolError::CloseReason));
        assert_eq!(ProtocolError::CloseReason.code(), CloseCode::INVALID_DATA);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = CloseFrame::new(CloseCode::NORMAL, &"é".repeat(100));
        assert_eq!(frame.reason.len(), 122);
        let mut payload = Vec::new();
        frame.write(&mut payload);
        assert_eq!(CloseFrame::parse(&payload).unwrap(), frame);
        let set = CloseFrame { reason: "é".repeat(100).into(), ..frame };
        payload.clear();
        set.write(&mut payload);
        assert_eq!(payload.len(), 2 + 122);
    }
}
