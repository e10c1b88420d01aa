//! [`Delimited`] and [`Lines`]: frames that end with a delimiter.

use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::{Decoded, Decoder, Encoder, Sink, Source};

/// Frames that end with a delimiter of one or more bytes. The item is the bytes before it.
///
/// Searching continues where it stopped, so a frame that arrives byte by byte costs no more than one that
/// arrives whole. Bytes after the last delimiter at the end of the stream are a truncated frame.
///
/// An item to send must not contain the delimiter, not even together with the beginning of the delimiter that
/// follows it: the peer would read two frames. The encoder checks this.
///
/// For lines of text there is [`Lines`].
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use getty_core::codec::{Decoded, Decoder, Delimited, Encoder, Sink, Source};
///
/// let mut codec = Delimited::new("\r\n")?.max_frame(512);
///
/// let mut wire = BytesMut::new();
/// codec.encode(Bytes::from("NICK getty"), &mut Sink::new(&mut wire))?;
/// assert_eq!(wire, "NICK getty\r\n");
/// let decoded = codec.decode(&mut Source::new(&mut wire))?;
/// assert_eq!(decoded, Decoded::Frame(Bytes::from("NICK getty")));
/// # Ok::<(), getty_core::codec::DelimitedError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Delimited {
    delimiter: Delimiter,
    max_frame: usize,
    keep: bool,
    search: Search,
}

impl Delimited {
    /// Makes a codec for frames that end with `delimiter`.
    ///
    /// Clones share the prepared search: make one codec, and clone it for each session.
    ///
    /// # Errors
    /// [`DelimitedError::Empty`] if the delimiter is empty.
    pub fn new(delimiter: impl AsRef<[u8]>) -> Result<Self, DelimitedError> {
        match delimiter.as_ref() {
            [] => Err(DelimitedError::Empty),
            &[byte] => Ok(Self::byte(byte)),
            bytes => Ok(Self::with(Delimiter::Bytes(Arc::new(memmem::Finder::new(bytes).into_owned())))),
        }
    }

    /// Makes a codec for frames that end with one byte, for example `b'\0'`.
    pub const fn byte(delimiter: u8) -> Self {
        Self::with(Delimiter::Byte(delimiter))
    }

    const fn with(delimiter: Delimiter) -> Self {
        Delimited { delimiter, max_frame: usize::MAX, keep: false, search: Search { from: 0 } }
    }

    /// Makes the item include the delimiter, when decoding and encoding: an item to send must end with it. By
    /// default the item does not include it.
    #[must_use]
    pub const fn keep_delimiter(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Sets the largest frame, received or sent, in bytes on the wire including the delimiter.
    ///
    /// By default only the session's [`Config::max_frame`](crate::Config::max_frame) applies. If both are
    /// set, the smaller one counts.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    fn size_on_wire(&self, item: &Bytes) -> Option<usize> {
        if self.keep { Some(item.len()) } else { item.len().checked_add(self.delimiter.len()) }
    }
}

impl Decoder for Delimited {
    type Item = Bytes;
    type Error = DelimitedError;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, DelimitedError> {
        let limit = self.max_frame.min(src.max_frame());
        let delimiter = self.delimiter.len();
        match self.search.find(src, limit, delimiter, |bytes| self.delimiter.find(bytes)) {
            Some(at) if self.keep => Ok(Decoded::Frame(src.take(at + delimiter))),
            Some(at) => {
                let item = src.take(at);
                src.advance(delimiter);
                Ok(Decoded::Frame(item))
            }
            None if src.len() >= limit => Err(DelimitedError::TooLong { limit }),
            None => Ok(Decoded::Need(1)),
        }
    }

    fn reset(&mut self) {
        self.search = Search::default();
    }
}

impl Encoder<Bytes> for Delimited {
    type Error = DelimitedError;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), DelimitedError> {
        if self.size_on_wire(&item).is_none_or(|size| size > self.max_frame) {
            return Err(DelimitedError::TooLong { limit: self.max_frame });
        }
        let delimiter = self.delimiter.as_slice();
        let payload = if self.keep {
            item.strip_suffix(delimiter).ok_or(DelimitedError::Unterminated { length: item.len() })?
        } else {
            &item
        };
        if let Some(offset) = self.delimiter.early_in(payload) {
            return Err(DelimitedError::Ambiguous { offset });
        }
        dst.put_bytes(item);
        if !self.keep {
            dst.put_slice(self.delimiter.as_slice());
        }
        Ok(())
    }

    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        self.size_on_wire(item)
    }
}

