//! Frames as bytes, made and read by hand.

use bytes::{Bytes, BytesMut};
use getty_core::codec::{Decoded, Decoder, Encoder, Sink, Source};
use getty_core::rpc::{EncodeFrameError, Frame, FrameFault, Frames};
use getty_core::{CloseReason, Config, Event, Framed, Session};
use testkit::clock::Clock;

pub const PREFACE: &[u8] = b"\xfagty\x02\0\0\0";

/// A frame of these parts.
pub fn raw(kind: u8, flags: u8, id: u32, head: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (head.len() + body.len()) as u32;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend([kind, flags]);
    frame.extend((head.len() as u16).to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(head);
    frame.extend(body);
    frame
}

/// The head and the body of the frame in `bytes`.
pub fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let head = u16::from_le_bytes([bytes[6], bytes[7]]);
    bytes[12..].split_at(head.into())
}

/// The bytes of `frame`, without a preface.
pub fn try_encode(frame: &Frame) -> Result<Bytes, EncodeFrameError> {
    let mut codec = Frames::in_messages();
    let announced = codec.encoded_len(frame);
    let mut bytes = BytesMut::new();
    codec.encode(frame.clone(), &mut Sink::new(&mut bytes))?;
    assert_eq!(announced, Some(bytes.len()), "{frame:?}");
    Ok(bytes.freeze())
}

#[track_caller]
pub fn encode(frame: &Frame) -> Bytes {
    try_encode(frame).unwrap_or_else(|error| panic!("{frame:?}: {error}"))
}

/// The frame in `bytes`, which have no preface and nothing after the frame.
#[track_caller]
pub fn decode(bytes: &[u8]) -> Frame {
    let mut bytes = BytesMut::from(bytes);
    let mut src = Source::new(&mut bytes);
    let frame = Frames::in_messages().decode(&mut src).unwrap();
    let Decoded::Frame(frame) = frame else { panic!("{frame:?}") };
    assert!(src.is_empty(), "{} bytes are left after {frame:?}", src.len());
    frame
}

/// The fault of the frame in `bytes`.
#[track_caller]
pub fn fault(bytes: &[u8]) -> FrameFault {
    match decode(bytes) {
        Frame::Invalid(invalid) => {
            assert_eq!((bytes[4], &bytes[8..12]), (invalid.kind, &invalid.id.to_le_bytes()[..]));
            invalid.fault
        }
        frame => panic!("{frame:?}"),
    }
}

/// What a session reports for a stream of `pieces`, which then ends.
pub fn received(pieces: &[&[u8]]) -> (Vec<Frame>, String) {
    let mut clock = Clock::new();
    let config = Config::builder().max_frame(MAX_FRAME).build().unwrap();
    let mut session = Session::new(Framed::new(Frames::new()), config, clock.now());
    let (mut frames, mut end) = (Vec::new(), String::new());
    let mut poll = |session: &mut Session<Framed<Frames>>| {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(frame) => frames.push(frame),
                Event::Eof => end += "between frames; ",
                Event::Closed(reason) => end += &describe(&reason),
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
    (frames, end)
}

/// The largest frame in [`received`].
pub const MAX_FRAME: usize = 64 * 1024;

fn describe(reason: &CloseReason) -> String {
    format!("{reason:?}: {reason}")
}
