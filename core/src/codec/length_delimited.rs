//! [`LengthDelimited`]: frames that begin with their length.

use bytes::Bytes;

use super::{Decoded, Decoder, Encoder, Sink, Source};

/// Frames that begin with a header which holds their length.
///
/// By default ([`new`](Self::new)) the header is a length of 4 bytes, big-endian, and the item is the
/// payload that follows it. Other shapes are described by
///
/// | setter | what it says | default |
/// |---|---|---|
/// | [`field`](Self::field) | how the length is written | [`LengthField::U32`] |
/// | [`byte_order`](Self::byte_order) | order of its bytes | [`ByteOrder::Big`] |
/// | [`offset`](Self::offset) | header bytes before the length field | 0 |
/// | [`adjustment`](Self::adjustment) | value read + adjustment = bytes after the length field | 0 |
/// | [`strip`](Self::strip), [`keep_header`](Self::keep_header) | what the item lacks of the frame | the header |
/// | [`max_frame`](Self::max_frame) | largest frame on the wire, header included | only the session's limit |
///
/// The *header* is everything up to the end of the length field: `offset` bytes and the field. If the length
/// covers the header too, a negative adjustment takes it off; if it leaves out some of what follows (flags
/// between the length and the payload, a checksum at the end), a positive one adds that. What is stripped has
/// no say in where a frame ends, as in Netty and other than in tokio-util.
///
/// # Encoding
/// The encoder writes what the decoder reads as the same item, or refuses:
///
/// * with the header stripped and no offset, the item is what follows the length field: the encoder writes
///   the length and the item;
/// * with [`keep_header`](Self::keep_header) the item is the whole frame: the encoder writes it as it is,
///   once it has checked that its length field agrees with its size;
/// * in every other shape the decoder throws away bytes that nobody could make up again. Such a codec only
///   decodes; encoding gives [`LengthDelimitedError::CannotEncode`].
///
/// # Examples
/// A header of a type byte, a length of 2 bytes that counts the whole frame, and a flag byte; the item is
/// the frame as it is on the wire:
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, LengthField, Sink, Source};
///
/// let mut codec = LengthDelimited::new()
///     .offset(1)
///     .field(LengthField::U16)
///     .adjustment(-3) // the value counts the 3 bytes up to the end of the length field
///     .keep_header()
///     .max_frame(1024);
///
/// let mut wire = BytesMut::new();
/// let frame = Bytes::from_static(b"\x07\x00\x09\x01hello");
/// codec.encode(frame.clone(), &mut Sink::new(&mut wire))?;
/// assert_eq!(codec.decode(&mut Source::new(&mut wire))?, Decoded::Frame(frame));
/// # Ok::<(), getty_core::codec::LengthDelimitedError>(())
/// ```
///
/// Protocol Buffers' delimited messages:
///
/// ```
/// # use bytes::{Bytes, BytesMut};
/// # use getty_core::codec::{Encoder, LengthDelimited, Sink};
/// let mut wire = BytesMut::new();
/// LengthDelimited::varint().encode(Bytes::from(vec![b'x'; 300]), &mut Sink::new(&mut wire))?;
/// assert_eq!(wire[..4], *b"\xac\x02xx");
/// # Ok::<(), getty_core::codec::LengthDelimitedError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LengthDelimited {
    max_frame: usize,
    adjustment: i64,
    offset: u16,
    strip: Strip,
    field: LengthField,
    order: ByteOrder,
    /// Whether all but `max_frame` is as in `new()`: spares the hot path everything else.
    plain: bool,
}

impl LengthDelimited {
    /// A length of 4 bytes, big-endian, and a payload of that many bytes, which is the item.
    pub const fn new() -> Self {
        LengthDelimited {
            max_frame: usize::MAX,
            adjustment: 0,
            offset: 0,
            strip: Strip::Header,
            field: LengthField::U32,
            order: ByteOrder::Big,
            plain: true,
        }
    }

    /// A length as a varint, and a payload of that many bytes: as [`new`](Self::new) with
    /// [`LengthField::Varint`].
    pub const fn varint() -> Self {
        Self::new().field(LengthField::Varint)
    }

    /// How the length is written. Default [`LengthField::U32`].
    #[must_use]
    pub const fn field(mut self, field: LengthField) -> Self {
        self.field = field;
        self.settled()
    }

    /// The order of the length field's bytes. Default [`ByteOrder::Big`], "network order". A varint has an
    /// order of its own, so this changes nothing for it.
    #[must_use]
    pub const fn byte_order(mut self, order: ByteOrder) -> Self {
        self.order = order;
        self.settled()
    }

    /// How many bytes come before the length field, as a part of the header. Default 0.
    #[must_use]
    pub const fn offset(mut self, bytes: u16) -> Self {
        self.offset = bytes;
        self.settled()
    }

    /// What to add to the length field's value to get the number of bytes after the field. Default 0.
    ///
    /// Negative if the length counts (a part of) the header too, positive if it does not count everything
    /// that follows the field. A frame for which the sum is negative is refused as
    /// [`LengthDelimitedError::Negative`].
    #[must_use]
    pub const fn adjustment(mut self, bytes: i64) -> Self {
        self.adjustment = bytes;
        self.settled()
    }

