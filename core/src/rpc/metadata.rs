//! [`Metadata`]: pairs of a key and a value beside the body of a request or an answer.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::codec::Sink;
use crate::hidden::HiddenBytes;
use crate::rpc::frame::FrameFault;
use crate::rpc::protobuf::{Count, Field, Fields, Output};

/// Pairs of a key and a value beside the body of a request or an answer: who calls, why, for whom.
///
/// A key has 1 to 64 of the characters `a-z`, `0-9`, `.`, `_` and `-`; a value is any bytes. There are at
/// most 64 pairs with 8 KiB of keys and values. A key may have several values; they keep their order. Keys
/// that begin with `getty-` are reserved for the protocol. The `Debug` output shows keys and no values, which
/// may be secrets.
///
/// Metadata without pairs take no memory. Received ones share that of their frame.
///
/// ```
/// use getty_core::rpc::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", "a")?;
/// assert_eq!(metadata.get("tenant"), Some(&b"a"[..]));
/// # Ok::<(), getty_core::rpc::MetadataError>(())
/// ```
#[derive(Clone, Default)]
pub struct Metadata {
    /// The pairs as fields of a Protobuf message, valid. Their field numbers do not matter.
    pairs: Bytes,
}

impl Metadata {
    /// The length of the longest key in bytes.
    pub const MAX_KEY: usize = 64;
    /// The largest number of pairs.
    pub const MAX_PAIRS: usize = 64;
    /// The largest sum of the lengths of all keys and values, in bytes.
    pub const MAX_BYTES: usize = 8 * 1024;

    /// Makes metadata without pairs.
    pub const fn new() -> Self {
        Metadata { pairs: Bytes::new() }
    }

    /// Adds a pair after the others. Values that the key already has stay.
    ///
    /// # Errors
    /// [`MetadataError`] names the rule that the pair breaks. The metadata are as before.
    pub fn insert(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), MetadataError> {
        let value = value.as_ref();
        if key.starts_with("getty-") {
            return Err(MetadataError::Reserved);
        }
        let mut size = Size::default();
        for (key, value) in self.iter() {
            size.add(key.as_bytes(), value)?;
        }
        size.add(key.as_bytes(), value)?;
        let mut pairs = match std::mem::take(&mut self.pairs).try_into_mut() {
            Ok(pairs) => pairs,
            Err(shared) => BytesMut::from(&shared[..]),
        };
        put_pair(&mut Sink::new(&mut pairs), 1, key, value);
        self.pairs = pairs.freeze();
        Ok(())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.get_all(key).next()
    }

    /// All values of `key`, in order.
    pub fn get_all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |pair| pair.0 == key).map(|pair| pair.1)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut fields = Fields::new(&self.pairs);
        std::iter::from_fn(move || {
            let field = fields.next().ok()??;
            let (key, value) = read_pair(&self.pairs, &field).ok()?;
            Some((std::str::from_utf8(&self.pairs[key]).ok()?, &self.pairs[value]))
        })
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Writes the pairs as fields with this number.
    #[inline]
    pub(crate) fn write(&self, out: &mut impl Output, field: u32) {
        if !self.pairs.is_empty() {
            self.write_all(out, field);
        }
    }

    #[inline(never)]
    fn write_all(&self, out: &mut impl Output, field: u32) {
        for (key, value) in self.iter() {
            put_pair(out, field, key, value);
        }
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Metadata {}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, HiddenBytes(value.len())))).finish()
    }
}

/// Metadata of a head that is being read.
#[derive(Default)]
pub(crate) struct Reading {
    size: Size,
    /// The place of the pairs in the head, while nothing else is between them.
    place: Range<usize>,
    /// The pairs, if there was something else between them.
    copied: Option<BytesMut>,
}

impl Reading {
    /// Adds the pair in a field of `head`.
    #[inline(never)]
    pub(crate) fn add(&mut self, head: &[u8], field: &Field) -> Result<(), FrameFault> {
        let (key, value) = read_pair(head, field)?;
        self.size.add(&head[key], &head[value])?;
        let place = field.place();
        if let Some(copied) = &mut self.copied {
            copied.extend_from_slice(&head[place]);
        } else if self.size.pairs == 1 {
            self.place = place;
        } else if self.place.end == place.start {
            self.place.end = place.end;
        } else {
            let mut copied = BytesMut::from(&head[self.place.clone()]);
            copied.extend_from_slice(&head[place]);
            self.copied = Some(copied);
        }
        Ok(())
    }

