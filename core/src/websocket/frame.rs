//! Frame headers (RFC 6455 section 5.2).

use crate::close::{MAX_CONTROL, ProtocolError};
use crate::hint::likely;

/// The type of a frame (RFC 6455 section 11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn parse(byte: u8) -> Result<Self, ProtocolError> {
        Ok(match byte & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            opcode => return Err(ProtocolError::Opcode { opcode }),
        })
    }

    pub(crate) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The header of a received frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    /// RSV1: the message is compressed (RFC 7692 section 6).
    pub(crate) compressed: bool,
    pub(crate) opcode: Opcode,
    /// The mask; zeros, which change nothing, if there is none.
    pub(crate) key: [u8; 4],
    /// Length of the payload in bytes.
    pub(crate) len: usize,
    /// Length of the header in bytes.
    pub(crate) size: usize,
}

/// The rules for a peer's frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Frames are masked, since they come from a client.
    pub(crate) masked: bool,
    /// Compression was agreed on.
    pub(crate) deflate: bool,
    /// The largest payload in bytes.
    pub(crate) max_frame: usize,
    /// The largest whole message that [`parse_short`](Self::parse_short) finds: at most 125 bytes.
    pub(crate) max_short: u8,
    /// Payloads are not held as a whole and may have any size.
    pub(crate) in_parts: bool,
}

/// The result of reading a header.
pub(crate) enum Start {
    Header(Header),
    /// At least this many bytes are missing.
    Need(usize),
}

impl Rules {
    /// Reads the header of the usual frame, if it is one and all of it is there: a whole message of at most
    /// `max_short` bytes, not compressed. A shorter way through [`parse`](Self::parse).
    #[inline(always)]
    pub(crate) fn parse_short(&self, bytes: &[u8]) -> Option<Header> {
        let [first, second, ..] = *bytes else { return None };
        let (key, size) = if self.masked { (*bytes.get(2..)?.first_chunk()?, 6) } else { ([0; 4], 2) };
        // The wrong mask bit makes it more than any length.
        let len = usize::from(second ^ if self.masked { MASKED } else { 0 });
        let opcode = if first == FIN | Opcode::Binary as u8 { Opcode::Binary } else { Opcode::Text };
        let usual = first == FIN | opcode as u8 && len <= usize::from(self.max_short).min(bytes.len() - size);
        usual.then_some(Header { fin: true, compressed: false, opcode, key, len, size })
    }

    /// Reads a header, and refuses it at its first invalid byte.
    #[inline(always)]
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Start, ProtocolError> {
        let [first, second, rest @ ..] = bytes else {
            if let Some(&first) = bytes.first() {
                self.check_first(first)?;
            }
            return Ok(Start::Need(2 - bytes.len()));
        };
        let opcode = self.check_first(*first)?;
        let fin = first & FIN != 0;
        if !likely((second & MASKED != 0) == self.masked) {
            return Err(if self.masked { ProtocolError::NotMasked } else { ProtocolError::Masked });
        }
        let short = usize::from(second & !MASKED);
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if short > MAX_CONTROL {
                return Err(ProtocolError::LongControl);
            }
        }
        let (len, size) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
                None => return Ok(Start::Need(2 - rest.len())),
            },
            127 => match rest.first_chunk::<8>() {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(Start::Need(8 - rest.len())),
            },
            len => (len as u64, 2),
        };
        if size > 2 {
            self.check_length(len, size)?;
        }
        let limit = if self.in_parts { usize::MAX } else { self.max_frame };
        if !likely(len <= limit as u64) {
            return Err(ProtocolError::FrameTooLarge { bytes: len, limit });
        }
        let mut header =
            Header { fin, compressed: first & RSV1 != 0, opcode, key: [0; 4], len: len as usize, size };
        if self.masked {
            let Some(key) = bytes[size..].first_chunk::<4>() else {
                return Ok(Start::Need(size + 4 - bytes.len()));
            };
            header.key = *key;
            header.size += 4;
        }
        Ok(Start::Header(header))
    }

    #[inline]
    fn check_first(&self, first: u8) -> Result<Opcode, ProtocolError> {
        let opcode = Opcode::parse(first)?;
        if first & RSV != 0 {
            // Only the first frame of a message is marked as compressed.
            let may = self.deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
            let bits = if may { first & RSV & !RSV1 } else { first & RSV };
            if bits != 0 {
                return Err(ProtocolError::ReservedBits { bits: bits >> 4 });
            }
        }
        Ok(opcode)
    }

    fn check_length(&self, len: u64, size: usize) -> Result<(), ProtocolError> {
        let shortest = match len {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        match len {
            _ if len > i64::MAX as u64 => Err(ProtocolError::NegativeLength),
            _ if size != shortest => Err(ProtocolError::LongLength { length: len }),
            _ => Ok(()),
        }
    }
}

