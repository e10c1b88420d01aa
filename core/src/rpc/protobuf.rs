//! The wire format of Protobuf, as far as heads need it: fields of a message, read in place, and written to a
//! sink or only counted.

use std::ops::Range;

use crate::codec::Sink;
use crate::rpc::frame::FrameFault;

/// Groups within groups that are skipped: as many as other readers of Protobuf allow.
const MAX_DEPTH: u32 = 100;

/// The fields of a message, read one after another.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Bytes that are not Protobuf.
#[derive(Debug)]
pub(crate) struct Malformed;

impl From<Malformed> for FrameFault {
    fn from(_: Malformed) -> Self {
        FrameFault::Head
    }
}

/// A field of a message.
pub(crate) struct Field {
    /// The number of the field.
    pub(crate) number: u32,
    kind: u8,
    /// The value, if it is a number.
    value: u64,
    /// The position of the tag in the message.
    start: usize,
    /// The position of the content.
    content: usize,
    end: usize,
}

/// The kinds of values that heads have. Others are skipped.
const VARINT: u8 = 0;
const BYTES: u8 = 2;

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Fields { bytes, at: 0 }
    }

    /// Reads the next field; `None` at the end of the message.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field>, Malformed> {
        let start = self.at;
        if start >= self.bytes.len() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let (mut value, mut content) = (0, self.at);
        match kind {
            VARINT => value = self.varint()?,
            BYTES => {
                let length = self.varint()?;
                content = self.at;
                self.skip(length)?;
            }
            _ => self.skip_value(number, kind, 0)?,
        }
        Ok(Some(Field { number, kind, value, start, content, end: self.at }))
    }

    #[inline(always)]
    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        if number == 0 { Err(Malformed) } else { Ok((number, (tag & 7) as u8)) }
    }

    #[cold]
    fn skip_value(&mut self, number: u32, kind: u8, depth: u32) -> Result<(), Malformed> {
        match kind {
            VARINT => self.varint().map(|_| ()),
            1 => self.skip(8),
            BYTES => {
                let length = self.varint()?;
                self.skip(length)
            }
            3 if depth < MAX_DEPTH => self.skip_group(number, depth),
            5 => self.skip(4),
            _ => Err(Malformed),
        }
    }

    /// Skips the fields up to the end of a group.
    fn skip_group(&mut self, group: u32, depth: u32) -> Result<(), Malformed> {
        loop {
            match self.tag()? {
                (number, 4) if number == group => return Ok(()),
                (number, kind) => self.skip_value(number, kind, depth + 1)?,
            }
        }
    }

    #[inline(always)]
    fn skip(&mut self, length: u64) -> Result<(), Malformed> {
        if length > (self.bytes.len() - self.at) as u64 {
            return Err(Malformed);
        }
        self.at += length as usize;
        Ok(())
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    /// Reads a number of at most 64 bits. It need not have its shortest form: some writers pad lengths.
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in 0..10 {
            let &byte = self.bytes.get(self.at).ok_or(Malformed)?;
            self.at += 1;
            // The tenth byte has room for the last of the 64 bits only.
            if shift == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl Field {
    /// The place of tag and value in the message.
    pub(crate) fn place(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The value as a number.
    ///
    /// # Errors
    /// [`FrameFault::Field`] if it is something else.
    #[inline]
    pub(crate) fn u64(&self) -> Result<u64, FrameFault> {
        if self.kind == VARINT { Ok(self.value) } else { Err(self.invalid()) }
    }

    /// The value as a number of 32 bits.
    pub(crate) fn u32(&self) -> Result<u32, FrameFault> {
        u32::try_from(self.u64()?).map_err(|_| self.invalid())
    }

    /// The place of the value's bytes, of which there are at most `max`.
    #[inline]
    pub(crate) fn bytes(&self, max: usize) -> Result<Range<usize>, FrameFault> {
        let is_valid = self.kind == BYTES && self.end - self.content <= max;
        if is_valid { Ok(self.content..self.end) } else { Err(self.invalid()) }
    }

    /// The place of the value's text, of at most `max` bytes, in `message`.
    #[inline]
    pub(crate) fn text(&self, message: &[u8], max: usize) -> Result<Range<usize>, FrameFault> {
        let place = self.bytes(max)?;
        let bytes = &message[place.clone()];
        // Most are short and ASCII, which is cheaper to see.
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(place) } else { Err(self.invalid()) }
    }

    /// Whether `number` is among the values of this repeated field, of which each is a field of its own or
    /// many are packed in one.
    pub(crate) fn contains(&self, message: &[u8], number: u64) -> Result<bool, FrameFault> {
        if self.kind != BYTES {
            return Ok(self.u64()? == number);
        }
        let mut numbers = Fields::new(&message[self.content..self.end]);
        let mut found = false;
        while numbers.at < numbers.bytes.len() {
            found |= numbers.varint()? == number;
        }
        Ok(found)
    }

    /// The fault of an invalid value.
    #[cold]
    pub(crate) fn invalid(&self) -> FrameFault {
        FrameFault::Field(self.number)
    }
}

/// The output of a message's fields.
pub(crate) trait Output {
    fn put(&mut self, bytes: &[u8]);

    fn put_varint(&mut self, value: u64);

    /// Writes a field that is a number.
    #[inline]
    fn put_number(&mut self, field: u32, value: u64) {
        self.put_varint(u64::from(field << 3 | u32::from(VARINT)));
        self.put_varint(value);
    }

    /// Writes a field that is a number, unless it is 0, the default.
    #[inline]
    fn put_nonzero(&mut self, field: u32, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.put_number(field, value);
        }
    }

    /// Writes the beginning of a field of `length` bytes.
    #[inline]
    fn put_length(&mut self, field: u32, length: usize) {
        self.put_varint(u64::from(field << 3 | u32::from(BYTES)));
        self.put_varint(length as u64);
    }

    /// Writes a field that is text or bytes, unless it is empty, the default.
    #[inline]
    fn put_bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put_length(field, bytes.len());
            self.put(bytes);
        }
    }
}