    /// Whether no pair was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.size.pairs == 0
    }

    /// Returns the metadata of `head`, once all of it is read.
    pub(crate) fn finish(self, head: &Bytes) -> Metadata {
        let pairs = match self.copied {
            Some(copied) => copied.freeze(),
            None => head.slice(self.place),
        };
        Metadata { pairs }
    }
}

/// The size of metadata.
#[derive(Default)]
struct Size {
    pairs: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
        let is_valid = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if key.is_empty() || key.len() > Metadata::MAX_KEY || !key.iter().copied().all(is_valid) {
            return Err(MetadataError::Key);
        }
        self.pairs += 1;
        self.bytes += key.len() + value.len();
        if self.pairs > Metadata::MAX_PAIRS {
            return Err(MetadataError::Pairs);
        }
        if self.bytes > Metadata::MAX_BYTES {
            return Err(MetadataError::Bytes(self.bytes));
        }
        Ok(())
    }
}

/// The places of key and value in `message`, of which `field` is a pair.
fn read_pair(message: &[u8], field: &Field) -> Result<(Range<usize>, Range<usize>), FrameFault> {
    let pair = field.bytes(usize::MAX)?;
    let (mut key, mut value) = (0..0, 0..0);
    let mut fields = Fields::new(&message[pair.clone()]);
    while let Some(part) = fields.next()? {
        match part.number {
            1 => key = part.bytes(usize::MAX)?,
            2 => value = part.bytes(usize::MAX)?,
            _ => {}
        }
    }
    let moved = |place: Range<usize>| pair.start + place.start..pair.start + place.end;
    Ok((moved(key), moved(value)))
}

fn put_pair(out: &mut impl Output, field: u32, key: &str, value: &[u8]) {
    let mut length = Count::default();
    put_parts(&mut length, key, value);
    out.put_length(field, length.0);
    put_parts(out, key, value);
}

fn put_parts(out: &mut impl Output, key: &str, value: &[u8]) {
    out.put_bytes(1, key.as_bytes());
    out.put_bytes(2, value);
}