    /// Leaves the first `bytes` of a frame, whatever they hold, out of the item. The default is
    /// [`strip_header`](Self::strip_header).
    ///
    /// A frame shorter than that is refused as [`LengthDelimitedError::Strip`]. Most numbers make a codec
    /// that only decodes; see [Encoding](Self#encoding).
    #[must_use]
    pub const fn strip(mut self, bytes: u16) -> Self {
        self.strip = Strip::Bytes(bytes);
        self.settled()
    }

    /// The item is what follows the length field. The default.
    #[must_use]
    pub const fn strip_header(mut self) -> Self {
        self.strip = Strip::Header;
        self.settled()
    }

    /// The item is the whole frame, as it is on the wire: [`strip`](Self::strip)`(0)`.
    #[must_use]
    pub const fn keep_header(self) -> Self {
        self.strip(0)
    }

    /// The largest frame, in bytes on the wire, header included; received and sent.
    ///
    /// The session's [`Config::max_frame`](crate::Config::max_frame) holds anyway, so by default there is no
    /// other limit. Where both are set the smaller one counts.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    const fn settled(mut self) -> Self {
        self.plain = self.offset == 0
            && self.adjustment == 0
            && matches!(self.strip, Strip::Header)
            && matches!(self.field, LengthField::U32)
            && matches!(self.order, ByteOrder::Big);
        self
    }

    fn decode_any(&self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, LengthDelimitedError> {
        let limit = self.max_frame.min(src.max_frame());
        let (header, frame) = match self.read_header(src, limit)? {
            Header::Whole { header, frame } => (header, frame),
            Header::Missing(bytes) => return Ok(Decoded::Need(bytes)),
        };
        let strip = match self.strip {
            Strip::Header => header,
            Strip::Bytes(bytes) => usize::from(bytes),
        };
        if strip > frame {
            return Err(LengthDelimitedError::Strip { length: frame, strip });
        }
        if src.len() < frame {
            return Ok(Decoded::Need(frame - src.len()));
        }
        src.advance(strip);
        Ok(Decoded::Frame(src.take(frame - strip)))
    }

    /// What the header at the start of `bytes` says.
    fn read_header(&self, bytes: &[u8], limit: usize) -> Result<Header, LengthDelimitedError> {
        let offset = usize::from(self.offset);
        let field = bytes.get(offset..).unwrap_or_default();
        let (value, width) = match self.field.width() {
            Some(width) => match field.get(..width) {
                Some(field) => (self.order.read(field), width),
                None => return Ok(Header::Missing(offset + width - bytes.len())),
            },
            None => match read_varint(field)? {
                Some(value_and_width) => value_and_width,
                None => return Ok(Header::Missing((offset + 1).saturating_sub(bytes.len()).max(1))),
            },
        };
        let header = offset + width;
        let Some(body) = value.checked_add_signed(self.adjustment) else {
            return Err(if self.adjustment < 0 {
                LengthDelimitedError::Negative { value, adjustment: self.adjustment }
            } else {
                LengthDelimitedError::TooLong { length: u64::MAX, limit }
            });
        };
        let length = body.checked_add(header as u64);
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(frame) if frame <= limit => Ok(Header::Whole { header, frame }),
            _ => Err(LengthDelimitedError::TooLong { length: length.unwrap_or(u64::MAX), limit }),
        }
    }

    fn encode_any(&self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), LengthDelimitedError> {
        if self.keeps_header() {
            self.check_whole(&item)?;
        } else if self.strips_to_payload() {
            let value = self.value_for(item.len())?;
            let length = item.len() as u64 + self.field.encoded_len(value) as u64;
            if length > self.max_frame as u64 {
                return Err(LengthDelimitedError::TooLong { length, limit: self.max_frame });
            }
            self.write_field(value, dst);
        } else {
            return Err(LengthDelimitedError::CannotEncode);
        }
        dst.put_bytes(item);
        Ok(())
    }

    /// Whether items are whole frames.
    fn keeps_header(&self) -> bool {
        self.strip == Strip::Bytes(0)
    }

    /// Whether items are exactly what follows a header that is nothing but the length.
    fn strips_to_payload(&self) -> bool {
        let strips_header = match self.strip {
            Strip::Header => true,
            Strip::Bytes(bytes) => self.field.width() == Some(usize::from(bytes)),
        };
        self.offset == 0 && strips_header
    }

    /// Whether `item` is one whole frame: what the decoder would give.
    fn check_whole(&self, item: &Bytes) -> Result<(), LengthDelimitedError> {
        let length = item.len();
        match self.read_header(item, self.max_frame)? {
            Header::Whole { frame, .. } if frame == length => Ok(()),
            Header::Whole { frame, .. } => Err(LengthDelimitedError::Mismatch { length, announced: frame }),
            Header::Missing(bytes) => Err(LengthDelimitedError::NoHeader { length, needed: length + bytes }),
        }
    }

    /// The value that announces a payload of `length` bytes.
    fn value_for(&self, length: usize) -> Result<u64, LengthDelimitedError> {
        // 128 bits hold every difference of the two.
        let value = length as i128 - i128::from(self.adjustment);
        match u64::try_from(value) {
            Ok(value) if value <= self.field.max() => Ok(value),
            _ => Err(LengthDelimitedError::Unfit {
                length,
                adjustment: self.adjustment,
                max: self.field.max(),
            }),
        }
    }

    fn write_field(&self, value: u64, dst: &mut Sink<'_>) {
        match (self.field.width(), self.order) {
            (Some(width), ByteOrder::Big) => dst.put_slice(&value.to_be_bytes()[8 - width..]),
            (Some(width), ByteOrder::Little) => dst.put_slice(&value.to_le_bytes()[..width]),
            (None, _) => put_varint(value, dst),
        }
    }
}

