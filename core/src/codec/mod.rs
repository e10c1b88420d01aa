//! Codecs: how messages lie in a stream of bytes.
//!
//! A codec is a [`Decoder`] and an [`Encoder`]. Ready-made ones: [`LengthDelimited`], [`Delimited`] and
//! [`Lines`], [`FixedLength`], [`Raw`]. One of your own looks at [`Source`] and writes to [`Sink`]:
//!
//! ```
//! use bytes::Bytes;
//! use getty_core::codec::{Decoded, Decoder, Encoder, Sink, Source};
//!
//! /// One byte of length, then as many bytes of text.
//! struct ShortText;
//!
//! impl Decoder for ShortText {
//!     type Item = String;
//!     type Error = std::string::FromUtf8Error;
//!
//!     fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<String>, Self::Error> {
//!         let Some(&len) = src.first() else { return Ok(Decoded::Need(1)) };
//!         let frame = 1 + usize::from(len);
//!         if src.len() < frame {
//!             return Ok(Decoded::Need(frame - src.len()));
//!         }
//!         let text = src[1..frame].to_vec();
//!         src.advance(frame);
//!         String::from_utf8(text).map(Decoded::Frame)
//!     }
//! }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("a text of {0} bytes does not fit one byte of length")]
//! struct TooLong(usize);
//!
//! impl Encoder<String> for ShortText {
//!     type Error = TooLong;
//!
//!     fn encode(&mut self, text: String, dst: &mut Sink<'_>) -> Result<(), TooLong> {
//!         let len = u8::try_from(text.len()).map_err(|_| TooLong(text.len()))?;
//!         dst.put_slice(&[len]);
//!         dst.put_bytes(Bytes::from(text));
//!         Ok(())
//!     }
//! }
//!
//! let mut wire = bytes::BytesMut::new();
//! ShortText.encode("hello".to_owned(), &mut Sink::new(&mut wire)).unwrap();
//! assert_eq!(&wire[..], b"\x05hello");
//! let Decoded::Frame(text) = ShortText.decode(&mut Source::new(&mut wire)).unwrap() else { panic!() };
//! assert_eq!(text, "hello");
//! ```

mod delimited;
mod fixed_length;
mod length_delimited;
mod raw;
mod segments;
mod sink;
mod source;

pub use delimited::{Delimited, DelimitedError, Lines, LinesError};
pub use fixed_length::{FixedLength, FixedLengthError};
pub use length_delimited::{ByteOrder, LengthDelimited, LengthDelimitedError, LengthField};
pub use raw::Raw;
pub(crate) use segments::Segments;
pub use sink::Sink;
pub use source::Source;
pub(crate) use source::copy_to_slab;

use std::error::Error;

/// What a [`Decoder`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A whole frame, which the decoder has consumed.
    Frame(T),
    /// No whole frame is there: at least this many more bytes are needed before it is worth asking again. Bytes
    /// that belong to no frame (padding, say) may have been consumed.
    /// Never 0. A large number costs nothing: memory grows with what arrives, not with what is asked for.
    Need(usize),
}

impl<T> Decoded<T> {
    /// Changes the frame, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Decoded::Frame(frame) => Decoded::Frame(change(frame)),
            Decoded::Need(more) => Decoded::Need(more),
        }
    }
}

/// Finds messages in received bytes.
pub trait Decoder {
    /// A decoded message.
    type Item;
    /// Why the bytes can't be decoded.
    type Error: Error + Send + Sync + 'static;

    /// Looks at the start of `src` and consumes one frame, if a whole one is there.
    ///
    /// Called again after each frame, and after a [`Decoded::Need`] once that many bytes have come. The
    /// session ends with [`CloseReason::Decoder`](crate::CloseReason::Decoder) if a frame consumes nothing, if `Need`
    /// is 0, or if it asks for more than [`Config::max_buffered`](crate::Config::max_buffered) in all.
    ///
    /// # Errors
    /// An error ends the session: a byte stream that lost its framing can't be trusted any more. The decoder is not
    /// called again; answers to what came before are still sent, as in a graceful close, and then
    /// [`CloseReason::Codec`](crate::CloseReason::Codec) holds the error.
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Self::Item>, Self::Error>;

    /// Looks at what is left when the peer has ended its stream; called until it gives `None` or nothing is left.
    ///
    /// By default there is nothing more: bytes that remain are the start of a frame that was cut off, and
    /// the close reason says so. A codec whose last message may end with the stream overrides this.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode).
    fn decode_eof(&mut self, _src: &mut Source<'_>) -> Result<Option<Self::Item>, Self::Error> {
        Ok(None)
    }

    /// Forgets what it knows of a frame that has begun: the rest of it will never come, and what comes next is the start
    /// of another. Over datagrams this follows a frame that is not whole or not good, and what
    /// [`decode_eof`](Self::decode_eof) gave of the last bytes of one; over streams it never happens.
    ///
    /// By default there is nothing to forget, which is right for decoders that look at the source afresh each time.
    fn reset(&mut self) {}
}

/// Writes messages as bytes.
pub trait Encoder<T> {
    /// Why a message can't be encoded.
    type Error: Error + Send + Sync + 'static;

    /// Writes one frame to `dst`.
    ///
    /// # Errors
    /// An error is given to the sender and the session goes on: everything that this call wrote to `dst` is
    /// taken back, and nothing that was there before.
    fn encode(&mut self, item: T, dst: &mut Sink<'_>) -> Result<(), Self::Error>;

    /// How many bytes [`encode`](Self::encode) will write for `item`, when that is cheap to tell.
    ///
    /// With it, an item that is too large, or too large for now, is given back to the sender untouched.
    /// Without it (the default, `None`) an item over the limit is refused after encoding and is lost to its
    /// sender, and the queue may pass its hard limit by one message.
    fn encoded_len(&self, _item: &T) -> Option<usize> {
        None
    }
}
