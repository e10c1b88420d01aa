//! Receiving: how bytes become messages, and what a decoder must not do.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, LengthField, Lines, Sink, Source};
use getty_core::{Close, CloseReason, Config, DecoderFault, Event, Framed, Memory, Session};
use testkit::clock::Clock;
use testkit::scripted::{Read, Scripted, Write};

use crate::common::{Plain, Solo, frame, plain, secs};

/// A decoder that answers with a function and counts its calls.
struct Told<F> {
    answer: F,
    calls: Rc<Cell<usize>>,
}

impl<F: FnMut(&mut Source<'_>) -> Result<Decoded<()>, std::fmt::Error>> Decoder for Told<F> {
    type Item = ();
    type Error = std::fmt::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<()>, std::fmt::Error> {
        self.calls.set(self.calls.get() + 1);
        (self.answer)(src)
    }
}

impl<F> Encoder<()> for Told<F> {
    type Error = Infallible;

    fn encode(&mut self, (): (), _: &mut Sink<'_>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Feeds `bytes` twice, and then the end. Returns the close reason and the number of calls to the decoder.
fn outcome(
    answer: impl FnMut(&mut Source<'_>) -> Result<Decoded<()>, std::fmt::Error>,
    bytes: &[u8],
) -> (CloseReason, usize) {
    let calls = Rc::new(Cell::new(0));
    let codec = Told { answer, calls: calls.clone() };
    let config = Config::builder().max_buffered(1000).build().unwrap();
    let mut clock = Clock::new();
    let mut session = Session::new(Framed::<_, ()>::new(codec), config, clock.now());
    let mut reason = None;
    for step in 0..20 {
        match step {
            0 | 1 => session.handle_input(clock.advance(secs(1)), bytes),
            2 => session.handle_eof(clock.now()),
            _ => session.handle_shutdown(clock.now()),
        }
        for _ in 0..10 {
            if let Some(Event::Closed(why)) = session.poll_event() {
                assert!(reason.replace(*why).is_none());
            }
        }
    }
    (reason.expect("closed"), calls.get())
}

#[test]
fn a_decoder_that_breaks_its_contract_ends_the_session_and_is_not_called_again() {
    let (reason, calls) = outcome(|_| Ok(Decoded::Frame(())), b"abc");
    assert!(matches!(reason, CloseReason::Decoder(DecoderFault::NoProgress)), "{reason}");
    assert_eq!(calls, 1);

    let (reason, calls) = outcome(|_| Ok(Decoded::Need(0)), b"abc");
    assert!(matches!(reason, CloseReason::Decoder(DecoderFault::NeedsNothing)), "{reason}");
    assert_eq!(calls, 1);

    let (reason, calls) = outcome(|_| Err(std::fmt::Error), b"abc");
    assert!(matches!(reason, CloseReason::Codec(_)), "{reason}");
    assert_eq!(calls, 1);

    for (need, needed) in [(998, 1001), (usize::MAX, usize::MAX)] {
        let (reason, calls) = outcome(|_| Ok(Decoded::Need(need)), b"abc");
        let expected = DecoderFault::TooMuchBuffered { needed, limit: 1000 };
        assert!(matches!(reason, CloseReason::Decoder(fault) if fault == expected), "{reason}");
        assert!(reason.to_string().contains("Config::max_buffered") && reason.to_string().contains("1000"));
        assert_eq!(calls, 1);
    }
}

#[test]
fn a_decoder_is_asked_again_only_when_what_it_needs_is_there() {
    let (reason, calls) = outcome(|_| Ok(Decoded::Need(997)), &[0; 400]);
    assert!(matches!(reason, CloseReason::Decoder(_)), "400 + 997 is over the limit");
    assert_eq!(calls, 1);
    let (reason, calls) = outcome(|_| Ok(Decoded::Need(401)), &[0; 400]);
    assert!(matches!(reason, CloseReason::Eof { mid_frame: true }));
    assert_eq!(calls, 1);
    let (_, calls) = outcome(|_| Ok(Decoded::Need(400)), &[0; 400]);
    assert_eq!(calls, 2);
}

#[test]
fn past_max_buffered_a_needy_decoder_ends_the_session() {
    let (reason, calls) = outcome(|_| Ok(Decoded::Need(1)), &[0; 500]);
    let expected = DecoderFault::TooMuchBuffered { needed: 1001, limit: 1000 };
    assert!(matches!(reason, CloseReason::Decoder(fault) if fault == expected), "{reason}");
    assert_eq!(calls, 2);
}

/// A decoder that counts its calls.
struct Counted(LengthDelimited, Rc<Cell<usize>>);

impl Decoder for Counted {
    type Item = Bytes;
    type Error = <LengthDelimited as Decoder>::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        self.1.set(self.1.get() + 1);
        self.0.decode(src)
    }
}

impl Encoder<Bytes> for Counted {
    type Error = <LengthDelimited as Encoder<Bytes>>::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        self.0.encode(item, dst)
    }
}

#[test]
fn a_frame_of_a_mib_in_reads_of_four_kib_takes_three_calls_of_the_decoder_at_most() {
    for lends in [false, true] {
        let calls = Rc::new(Cell::new(0));
        let codec = Counted(LengthDelimited::new(), calls.clone());
        let clock = Clock::new();
        let mut session = Session::new(Framed::new(codec), Arc::default(), clock.now());
        let wire = frame(&vec![5; 1 << 20]);
        let (mut memory, mut messages) = (Memory::new(), 0);
        for piece in wire.chunks(4096) {
            if lends {
                session.lend(memory);
            }
            let mut room = session.recv_buf();
            assert!(room.remaining_mut() >= piece.len());
            room.put_slice(piece);
            session.handle_read(clock.now());
            messages += std::iter::from_fn(|| session.poll_event())
                .filter(|event| matches!(event, Event::Message(_)))
                .count();
            memory = if lends { session.take_back() } else { Memory::new() };
        }
        assert_eq!(messages, 1);
        assert!(calls.get() <= 3, "{} calls", calls.get());
    }
}

#[test]
fn a_length_bomb_is_refused_from_its_header_and_the_reason_names_the_limit() {
    let bombs: [(LengthDelimited, &[u8]); 4] = [
        (LengthDelimited::new(), &[0xff; 4]),
        (LengthDelimited::new().field(LengthField::U64), &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        (LengthDelimited::new().field(LengthField::U64), &[0xff; 8]),
        (LengthDelimited::varint(), &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ];
    for (codec, header) in bombs {
        let mut script = Scripted::new(Session::new(Framed::new(codec), Arc::default(), Clock::new().now()))
            .reading([Read::Data(header.to_vec()), Read::Eof]);
        script.run();
        let reason = script.close_reason().unwrap().to_string();
        assert!(reason.contains("8388608") && reason.contains("max_frame"), "{reason}");
    }
}

#[test]
fn the_largest_frame_passes_and_one_byte_more_does_not() {
    for (size, passes) in [(96, true), (97, false)] {
        let mut solo = Solo::with(|c| c.max_frame(100));
        solo.input(&frame(&vec![0; size]));
        assert_eq!(solo.poll().len() == 1, passes);
        assert_eq!(solo.session.is_open(), passes);
    }
}

fn session() -> Session<Plain> {
    Session::new(plain(), Arc::default(), Clock::new().now())
}

#[test]
fn a_read_takes_place_in_the_session_and_a_large_payload_stays_where_it_was_read() {
    let mut session = session();
    let now = Clock::new().now();
    session.lend(Memory::new());
    let mut room = session.recv_buf();
    let start = room.get_ref().as_ptr() as usize;
    room.put_slice(&frame(&[1; 5000]));
    session.handle_read(now);
    let _open = session.poll_event();
    let Some(Event::Message(message)) = session.poll_event() else { panic!() };
    assert_eq!(message.as_ptr() as usize, start + 4);
}

#[test]
fn a_kept_message_does_not_pin_the_read_buffer() {
    for frames_in_a_read in [1, 20] {
        let mut session = session();
        let now = Clock::new().now();
        session.lend(Memory::new());
        let mut kept = Vec::new();
        let mut blocks = Vec::new();
        for _ in 0..20 {
            let mut room = session.recv_buf();
            blocks.push(room.get_ref().as_ptr());
            room.put_slice(&frame(&[1; 1000]).repeat(frames_in_a_read));
            session.handle_read(now);
            kept.extend(std::iter::from_fn(|| session.poll_event()));
        }
        assert_eq!(kept.len(), 1 + 20 * frames_in_a_read);
        blocks.dedup();
        assert_eq!(blocks.len(), 1, "the read buffer must not be replaced");
    }
}

/// Larger frames are slices of the read buffer, until one of them is kept by the user.
#[test]
fn the_first_slice_that_is_kept_is_the_last() {
    let mut session = session();
    let now = Clock::new().now();
    session.lend(Memory::new());
    let mut kept = Vec::new();
    let mut blocks = Vec::new();
    for _ in 0..200 {
        let mut room = session.recv_buf();
        blocks.push(room.get_ref().as_ptr());
        room.put_slice(&frame(&[1; 1100]).repeat(20));
        session.handle_read(now);
        kept.push(std::iter::from_fn(|| session.poll_event()).last());
    }
    blocks.dedup();
    assert_eq!(blocks.len(), 2, "only the first slice may pin its block");
}

#[test]
fn reading_stops_while_messages_wait_and_goes_on_when_they_are_polled() {
    let mut solo = Solo::new();
    assert!(solo.session.wants_read());
    solo.input(&[frame(b"a"), frame(b"b")].concat());
    assert!(!solo.session.wants_read());
    assert!(solo.session.poll_event().is_some());
    assert!(!solo.session.wants_read());
    assert_eq!(solo.poll(), ["Message b"]);
    assert!(solo.session.wants_read());
    solo.input(&frame(b"c")[..4]);
    assert_eq!(solo.poll(), [""; 0]);
    assert!(solo.session.wants_read(), "part of a frame is not a message");
}

#[test]
fn input_may_come_in_any_number_of_calls_before_a_poll() {
    let mut solo = Solo::new();
    solo.input(&frame(b"a"));
    solo.session.recv_buf().put_slice(&frame(b"b"));
    solo.session.handle_read(solo.clock.now());
    solo.session.handle_read(solo.clock.now());
    solo.input(&frame(b"c"));
    solo.session.handle_read(solo.clock.now());
    solo.session.pause();
    solo.eof();
    solo.session.recv_buf();
    solo.session.handle_read(solo.clock.now());
    solo.session.resume(solo.clock.now());
    assert_eq!(solo.poll(), ["Message a", "Message b", "Message c", "Eof"]);
    let received = solo.session.stats().received;
    assert_eq!((received.bytes, received.messages, received.operations), (15, 3, 3));
}

#[test]
fn bytes_stay_when_memory_is_lent_and_taken_back() {
    for size in [3, 1000, 20_000] {
        let mut solo = Solo::with(|c| c.watermarks(1 << 20, 1 << 20));
        let wire = frame(&vec![b'm'; size]);
        let pieces: Vec<_> = wire.chunks(wire.len() / 5).collect();
        for (n, piece) in pieces.iter().enumerate() {
            solo.input(piece);
            assert_eq!(solo.poll().len(), usize::from(n + 1 == pieces.len()));
            solo.send(size);
            match n % 3 {
                0 => solo.session.lend(Memory::new()),
                _ => drop(solo.session.take_back()), // the second time, nothing is lent
            }
        }
        assert!(solo.write_all() == frame(&vec![b'x'; size]).repeat(pieces.len()));
    }
}

#[test]
fn the_time_of_the_last_bytes_is_theirs() {
    let mut solo = Solo::new();
    assert_eq!(solo.session.stats().received.last, None);
    solo.clock.advance(secs(1));
    solo.input(&frame(b"a"));
    let at = Some(solo.clock.now());
    solo.clock.advance(secs(10));
    solo.session.pause();
    solo.session.resume(solo.clock.now());
    assert_eq!(solo.session.stats().received.last, at);
    solo.session.update_active(solo.clock.now());
    assert_eq!(solo.session.last_active(), solo.clock.now());
    assert_eq!(solo.session.stats().received.last, at);
}

#[test]
fn a_transport_that_stutters_changes_nothing() {
    let wire = [frame(b"first"), frame(&[b'x'; 3000]), frame(b"last")].concat();
    let mut script = Scripted::new(session())
        .reading(wire.chunks(1000).flat_map(|piece| [Read::Pending, Read::Data(piece.to_vec())]))
        .reading([Read::Eof])
        .writing([Write::Pending, Write::Takes(1), Write::Takes(2), Write::Pending]);
    script.session.send(Bytes::from("hello")).unwrap();
    for _ in 0..6 {
        script.run();
    }
    assert_eq!(script.written, frame(b"hello"));
    let told: Vec<_> = script.events.iter().map(crate::common::words).collect();
    assert_eq!(told, ["Open", "Message first", "Message of 3000", "Message last", "Eof"]);
    script.session.close(script.clock.now(), Close::graceful());
    script.run();
    assert!(script.shut_down && script.close_reason().is_some_and(CloseReason::is_clean));
}

#[test]
fn a_transport_that_fails_when_writing_still_delivers_what_was_read() {
    let mut script = Scripted::new(session())
        .writing([Write::Takes(3), Write::Fails(std::io::ErrorKind::ConnectionReset)]);
    script.session.send(Bytes::from("hello")).unwrap();
    script.session.handle_input(script.clock.now(), &frame(b"came before"));
    script.session.pause();
    script.session.resume(script.clock.now());
    script.run();
    let told: Vec<_> = script.events.iter().map(crate::common::words).collect();
    assert_eq!(told, ["Open", "Message came before", "Closed: transport: connection reset"]);
    assert!(script.session.stats().progress.partly_written);
}

#[test]
fn a_message_weighs_what_it_took_on_the_wire() {
    let mut session = Session::new(plain(), Config::default().into(), Clock::new().now());
    let value = size_of::<Bytes>();
    for (payload, weight) in [(0, value), (100, 104), (5000, 5004), (10, value)] {
        // The first half of the next frame comes along.
        let wire = [frame(&vec![1; payload]), frame(&[2; 50])[..30].to_vec()].concat();
        session.handle_input(Clock::new().now(), &wire);
        while !matches!(session.poll_event(), Some(Event::Message(_))) {}
        assert_eq!(session.last_weight(), weight);
        session.handle_input(Clock::new().now(), &frame(&[2; 50])[30..]);
        assert!(matches!(session.poll_event(), Some(Event::Message(_))));
        assert_eq!(session.last_weight(), 54);
    }
    // The rest at the end of the stream.
    let lines: Framed<Lines> = Framed::new(Lines::new());
    let mut session = Session::new(lines, Config::default().into(), Clock::new().now());
    session.handle_input(Clock::new().now(), &[b'x'; 1000]);
    session.handle_eof(Clock::new().now());
    while !matches!(session.poll_event(), Some(Event::Message(_))) {}
    assert_eq!(session.last_weight(), 1000);
}
