//! [`LengthDelimited`]: frames that begin with their length.

use bytes::Bytes;

use super::{Decoded, Decoder, Encoder, Sink, Source};
use crate::hint::likely;

/// Frames with a header that contains their length.
///
/// By default ([`new`](Self::new)) the header is a 4-byte big-endian length, and the item is the payload that
/// follows it. Setters describe other formats:
///
/// | setter | meaning | default |
/// |---|---|---|
/// | [`field`](Self::field) | format of the length field | [`LengthField::U32`] |
/// | [`byte_order`](Self::byte_order) | order of its bytes | [`ByteOrder::Big`] |
/// | [`offset`](Self::offset) | header bytes before the length field | 0 |
/// | [`adjustment`](Self::adjustment) | value read + adjustment = bytes after the length field | 0 |
/// | [`strip`](Self::strip), [`keep_header`](Self::keep_header) | bytes omitted from the item | the header |
/// | [`max_frame`](Self::max_frame) | largest frame on the wire, header included | only the session's limit |
///
/// The *header* is everything up to the end of the length field: `offset` bytes and the field. If the length
/// covers the header too, subtract it with a negative adjustment. If it does not cover everything after the
/// field (flags before the payload, a checksum at the end), add the rest with a positive one. Stripping does
/// not affect where a frame ends, as in Netty and unlike tokio-util.
///
/// # Encoding
/// The encoder writes only what the decoder reads back as the same item, and refuses anything else:
///
/// * With the header stripped and no offset, the item is the bytes after the length field: the encoder writes
///   the length and the item.
/// * With [`keep_header`](Self::keep_header) the item is the whole frame: the encoder checks that its length
///   field agrees with its size, then writes it unchanged.
/// * In every other format the decoder drops bytes that cannot be restored. Such a codec only decodes;
///   encoding fails with [`LengthDelimitedError::CannotEncode`].
///
/// # Examples
/// A header of a type byte, a 2-byte length that counts the whole frame, and a flag byte. The item is the
/// frame as it is on the wire:
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
    /// The largest frame if everything except `max_frame` is as in `new()`, otherwise 0: one comparison lets
    /// the hot path skip the general case.
    max_plain: usize,
}

impl LengthDelimited {
    /// Makes a codec with a 4-byte big-endian length. The item is the payload after it.
    pub const fn new() -> Self {
        LengthDelimited {
            max_frame: usize::MAX,
            adjustment: 0,
            offset: 0,
            strip: Strip::Header,
            field: LengthField::U32,
            order: ByteOrder::Big,
            max_plain: MAX_PLAIN,
        }
    }

    /// Makes a codec with a varint length: like [`new`](Self::new) with [`LengthField::Varint`].
    pub const fn varint() -> Self {
        Self::new().field(LengthField::Varint)
    }

    /// Sets the format of the length field. Default [`LengthField::U32`].
    #[must_use]
    pub const fn field(mut self, field: LengthField) -> Self {
        self.field = field;
        self.settled()
    }

    /// Sets the order of the length field's bytes. Default [`ByteOrder::Big`], "network order". Has no effect
    /// on a varint, which has its own order.
    #[must_use]
    pub const fn byte_order(mut self, order: ByteOrder) -> Self {
        self.order = order;
        self.settled()
    }

    /// Sets the number of header bytes before the length field. Default 0.
    #[must_use]
    pub const fn offset(mut self, bytes: u16) -> Self {
        self.offset = bytes;
        self.settled()
    }

    /// Sets the number to add to the length field's value to get the bytes after the field. Default 0.
    ///
    /// Negative if the length also counts the header or a part of it, positive if it does not count
    /// everything after the field. A frame with a negative sum is refused as
    /// [`LengthDelimitedError::Negative`].
    #[must_use]
    pub const fn adjustment(mut self, bytes: i64) -> Self {
        self.adjustment = bytes;
        self.settled()
    }

    /// Omits the first `bytes` of a frame from the item, whatever they are. The default is
    /// [`strip_header`](Self::strip_header).
    ///
    /// A shorter frame is refused as [`LengthDelimitedError::Strip`]. Most values make a codec that only
    /// decodes; see [Encoding](Self#encoding).
    #[must_use]
    pub const fn strip(mut self, bytes: u16) -> Self {
        self.strip = Strip::Bytes(bytes);
        self.settled()
    }

