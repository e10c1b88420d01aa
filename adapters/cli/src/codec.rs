//! Codecs and message sizes.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use getty_driver::core::codec::{Decoded, Decoder, Delimited, DelimitedError, Encoder, Sink, Source};
use getty_driver::core::{Config, ConfigBuilder};

use crate::url::Transport;

/// The format of messages in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// A 4-byte big-endian length, then the payload
    Length,
    /// A line of text, ended by LF; a CR before it is part of the message
    Lines,
    /// No framing: bytes as they arrive
    Raw,
}

/// The option for the message size.
#[derive(Debug, Clone, Copy, Args)]
pub struct SizeOptions {
    /// Largest message payload in bytes, received or sent, after decompression. A peer that sends a larger
    /// one is disconnected; a larger datagram is dropped (no datagram exceeds 65507 bytes). With --codec raw,
    /// the largest piece handled at once
    // Conformance suites send 16 MiB, over the library's default limit of 8 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024,
        value_parser = clap::value_parser!(u32).range(1..=MAX_MESSAGE as i64))]
    pub max_message: u32,
}

/// Largest payload of a UDP datagram.
pub const MAX_DATAGRAM: usize = 65_507;

/// Largest length the length field can announce, minus the field itself.
const MAX_MESSAGE: u32 = u32::MAX - 4;

/// Options for messages.
#[derive(Debug, Clone, Copy, Args)]
pub struct CodecOptions {
    /// Format of messages in the stream [default: length; over udp raw, where each datagram is a message].
    /// With a udp URL, each datagram holds one message of the codec. With a ws or wss URL, each binary
    /// message holds one message of the codec; without --codec, text and binary messages are used as they are
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
    /// The codec for `transport`, or `None` for plain WebSocket messages.
    pub fn codec(self, transport: Transport) -> Option<Codec> {
        match transport {
            Transport::WebSocket | Transport::SecureWebSocket => self.codec,
            Transport::Udp => Some(self.codec.unwrap_or(Codec::Raw)),
            _ => Some(self.codec.unwrap_or(Codec::Length)),
        }
    }

    /// The session configuration for `transport`.
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
    /// Bytes added to each message on the wire.
    fn overhead(self) -> usize {
        match self {
            Codec::Length => 4,
            Codec::Lines => 1,
            Codec::Raw => 0,
        }
    }
}

/// Lines as bytes in any encoding. Bytes after the last line end count as a line too.
#[derive(Debug, Clone)]
pub struct Lines(Delimited);

impl Lines {
    /// Makes a codec for lines of up to `limit` bytes, without the line end. It enforces the limit itself:
    /// the last line of a WebSocket message may have no line end, and the session's limit, which includes it,
    /// would let one extra byte through.
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