impl Default for LengthDelimited {
    /// As [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for LengthDelimited {
    type Item = Bytes;
    type Error = LengthDelimitedError;

    #[inline]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, LengthDelimitedError> {
        if !self.plain {
            return self.decode_any(src);
        }
        let Some(&header) = src.first_chunk::<PLAIN_HEADER>() else {
            return Ok(Decoded::Need(PLAIN_HEADER - src.len()));
        };
        let length = u64::from(u32::from_be_bytes(header)) + PLAIN_HEADER as u64;
        let limit = self.max_frame.min(src.max_frame());
        if length > limit as u64 {
            return Err(LengthDelimitedError::TooLong { length, limit });
        }
        // It is not above a usize.
        let frame = length as usize;
        if src.len() < frame {
            return Ok(Decoded::Need(frame - src.len()));
        }
        src.advance(PLAIN_HEADER);
        Ok(Decoded::Frame(src.take(frame - PLAIN_HEADER)))
    }
}

impl Encoder<Bytes> for LengthDelimited {
    type Error = LengthDelimitedError;

    #[inline]
    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), LengthDelimitedError> {
        if !self.plain {
            return self.encode_any(item, dst);
        }
        let Ok(value) = u32::try_from(item.len()) else {
            let max = self.field.max();
            return Err(LengthDelimitedError::Unfit { length: item.len(), adjustment: 0, max });
        };
        let length = u64::from(value) + PLAIN_HEADER as u64;
        if length > self.max_frame as u64 {
            return Err(LengthDelimitedError::TooLong { length, limit: self.max_frame });
        }
        dst.put_slice(&value.to_be_bytes());
        dst.put_bytes(item);
        Ok(())
    }

    #[inline]
    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        if self.plain {
            item.len().checked_add(PLAIN_HEADER)
        } else if self.keeps_header() {
            Some(item.len())
        } else if self.strips_to_payload() {
            let value = self.value_for(item.len()).ok()?;
            item.len().checked_add(self.field.encoded_len(value))
        } else {
            None
        }
    }
}

/// How a [`LengthDelimited`] length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LengthField {
    /// One byte: up to 255.
    U8,
    /// 2 bytes: up to 65 535.
    U16,
    /// 3 bytes: up to 16 777 215.
    U24,
    /// 4 bytes: up to 2^32 - 1. The default.
    #[default]
    U32,
    /// 5 bytes: up to 2^40 - 1.
    U40,
    /// 6 bytes: up to 2^48 - 1.
    U48,
    /// 7 bytes: up to 2^56 - 1.
    U56,
    /// 8 bytes: up to 2^64 - 1.
    U64,
    /// Unsigned LEB128, as in Protocol Buffers: 7 bits a byte, lowest first, the top bit set on all bytes but
    /// the last; 1 to 10 bytes, up to 2^64 - 1.
    ///
    /// The encoder writes the shortest form. The decoder takes longer ones too (`80 00` for 0), because
    /// writers that leave room for the length and fill it in later pad it; but no more than 10 bytes and no
    /// value beyond 64 bits.
    Varint,
}

impl LengthField {
    /// The field of `bytes` bytes, for widths that are known at run time only; `None` unless it is 1 to 8.
    pub const fn fixed(bytes: usize) -> Option<Self> {
        Some(match bytes {
            1 => LengthField::U8,
            2 => LengthField::U16,
            3 => LengthField::U24,
            4 => LengthField::U32,
            5 => LengthField::U40,
            6 => LengthField::U48,
            7 => LengthField::U56,
            8 => LengthField::U64,
            _ => return None,
        })
    }

    /// How many bytes it has; `None` for a varint, which depends on the value.
    pub const fn width(self) -> Option<usize> {
        Some(match self {
            LengthField::U8 => 1,
            LengthField::U16 => 2,
            LengthField::U24 => 3,
            LengthField::U32 => 4,
            LengthField::U40 => 5,
            LengthField::U48 => 6,
            LengthField::U56 => 7,
            LengthField::U64 => 8,
            LengthField::Varint => return None,
        })
    }

    /// The largest value that it holds.
    pub const fn max(self) -> u64 {
        match self.width() {
            Some(width) => u64::MAX >> (64 - 8 * width),
            None => u64::MAX,
        }
    }

    /// How many bytes `value` takes.
    const fn encoded_len(self, value: u64) -> usize {
        match self.width() {
            Some(width) => width,
            // 0 takes a byte as well.
            None => (64 - (value | 1).leading_zeros()).div_ceil(7) as usize,
        }
    }
}

/// Which byte of a [`LengthDelimited`] length comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// The most significant one. The default: "network order".
    #[default]
    Big,
    /// The least significant one.
    Little,
}

