//! How messages lie on the wire, and how large they may be.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use getty_driver::core::codec::{Decoded, Decoder, Delimited, DelimitedError, Encoder, Sink, Source};
use getty_driver::core::{Config, ConfigBuilder};

use crate::url::Transport;

/// How messages lie in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// A length of 4 bytes, big-endian, then the payload
    Length,
    /// A line of text, ended by LF; a CR before it is part of the message
    Lines,
    /// No framing: bytes as they come
    Raw,
}

/// The option on sizes.
#[derive(Debug, Clone, Copy, Args)]
pub struct SizeOptions {
    /// Largest message in bytes, received or sent: its payload, after decompression. A peer that sends a larger one
    /// is disconnected; a larger datagram is dropped, and none holds more than 65507. With the codec raw, the largest piece that is handled at once
    // Conformance suites send 16 MiB, which the library's default of 8 MiB would refuse.
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024,
        value_parser = clap::value_parser!(u32).range(1..=MAX_MESSAGE as i64))]
    pub max_message: u32,
}

/// The most that a datagram of UDP holds.
pub const MAX_DATAGRAM: usize = 65_507;

/// What the length field can announce, less the field itself.
const MAX_MESSAGE: u32 = u32::MAX - 4;

/// Options on messages.
#[derive(Debug, Clone, Copy, Args)]
pub struct CodecOptions {
    /// How messages lie in the stream [default: length; over udp raw: a datagram is a message]. With a udp URL: one
    /// message of the codec in each datagram. With a ws or wss URL: sends and expects packages of this codec, one in each
    /// binary message, instead of text and binary messages as they are
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    #[command(flatten)]
    pub size: SizeOptions,
}

impl SizeOptions {
    /// The largest message in bytes.
    pub fn limit(self) -> usize {
        self.max_message as usize
    }
}

impl CodecOptions {
    /// The codec over `transport`, or `None` for WebSocket's own messages.
    pub fn codec(self, transport: Transport) -> Option<Codec> {
        match transport {
            Transport::WebSocket | Transport::SecureWebSocket => self.codec,
            Transport::Udp => Some(self.codec.unwrap_or(Codec::Raw)),
            _ => Some(self.codec.unwrap_or(Codec::Length)),
        }
    }

    /// The configuration of a session over `transport`.
    pub fn config(self, transport: Transport) -> ConfigBuilder {
        let overhead = self.codec(transport).map_or(0, Codec::overhead);
        let limit = self.size.limit().saturating_add(overhead);
        Config::builder().max_frame(limit).max_message(limit).max_datagram(limit.min(MAX_DATAGRAM))
    }

    /// The largest message that can be sent over `transport`.
    pub fn sendable(self, transport: Transport) -> usize {
        let overhead = self.codec(transport).map_or(0, Codec::overhead);
        match transport {
            Transport::Udp => self.size.limit().min(MAX_DATAGRAM - overhead),
            _ => self.size.limit(),
        }
    }
}

impl Codec {
    /// How many bytes come to a message on the wire.
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
    /// Lines of up to `limit` bytes, the line end not counted: in a WebSocket message the last line may have none, and
    /// the session's limit, which counts it, would let one more byte pass.
    pub fn new(limit: usize) -> Self {
        Lines(Delimited::byte(b'\n').max_frame(limit.saturating_add(1)))
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

    fn reset(&mut self) {
        self.0.reset();
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