/// The header of the usual frame to send: a whole message of at most 125 bytes, from a server.
#[inline]
pub(crate) fn short_header(opcode: Opcode, len: usize) -> Option<[u8; 2]> {
    (len <= MAX_CONTROL).then_some([FIN | opcode as u8, len as u8])
}

/// The bytes of a frame header to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderBytes {
    bytes: [u8; 16],
    size: usize,
}

impl HeaderBytes {
    #[inline]
    pub(crate) fn new(opcode: Opcode, fin: bool, compressed: bool, len: usize, key: Option<[u8; 4]>) -> Self {
        let first = opcode as u8 | if fin { FIN } else { 0 } | if compressed { RSV1 } else { 0 };
        let masked = if key.is_some() { MASKED } else { 0 };
        // Assembled as a number, lowest byte first: separate byte writes are slow to copy.
        let (second, length, size) = match len {
            0..=125 => (len as u8, 0, 2),
            126..=0xffff => (126, u64::from((len as u16).swap_bytes()), 4),
            _ => (127, (len as u64).swap_bytes(), 10),
        };
        let mut bytes = u128::from(first) | u128::from(second | masked) << 8 | u128::from(length) << 16;
        bytes |= u128::from(u32::from_le_bytes(key.unwrap_or_default())) << (8 * size);
        HeaderBytes { bytes: bytes.to_le_bytes(), size: header_len(len, key.is_some()) }
    }
}

impl AsRef<[u8]> for HeaderBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

