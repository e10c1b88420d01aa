//! [`FixedLength`]: frames of one length.

use std::num::NonZeroUsize;

use bytes::Bytes;

use super::{Decoded, Decoder, Encoder, Sink, Source};

/// Frames of one length: every `length` bytes are an item.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use bytes::{Bytes, BytesMut};
/// use getty_core::codec::{Decoded, Decoder, FixedLength, Source};
///
/// let mut codec = FixedLength::new(const { NonZeroUsize::new(4).unwrap() });
/// let mut wire = BytesMut::from(&b"onetwo"[..]);
/// let mut src = Source::new(&mut wire);
/// assert_eq!(codec.decode(&mut src)?, Decoded::Frame(Bytes::from("onet")));
/// assert_eq!(codec.decode(&mut src)?, Decoded::Need(2));
/// # Ok::<(), getty_core::codec::FixedLengthError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedLength {
    length: NonZeroUsize,
}

impl FixedLength {
    /// Makes a codec for frames of `length` bytes.
    ///
    /// The session's [`Config::max_frame`](crate::Config::max_frame) must be at least that: otherwise the
    /// first received byte ends the session with [`FixedLengthError::TooLong`].
    pub const fn new(length: NonZeroUsize) -> Self {
        FixedLength { length }
    }
}

impl Decoder for FixedLength {
    type Item = Bytes;
    type Error = FixedLengthError;

    #[inline]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, FixedLengthError> {
        let length = self.length.get();
        if length > src.max_frame() {
            return Err(FixedLengthError::TooLong { length, limit: src.max_frame() });
        }
        if src.len() < length {
            return Ok(Decoded::Need(length - src.len()));
        }
        Ok(Decoded::Frame(src.take(length)))
    }
}

impl Encoder<Bytes> for FixedLength {
    type Error = FixedLengthError;

    #[inline]
    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), FixedLengthError> {
        if item.len() != self.length.get() {
            return Err(FixedLengthError::Length { length: item.len(), expected: self.length.get() });
        }
        dst.put_bytes(item);
        Ok(())
    }

    #[inline]
    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        Some(item.len())
    }
}

/// Errors of decoding and encoding [`FixedLength`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FixedLengthError {
    /// The session does not allow frames of the codec's length.
    #[error("frames of {length} bytes are over the session's limit of {limit}: raise Config::max_frame")]
    TooLong {
        /// The codec's frame length in bytes.
        length: usize,
        /// [`Config::max_frame`](crate::Config::max_frame).
        limit: usize,
    },
    /// An item to send does not have the codec's length.
    #[error("an item of {length} bytes is not a frame: expected exactly {expected}; pad or split it")]
    Length {
        /// Length of the item in bytes.
        length: usize,
        /// The codec's frame length in bytes.
        expected: usize,
    },
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn four() -> FixedLength {
        FixedLength::new(NonZeroUsize::new(4).unwrap())
    }

    #[test]
    fn frames_follow_each_other() {
        let mut wire = BytesMut::from(&b"onetwosix"[..]);
        let mut src = Source::new(&mut wire);
        assert_eq!(four().decode(&mut src), Ok(Decoded::Frame(Bytes::from("onet"))));
        assert_eq!(four().decode(&mut src), Ok(Decoded::Frame(Bytes::from("wosi"))));
        assert_eq!(four().decode(&mut src), Ok(Decoded::Need(3)));
        assert_eq!(&src[..], b"x");
        assert_eq!(four().decode_eof(&mut src), Ok(None));
        src.advance(1);
        assert_eq!(four().decode(&mut src), Ok(Decoded::Need(4)));
    }

    #[test]
    fn only_the_right_length_is_encoded() {
        let mut wire = BytesMut::new();
        let mut sink = Sink::new(&mut wire);
        four().encode(Bytes::from("four"), &mut sink).unwrap();
        assert_eq!(four().encoded_len(&Bytes::from("four")), Some(4));
        for item in ["", "six", "seven"] {
            let error = four().encode(Bytes::from(item), &mut sink).unwrap_err();
            assert_eq!(error, FixedLengthError::Length { length: item.len(), expected: 4 });
        }
        assert_eq!(sink.written(), 4);
        assert_eq!(wire, "four");
        assert_eq!(
            FixedLengthError::Length { length: 3, expected: 4 }.to_string(),
            "an item of 3 bytes is not a frame: expected exactly 4; pad or split it"
        );
    }

    #[test]
    fn the_session_must_allow_the_length() {
        let (mut wire, mut slab) = (BytesMut::from("four"), BytesMut::new());
        let error = four().decode(&mut Source::copying(&mut wire, &mut slab, 1024, 3)).unwrap_err();
        assert_eq!(error, FixedLengthError::TooLong { length: 4, limit: 3 });
        assert_eq!(
            error.to_string(),
            "frames of 4 bytes are over the session's limit of 3: raise Config::max_frame"
        );
        let decoded = four().decode(&mut Source::copying(&mut wire, &mut slab, 1024, 4));
        assert_eq!(decoded, Ok(Decoded::Frame(Bytes::from("four"))));
        let largest = FixedLength::new(NonZeroUsize::MAX);
        assert_eq!({ largest }.decode(&mut Source::new(&mut wire)), Ok(Decoded::Need(usize::MAX)));
    }
}
