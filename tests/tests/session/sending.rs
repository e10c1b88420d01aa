//! Sending: the way of a message to the transport, and its progress.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Sink, Source};
use getty_core::{Close, Config, Framed, SendError, Session};
use testkit::clock::Clock;

use crate::common::{Solo, frame, secs};

const NONE: [&str; 0] = [];

/// Encodes a message of several parts. Fails at an empty part, after writing those before it.
#[derive(Clone)]
struct Parts;

#[derive(Debug, thiserror::Error)]
#[error("an empty part")]
struct EmptyPart;

impl Encoder<Vec<Bytes>> for Parts {
    type Error = EmptyPart;

    fn encode(&mut self, parts: Vec<Bytes>, dst: &mut Sink<'_>) -> Result<(), EmptyPart> {
        for part in parts {
            if part.is_empty() {
                return Err(EmptyPart);
            }
            dst.put_slice(&(part.len() as u32).to_be_bytes());
            dst.put_bytes(part);
        }
        Ok(())
    }
}

impl Decoder for Parts {
    type Item = Bytes;
    type Error = <LengthDelimited as Decoder>::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        LengthDelimited::new().decode(src)
    }
}

type Many = Session<Framed<Parts, Vec<Bytes>>>;

fn many(config: &std::sync::Arc<Config>) -> (Many, Clock) {
    let clock = Clock::new();
    let session = Session::new(Framed::new(Parts), config.clone(), clock.now());
    (session, clock)
}

fn default() -> std::sync::Arc<Config> {
    Config::builder().build().unwrap()
}

fn all(session: &mut Many, clock: &Clock) -> Vec<u8> {
    let mut out = session.outbound(clock.now());
    let n = out.remaining();
    out.copy_to_bytes(n).to_vec()
}

#[test]
fn a_failure_between_two_good_messages_leaves_no_trace() {
    for size in [3, 20_000] {
        for written_before in [0, 5] {
            let (mut session, clock) = many(&default());
            let part = Bytes::from(vec![b'p'; size]);
            let first = session.send(vec![part.clone()]).unwrap();
            session.outbound(clock.now()).advance(written_before);
            let bad = Bytes::from(vec![b'b'; size]);
            let failed = session.send(vec![bad.clone(), bad, Bytes::new()]);
            assert!(matches!(failed, Err(SendError::Encode(error)) if error.to_string() == "an empty part"));
            let last = session.send(vec![part.clone()]).unwrap();
            assert_eq!((first.seq.get(), last.seq.get()), (1, 2));
            assert_eq!(session.stats().refused, 1);
            assert!(session.is_open());
            let wire = [frame(&part), frame(&part)].concat();
            assert_eq!(all(&mut session, &clock), wire[written_before..]);
            assert_eq!(session.stats().progress.flushed, Some(last.seq));
        }
    }
}

#[test]
fn a_message_that_turns_out_too_large_is_taken_back() {
    let (mut session, clock) = many(&Config::builder().max_frame(100).build().unwrap());
    session.send(vec![Bytes::from_static(&[1; 96])]).unwrap();
    let error = session.send(vec![Bytes::from_static(&[1; 97])]).unwrap_err();
    assert!(error.to_string().contains("101 bytes") && error.to_string().contains("limit of 100"), "{error}");
    assert_eq!(all(&mut session, &clock).len(), 100);
}

#[test]
fn a_message_that_is_known_to_be_too_large_comes_back() {
    let mut solo = Solo::with(|c| c.max_frame(100));
    let error = solo.session.send(Bytes::from_static(&[1; 97])).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes: 101, limit: 100, .. }));
    assert_eq!(error.into_item().unwrap().len(), 97);
    assert_eq!((solo.session.queued(), solo.session.stats().refused), (0, 1));
    solo.send(96);
}

#[test]
fn large_parts_are_sent_from_where_they_lie() {
    let (mut session, clock) = many(&Config::builder().zero_copy_from(1024).build().unwrap());
    let parts: Vec<Bytes> = (1..=5).map(|n| Bytes::from(vec![n as u8; 1023 + n % 2 * 2000])).collect();
    session.send(parts.clone()).unwrap();
    let mut slices = [IoSlice::new(&[]); 16];
    let out = session.outbound(clock.now());
    let filled = out.chunks_vectored(&mut slices);
    let shown: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
    assert_eq!(shown, out.remaining(), "chunks_vectored shows everything that fits");
    for part in &parts {
        let in_place = slices[..filled].iter().any(|slice| slice.as_ptr() == part.as_ptr());
        assert_eq!(in_place, part.len() >= 1024, "a part of {} bytes", part.len());
    }
}