/// The length of a frame header in bytes.
#[inline]
pub(crate) fn header_len(len: usize, masked: bool) -> usize {
    let size = match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    size + if masked { 4 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Rules =
        Rules { masked: true, deflate: false, max_frame: 1 << 20, max_short: 125, in_parts: false };
    const CLIENT: Rules =
        Rules { masked: false, deflate: true, max_frame: usize::MAX, max_short: 125, in_parts: false };

    fn header(rules: Rules, bytes: &[u8]) -> Result<Header, ProtocolError> {
        match rules.parse(bytes)? {
            Start::Header(header) => Ok(header),
            Start::Need(more) => panic!("needs {more}"),
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7() {
        let hello = header(CLIENT, &[0x81, 0x05]).unwrap();
        assert!(hello.fin && hello.opcode == Opcode::Text && (hello.len, hello.size) == (5, 2));
        let masked = header(SERVER, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]).unwrap();
        assert_eq!((masked.key, masked.len, masked.size), ([0x37, 0xfa, 0x21, 0x3d], 5, 6));
        let first = header(CLIENT, &[0x01, 0x03]).unwrap();
        assert!(!first.fin && first.opcode == Opcode::Text);
        let last = header(CLIENT, &[0x80, 0x02]).unwrap();
        assert!(last.fin && last.opcode == Opcode::Continuation);
        assert_eq!(header(CLIENT, &[0x89, 0x05]).unwrap().opcode, Opcode::Ping);
        assert_eq!(header(SERVER, &[0x8a, 0x85, 1, 2, 3, 4]).unwrap().opcode, Opcode::Pong);
        let medium = header(CLIENT, &[0x82, 0x7e, 0x01, 0x00]).unwrap();
        assert_eq!((medium.len, medium.size), (256, 4));
        let long = header(CLIENT, &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
        assert_eq!((long.len, long.size), (65_536, 10));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            for key in [None, Some([1, 2, 3, 4])] {
                let written = HeaderBytes::new(Opcode::Binary, true, false, len, key);
                let bytes = written.as_ref();
                assert_eq!(bytes.len(), header_len(len, key.is_some()));
                let rules = Rules { masked: key.is_some(), ..SERVER };
                let read = header(rules, bytes).unwrap();
                assert_eq!(
                    (read.len, read.key, read.size, read.fin),
                    (len, key.unwrap_or_default(), bytes.len(), true)
                );
                for cut in 0..bytes.len() {
                    let Ok(Start::Need(more)) = rules.parse(&bytes[..cut]) else { panic!("{cut}") };
                    assert!((1..=bytes.len() - cut).contains(&more), "never more than is to come");
                }
            }
        }
    }

    #[test]
    fn a_bad_header_is_refused_by_its_first_bad_byte() {
        use ProtocolError::*;
        let table: [(Rules, &[u8], ProtocolError); 14] = [
            (SERVER, &[0x83], Opcode { opcode: 3 }),
            (SERVER, &[0x8b], Opcode { opcode: 11 }),
            (SERVER, &[0xc1], ReservedBits { bits: 4 }),
            (CLIENT, &[0xa1], ReservedBits { bits: 2 }),
            (CLIENT, &[0xd1], ReservedBits { bits: 1 }),
            (CLIENT, &[0xc0], ReservedBits { bits: 4 }),
            (CLIENT, &[0xc9], ReservedBits { bits: 4 }),
            (SERVER, &[0x81, 0x05], NotMasked),
            (CLIENT, &[0x81, 0x85], Masked),
            (CLIENT, &[0x09, 0x00], FragmentedControl),
            (CLIENT, &[0x89, 0x7e], LongControl),
            (CLIENT, &[0x82, 0x7e, 0, 125], LongLength { length: 125 }),
            (CLIENT, &[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], LongLength { length: 65_535 }),
            (CLIENT, &[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], NegativeLength),
        ];
        for (rules, bytes, error) in table {
            assert_eq!(header(rules, bytes).unwrap_err(), error);
        }
        let bomb = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let error = FrameTooLarge { bytes: i64::MAX as u64, limit: 1 << 20 };
        assert_eq!(header(SERVER, &bomb).unwrap_err(), error, "the mask is not waited for");
    }

    #[test]
    fn the_short_way_finds_what_the_long_way_finds() {
        let limits = [0, 5, 125, 1 << 20];
        let rules = limits.into_iter().flat_map(|max_frame| {
            (0..8).map(move |bits| {
                let [masked, deflate, in_parts] = [1, 2, 4].map(|bit| bits & bit != 0);
                Rules { masked, deflate, max_frame, max_short: max_frame.min(MAX_CONTROL) as u8, in_parts }
            })
        });
        let mut found = 0;
        for rules in rules {
            for start in 0..=u16::MAX {
                for len in [0, 1, 2, 5, 6, 7, 13, 131] {
                    let mut bytes = [&start.to_be_bytes()[..], &[0x5a; 138]].concat();
                    bytes.truncate(len);
                    let whole = match rules.parse(&bytes) {
                        Ok(Start::Header(header)) => Some(header).filter(|header| {
                            let is_message = matches!(header.opcode, Opcode::Text | Opcode::Binary);
                            let is_here = header.len <= bytes.len() - header.size;
                            is_message && header.fin && !header.compressed && is_here
                        }),
                        _ => None,
                    };
                    let whole = whole.filter(|header| header.len <= usize::from(rules.max_short));
                    let short = rules.parse_short(&bytes);
                    found += u32::from(short.is_some());
                    let facts = |h: Header| (h.fin, h.compressed, h.opcode, h.key, h.len, h.size);
                    assert_eq!(short.map(facts), whole.map(facts), "{rules:?} {start:04x}, {len} bytes");
                }
            }
        }
        assert!(found > 1000, "{found}");
    }
}
