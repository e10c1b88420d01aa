//! [`Delimited`] and [`Lines`]: frames that end with a delimiter.

use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::{Decoded, Decoder, Encoder, Sink, Source};

/// Frames that end with a delimiter of one or more bytes. The item is what comes before it.
///
/// Searching goes on where it stopped, so a frame that arrives a byte at a time costs no more than one that
/// arrives whole. Bytes after the last delimiter at the end of the stream are a frame that was cut off.
///
/// An item to send must not hold the delimiter, neither by itself nor together with the beginning of the
/// delimiter that follows it: the peer would read two frames. This is checked.
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
    /// Frames that end with `delimiter`.
    ///
    /// Clones share what is prepared here for searching: make one codec, and a clone for each session.
    ///
    /// # Errors
    /// [`DelimitedError::Empty`] if the delimiter is.
    pub fn new(delimiter: impl AsRef<[u8]>) -> Result<Self, DelimitedError> {
        match delimiter.as_ref() {
            [] => Err(DelimitedError::Empty),
            &[byte] => Ok(Self::byte(byte)),
            bytes => Ok(Self::with(Delimiter::Bytes(Arc::new(memmem::Finder::new(bytes).into_owned())))),
        }
    }

    /// Frames that end with one byte, for example `b'\0'`.
    pub const fn byte(delimiter: u8) -> Self {
        Self::with(Delimiter::Byte(delimiter))
    }

    const fn with(delimiter: Delimiter) -> Self {
        Delimited { delimiter, max_frame: usize::MAX, keep: false, search: Search { from: 0 } }
    }

    /// The item is the frame as it is on the wire, delimiter included; also when encoding: an item to send
    /// must end with it. By default the delimiter is not part of the item.
    #[must_use]
    pub const fn keep_delimiter(mut self) -> Self {
        self.keep = true;
        self
    }

    /// The largest frame, in bytes on the wire, delimiter included; received and sent.
    ///
    /// The session's [`Config::max_frame`](crate::Config::max_frame) holds anyway, so by default there is no
    /// other limit. Where both are set the smaller one counts.
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

/// Why [`Delimited`] can't be made, decode or encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelimitedError {
    /// There is no delimiter.
    #[error("the delimiter is empty: expected at least one byte")]
    Empty,
    /// No delimiter came within the limit, or an item to send makes a frame over it.
    #[error(
        "a frame (delimiter included) is over the limit of {limit} bytes: if such frames are meant to be, \
        raise Config::max_frame and the codec's own max_frame; if not, the peer speaks another protocol"
    )]
    TooLong {
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own.
        limit: usize,
    },
    /// An item to send holds the delimiter, also together with the one that follows it.
    #[error(
        "the delimiter would begin at byte {offset} of the item already, and the peer read two frames: \
        escape it"
    )]
    Ambiguous {
        /// Where in the item.
        offset: usize,
    },
    /// An item to send does not end with the delimiter, as it must with
    /// [`Delimited::keep_delimiter`].
    #[error(
        "an item of {length} bytes does not end with the delimiter: with keep_delimiter, items include it"
    )]
    Unterminated {
        /// Bytes of the item.
        length: usize,
    },
}

/// Lines of text: UTF-8, each ended by LF or CRLF. The item is a [`String`] without that end.
///
/// A CR anywhere else is part of the line. At the end of the stream a last line that has no end is delivered
/// too, as [`BufRead::lines`](std::io::BufRead::lines) does. Searching goes on where it stopped.
///
/// Anything that is a `str` can be sent: `String`, `&'static str`, `Arc<str>`, ... . A text that would not be
/// read back as the same single line is refused.
///
/// Each line is a `String` of its own, so each costs an allocation. Where that matters,
/// [`Delimited::byte(b'\n')`](Delimited::byte) gives lines as `Bytes`, with the CR and unchecked.
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
/// wire.extend_from_slice(b"QUIT\n"); // both ends are read, whichever is written
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
    /// Lines that are written with LF, and read with either end.
    pub const fn new() -> Self {
        Lines { max_frame: usize::MAX, crlf: false, search: Search { from: 0 } }
    }

    /// Writes CRLF at the end of lines, as most internet protocols want it. By default LF is written.
    #[must_use]
    pub const fn crlf(mut self) -> Self {
        self.crlf = true;
        self
    }

    /// The largest line, in bytes on the wire, its end included; received and sent.
    ///
    /// The session's [`Config::max_frame`](crate::Config::max_frame) holds anyway, so by default there is no
    /// other limit. Where both are set the smaller one counts.
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
    /// As [`new`](Self::new).
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
            // A last line of as much as the limit may yet turn out to have no end.
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