impl ByteOrder {
    /// The number in `field`, which is at most 8 bytes long.
    fn read(self, field: &[u8]) -> u64 {
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        match self {
            ByteOrder::Big => field.iter().fold(0, push),
            ByteOrder::Little => field.iter().rev().fold(0, push),
        }
    }
}

/// Why [`LengthDelimited`] can't decode or encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LengthDelimitedError {
    /// A received header announces a frame over the limit, or an item to send makes one.
    #[error(
        "a frame of {length} bytes (header included) is over the limit of {limit}: if such frames are meant \
        to be, raise Config::max_frame and the codec's own max_frame; if not, the peer speaks another \
        protocol"
    )]
    TooLong {
        /// Bytes on the wire, header included; `u64::MAX` also stands for more than that.
        length: u64,
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own.
        limit: usize,
    },
    /// A received length is smaller than what the adjustment takes off.
    #[error(
        "a length of {value} with an adjustment of {adjustment} is negative: expected at least {}; check the \
         adjustment, or the peer speaks another protocol",
        .adjustment.unsigned_abs()
    )]
    Negative {
        /// What the length field holds.
        value: u64,
        /// [`LengthDelimited::adjustment`].
        adjustment: i64,
    },
    /// A received varint does not end after 10 bytes, or does not fit 64 bits.
    #[error(
        "the length is a varint of more than 64 bits: the peer speaks another protocol, or lost its framing"
    )]
    Varint,
    /// A received frame is shorter than what is to be stripped from it.
    #[error(
        "a frame of {length} bytes is shorter than the {strip} bytes to strip from it; check \
        LengthDelimited::strip"
    )]
    Strip {
        /// Bytes on the wire, header included.
        length: usize,
        /// [`LengthDelimited::strip`].
        strip: usize,
    },
    /// An item to send can't be announced by the length field.
    #[error(
        "a payload of {length} bytes with an adjustment of {adjustment} can't be announced: the length field \
        holds 0 to {max}; use a wider LengthField, or split the payload"
    )]
    Unfit {
        /// Bytes of the item.
        length: usize,
        /// [`LengthDelimited::adjustment`].
        adjustment: i64,
        /// The largest value of the length field.
        max: u64,
    },
    /// An item to send, a whole frame because the header is kept, ends before its length field does.
    #[error(
        "an item of {length} bytes is no whole frame, its header alone takes {needed}: with the header kept, \
        items include it"
    )]
    NoHeader {
        /// Bytes of the item.
        length: usize,
        /// Bytes of the header, as far as it can be told.
        needed: usize,
    },
    /// An item to send, a whole frame because the header is kept, is not as long as its header says.
    #[error(
        "the item has {length} bytes, but its header announces {announced}: with the header kept, items \
        include it"
    )]
    Mismatch {
        /// Bytes of the item.
        length: usize,
        /// Bytes of the frame according to its header.
        announced: usize,
    },
    /// The decoder strips bytes that the encoder can't make up. See [Encoding](LengthDelimited#encoding).
    #[error(
        "this codec only decodes: it strips bytes that can't be made up again; use \
        LengthDelimited::keep_header and send whole frames"
    )]
    CannotEncode,
}

/// Bytes of the header in the default shape.
const PLAIN_HEADER: usize = 4;

/// What is not part of the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strip {
    Header,
    Bytes(u16),
}

/// What can be said about a frame from its first bytes.
enum Header {
    /// Sizes of the header and of the whole frame, in bytes.
    Whole { header: usize, frame: usize },
    /// At least this many bytes of the header are missing.
    Missing(usize),
}