    /// Makes the item the bytes after the length field. The default.
    #[must_use]
    pub const fn strip_header(mut self) -> Self {
        self.strip = Strip::Header;
        self.settled()
    }

    /// Makes the item the whole frame, as it is on the wire: [`strip`](Self::strip)`(0)`.
    #[must_use]
    pub const fn keep_header(self) -> Self {
        self.strip(0)
    }

    /// Sets the largest frame, received or sent, in bytes on the wire including the header.
    ///
    /// By default only the session's [`Config::max_frame`](crate::Config::max_frame) applies. If both are
    /// set, the smaller one counts.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self.settled()
    }

    const fn settled(mut self) -> Self {
        let is_plain = self.offset == 0
            && self.adjustment == 0
            && matches!(self.strip, Strip::Header)
            && matches!(self.field, LengthField::U32)
            && matches!(self.order, ByteOrder::Big);
        self.max_plain = match is_plain {
            true if self.max_frame < MAX_PLAIN => self.max_frame,
            true => MAX_PLAIN,
            false => 0,
        };
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

    /// Reads the header at the start of `bytes`.
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

    /// Whether items are exactly the bytes after a header that consists only of the length.
    fn strips_to_payload(&self) -> bool {
        let strips_header = match self.strip {
            Strip::Header => true,
            Strip::Bytes(bytes) => self.field.width() == Some(usize::from(bytes)),
        };
        self.offset == 0 && strips_header
    }

    /// Checks that `item` is one whole frame, as the decoder would return it.
    fn check_whole(&self, item: &Bytes) -> Result<(), LengthDelimitedError> {
        let length = item.len();
        match self.read_header(item, self.max_frame)? {
            Header::Whole { frame, .. } if frame == length => Ok(()),
            Header::Whole { frame, .. } => Err(LengthDelimitedError::Mismatch { length, announced: frame }),
            Header::Missing(bytes) => Err(LengthDelimitedError::NoHeader { length, needed: length + bytes }),
        }
    }

    /// The length field's value for a payload of `length` bytes.
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
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for LengthDelimited {
    type Item = Bytes;
    type Error = LengthDelimitedError;

    // The results of the slow path are rebuilt here, so that a frame of the fast one stays in registers.
    #[inline(always)]
    #[expect(clippy::needless_question_mark, reason = "see above")]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, LengthDelimitedError> {
        let Some(&header) = src.first_chunk::<PLAIN_HEADER>() else {
            return Ok(self.decode_any(&mut src.apart())?);
        };
        let length = u64::from(u32::from_be_bytes(header)) + PLAIN_HEADER as u64;
        let is_plain = length <= self.max_plain as u64 && length <= src.max_frame() as u64;
        if !likely(is_plain && length <= src.len() as u64) {
            return Ok(self.decode_any(&mut src.apart())?);
        }
        // The length fits a `usize`, as it is within the limit.
        let frame = length as usize;
        Ok(Decoded::Frame(src.take_after(PLAIN_HEADER, frame - PLAIN_HEADER)))
    }
}

impl Encoder<Bytes> for LengthDelimited {
    type Error = LengthDelimitedError;

    #[inline(always)]
    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), LengthDelimitedError> {
        if !likely(item.len() + PLAIN_HEADER <= self.max_plain) {
            return dst.apart(|dst| self.encode_any(item, dst));
        }
        dst.put_slice(&(item.len() as u32).to_be_bytes());
        dst.put_bytes(item);
        Ok(())
    }

    #[inline]
    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        if self.max_plain > 0 {
            Some(item.len() + PLAIN_HEADER)
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

/// The format of a [`LengthDelimited`] length.
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
    /// Unsigned LEB128, as in Protocol Buffers: 7 bits per byte, lowest first, the top bit set on all bytes
    /// except the last; 1 to 10 bytes, up to 2^64 - 1.
    ///
    /// The encoder writes the shortest form. The decoder also accepts longer ones (`80 00` for 0), since
    /// writers that reserve space for the length and fill it in later pad it. It accepts no more than 10
    /// bytes and no value beyond 64 bits.
    Varint,
}

impl LengthField {
    /// The field of `bytes` bytes, for widths known only at run time; `None` unless it is 1 to 8.
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

    /// The width in bytes; `None` for a varint, whose width depends on the value.
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

    /// The largest value of the field.
    pub const fn max(self) -> u64 {
        match self.width() {
            Some(width) => u64::MAX >> (64 - 8 * width),
            None => u64::MAX,
        }
    }

