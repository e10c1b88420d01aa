//! Checks that a codec yields the same messages and the same end, however its bytes are split.
//!
//! [`check`] is for tests and fuzz targets: it decodes the same bytes whole, byte by byte and in pieces, in
//! sessions of all [`SHAPES`], and compares.

use std::num::NonZeroUsize;

use getty_core::codec::{
    ByteOrder, Decoder, Delimited, Encoder, FixedLength, LengthDelimited, LengthField, Lines, Raw,
};
use getty_core::{CloseReason, Config, Event, Framed, Session};

use crate::Rng;
use crate::clock::Clock;

/// The events of a session for a stream that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The messages.
    pub messages: Vec<Vec<u8>>,
    /// Whether the stream ended between frames.
    pub read_end: bool,
    /// The reason of the close.
    pub reason: String,
}

/// A codec in one configuration.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The codec's name.
    pub codec: &'static str,
    /// The configuration's name.
    pub name: &'static str,
    /// Whether message boundaries depend on how the bytes are split.
    pub merges: bool,
    /// Decodes the pieces of a stream, which then ends.
    pub decode: fn(&[&[u8]]) -> Transcript,
}

/// Decodes `wire` with every shape: whole, byte by byte, and split at random from `seed`. All results must
/// agree.
///
/// # Panics
/// If they differ; names the shape and the pieces.
pub fn check(wire: &[u8], seed: u64) {
    for shape in SHAPES {
        check_shape(shape, wire, seed);
    }
}

/// Does the same as [`check`] for one shape.
pub fn check_shape(shape: &Shape, wire: &[u8], seed: u64) {
    let normal = |told: Transcript| match shape.merges {
        true => Transcript { messages: vec![told.messages.concat()], ..told },
        false => told,
    };
    let whole = normal((shape.decode)(&[wire]));
    for pieces in [wire.chunks(1).collect(), cut(wire, 3, seed), cut(wire, 64, seed)] {
        let parts = normal((shape.decode)(&pieces));
        assert_eq!(parts, whole, "{shape:?} differs when cut into {pieces:?} (seed {seed})");
    }
}

/// Runs a fuzzer's input: the first two bytes of `data` choose the shape of `codec` and the seed, the others
/// are the wire.
///
/// # Panics
/// If the result depends on how the bytes are split, or if the codec is unknown.
pub fn run(codec: &str, data: &[u8]) {
    let Some((&[shape, seed], wire)) = data.split_first_chunk::<2>() else { return };
    let shapes: Vec<_> = SHAPES.iter().filter(|shape| shape.codec == codec).collect();
    assert!(!shapes.is_empty(), "no codec {codec}");
    check_shape(shapes[usize::from(shape) % shapes.len()], wire, u64::from(seed));
}

/// Splits `bytes` at random into pieces of 1 to `max` bytes.
pub fn cut(mut bytes: &[u8], max: usize, seed: u64) -> Vec<&[u8]> {
    let mut rng = Rng::new(seed);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((1 + rng.below(max)).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The largest frame in these sessions.
pub const MAX_FRAME: usize = 256;

/// Feeds a stream of `pieces` to a session with `codec`. Returns its events.
pub fn transcript<C>(codec: C, pieces: &[&[u8]]) -> Transcript
where
    C: Decoder<Item: Into<Vec<u8>>> + Encoder<<C as Decoder>::Item>,
{
    let mut clock = Clock::new();
    let config = Config::builder().max_frame(MAX_FRAME).build().expect("valid");
    let mut session = Session::new(Framed::new(codec), config, clock.now());
    let mut told = Transcript { messages: Vec::new(), read_end: false, reason: String::new() };
    let most = pieces.iter().map(|piece| piece.len()).sum::<usize>() + 10;
    let mut poll = |session: &mut Session<Framed<C>>| {
        for n in 0.. {
            assert!(n < most, "more events than bytes");
            let Some(event) = session.poll_event() else { break };
            match event {
                Event::Message(message) => told.messages.push(message.into()),
                Event::Eof => told.read_end = true,
                Event::Closed(reason) => told.reason = describe(&reason),
                _ => {}
            }
        }
    };
    for piece in pieces {
        session.handle_input(clock.advance(std::time::Duration::from_nanos(1)), piece);
        poll(&mut session);
    }
    session.handle_eof(clock.now());
    poll(&mut session);
    session.close(clock.now(), getty_core::Close::graceful());
    session.handle_shutdown(clock.now());
    poll(&mut session);
    assert!(session.is_closed(), "not closed after its end: {told:?}");
    told
}

fn describe(reason: &CloseReason) -> String {
    format!("{reason:?}: {reason}")
}

const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();
const TOO_LONG: NonZeroUsize = NonZeroUsize::new(MAX_FRAME + 1).unwrap();

fn delimited(delimiter: &str) -> Delimited {
    Delimited::new(delimiter).expect("not empty")
}

macro_rules! shapes {
    ($($codec:ident { $($name:literal: $make:expr,)* })*) => {
        /// Every codec in several configurations.
        pub const SHAPES: &[Shape] = &[$($(Shape {
            codec: stringify!($codec),
            name: $name,
            merges: matches!(stringify!($codec).as_bytes(), b"raw"),
            decode: |pieces| transcript($make, pieces),
        },)*)*];
    };
}

shapes! {
    length_delimited {
        "u32 big": LengthDelimited::new(),
        "u32 big, own limit": LengthDelimited::new().max_frame(20),
        "u8": LengthDelimited::new().field(LengthField::U8),
        "u16 little": LengthDelimited::new().field(LengthField::U16).byte_order(ByteOrder::Little),
        "u24, header kept": LengthDelimited::new().field(LengthField::U24).keep_header(),
        "u64": LengthDelimited::new().field(LengthField::U64),
        "varint": LengthDelimited::varint(),
        "varint, offset 2, strip 1": LengthDelimited::varint().offset(2).strip(1),
        "u8, offset 1, whole frame counted":
            LengthDelimited::new().field(LengthField::U8).offset(1).adjustment(-2).keep_header(),
        "u8, trailer not counted": LengthDelimited::new().field(LengthField::U8).adjustment(2).strip(1),
        "u16, strip more": LengthDelimited::new().field(LengthField::U16).strip(5),
    }
    delimited {
        "newline": delimited("\n"),
        "crlf, kept": delimited("\r\n").keep_delimiter(),
        "aba": delimited("aba"),
        "nul, own limit": Delimited::byte(0).max_frame(10),
    }
    lines {
        "default": Lines::new(),
        "own limit": Lines::new().crlf().max_frame(12),
    }
    fixed_length {
        "4": FixedLength::new(FOUR),
        "over the limit": FixedLength::new(TOO_LONG),
    }
    raw {
        "default": Raw,
    }
}