/// Why [`Lines`] can't decode or encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// No line ended within the limit, or a text to send makes a line over it.
    #[error(
        "a line (its end included) is over the limit of {limit} bytes: if such lines are meant to be, raise \
         Config::max_frame and the codec's own max_frame; if not, the peer speaks another protocol"
    )]
    TooLong {
        /// The smaller one of [`Config::max_frame`](crate::Config::max_frame) and the codec's own.
        limit: usize,
    },
    /// A received line is not UTF-8.
    #[error(
        "a line is not UTF-8 from its byte {offset} on: expected UTF-8; read other encodings as bytes with \
        Delimited"
    )]
    NotUtf8 {
        /// How many bytes from the start of the line are.
        offset: usize,
    },
    /// A text to send holds a newline.
    #[error(
        "a newline at byte {offset} of the text would make two lines of it: send one line at a time, without \
        it"
    )]
    Newline {
        /// Where in the text.
        offset: usize,
    },
    /// A text to send ends with CR, and LF is written: the peer would take both as the end of the line.
    #[error(
        "the text ends with a carriage return, which the peer would not get: send it without, or use \
        Lines::crlf"
    )]
    TrailingReturn,
}

/// What ends a frame. At least one byte.
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

    /// Where in `payload` the delimiter begins, if it is found there before the one that is to follow it.
    fn early_in(&self, payload: &[u8]) -> Option<usize> {
        self.find(payload).or_else(|| {
            // The payload may end with a head of the delimiter that the delimiter itself completes, if what
            // is left of it is how it begins: `a` before `aa`, `ab` before `aba`... the longest head first.
            let delimiter = self.as_slice();
            (1..delimiter.len())
                .rev()
                .filter(|&head| delimiter.starts_with(&delimiter[head..]))
                .find(|&head| payload.ends_with(&delimiter[..head]))
                .map(|head| payload.len() - head)
        })
    }
}

/// How far the frame at the start of the source was searched.
#[derive(Debug, Default)]
struct Search {
    from: usize,
}

