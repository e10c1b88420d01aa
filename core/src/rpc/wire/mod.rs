//! [`Frames`]: the codec of frames.

mod preface;
#[cfg(test)]
mod tests;
mod v2;

use crate::codec::{Decoded, Decoder, Encoder, Sink, Source};
use crate::rpc::frame::{Frame, FrameFault, Invalid};
use preface::PREFACE;
use v2::HEADER;
pub(crate) use v2::Kind;

/// The codec of *getty rpc 2*: frames of a [`Peer`](crate::rpc::Peer) as bytes, for a session of any
/// transport.
///
/// The format is in `SPEC.md` beside this module.
///
/// A frame whose extent is known is always delivered, however faulty: as [`Frame::Invalid`], so that the
/// fault may end its call alone. The decoder fails only where the framing is lost, with [`FramesError`]. It
/// refuses a frame over the session's [`Config::max_frame`](crate::Config::max_frame) before it is buffered.
///
/// The encoder writes only what the decoder reads back as the same frame, but for texts, which it cuts to
/// their limits: anything else is refused with [`EncodeFrameError`].
#[derive(Debug, Clone)]
pub struct Frames {
    input: Input,
    /// Whether a preface must be written before the next frame.
    must_begin: bool,
}

/// The state of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Preface,
    Frames,
    /// There is no version in common. What comes means nothing.
    Unknown,
}

impl Frames {
    /// Makes a codec for a stream of bytes: each side begins with a preface.
    pub fn new() -> Self {
        Frames { input: Input::Preface, must_begin: true }
    }

    /// Makes a codec for messages, each of which is one frame: there is no preface. For
    /// `websocket::Packages`.
    pub fn in_messages() -> Self {
        Frames { input: Input::Frames, must_begin: false }
    }

    /// Decodes the preface, and the frame after it.
    #[cold]
    fn begin(&mut self, src: &mut Source<'_>) -> Result<Decoded<Frame>, FramesError> {
        if self.input == Input::Unknown {
            src.advance(src.len());
            return Ok(Decoded::Need(1));
        }
        preface::check(src)?;
        let Some(&[.., version, _, _, _]) = src.first_chunk::<{ PREFACE.len() }>() else {
            // The next byte may show that this is another protocol.
            return Ok(Decoded::Need(if src.len() < 4 { 1 } else { PREFACE.len() - src.len() }));
        };
        src.advance(PREFACE.len());
        if version < preface::VERSION {
            self.input = Input::Unknown;
            return Ok(Decoded::Frame(Frame::Invalid(Invalid {
                kind: 0,
                id: 0,
                fault: FrameFault::Version(version),
            })));
        }
        self.input = Input::Frames;
        self.decode_frame(src)
    }

    #[inline(always)]
    fn decode_frame(&mut self, src: &mut Source<'_>) -> Result<Decoded<Frame>, FramesError> {
        let Some(header) = src.first_chunk() else {
            return Ok(Decoded::Need(HEADER - src.len()));
        };
        let header = v2::Header::read(header);
        let (length, limit) = (u64::from(header.length) + HEADER as u64, src.max_frame());
        if length > limit as u64 {
            return Err(FramesError::TooLong { length, limit });
        }
        // The length fits a `usize`, as it is within the limit.
        let length = length as usize;
        if src.len() < length {
            return Ok(Decoded::Need(length - src.len()));
        }
        Ok(Decoded::Frame(match header.skipped() {
            Some(kind) => {
                src.advance(length);
                Frame::Skipped(kind)
            }
            None => v2::read(&header, src.take_after(HEADER, length - HEADER)),
        }))
    }
}

impl Default for Frames {
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = FramesError;

    #[inline]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Frame>, FramesError> {
        match self.input {
            Input::Frames => self.decode_frame(src),
            Input::Preface | Input::Unknown => self.begin(src),
        }
    }
}

impl Encoder<Frame> for Frames {
    type Error = EncodeFrameError;

    fn encode(&mut self, frame: Frame, dst: &mut Sink<'_>) -> Result<(), EncodeFrameError> {
        let begin: &[u8] = if self.must_begin { &PREFACE } else { &[] };
        v2::write(begin, frame, dst)?;
        self.must_begin = false;
        Ok(())
    }

    fn encoded_len(&self, frame: &Frame) -> Option<usize> {
        let preface = if self.must_begin { PREFACE.len() } else { 0 };
        Some(preface + v2::encoded_len(frame))
    }
}

/// Errors of decoding [`Frames`]: the bytes are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// A header announces a frame over the limit.
    #[error(
        "a frame of {length} bytes (header included) is over the limit of {limit}: to allow such frames, \
         raise Config::max_frame; send what is larger as a stream of items"
    )]
    TooLong {
        /// Size on the wire in bytes, header included.
        length: u64,
        /// The session's [`Config::max_frame`](crate::Config::max_frame).
        limit: usize,
    },
    /// The peer speaks TLS.
    #[error(
        "this side speaks getty rpc 2 and the peer speaks TLS: use TLS on both sides or on neither, or check \
         the address"
    )]
    Tls,
    /// The peer speaks HTTP, or another protocol that begins with letters.
    #[error(
        "this side speaks getty rpc 2 and the peer speaks HTTP or another protocol of text: check the \
         address; over HTTP, getty rpc 2 needs a WebSocket endpoint"
    )]
    Http,
    /// The peer speaks JSON, such as JSON-RPC.
    #[error("this side speaks getty rpc 2 and the peer speaks JSON: let the peer speak getty rpc 2")]
    Json,
    /// The peer speaks the RPC protocol of Go getty.
    #[error(
        "this side speaks getty rpc 2 and the peer speaks the RPC of Go getty: let the peer speak getty rpc 2"
    )]
    GoGetty,
    /// The peer speaks another protocol.
    #[error(
        "this side speaks getty rpc 2, which begins with fa 67 74 79, and byte {at} from the peer is \
         {byte:02x}: check the address and the peer's protocol"
    )]
    Unknown {
        /// The position of the first wrong byte.
        at: usize,
        /// The byte.
        byte: u8,
    },
}

/// Errors of encoding [`Frames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeFrameError {
    /// The frame breaks a rule.
    #[error("the peer would refuse this frame: {0}")]
    Fault(#[from] FrameFault),
    /// The body does not fit a frame.
    #[error(
        "a body of {0} bytes: expected one that fits 32 bits of length together with the head; use a stream"
    )]
    TooLong(usize),
    /// A [`Frame::Skipped`] or [`Frame::Invalid`].
    #[error("frames that were skipped or invalid are only received")]
    OnlyReceived,
}