/// Errors of making a [`Delimited`], decoding and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelimitedError {
    /// The delimiter is empty.
    #[error("the delimiter is empty: expected at least one byte")]
    Empty,
    /// No delimiter came within the limit, or an item to send makes a frame over it.
    #[error(
        "a frame (delimiter included) is over the limit of {limit} bytes: to allow such frames, \
        raise Config::max_frame and the codec's own max_frame; otherwise the peer speaks another protocol"
    )]
    TooLong {
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own limit.
        limit: usize,
    },
    /// An item to send contains the delimiter, possibly together with the one that follows it.
    #[error(
        "the item contains the delimiter at byte {offset}, so the peer would read two frames: \
        escape it"
    )]
    Ambiguous {
        /// Position in the item.
        offset: usize,
    },
    /// An item to send does not end with the delimiter, which [`Delimited::keep_delimiter`] requires.
    #[error("an item of {length} bytes does not end with the delimiter: keep_delimiter requires it")]
    Unterminated {
        /// Length of the item in bytes.
        length: usize,
    },
}

/// Lines of text: UTF-8, each ended by LF or CRLF. The item is a [`String`] without the line end.
///
/// A CR anywhere else is part of the line. At the end of the stream a last line without an end is delivered
/// too, as [`BufRead::lines`](std::io::BufRead::lines) does. Searching continues where it stopped.
///
/// Any `str` type can be sent: `String`, `&'static str`, `Arc<str>` and so on. A text that would not be read
/// back as the same single line is refused.
///
/// Each line is a `String` of its own, which costs an allocation. To avoid it,
/// [`Delimited::byte(b'\n')`](Delimited::byte) yields lines as `Bytes`, with the CR and unchecked.
///
/// ```
/// use bytes::BytesMut;
/// use getty_core::codec::{Decoded, Decoder, Encoder, Lines, Sink, Source};
///
/// let mut codec = Lines::new().crlf().max_frame(998);
/// let mut wire = BytesMut::new();
/// codec.encode("HELO example.org", &mut Sink::new(&mut wire))?;
/// assert_eq!(wire, "HELO example.org\r\n");
///
/// wire.extend_from_slice(b"QUIT\n"); // both line ends are accepted
/// let mut src = Source::new(&mut wire);
/// assert_eq!(codec.decode(&mut src)?, Decoded::Frame("HELO example.org".to_owned()));
/// assert_eq!(codec.decode(&mut src)?, Decoded::Frame("QUIT".to_owned()));
/// # Ok::<(), getty_core::codec::LinesError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    max_frame: usize,
    crlf: bool,
    search: Search,
}

impl Lines {
    /// Makes a codec that writes LF and reads both line ends.
    pub const fn new() -> Self {
        Lines { max_frame: usize::MAX, crlf: false, search: Search { from: 0 } }
    }

    /// Writes CRLF at the end of lines, as most internet protocols require. The default is LF.
    #[must_use]
    pub const fn crlf(mut self) -> Self {
        self.crlf = true;
        self
    }

    /// Sets the largest line, received or sent, in bytes on the wire including its end.
    ///
    /// By default only the session's [`Config::max_frame`](crate::Config::max_frame) applies. If both are
    /// set, the smaller one counts.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    const fn end(&self) -> &'static str {
        if self.crlf { "\r\n" } else { "\n" }
    }
}

