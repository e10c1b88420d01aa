//! Close codes and frames, and how a peer breaks the protocol: RFC 6455 section 7.

use std::fmt;

/// The largest payload of a control frame, RFC 6455 section 5.5.
pub(crate) const MAX_CONTROL: usize = 125;

/// Why an endpoint closes: the code of a close frame, RFC 6455 section 7.4.
///
/// Only codes that may stand in a frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999, of which 3000 to 3999 are
/// registered by libraries and 4000 to 4999 are free for applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the endpoint goes away; a server shuts down, a page is left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// 1003: data of a kind that the endpoint does not take, such as text where it expects binary.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// 1007: data that is not what its kind says, such as text that is not UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: a message against the endpoint's policy.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: a message that is too big.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1010: the server did not agree to an extension that the client needs.
    pub const EXTENSION: CloseCode = CloseCode(1010);
    /// 1011: the server failed.
    pub const INTERNAL: CloseCode = CloseCode(1011);

    /// The code `code`, unless it may not stand in a frame.
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

    /// Whether it says that all went well: 1000 or 1001.
    pub fn is_clean(self) -> bool {
        self <= CloseCode::GOING_AWAY
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a close frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseFrame {
    /// Why. A frame need not say so; none stands for the code 1005 of interfaces that need a number.
    pub code: Option<CloseCode>,
    /// The same for people, or nothing.
    pub reason: Box<str>,
}

impl CloseFrame {
    /// A frame with `code` and `reason`, of which the first 123 bytes fit (it is cut between two characters).
    pub fn new(code: CloseCode, reason: &str) -> Self {
        CloseFrame { code: Some(code), reason: fitting(reason).into() }
    }

    /// What a received frame says.
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

/// As much of a reason as fits a frame.
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

/// How a peer broke the WebSocket protocol, or a limit of this end. It is told with [`code`](Self::code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RFC 6455 section 5.2.
    #[error(
        "reserved bits {bits:#05b} are set: no extension that uses them was agreed on, or not for this frame"
    )]
    ReservedBits {
        /// RSV1 is 4, RSV2 2, RSV3 1.
        bits: u8,
    },
    /// RFC 6455 section 5.2.
    #[error("opcode {opcode} is reserved")]
    Opcode {
        /// What came.
        opcode: u8,
    },
    /// RFC 6455 section 5.1: a server takes masked frames only.
    #[error("a frame from the client is not masked")]
    NotMasked,
    /// RFC 6455 section 5.1: a client takes unmasked frames only.
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
    /// Past [`Config::max_frame`](crate::Config::max_frame).
    #[error("a frame of {bytes} bytes is larger than the limit of {limit} (Config::max_frame)")]
    FrameTooLarge {
        /// The payload that its header announces.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// Past [`Config::max_message`](crate::Config::max_message).
    #[error("a message is larger than the limit of {limit} bytes (Config::max_message)")]
    MessageTooLarge {
        /// The limit.
        limit: usize,
    },
    /// More than 1024 frames in a message, and more than one for each 32 bytes of it.
    #[error("a message of {bytes} bytes comes in {fragments} fragments or more")]
    Fragments {
        /// How many there were.
        fragments: u64,
        /// What they brought.
        bytes: u64,
    },
    /// RFC 6455 section 5.4.
    #[error("a continuation without a message to continue")]
    NothingToContinue,
    /// RFC 6455 section 5.4.
    #[error("a new message before the last fragment of the one before")]
    Interleaved,
    /// RFC 6455 section 8.1.
    #[error("a text message is not UTF-8")]
    Utf8,
    /// RFC 6455 section 5.5.1.
    #[error("a close frame of one byte: expected none, or a code of two")]
    CloseLength,
    /// RFC 6455 section 7.4.
    #[error("close code {code} may not stand in a frame")]
    CloseCode {
        /// What came.
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
    #[error("a compressed message of {bytes} bytes has {blocks} final blocks or more")]
    FinalBlocks {
        /// How many there were.
        blocks: u64,
        /// The compressed bytes up to the last of them.
        bytes: u64,
    },
    /// The session carries the packages of a codec, and those are binary.
    #[error("a text message where binary ones are expected")]
    Text,
    /// The session carries the frames of a codec, and that expects text.
    #[error("a binary message where text is expected")]
    Binary,
    /// The session carries the packages of a codec, one per message.
    #[error("a message of {bytes} bytes does not hold exactly one package of the codec")]
    Package {
        /// Its size.
        bytes: usize,
    },
}

impl ProtocolError {
    /// What the peer is told.
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