    /// The number of bytes that `value` takes.
    const fn encoded_len(self, value: u64) -> usize {
        match self.width() {
            Some(width) => width,
            // 0 takes a byte too.
            None => (64 - (value | 1).leading_zeros()).div_ceil(7) as usize,
        }
    }
}

/// The order of a [`LengthDelimited`] length's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// Most significant byte first. The default: "network order".
    #[default]
    Big,
    /// Least significant byte first.
    Little,
}

impl ByteOrder {
    /// Reads the number in `field`, which has at most 8 bytes.
    fn read(self, field: &[u8]) -> u64 {
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        match self {
            ByteOrder::Big => field.iter().fold(0, push),
            ByteOrder::Little => field.iter().rev().fold(0, push),
        }
    }
}

/// Errors of decoding and encoding [`LengthDelimited`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LengthDelimitedError {
    /// A received header announces a frame over the limit, or an item to send makes one.
    #[error(
        "a frame of {length} bytes (header included) is over the limit of {limit}: to allow such \
        frames, raise Config::max_frame and the codec's own max_frame; otherwise the peer speaks another \
        protocol"
    )]
    TooLong {
        /// Size on the wire in bytes, header included; `u64::MAX` if it does not fit.
        length: u64,
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own limit.
        limit: usize,
    },
    /// A received length is smaller than a negative adjustment subtracts.
    #[error(
        "a length of {value} with an adjustment of {adjustment} is negative: expected at least {}; check the \
         adjustment and the peer's protocol",
        .adjustment.unsigned_abs()
    )]
    Negative {
        /// The value of the length field.
        value: u64,
        /// [`LengthDelimited::adjustment`].
        adjustment: i64,
    },
    /// A received varint does not end after 10 bytes, or does not fit 64 bits.
    #[error(
        "the length is a varint of more than 64 bits: the peer speaks another protocol or lost its framing"
    )]
    Varint,
    /// A received frame is shorter than the bytes to strip from it.
    #[error(
        "a frame of {length} bytes is shorter than the {strip} bytes to strip from it; check \
        LengthDelimited::strip"
    )]
    Strip {
        /// Size on the wire in bytes, header included.
        length: usize,
        /// [`LengthDelimited::strip`].
        strip: usize,
    },
    /// An item to send has a length that the length field can't hold.
    #[error(
        "a payload of {length} bytes with an adjustment of {adjustment} does not fit: the length field \
        holds 0 to {max}; use a wider LengthField, or split the payload"
    )]
    Unfit {
        /// Length of the item in bytes.
        length: usize,
        /// [`LengthDelimited::adjustment`].
        adjustment: i64,
        /// The largest value of the length field.
        max: u64,
    },
    /// An item to send, which must be a whole frame since the header is kept, ends within its header.
    #[error(
        "an item of {length} bytes is shorter than its header of {needed}: with the header kept, items must \
        be whole frames"
    )]
    NoHeader {
        /// Length of the item in bytes.
        length: usize,
        /// Length of the header in bytes, as far as it is known.
        needed: usize,
    },
    /// An item to send, which must be a whole frame since the header is kept, contradicts the length in its
    /// header.
    #[error(
        "the item has {length} bytes, but its header announces {announced}: with the header kept, items \
        must be whole frames"
    )]
    Mismatch {
        /// Length of the item in bytes.
        length: usize,
        /// Length of the frame in bytes, according to its header.
        announced: usize,
    },
    /// The decoder strips bytes that the encoder can't restore. See [Encoding](LengthDelimited#encoding).
    #[error(
        "this codec only decodes, since it strips bytes that can't be restored: use \
        LengthDelimited::keep_header and send whole frames"
    )]
    CannotEncode,
}

/// Length of the header in the default format, in bytes.
const PLAIN_HEADER: usize = 4;
/// The largest frame with such a header.
const MAX_PLAIN: usize = (u32::MAX as usize).saturating_add(PLAIN_HEADER);

/// The part of a frame that is not in the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strip {
    Header,
    Bytes(u16),
}

/// The result of reading the first bytes of a frame.
enum Header {
    /// Sizes of the header and of the whole frame, in bytes.
    Whole { header: usize, frame: usize },
    /// At least this many bytes of the header are missing.
    Missing(usize),
}

/// Reads the varint at the start of `bytes`: its value and size, if it is complete.
fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, LengthDelimitedError> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // The tenth byte has room for the last of the 64 bits only, and can't be followed by another.
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
mod tests;