/// Counts the bytes.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl Output for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn put_varint(&mut self, value: u64) {
        // A seventh of the bits, rounded up, without a division. 0 takes a byte too.
        let bits = u64::BITS - (value | 1).leading_zeros();
        self.0 += ((bits * 9 + 64) / 64) as usize;
    }
}

/// A small message in memory, with room before it. What does not fit is only counted.
pub(crate) struct Stage {
    bytes: [u8; STAGE],
    len: usize,
}

impl Stage {
    /// Leaves room for `before` bytes.
    #[inline(always)]
    pub(crate) fn after(before: usize) -> Self {
        Stage { bytes: [0; STAGE], len: before }
    }

    /// The length of the message, with the room before it.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The message after `before`, unless it did not fit.
    #[inline(always)]
    pub(crate) fn filled<const N: usize>(&mut self, before: &[u8; N]) -> Option<&[u8]> {
        let bytes = self.bytes.get_mut(..self.len)?;
        *bytes.first_chunk_mut()? = *before;
        Some(bytes)
    }
}

impl Output for Stage {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    #[inline(always)]
    fn put_varint(&mut self, value: u64) {
        if value < 0x80 {
            if let Some(byte) = self.bytes.get_mut(self.len) {
                *byte = value as u8;
            }
            self.len += 1;
        } else {
            self.put_long(value);
        }
    }
}

impl Stage {
    #[inline(never)]
    fn put_long(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }
}

impl Output for Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn put_varint(&mut self, value: u64) {
        let mut number = Stage::after(0);
        number.put_varint(value);
        self.put_slice(&number.bytes[..number.len]);
    }
}

/// A usual head fits, with the header before it.
const STAGE: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(message: &[u8]) -> Result<Vec<u32>, FrameFault> {
        let mut fields = Fields::new(message);
        let mut numbers = Vec::new();
        while let Some(field) = fields.next()? {
            assert!(field.place().end <= message.len());
            numbers.push(field.number);
        }
        Ok(numbers)
    }

    #[test]
    fn fields_of_every_kind_are_read_or_skipped() {
        // A number, 8 bytes, text, a group with a group and a number in it, 4 bytes, and one more number.
        let message = b"\x08\x96\x01\x11abcdefgh\x1a\x02hi\x23\x2b\x08\x01\x2c\x24\x35abcd\x38\0";
        assert_eq!(numbers(message), Ok(vec![1, 2, 3, 4, 6, 7]));
    }

    #[test]
    fn what_is_not_protobuf_is_refused() {
        let faulty: [&[u8]; 13] = [
            b"\x08",                                         // a number is missing
            b"\x08\x80",                                     // a number has no end
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", // more than 64 bits
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
            b"\x11abcdefg",                                  // 7 of 8 bytes
            b"\x1a\x02h",                                    // less than announced
            b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // far less
            b"\x35abc",                                      // 3 of 4 bytes
            b"\x06",
            b"\x0f",         // no such kinds of value
            b"\x23\x08\x01", // a group has no end
            b"\x23\x2c",     // another one ends
            b"\x24",         // none has begun
        ];
        for message in faulty {
            assert_eq!(numbers(message), Err(FrameFault::Head), "{message:x?}");
        }
        assert_eq!(numbers(b"\x00\x01"), Err(FrameFault::Head), "field 0");
        assert_eq!(numbers(b"\x80\x80\x80\x80\x10\x01"), Err(FrameFault::Head), "a field of 33 bits");
    }

    #[test]
    fn groups_are_skipped_to_a_limited_depth() {
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(numbers(&nested(100)), Ok(vec![1]));
        assert_eq!(numbers(&nested(101)), Err(FrameFault::Head));
        assert_eq!(numbers(&vec![0x0b; 16 * 1024]), Err(FrameFault::Head));
    }

    #[test]
    fn numbers_need_not_be_short() {
        let mut fields = Fields::new(b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00");
        let field = fields.next().unwrap().unwrap();
        assert_eq!((field.number, field.u64()), (1, Ok(1)));
    }

    #[test]
    fn what_is_written_is_counted_alike_and_read_back() {
        for value in [1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = bytes::BytesMut::new();
            let mut count = Count::default();
            Sink::new(&mut bytes).put_number(536_870_911, value);
            count.put_number(536_870_911, value);
            assert_eq!(count.0, bytes.len());
            let field = Fields::new(&bytes).next().unwrap().unwrap();
            assert_eq!((field.number, field.u64(), field.place()), (536_870_911, Ok(value), 0..bytes.len()));
        }
    }

    /// The stage is filled to every length before a piece of every length.
    #[test]
    fn a_stage_has_what_fits_and_counts_what_does_not() {
        let varint = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for first in 0..STAGE + 2 {
            for second in 0..STAGE + 2 {
                let (first, second) = (vec![1; first], vec![2; second]);
                let mut stage = Stage::after(4);
                stage.put(&first);
                stage.put_varint(u64::MAX);
                stage.put(&second);
                let expected = [b"head", &first[..], varint, &second].concat();
                assert_eq!(stage.len(), expected.len());
                let fits = (expected.len() <= STAGE).then_some(&expected[..]);
                assert_eq!(stage.filled(b"head"), fits);
            }
        }
    }
}