#[test]
fn chain_over_sets_what_is_large() {
    for (size, chained) in [(99, false), (100, true)] {
        let (mut session, clock) = many(&Config::builder().zero_copy_from(100).build().unwrap());
        let part = Bytes::from(vec![1; size]);
        session.send(vec![part.clone()]).unwrap();
        let mut out = session.outbound(clock.now());
        out.advance(4);
        assert_eq!(out.chunk().as_ptr() == part.as_ptr(), chained);
    }
}

#[test]
fn progress_tells_flushed_partly_written_and_accepted() {
    let mut solo = Solo::new();
    for size in [10, 10, 0, 3000, 10] {
        solo.send(size);
    }
    let progress = |solo: &Solo| {
        let progress = solo.session.stats().progress;
        (progress.flushed.map_or(0, |seq| seq.get()), progress.partly_written)
    };
    // Sizes on the wire: 14, 14, 4, 3004, 14.
    for (written, expected) in [
        (0, (0, false)),
        (13, (0, true)),
        (14, (1, false)),
        (20, (1, true)),
        (28, (2, false)),
        (32, (3, false)),
        (36, (3, true)),
        (3035, (3, true)),
        (3036, (4, false)),
        (3050, (5, false)),
    ] {
        let already = solo.session.stats().sent.bytes as usize;
        solo.write(written - already);
        assert_eq!(progress(&solo), expected, "after {written} bytes");
    }
    assert_eq!(solo.session.stats().sent.messages, 5);
}

#[test]
fn flushed_comes_when_asked_for_and_the_latest_request_wins() {
    let mut solo = Solo::new();
    assert_eq!(solo.session.notify_flushed(), None);
    solo.send(6);
    assert_eq!(solo.session.notify_flushed().unwrap().get(), 1);
    solo.send(6);
    solo.send(6);
    assert_eq!(solo.session.notify_flushed().unwrap().get(), 3);
    solo.write(29);
    assert_eq!(solo.poll(), NONE);
    solo.write(1);
    assert_eq!(solo.poll(), ["Flushed 3"]);
    solo.send(6);
    solo.write_all();
    assert_eq!(solo.poll(), NONE, "no event was requested");
    solo.session.notify_flushed();
    assert_eq!(solo.poll(), ["Flushed 4"], "flushed before the request");
}

#[test]
fn flushed_comes_also_while_closing() {
    let mut solo = Solo::new();
    solo.send(6);
    solo.session.notify_flushed();
    solo.session.close(solo.clock.now(), Close::graceful());
    solo.write_all();
    assert_eq!(solo.poll(), ["Flushed 1"]);
    solo.shut_down();
    solo.eof();
    assert_eq!(solo.poll(), ["Closed: closed by this end"]);
}

#[test]
fn a_transport_that_says_too_much_is_not_believed() {
    let mut solo = Solo::new();
    solo.send(6);
    solo.session.outbound(solo.clock.now()).advance(1000);
    solo.clock.advance(secs(1));
    solo.session.outbound(solo.clock.now()).advance(1000);
    let sent = solo.session.stats().sent;
    assert_eq!((sent.bytes, sent.operations, sent.last), (10, 1, Some(solo.clock.at(secs(0)))));
}

#[test]
fn a_write_is_counted_once_however_many_slices_it_took() {
    let mut solo = Solo::new();
    for _ in 0..10 {
        solo.send(2000);
    }
    solo.session.outbound(solo.clock.now()).advance(20_040);
    assert_eq!(solo.session.stats().sent.operations, 1);
}

#[test]
fn messages_go_out_in_order_whatever_a_write_takes() {
    for step in 1..50 {
        let mut solo = Solo::new();
        let mut expected = Vec::new();
        let mut written = Vec::new();
        for n in 0..30 {
            let item = vec![n as u8; if n % 3 == 0 { 1500 } else { n }];
            expected.extend(frame(&item));
            solo.session.send(Bytes::from(item)).unwrap();
            written.extend(solo.write(step * 7));
        }
        written.extend(solo.write_all());
        assert!(written == expected, "writes of {}", step * 7);
    }
}