/// The value and the size of the varint at the start of `bytes`, if it is complete.
fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, LengthDelimitedError> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // The tenth byte has room for the last of 64 bits, and none for a sign that more follow.
        if at == 9 && byte > 1 {
            return Err(LengthDelimitedError::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

fn put_varint(mut value: u64, dst: &mut Sink<'_>) {
    let mut bytes = [0; 10];
    let len = LengthField::Varint.encoded_len(value);
    for byte in &mut bytes[..len] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    bytes[len - 1] &= 0x7f;
    dst.put_slice(&bytes[..len]);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    type Error = LengthDelimitedError;

    const FIXED: [LengthField; 8] = [
        LengthField::U8,
        LengthField::U16,
        LengthField::U24,
        LengthField::U32,
        LengthField::U40,
        LengthField::U48,
        LengthField::U56,
        LengthField::U64,
    ];

    /// Decodes with the session's limit at `limit`.
    fn decode_within(
        codec: &LengthDelimited,
        limit: usize,
        wire: &[u8],
    ) -> Result<Decoded<Vec<u8>>, LengthDelimitedError> {
        let (mut wire, mut slab) = (BytesMut::from(wire), BytesMut::new());
        let before = wire.len();
        let mut src = Source::buffer(&mut wire, &mut slab, 1024, limit);
        let decoded = codec.clone().decode(&mut src)?;
        Ok(match decoded {
            Decoded::Frame(item) => {
                assert!(src.is_empty(), "left: {:?}", &src[..]);
                Decoded::Frame(item.to_vec())
            }
            Decoded::Need(n) => {
                assert_eq!(src.len(), before);
                Decoded::Need(n)
            }
        })
    }

    fn decode(codec: &LengthDelimited, wire: &[u8]) -> Result<Decoded<Vec<u8>>, LengthDelimitedError> {
        decode_within(codec, usize::MAX, wire)
    }

    fn encode(codec: &LengthDelimited, item: &[u8]) -> Result<Vec<u8>, LengthDelimitedError> {
        let item = Bytes::copy_from_slice(item);
        let mut wire = BytesMut::new();
        let announced = codec.encoded_len(&item);
        codec.clone().encode(item, &mut Sink::new(&mut wire))?;
        assert_eq!(announced, Some(wire.len()), "encoded_len of {codec:?}");
        Ok(wire.to_vec())
    }

    /// `wire` is a frame that gives `item`, and its every beginning asks for what it must.
    fn decodes(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
        assert_eq!(decode(codec, wire), Ok(Decoded::Frame(item.to_vec())), "{codec:?}");
        for len in 0..wire.len() {
            let Ok(Decoded::Need(n)) = decode(codec, &wire[..len]) else { panic!("{codec:?} at {len}") };
            assert!(n > 0 && n <= wire.len() - len, "{codec:?} at {len} asks for {n}");
        }
        assert_eq!(decode(codec, &wire[..wire.len() - 1]), Ok(Decoded::Need(1)));
    }

    fn round_trips(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
        decodes(codec, wire, item);
        assert_eq!(encode(codec, item).as_deref(), Ok(wire), "{codec:?}");
    }

    fn only_decodes(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
        decodes(codec, wire, item);
        assert_eq!(encode(codec, item), Err(Error::CannotEncode), "{codec:?}");
        assert_eq!(codec.encoded_len(&Bytes::copy_from_slice(item)), None);
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<LengthDelimited>() <= 40, "{}", size_of::<LengthDelimited>());
    }

    #[test]
    fn default_is_four_bytes_big_endian() {
        let codec = LengthDelimited::default();
        assert_eq!(codec, LengthDelimited::new());
        round_trips(&codec, b"\0\0\0\x05hello", b"hello");
        round_trips(&codec, b"\0\0\0\0", b"");
        round_trips(&codec, &[&[0, 1, 0, 0], &[7; 65536][..]].concat(), &[7; 65536]);
        assert_eq!(decode(&codec, b""), Ok(Decoded::Need(4)));
        assert_eq!(decode(&codec, b"\0\0\0"), Ok(Decoded::Need(1)));
        assert_eq!(decode(&codec, b"\0\0\0\x05"), Ok(Decoded::Need(5)));
        assert_eq!(decode(&codec, b"\0\0\0\x05hell"), Ok(Decoded::Need(1)));
    }

    #[test]
    fn frames_follow_each_other() {
        let mut wire = BytesMut::from(&b"\x01a\x00\x02bc\x03d"[..]);
        let mut src = Source::new(&mut wire);
        let mut codec = LengthDelimited::new().field(LengthField::U8);
        for item in ["a", "", "bc"] {
            assert_eq!(codec.decode(&mut src), Ok(Decoded::Frame(Bytes::from(item))));
        }
        assert_eq!(codec.decode(&mut src), Ok(Decoded::Need(2)));
    }

    /// The fast path and the general one must not differ.
    #[test]
    fn the_plain_shape_is_a_special_case_only() {
        let mut general = LengthDelimited::new().max_frame(9);
        assert!(general.plain);
        general.plain = false;
        let plain = LengthDelimited::new().max_frame(9);
        let wires: [&[u8]; 7] = [
            b"",
            b"\0\0",
            b"\0\0\0\0",
            b"\0\0\0\x05",
            b"\0\0\0\x05hello",
            b"\0\0\0\x06hello!",
            b"\xff\xff\xff\xff",
        ];
        for wire in wires {
            assert_eq!(decode(&plain, wire), decode(&general, wire), "{wire:?}");
            assert_eq!(decode_within(&plain, 8, wire), decode_within(&general, 8, wire), "{wire:?}");
            assert_eq!(encode(&plain, wire), encode(&general, wire), "{wire:?}");
        }
        // What a setter changes and another one restores is plain again.
        assert!(LengthDelimited::varint().field(LengthField::U32).keep_header().strip_header().plain);
        for other in [
            LengthDelimited::varint(),
            LengthDelimited::new().byte_order(ByteOrder::Little),
            LengthDelimited::new().offset(1),
            LengthDelimited::new().adjustment(1),
            LengthDelimited::new().keep_header(),
        ] {
            assert!(!other.plain, "{other:?}");
        }
    }

    /// The seven examples in the documentation of Netty's LengthFieldBasedFrameDecoder.
    #[test]
    fn netty_examples() {
        let hello = b"HELLO, WORLD";
        let codec = LengthDelimited::new().field(LengthField::U16);
        // 2 bytes length field at offset 0, do not strip header; strip header
        round_trips(&codec.clone().strip(0), b"\x00\x0cHELLO, WORLD", b"\x00\x0cHELLO, WORLD");
        round_trips(&codec.clone().strip(2), b"\x00\x0cHELLO, WORLD", hello);
        round_trips(&codec, b"\x00\x0cHELLO, WORLD", hello);
        // do not strip header, the length field represents the length of the whole message
        let whole = codec.clone().adjustment(-2).strip(0);
        round_trips(&whole, b"\x00\x0eHELLO, WORLD", b"\x00\x0eHELLO, WORLD");
        round_trips(&whole.strip_header(), b"\x00\x0eHELLO, WORLD", hello);
        // 3 bytes length field at the end of 5 bytes header
        let wire = b"\xca\xfe\x00\x00\x0cHELLO, WORLD";
        let header = LengthDelimited::new().field(LengthField::U24).offset(2);
        round_trips(&header.clone().strip(0), wire, wire);
        only_decodes(&header, wire, hello);
        // 3 bytes length field at the beginning of 5 bytes header
        let wire = b"\x00\x00\x0c\xca\xfeHELLO, WORLD";
        let header = LengthDelimited::new().field(LengthField::U24).adjustment(2);
        round_trips(&header.clone().strip(0), wire, wire);
        round_trips(&header, wire, b"\xca\xfeHELLO, WORLD");
        // 2 bytes length field at offset 1 in the middle of 4 bytes header, strip the first header field and
        // the length field; then with a length of the whole message
        let header = codec.offset(1).strip(3);
        only_decodes(&header.clone().adjustment(1), b"\xca\x00\x0c\xfeHELLO, WORLD", b"\xfeHELLO, WORLD");
        only_decodes(&header.adjustment(-3), b"\xca\x00\x10\xfeHELLO, WORLD", b"\xfeHELLO, WORLD");
    }

    /// tokio-util documents the same shapes, and two more. It counts from after what it skips, so its seventh
    /// example has an adjustment of 0 where the byte after the length takes 1 here.
    #[test]
    fn tokio_util_examples() {
        let seventh = LengthDelimited::new().field(LengthField::U24).adjustment(1).strip(4);
        only_decodes(&seventh, b"\x00\x00\x0b\xffHello world", b"Hello world");
        let little = LengthDelimited::new().field(LengthField::U16).byte_order(ByteOrder::Little);
        round_trips(&little, b"\x0b\x00Hello world", b"Hello world");
    }

    #[test]
    fn strips_that_lose_bytes_only_decode() {
        let codec = LengthDelimited::new().field(LengthField::U16);
        let wire = b"\x00\x03abc";
        only_decodes(&codec.clone().strip(1), wire, b"\x03abc");
        only_decodes(&codec.clone().strip(4), wire, b"c");
        only_decodes(&codec.clone().strip(5), wire, b"");
        only_decodes(&LengthDelimited::varint().strip(1), b"\x03abc", b"abc");
        // From the header alone.
        let error = decode(&codec.clone().strip(6), b"\x00\x03").unwrap_err();
        assert_eq!(error, Error::Strip { length: 5, strip: 6 });
        assert_eq!(
            error.to_string(),
            "a frame of 5 bytes is shorter than the 6 bytes to strip from it; check LengthDelimited::strip"
        );
        let far = codec.offset(u16::MAX).strip(u16::MAX);
        assert_eq!(decode(&far, b"\0"), Ok(Decoded::Need(65_536)));
        only_decodes(&far, &[0; 65_537], b"\0\0");
    }

    #[test]
    fn kept_headers_are_checked_when_encoding() {
        let codec = LengthDelimited::new().field(LengthField::U16).offset(1).keep_header();
        assert_eq!(encode(&codec, b"\x09\x00\x02ab").as_deref(), Ok(&b"\x09\x00\x02ab"[..]));
        for (item, announced) in [(&b"\x09\x00\x02a"[..], 5), (b"\x09\x00\x02abc", 5), (b"\x09\x00\x00c", 3)]
        {
            let error = Error::Mismatch { length: item.len(), announced };
            assert_eq!(encode(&codec, item), Err(error));
        }
        assert_eq!(encode(&codec, b""), Err(Error::NoHeader { length: 0, needed: 3 }));
        assert_eq!(encode(&codec, b"\x09\x00"), Err(Error::NoHeader { length: 2, needed: 3 }));
        let codec = codec.max_frame(5);
        assert!(encode(&codec, b"\x09\x00\x02ab").is_ok());
        assert_eq!(encode(&codec, b"\x09\x00\x03abc"), Err(Error::TooLong { length: 6, limit: 5 }));
        let varint = LengthDelimited::varint().keep_header();
        round_trips(&varint, b"\x82\x00ab", b"\x82\x00ab");
        assert_eq!(encode(&varint, b"\x82"), Err(Error::NoHeader { length: 1, needed: 2 }));
    }

    #[test]
    fn every_width_and_order() {
        for (field, width) in FIXED.into_iter().zip(1..) {
            assert_eq!(LengthField::fixed(width), Some(field));
            assert_eq!(field.width(), Some(width));
            let codec = LengthDelimited::new().field(field);
            let mut header = vec![0; width];
            header[width - 1] = 3;
            round_trips(&codec, &[&header, &b"abc"[..]].concat(), b"abc");
            header.reverse();
            round_trips(&codec.byte_order(ByteOrder::Little), &[&header, &b"abc"[..]].concat(), b"abc");
        }
        assert_eq!((LengthField::fixed(0), LengthField::fixed(9)), (None, None));
        let codec = LengthDelimited::new().field(LengthField::U24);
        let wire = [&b"\x01\x02\x03"[..], &[9; 0x010203]].concat();
        assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![9; 0x010203])));
        assert_eq!(encode(&codec, &[9; 0x010203]), Ok(wire));
        let codec = codec.byte_order(ByteOrder::Little);
        let wire = [&b"\x03\x02\x01"[..], &[9; 0x010203]].concat();
        assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![9; 0x010203])));
        assert_eq!(encode(&codec, &[9; 0x010203]), Ok(wire));
    }

    #[test]
    fn every_width_at_its_maximum() {
        for (field, width) in FIXED.into_iter().zip(1..) {
            let codec = LengthDelimited::new().field(field);
            let max = field.max();
            assert_eq!(
                max,
                [0xff, 0xffff, 0xff_ffff, 0xffff_ffff, (1 << 40) - 1, (1 << 48) - 1, (1 << 56) - 1, u64::MAX]
                    [width - 1]
            );
            let header = vec![0xff; width];
            let length = max.saturating_add(width as u64);
            for limit in [0, 1, 255] {
                assert_eq!(decode_within(&codec, limit, &header), Err(Error::TooLong { length, limit }));
                assert_eq!(
                    decode(&codec.clone().max_frame(limit), &header),
                    Err(Error::TooLong { length, limit })
                );
            }
            // With that much taken off, a small payload needs the largest value.
            if let Ok(most) = i64::try_from(max) {
                let codec = codec.adjustment(2 - most);
                round_trips(&codec, &[&header[..], b"ab"].concat(), b"ab");
                assert_eq!(
                    encode(&codec, b"abc"),
                    Err(Error::Unfit { length: 3, adjustment: 2 - most, max })
                );
            }
        }
        for (field, max) in [(LengthField::U8, 0xff), (LengthField::U16, 0xffff)] {
            let codec = LengthDelimited::new().field(field);
            let payload = vec![5; max + 1];
            let wire = encode(&codec, &payload[1..]).unwrap();
            assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(payload[1..].to_vec())));
            let error = Error::Unfit { length: max + 1, adjustment: 0, max: max as u64 };
            assert_eq!(encode(&codec, &payload), Err(error));
            assert_eq!(codec.encoded_len(&Bytes::from(payload)), None);
        }
    }

    #[test]
    fn huge_lengths() {
        let codec = LengthDelimited::new().field(LengthField::U64);
        let limit = 8 << 20;
        for value in [(1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX - 8, u64::MAX - 7, u64::MAX] {
            let length = value.saturating_add(8);
            let error = Err(Error::TooLong { length, limit });
            assert_eq!(decode_within(&codec, limit, &u64::to_be_bytes(value)), error);
            let little = codec.clone().byte_order(ByteOrder::Little);
            assert_eq!(decode_within(&little, limit, &u64::to_le_bytes(value)), error);
            for adjustment in [i64::MAX, 1, -1, i64::MIN] {
                let decoded = decode(&codec.clone().adjustment(adjustment), &u64::to_be_bytes(value));
                let body = i128::from(value) + i128::from(adjustment);
                match usize::try_from(body) {
                    Ok(body) if body <= usize::MAX - 8 => assert!(
                        matches!(decoded, Ok(Decoded::Need(n)) if n == body)
                            || body == 0 && decoded == Ok(Decoded::Frame(vec![])),
                        "{value} {adjustment}: {decoded:?}"
                    ),
                    _ if body < 0 => assert_eq!(decoded, Err(Error::Negative { value, adjustment })),
                    _ => assert!(
                        matches!(decoded, Err(Error::TooLong { .. })),
                        "{value} {adjustment}: {decoded:?}"
                    ),
                }
            }
        }
        // Without any limit the numbers must hold, too.
        assert!(matches!(
            decode(&codec, &[0xff; 8]),
            Err(Error::TooLong { length: u64::MAX, limit: usize::MAX })
        ));
        if let Ok(half) = usize::try_from(1_u64 << 63) {
            assert_eq!(decode(&codec, &u64::to_be_bytes(1 << 63)), Ok(Decoded::Need(half)));
            assert_eq!(decode(&codec, &u64::to_be_bytes(u64::MAX - 8)), Ok(Decoded::Need(usize::MAX - 8)));
        }
    }

    #[test]
    fn limits_count_the_header_and_the_smaller_one_holds() {
        for codec in [LengthDelimited::new(), LengthDelimited::new().keep_header()] {
            assert!(matches!(decode_within(&codec, 9, b"\0\0\0\x05hello"), Ok(Decoded::Frame(_))));
            assert_eq!(decode_within(&codec, 9, b"\0\0\0\x05"), Ok(Decoded::Need(5)));
            let error = Err(Error::TooLong { length: 10, limit: 9 });
            assert_eq!(decode_within(&codec, 9, b"\0\0\0\x06"), error);
            assert_eq!(decode_within(&codec.clone().max_frame(9), 10, b"\0\0\0\x06"), error);
            assert_eq!(decode_within(&codec.max_frame(10), 9, b"\0\0\0\x06"), error);
        }
        for codec in [
            LengthDelimited::new(),
            LengthDelimited::new().field(LengthField::U16).byte_order(ByteOrder::Little),
        ] {
            let header = codec.field.width().unwrap();
            let codec = codec.max_frame(header + 5);
            assert!(encode(&codec, b"hello").is_ok());
            let error = Error::TooLong { length: header as u64 + 6, limit: header + 5 };
            assert_eq!(encode(&codec, b"hello!"), Err(error));
            assert!(encode(&codec.max_frame(header - 1), b"").is_err());
        }
        assert_eq!(
            Error::TooLong { length: 1 << 32, limit: 9 }.to_string(),
            "a frame of 4294967296 bytes (header included) is over the limit of 9: if such frames are meant \
            to be, raise Config::max_frame and the codec's own max_frame; if not, the peer speaks another \
            protocol"
        );
    }

    #[test]
    fn adjustments() {
        let whole = LengthDelimited::new().adjustment(-4);
        round_trips(&whole, b"\0\0\0\x06ab", b"ab");
        round_trips(&whole, b"\0\0\0\x04", b"");
        let error = decode(&whole, b"\0\0\0\x03").unwrap_err();
        assert_eq!(error, Error::Negative { value: 3, adjustment: -4 });
        assert_eq!(
            error.to_string(),
            "a length of 3 with an adjustment of -4 is negative: expected at least 4; check the adjustment, \
            or the peer speaks another protocol"
        );
        // The item must have what the length does not count.
        let trailer = LengthDelimited::new().field(LengthField::U8).adjustment(2);
        round_trips(&trailer, b"\x01abc", b"abc");
        round_trips(&trailer, b"\x00ab", b"ab");
        assert_eq!(encode(&trailer, b"a"), Err(Error::Unfit { length: 1, adjustment: 2, max: 255 }));
        let varint = LengthDelimited::varint().adjustment(-126);
        round_trips(&varint, b"\x7fa", b"a");
        round_trips(&varint, b"\x80\x01ab", b"ab");
        assert!(encode(&LengthDelimited::varint().adjustment(i64::MIN), b"ab").is_ok());
        assert!(encode(&LengthDelimited::varint().adjustment(i64::MAX), b"ab").is_err());
        round_trips(
            &LengthDelimited::varint().adjustment(i64::MIN),
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"",
        );
    }

    #[test]
    fn varints() {
        let codec = LengthDelimited::varint();
        round_trips(&codec, b"\x00", b"");
        for (len, header) in [(1, &b"\x01"[..]), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")] {
            round_trips(&codec, &[header, &vec![1; len]].concat(), &vec![1; len]);
        }
        for (len, header) in
            [(16_383, &b"\xff\x7f"[..]), (16_384, b"\x80\x80\x01"), (2_097_152, b"\x80\x80\x80\x01")]
        {
            let wire = [header, &vec![1; len]].concat();
            assert_eq!(encode(&codec, &wire[header.len()..]).as_deref(), Ok(&wire[..]));
            assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![1; len])));
        }
        // Padded ones are read.
        decodes(&codec, b"\x80\x00", b"");
        decodes(&codec, b"\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00ab", b"ab");
        assert_eq!(decode(&codec, b"\x80\x80"), Ok(Decoded::Need(1)));
        let offset = LengthDelimited::varint().offset(3);
        assert_eq!(decode(&offset, b"\x80"), Ok(Decoded::Need(3)));
        only_decodes(&offset, b"\x80\x80\x80\x02ab", b"ab");
    }

    #[test]
    fn varints_beyond_64_bits_are_refused() {
        let codec = LengthDelimited::varint();
        let most = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(decode_within(&codec, 100, most), Err(Error::TooLong { length: u64::MAX, limit: 100 }));
        let less = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
        let length = (1 << 63) - 1 + 9;
        assert_eq!(decode_within(&codec, 100, less), Err(Error::TooLong { length, limit: 100 }));
        assert_eq!(decode(&codec, &[0x80; 9]), Ok(Decoded::Need(1)));
        for last in [0x02, 0x7f, 0x80, 0x81, 0xff] {
            let mut wire = [0xff; 10];
            wire[9] = last;
            assert_eq!(decode(&codec, &wire), Err(Error::Varint), "{last:x}");
        }
    }

    #[test]
    fn encoded_lengths_of_varints() {
        let len = |value| LengthField::Varint.encoded_len(value);
        assert_eq!((len(0), len(1), len(127), len(128), len(u64::MAX)), (1, 1, 1, 2, 10));
        for bits in 1..64 {
            let (below, from) = ((1 << bits) - 1, 1 << bits);
            assert_eq!(len(below), (bits as usize).div_ceil(7));
            assert_eq!(len(from), (bits as usize + 1).div_ceil(7));
            for value in [below, from] {
                let mut wire = BytesMut::new();
                put_varint(value, &mut Sink::new(&mut wire));
                assert_eq!(read_varint(&wire), Ok(Some((value, len(value)))));
            }
        }
    }

    #[test]
    fn large_payloads_are_chained() {
        let mut segments = super::super::Segments::default();
        let payload = Bytes::from(vec![1; 5000]);
        let mut sink = Sink::queue(&mut segments, 1024);
        LengthDelimited::new().encode(payload.clone(), &mut sink).unwrap();
        LengthDelimited::varint().encode(payload.clone(), &mut sink).unwrap();
        assert_eq!(sink.written(), 2 * payload.len() + 4 + 2);
        assert!(segments.chained.iter().all(|c| c.payload.as_ptr() == payload.as_ptr()));
        assert_eq!((segments.chained.len(), segments.gathered.len()), (2, 6));
    }
}