impl Search {
    /// Where the first delimiter begins that ends within `limit`; it is `delimiter` bytes long.
    ///
    /// Must be given the same frame until it is found and consumed.
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

/// A clone is for another stream as a rule, where nothing was searched. To search again is never wrong.
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
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Feeds `wire` in pieces of `piece` bytes and gives the items, until the first error.
    fn decode<C: Decoder>(
        codec: &mut C,
        limit: usize,
        wire: &[u8],
        piece: usize,
    ) -> (Vec<C::Item>, Result<(), C::Error>) {
        let (mut buffer, mut slab, mut items) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for piece in wire.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match codec.decode(&mut Source::buffer(&mut buffer, &mut slab, 1024, limit)) {
                    Ok(Decoded::Frame(item)) => items.push(item),
                    Ok(Decoded::Need(n)) => {
                        assert_eq!(n, 1);
                        break;
                    }
                    Err(error) => return (items, Err(error)),
                }
            }
        }
        loop {
            match codec.decode_eof(&mut Source::buffer(&mut buffer, &mut slab, 1024, limit)) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return (items, Ok(())),
                Err(error) => return (items, Err(error)),
            }
        }
    }

    fn encode<T, C: Encoder<T>>(codec: &mut C, item: T) -> Result<Vec<u8>, C::Error> {
        let mut wire = BytesMut::new();
        let announced = codec.encoded_len(&item);
        codec.encode(item, &mut Sink::new(&mut wire))?;
        assert_eq!(announced, Some(wire.len()));
        Ok(wire.to_vec())
    }

    /// Every string of `a`, `b` and `c` of up to `longest` bytes.
    fn words(longest: u32) -> impl Iterator<Item = Vec<u8>> {
        (0..=longest)
            .flat_map(|len| (0..3_usize.pow(len)).map(move |n| (len, n)))
            .map(|(len, n)| (0..len).map(|at| b"abc"[n / 3_usize.pow(at) % 3]).collect())
    }

    #[test]
    fn frames_end_with_the_delimiter_however_they_arrive() {
        let cases: [(&str, &[u8], &[&str]); 6] = [
            ("\0", b"one\0\0two\0", &["one", "", "two"]),
            ("\r\n", b"one\r\n\r\ntw\ro\n\r\r\nrest\r", &["one", "", "tw\ro\n\r"]),
            ("aab", b"aaabaabxaab", &["a", "", "x"]),
            ("aa", b"aaaaabaa", &["", "", "ab"]),
            ("--end--", b"--en--end----end--d--end--x", &["--en", "", "d"]),
            ("\n", b"", &[]),
        ];
        for (delimiter, wire, items) in cases {
            for piece in 1..=wire.len().max(1) {
                let mut codec = Delimited::new(delimiter).unwrap();
                let decoded = decode(&mut codec, usize::MAX, wire, piece);
                assert_eq!(decoded.0, items, "{delimiter:?} in pieces of {piece}");
                assert_eq!(decoded.1, Ok(()));
                let items: Vec<_> = items.iter().map(|item| format!("{item}{delimiter}")).collect();
                let decoded = decode(&mut codec.clone().keep_delimiter(), usize::MAX, wire, piece);
                assert_eq!(decoded.0, items, "{delimiter:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn delimiters_have_at_least_one_byte() {
        assert!(matches!(Delimited::new(b""), Err(DelimitedError::Empty)));
        assert!(matches!(Delimited::new(b";").unwrap().delimiter, Delimiter::Byte(b';')));
        assert_eq!(Delimited::new([1, 2]).unwrap().delimiter.as_slice(), [1, 2]);
    }

    #[test]
    fn a_frame_is_searched_once() {
        let mut wire = BytesMut::new();
        let mut codec = Delimited::new("\r\n").unwrap();
        for len in 1..100 {
            wire.extend_from_slice(b"\r");
            codec.decode(&mut Source::new(&mut wire)).unwrap();
            assert_eq!(codec.search.from, len - 1, "all but what may be the beginning of a delimiter");
        }
        assert_eq!(codec.clone().search.from, 0);
        wire.extend_from_slice(b"\n");
        assert!(matches!(codec.decode(&mut Source::new(&mut wire)), Ok(Decoded::Frame(_))));
        assert_eq!(codec.search.from, 0);

        let mut lines = Lines::new();
        wire.extend_from_slice(b"abc");
        lines.decode(&mut Source::new(&mut wire)).unwrap();
        assert_eq!(lines.search.from, 3);
        lines.decode_eof(&mut Source::new(&mut wire)).unwrap();
        assert_eq!(lines.search.from, 0);
    }

    #[test]
    fn limits_count_the_delimiter() {
        for piece in 1..8 {
            for (own, session) in [(5, usize::MAX), (usize::MAX, 5), (5, 6), (6, 5)] {
                let mut codec = Delimited::new("\r\n").unwrap().max_frame(own);
                let decoded = decode(&mut codec, session, b"abc\r\n\r\nabc\r\n", piece);
                assert_eq!((decoded.0.len(), decoded.1), (3, Ok(())));
                for wire in [&b"a\r\nabcd\r\n"[..], b"a\r\nabcd\r\na\r\n", b"a\r\nabcde", b"a\r\nabcd\r\r"] {
                    let mut codec = codec.clone();
                    let decoded = decode(&mut codec, session, wire, piece);
                    assert_eq!(decoded, (vec![Bytes::from("a")], Err(DelimitedError::TooLong { limit: 5 })));
                }
            }
        }
        let mut codec = Delimited::byte(b'\n').max_frame(4);
        assert!(encode(&mut codec, Bytes::from("abc")).is_ok());
        assert_eq!(encode(&mut codec, Bytes::from("abcd")), Err(DelimitedError::TooLong { limit: 4 }));
        let mut codec = codec.keep_delimiter();
        assert!(encode(&mut codec, Bytes::from("abc\n")).is_ok());
        assert_eq!(encode(&mut codec, Bytes::from("abcd\n")), Err(DelimitedError::TooLong { limit: 4 }));
    }

    #[test]
    fn what_would_be_read_as_two_frames_is_not_sent() {
        let mut codec = Delimited::new("--").unwrap();
        assert_eq!(encode(&mut codec, Bytes::from("a-b")), Ok(b"a-b--".to_vec()));
        assert_eq!(encode(&mut codec, Bytes::from("a--b")), Err(DelimitedError::Ambiguous { offset: 1 }));
        let error = encode(&mut codec, Bytes::from("ab-")).unwrap_err();
        assert_eq!(error, DelimitedError::Ambiguous { offset: 2 });
        assert_eq!(
            error.to_string(),
            "the delimiter would begin at byte 2 of the item already, and the peer read two frames: escape it"
        );
        let mut codec = codec.keep_delimiter();
        assert_eq!(encode(&mut codec, Bytes::from("ab--")), Ok(b"ab--".to_vec()));
        for (item, error) in [
            ("", DelimitedError::Unterminated { length: 0 }),
            ("ab-", DelimitedError::Unterminated { length: 3 }),
            ("ab---", DelimitedError::Ambiguous { offset: 2 }),
            ("--ab--", DelimitedError::Ambiguous { offset: 0 }),
        ] {
            assert_eq!(encode(&mut codec, Bytes::from(item)), Err(error));
        }
    }

    /// The decoder is the judge of what can be sent: all short items with all short delimiters.
    #[test]
    fn exactly_what_is_read_back_is_sent() {
        for delimiter in words(4).skip(1) {
            let mut codec = Delimited::new(&delimiter).unwrap();
            for item in words(5) {
                let wire = [&item[..], &delimiter].concat();
                let first = wire.windows(delimiter.len()).position(|window| window == delimiter).unwrap();
                let encoded = encode(&mut codec, Bytes::from(item.clone()));
                let mut keeping = codec.clone().keep_delimiter();
                let kept = encode(&mut keeping, Bytes::from(wire.clone()));
                assert_eq!(encoded, kept);
                if first == item.len() {
                    assert_eq!(encoded, Ok(wire.clone()));
                    assert_eq!(decode(&mut codec, usize::MAX, &wire, 1), (vec![Bytes::from(item)], Ok(())));
                    assert_eq!(decode(&mut keeping, usize::MAX, &wire, 1), (vec![Bytes::from(wire)], Ok(())));
                } else {
                    assert_eq!(encoded, Err(DelimitedError::Ambiguous { offset: first }));
                }
            }
        }
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        let wire = "one\ntwo\r\n\n\r\nth\rree\r\r\n\u{1f980}\n\rlast".as_bytes();
        for piece in 1..=wire.len() {
            let (lines, end) = decode(&mut Lines::new(), usize::MAX, wire, piece);
            assert_eq!(lines, ["one", "two", "", "", "th\rree\r", "\u{1f980}", "\rlast"]);
            assert_eq!(end, Ok(()));
        }
    }

    #[test]
    fn the_last_line_needs_no_end() {
        for (wire, last) in
            [("", None), ("a\n", Some("a")), ("a", Some("a")), ("a\r", Some("a\r")), ("\n", Some(""))]
        {
            let (lines, end) = decode(&mut Lines::default(), usize::MAX, wire.as_bytes(), 1);
            assert_eq!((lines.last().map(String::as_str), lines.len() < 2, end), (last, true, Ok(())));
        }
        // Lines that were not decoded before the end come out one by one.
        let mut wire = BytesMut::from("a\r\nb\nc");
        let (mut codec, mut src) = (Lines::new(), Source::new(&mut wire));
        for line in [Some("a"), Some("b"), Some("c"), None, None] {
            assert_eq!(codec.decode_eof(&mut src).unwrap().as_deref(), line);
        }
    }

    #[test]
    fn lines_are_utf8() {
        for piece in 1..10 {
            for wire in [&b"ok\nab\xffcd\n"[..], b"ok\nab\xff", b"ok\nab\xc3\n", b"ok\nab\xc3"] {
                let decoded = decode(&mut Lines::new(), usize::MAX, wire, piece);
                assert_eq!(decoded, (vec!["ok".to_owned()], Err(LinesError::NotUtf8 { offset: 2 })));
            }
        }
        assert_eq!(
            LinesError::NotUtf8 { offset: 2 }.to_string(),
            "a line is not UTF-8 from its byte 2 on: expected UTF-8; read other encodings as bytes with \
            Delimited"
        );
    }

    #[test]
    fn limits_count_the_end_of_a_line() {
        for piece in 1..8 {
            for (own, session) in [(5, usize::MAX), (usize::MAX, 5)] {
                let mut codec = Lines::new().max_frame(own);
                for fits in [&b"abcd\nabc\r\n"[..], b"abcd\nabcd", b"abcd\nabcde"] {
                    let decoded = decode(&mut codec.clone(), session, fits, piece);
                    assert_eq!((decoded.0.len(), decoded.1), (2, Ok(())));
                }
                for wire in [&b"\nabcde\n"[..], b"\nabcd\r\n", b"\nabcdef", b"\nabcdefgh\n\n"] {
                    let decoded = decode(&mut codec, session, wire, piece);
                    assert_eq!(decoded, (vec![String::new()], Err(LinesError::TooLong { limit: 5 })));
                    codec = codec.clone();
                }
            }
        }
        assert!(encode(&mut Lines::new().max_frame(4), "abc").is_ok());
        assert_eq!(encode(&mut Lines::new().max_frame(4), "abcd"), Err(LinesError::TooLong { limit: 4 }));
        assert!(encode(&mut Lines::new().max_frame(4).crlf(), "ab").is_ok());
        assert_eq!(
            encode(&mut Lines::new().max_frame(4).crlf(), "abc"),
            Err(LinesError::TooLong { limit: 4 })
        );
    }

    #[test]
    fn exactly_what_is_read_back_as_a_line_is_sent() {
        let (mut lf, mut crlf) = (Lines::new(), Lines::new().crlf());
        for word in words(5) {
            let text: String =
                word.iter().map(|b| [b'\r', b'\n', b'x'][usize::from(b - b'a')] as char).collect();
            for (codec, end) in [(&mut lf, "\n"), (&mut crlf, "\r\n")] {
                let wire = format!("{text}{end}").into_bytes();
                let same = decode(codec, usize::MAX, &wire, 1).0 == [&text[..]];
                assert_eq!(encode(codec, text.as_str()).ok(), same.then_some(wire), "{text:?} with {end:?}");
            }
        }
        assert_eq!(encode(&mut lf, "ab\nc".to_owned()), Err(LinesError::Newline { offset: 2 }));
        assert_eq!(encode(&mut lf, Arc::<str>::from("ab\r")), Err(LinesError::TrailingReturn));
        assert_eq!(encode(&mut crlf, "ab\r"), Ok(b"ab\r\r\n".to_vec()));
    }
}
