//! [`Raw`]: bytes as they arrive.

use std::convert::Infallible;

use bytes::Bytes;

use super::{Decoded, Decoder, Encoder, Sink, Source};

/// No framing: an item is whatever has arrived.
///
/// Items are never empty and never larger than the session's [`Config::max_frame`](crate::Config::max_frame).
/// Their boundaries have no meaning: a byte stream may split what the peer sent at once, and join several of
/// its items. Suited to relays, and to protocols that a listener parses itself.
///
/// The encoder writes an item unchanged; an empty one writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Raw;

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Infallible;

    #[inline]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Infallible> {
        if src.is_empty() {
            return Ok(Decoded::Need(1));
        }
        // Empty items would never end.
        let len = src.len().min(src.max_frame().max(1));
        Ok(Decoded::Frame(src.take(len)))
    }
}

impl Encoder<Bytes> for Raw {
    type Error = Infallible;

    #[inline]
    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Infallible> {
        dst.put_bytes(item);
        Ok(())
    }

    #[inline]
    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        Some(item.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn whatever_is_there_is_an_item() {
        let mut wire = BytesMut::from(&b"some bytes"[..]);
        let mut src = Source::new(&mut wire);
        assert_eq!(Raw.decode(&mut src), Ok(Decoded::Frame(Bytes::from("some bytes"))));
        assert_eq!(Raw.decode(&mut src), Ok(Decoded::Need(1)));
        assert_eq!(Raw.decode_eof(&mut src), Ok(None));
    }

    #[test]
    fn items_are_not_over_the_limit_and_never_empty() {
        for (limit, items) in [(4, &["0123", "4567", "89"][..]), (10, &["0123456789"]), (11, &["0123456789"])]
        {
            let (mut wire, mut slab) = (BytesMut::from("0123456789"), BytesMut::new());
            let mut src = Source::copying(&mut wire, &mut slab, 1024, limit);
            for &item in items {
                assert_eq!(Raw.decode(&mut src), Ok(Decoded::Frame(Bytes::from(item))));
            }
            assert_eq!(Raw.decode(&mut src), Ok(Decoded::Need(1)));
        }
        let (mut wire, mut slab) = (BytesMut::from("01"), BytesMut::new());
        let decoded = Raw.decode(&mut Source::copying(&mut wire, &mut slab, 1024, 0));
        assert_eq!(decoded, Ok(Decoded::Frame(Bytes::from("0"))));
    }

    #[test]
    fn items_are_written_as_they_are() {
        for item in [Bytes::new(), Bytes::from("some bytes")] {
            let mut wire = BytesMut::new();
            assert_eq!(Raw.encoded_len(&item), Some(item.len()));
            assert_eq!(Raw.encode(item.clone(), &mut Sink::new(&mut wire)), Ok(()));
            assert_eq!(wire, item);
        }
    }
}