/// A rule of [`Metadata`] that a pair breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is not 1 to 64 characters of `a-z 0-9 . _ -`.
    #[error("a key has 1 to 64 of the characters a-z, 0-9, '.', '_' and '-'")]
    Key,
    /// The key begins with `getty-`.
    #[error("keys that begin with \"getty-\" are reserved for the protocol")]
    Reserved,
    /// There is one pair too many.
    #[error("there are at most {} pairs", Metadata::MAX_PAIRS)]
    Pairs,
    /// Keys and values are too large.
    #[error("keys and values of {0} bytes: expected at most {max}", max = Metadata::MAX_BYTES)]
    Bytes(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metadata in fields 5 of `head`.
    fn read(head: &[u8]) -> Result<Metadata, FrameFault> {
        let head = Bytes::copy_from_slice(head);
        let mut reading = Reading::default();
        let mut fields = Fields::new(&head);
        while let Some(field) = fields.next()? {
            if field.number == 5 {
                reading.add(&head, &field)?;
            }
        }
        Ok(reading.finish(&head))
    }

    fn made(pairs: &[(&str, &str)]) -> Metadata {
        let mut metadata = Metadata::new();
        pairs.iter().for_each(|(key, value)| metadata.insert(key, value).unwrap());
        metadata
    }

    #[test]
    fn pairs_keep_their_order_and_a_key_may_have_several_values() {
        let metadata = made(&[("b", "1"), ("a", ""), ("b", "2")]);
        let pairs: Vec<_> = metadata.iter().collect();
        assert_eq!(pairs, [("b", &b"1"[..]), ("a", b""), ("b", b"2")]);
        assert_eq!(metadata.get("b"), Some(&b"1"[..]));
        assert_eq!(metadata.get_all("b").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((metadata.get("a"), metadata.get("c")), (Some(&b""[..]), None));
        assert_eq!((metadata.len(), metadata.is_empty()), (3, false));
        assert_eq!((Metadata::new().len(), Metadata::new().is_empty()), (0, true));
        assert_ne!(metadata, made(&[("a", ""), ("b", "1"), ("b", "2")]));
    }

    #[test]
    fn pairs_over_a_limit_are_refused_and_change_nothing() {
        let mut metadata = made(&[("a", "1")]);
        let before = metadata.clone();
        for key in ["", "A", "a b", "a/b", "é", &"k".repeat(65)] {
            assert_eq!(metadata.insert(key, "v"), Err(MetadataError::Key), "{key:?}");
        }
        assert_eq!(metadata.insert("getty-x", "v"), Err(MetadataError::Reserved));
        assert_eq!(metadata.insert("b", vec![0; 8190]), Err(MetadataError::Bytes(8193)));
        assert_eq!(metadata, before);
        metadata.insert(&"k".repeat(64), vec![0; 8126]).unwrap();

        let mut many = made(&[("a", "1"); 64]);
        assert_eq!(many.insert("a", "1"), Err(MetadataError::Pairs));
        assert_eq!(many.len(), 64);
    }

    #[test]
    fn a_clone_does_not_see_what_is_inserted_later() {
        let mut metadata = made(&[("a", "1")]);
        let clone = metadata.clone();
        metadata.insert("b", "2").unwrap();
        assert_eq!((clone.len(), metadata.len()), (1, 2));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", made(&[("token", "secret")])), r#"{"token": <6 bytes>}"#);
    }

    #[test]
    fn received_pairs_are_slices_of_the_head_where_they_are_contiguous() {
        let (a, b, other) = (b"\x2a\x06\x0a\x01a\x12\x01x", b"\x2a\x03\x0a\x01b", b"\x38\x01");
        let expected = made(&[("a", "x"), ("b", "")]);
        for (head, is_slice) in [
            ([&a[..], b, other].concat(), true),
            ([&other[..], a, b].concat(), true),
            ([&a[..], other, b].concat(), false),
            ([&a[..], other, b, other].concat(), false),
        ] {
            assert_eq!(read(&head), Ok(expected.clone()), "{head:x?}");
            let head = Bytes::from(head);
            let mut reading = Reading::default();
            let mut fields = Fields::new(&head);
            while let Ok(Some(field)) = fields.next() {
                if field.number == 5 {
                    reading.add(&head, &field).unwrap();
                }
            }
            let pairs = reading.finish(&head).pairs;
            assert_eq!(head.as_ptr_range().contains(&pairs.as_ptr()), is_slice, "{head:x?}");
        }
    }

    #[test]
    fn received_pairs_keep_the_limits() {
        let many = b"\x2a\x03\x0a\x01a".repeat(64);
        assert_eq!(read(&many).map(|metadata| metadata.len()), Ok(64));
        let more = [&many[..], b"\x2a\x03\x0a\x01a"].concat();
        assert_eq!(read(&more), Err(MetadataError::Pairs.into()));
        for head in [&b"\x2a\x00"[..], b"\x2a\x02\x12\x00", b"\x2a\x03\x0a\x01A"] {
            assert_eq!(read(head), Err(MetadataError::Key.into()), "{head:x?}");
        }
        assert_eq!(read(b"\x2a\x02\x0a\x01"), Err(FrameFault::Head));
        assert_eq!(read(b"\x28\x01"), Err(FrameFault::Field(5)));
        let large = |value: u16| {
            let [low, high] = [value as u8 & 0x7f | 0x80, (value >> 7) as u8];
            let pair = [&b"\x0a\x01a\x12"[..], &[low, high], &vec![0; value.into()]].concat();
            let [low, high] = [pair.len() as u8 & 0x7f | 0x80, (pair.len() >> 7) as u8];
            [&[0x2a, low, high], &pair[..]].concat()
        };
        assert_eq!(read(&large(8191)).map(|metadata| metadata.len()), Ok(1));
        assert_eq!(read(&large(8192)), Err(MetadataError::Bytes(8193).into()));
    }
}
