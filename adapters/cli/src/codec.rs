//! The codecs of the command line, and what to say when one fails.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use getty_tokio::core::codec::{
    Decoded, Decoder, Delimited, DelimitedError, Encoder, LengthDelimitedError, Sink, Source,
};
use getty_tokio::core::{CloseReason, ConfigBuilder, Deadline};

/// How messages lie in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// A length of 4 bytes, big-endian, then the payload
    Length,
    /// A line of text, ended by LF; a CR before it is part of the message
    Lines,
    /// No framing: bytes as they come
    Raw,
}

/// Options on messages.
#[derive(Debug, Args)]
pub struct CodecOptions {
    /// How messages lie in the stream
    #[arg(long, value_enum, default_value_t = Codec::Length)]
    pub codec: Codec,

    /// Largest message in bytes, received or sent, without length or line end. A peer that sends a larger one
    /// is disconnected. With the codec raw, the largest piece that is handled at once
    #[arg(long, value_name = "BYTES", default_value_t = 8 * 1024 * 1024,
        value_parser = clap::value_parser!(u32).range(1..=MAX_MESSAGE as i64))]
    pub max_message: u32,
}

/// What the length field can announce, less the field itself.
const MAX_MESSAGE: u32 = u32::MAX - 4;

impl CodecOptions {
    /// The configuration of a session with these options.
    pub fn config(&self) -> ConfigBuilder {
        getty_tokio::core::Config::builder().max_frame(self.codec.frame_of(self.max_message as usize))
    }
}

impl Codec {
    /// How large a message of `bytes` is on the wire.
    pub fn frame_of(self, bytes: usize) -> usize {
        bytes.saturating_add(self.overhead())
    }

    fn overhead(self) -> usize {
        match self {
            Codec::Length => 4,
            Codec::Lines => 1,
            Codec::Raw => 0,
        }
    }
}

/// Lines as bytes, whatever their encoding. What comes after the last line end is a line too.
#[derive(Debug, Clone)]
pub struct Lines(Delimited);

impl Lines {
    pub fn new() -> Self {
        Lines(Delimited::byte(b'\n'))
    }
}

impl Decoder for Lines {
    type Item = Bytes;
    type Error = DelimitedError;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, DelimitedError> {
        self.0.decode(src)
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<Bytes>, DelimitedError> {
        match self.0.decode(src)? {
            Decoded::Frame(line) => Ok(Some(line)),
            Decoded::Need(_) if src.is_empty() => Ok(None),
            Decoded::Need(_) => Ok(Some(src.take(src.len()))),
        }
    }
}

impl Encoder<Bytes> for Lines {
    type Error = DelimitedError;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), DelimitedError> {
        self.0.encode(item, dst)
    }

    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        self.0.encoded_len(item)
    }
}

/// Why a session ended, in the words of this program's options.
pub fn explain(reason: &CloseReason) -> String {
    const HINT: &str = "raise --max-message, or the peer speaks another protocol (see --codec)";
    if let CloseReason::Codec(error) = reason {
        if let Some(&LengthDelimitedError::TooLong { length, limit }) = error.downcast_ref() {
            let (length, limit) = (length.saturating_sub(4), limit.saturating_sub(4));
            return format!("the peer sends a message of {length} bytes, the limit is {limit}: {HINT}");
        }
        if let Some(&DelimitedError::TooLong { limit }) = error.downcast_ref() {
            let limit = limit.saturating_sub(1);
            return format!("the peer sends a line of more than {limit} bytes, the limit: {HINT}");
        }
    }
    match reason {
        CloseReason::Timeout(Deadline::Close) => {
            "the peer did not end its side of the closed connection".to_owned()
        }
        CloseReason::Timeout(Deadline::PartialFrame) => {
            "the peer stopped in the middle of a message".to_owned()
        }
        CloseReason::Timeout(Deadline::WriteStall) => "the peer has stopped reading".to_owned(),
        CloseReason::Io(kind) => kind.to_string(),
        other => other.to_string(),
    }
}
