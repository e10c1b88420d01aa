//! Codecs: the format of messages in a stream of bytes.
//!
//! A codec is a [`Decoder`] and an [`Encoder`]. This module has [`LengthDelimited`], [`Delimited`],
//! [`Lines`], [`FixedLength`] and [`Raw`]. A codec of your own reads [`Source`] and writes [`Sink`]:
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
//!
//! [`Bytes`](bytes::Bytes) count who shares their memory, which is a quarter of the time that the echo of a
//! 16-byte message takes in a batch. Where this matters, let the codec read frames in place, as above, and
//! make values of its own: a struct of numbers, an array. A decoder then calls [`Source::advance`] instead
//! of [`Source::take`], an encoder [`Sink::put_slice`] instead of [`Sink::put_bytes`].

mod delimited;
mod fixed_length;
mod length_delimited;
mod raw;
mod segments;
mod sink;
mod source;
mod text;

pub use delimited::{Delimited, DelimitedError, Lines, LinesError};
pub use fixed_length::{FixedLength, FixedLengthError};
pub use length_delimited::{ByteOrder, LengthDelimited, LengthDelimitedError, LengthField};
pub use raw::Raw;
pub(crate) use segments::Segments;
pub use sink::Sink;
pub use source::Source;
pub(crate) use source::{append_to_slab, copy_to_slab};
pub use text::Text;

use std::error::Error;

/// The result of a [`Decoder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A whole frame, consumed by the decoder.
    Frame(T),
    /// No whole frame yet. The decoder needs at least this many more bytes before it is called again. It may
    /// have consumed bytes that belong to no frame, such as padding.
    ///
    /// Never 0. A large number costs nothing: memory grows with the bytes that arrive, not with this number.
    Need(usize),
}

impl<T> Decoded<T> {
    /// Converts the frame, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Decoded::Frame(frame) => Decoded::Frame(change(frame)),
            Decoded::Need(more) => Decoded::Need(more),
        }
    }
}

/// The kind of a WebSocket message (RFC 6455 section 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text, which is UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// Finds messages in received bytes.
pub trait Decoder {
    /// A decoded message.
    type Item;
    /// The error for bytes that can't be decoded.
    type Error: Error + Send + Sync + 'static;

    /// Decodes and consumes one frame at the start of `src`, if it is complete.
    ///
    /// Called again after each frame, and after a [`Decoded::Need`] once that many bytes have arrived. The
    /// session ends with [`CloseReason::Decoder`](crate::CloseReason::Decoder) if a frame consumes nothing,
    /// if `Need` is 0, or if it asks for more than [`Config::max_buffered`](crate::Config::max_buffered) in
    /// total.
    ///
    /// # Errors
    /// An error ends the session with [`CloseReason::Codec`](crate::CloseReason::Codec), since a byte stream
    /// that lost its framing can't be trusted any longer. The decoder is not called again. Replies to earlier
    /// messages are still sent, as in a graceful close.
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Self::Item>, Self::Error>;

    /// Decodes the bytes left when the peer has ended its stream. Called until it returns `None` or nothing
    /// is left.
    ///
    /// By default returns `None`: the bytes left are a truncated frame, and the close reason says so.
    /// Override this if the last message may end with the stream.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode).
    fn decode_eof(&mut self, _src: &mut Source<'_>) -> Result<Option<Self::Item>, Self::Error> {
        Ok(None)
    }

    /// Discards state about a frame that has begun: its rest will never come, and the next bytes start
    /// another frame. Over datagrams this follows an incomplete or invalid frame, and a frame that
    /// [`decode_eof`](Self::decode_eof) made of a datagram's last bytes. Over streams it is never called.
    ///
    /// By default does nothing, which is right for decoders without such state.
    fn reset(&mut self) {}

    /// Accepts or refuses a WebSocket message whose payload is the next frame. Called before
    /// [`decode`](Self::decode) by `Packages` (feature `websocket`), so that one codec can read both kinds;
    /// never over streams and datagrams. A refused message ends the session with the close code 1003.
    ///
    /// By default, accepts binary messages only.
    fn accept_kind(&mut self, kind: MessageKind) -> bool {
        kind == MessageKind::Binary
    }
}

/// Writes messages as bytes.
pub trait Encoder<T> {
    /// The error for a message that can't be encoded.
    type Error: Error + Send + Sync + 'static;

    /// Writes one frame to `dst`.
    ///
    /// # Errors
    /// The sender gets the error and the session goes on: everything that this call wrote to `dst` is removed
    /// again.
    fn encode(&mut self, item: T, dst: &mut Sink<'_>) -> Result<(), Self::Error>;

    /// The number of bytes that [`encode`](Self::encode) will write for `item`, if that is cheap to compute.
    ///
    /// It lets the session return an item that is too large, or too large for now, to the sender unchanged.
    /// Without it (`None`, the default) an item over the limit is refused only after encoding and is lost,
    /// and the queue may exceed `max_queued` by one message.
    ///
    /// If it is the exact size, a small item is also sent with fewer checks.
    fn encoded_len(&self, _item: &T) -> Option<usize> {
        None
    }

    /// The kind of WebSocket message that carries `item`. Asked by `Packages` (feature `websocket`). What is
    /// encoded for a text message must be UTF-8; otherwise the item is refused.
    ///
    /// By default, binary.
    fn kind(&self, _item: &T) -> MessageKind {
        MessageKind::Binary
    }
}