impl Default for Lines {
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for Lines {
    type Item = String;
    type Error = LinesError;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<String>, LinesError> {
        let limit = self.max_frame.min(src.max_frame());
        match self.search.find(src, limit, 1, |bytes| memchr(b'\n', bytes)) {
            Some(at) => {
                let line = src.get(..at).unwrap_or_default();
                let text = text(line.strip_suffix(b"\r").unwrap_or(line))?;
                src.advance(at + 1);
                Ok(Decoded::Frame(text))
            }
            // A line of exactly the limit may still turn out to be the last one, without an end.
            None if src.len() > limit => Err(LinesError::TooLong { limit }),
            None => Ok(Decoded::Need(1)),
        }
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<String>, LinesError> {
        if let Decoded::Frame(line) = self.decode(src)? {
            return Ok(Some(line));
        }
        if src.is_empty() {
            return Ok(None);
        }
        let last = text(src)?;
        src.advance(src.len());
        self.search = Search::default();
        Ok(Some(last))
    }

    fn reset(&mut self) {
        self.search = Search::default();
    }
}

impl<T: AsRef<str>> Encoder<T> for Lines {
    type Error = LinesError;

    fn encode(&mut self, item: T, dst: &mut Sink<'_>) -> Result<(), LinesError> {
        let text = item.as_ref();
        if self.encoded_len(&item).is_none_or(|size| size > self.max_frame) {
            return Err(LinesError::TooLong { limit: self.max_frame });
        }
        if let Some(offset) = memchr(b'\n', text.as_bytes()) {
            return Err(LinesError::Newline { offset });
        }
        if !self.crlf && text.ends_with('\r') {
            return Err(LinesError::TrailingReturn);
        }
        dst.put_slice(text.as_bytes());
        dst.put_slice(self.end().as_bytes());
        Ok(())
    }

    fn encoded_len(&self, item: &T) -> Option<usize> {
        item.as_ref().len().checked_add(self.end().len())
    }
}

/// Errors of decoding and encoding [`Lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// No line ended within the limit, or a text to send makes a line over it.
    #[error(
        "a line (its end included) is over the limit of {limit} bytes: to allow such lines, raise \
         Config::max_frame and the codec's own max_frame; otherwise the peer speaks another protocol"
    )]
    TooLong {
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own limit.
        limit: usize,
    },
    /// A received line is not UTF-8.
    #[error(
        "a line has invalid UTF-8 at byte {offset}: expected UTF-8; read other encodings as bytes with \
        Delimited"
    )]
    NotUtf8 {
        /// Number of valid bytes from the start of the line.
        offset: usize,
    },
    /// A text to send contains a newline.
    #[error(
        "the text has a newline at byte {offset}, which would split it: send one line at a time, without \
        the newline"
    )]
    Newline {
        /// Position in the text.
        offset: usize,
    },
    /// A text to send ends with CR while LF is written: the peer would take both as the line end.
    #[error(
        "the text ends with a carriage return, which the peer would drop: send it without, or use \
        Lines::crlf"
    )]
    TrailingReturn,
}

/// The end of a frame: at least one byte.
#[derive(Debug, Clone)]
enum Delimiter {
    Byte(u8),
    Bytes(Arc<memmem::Finder<'static>>),
}

impl Delimiter {
    fn as_slice(&self) -> &[u8] {
        match self {
            Delimiter::Byte(byte) => std::slice::from_ref(byte),
            Delimiter::Bytes(finder) => finder.needle(),
        }
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Delimiter::Byte(byte) => memchr(*byte, bytes),
            Delimiter::Bytes(finder) => finder.find(bytes),
        }
    }

    /// The position of a delimiter that begins within `payload`, before the one that follows it.
    fn early_in(&self, payload: &[u8]) -> Option<usize> {
        self.find(payload).or_else(|| {
            // The payload may end with a prefix of the delimiter that the delimiter itself completes, if it
            // begins with the rest: `a` before `aa`, `ab` before `aba`. Tries the longest prefix first.
            let delimiter = self.as_slice();
            (1..delimiter.len())
                .rev()
                .filter(|&head| delimiter.starts_with(&delimiter[head..]))
                .find(|&head| payload.ends_with(&delimiter[..head]))
                .map(|head| payload.len() - head)
        })
    }
}

/// The part of the frame at the start of the source that was searched.
#[derive(Debug, Default)]
struct Search {
    from: usize,
}

impl Search {
    /// Finds the first delimiter, of `delimiter` bytes, that ends within `limit`. Returns its start.
    ///
    /// Must be given the same frame until the delimiter is found and consumed.
    fn find(
        &mut self,
        src: &[u8],
        limit: usize,
        delimiter: usize,
        find: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        let window = src.get(..limit).unwrap_or(src);
        let from = self.from.min(window.len());
        match find(&window[from..]) {
            Some(at) => {
                self.from = 0;
                Some(from + at)
            }
            None => {
                // The last bytes may be the beginning of a delimiter.
                self.from = (window.len() + 1).saturating_sub(delimiter);
                None
            }
        }
    }
}

/// A clone is usually for another stream, so it starts from nothing. Searching again is never wrong.
impl Clone for Search {
    fn clone(&self) -> Self {
        Search::default()
    }
}

fn text(line: &[u8]) -> Result<String, LinesError> {
    match std::str::from_utf8(line) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(LinesError::NotUtf8 { offset: error.valid_up_to() }),
    }
}

#[cfg(test)]
mod tests;
