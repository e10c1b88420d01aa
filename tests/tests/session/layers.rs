//! Layers that users write, below the framing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::codec::{FixedLength, LengthDelimited};
use getty_core::layer::{Layer, LayerError, Plain, Stack, WireBuffers};
use getty_core::websocket::{Accept, ServerOptions, Verdict, WebSocket};
use getty_core::{
    Close, CloseReason, Config, Deadline, Event, Framed, Layered, Opened, Protocol, Session, Timestamp,
};
use testkit::pair::{Pair, Split, Wire as Link};
use testkit::websocket::peers::{Frame, REQUEST};

/// A layer that inverts all bits and sends blocks, each after its length. An empty block is the end.
#[derive(Debug, Default)]
struct Blocks;

#[derive(Debug, thiserror::Error)]
#[error("blocks: cut off")]
struct CutOff;

fn flip(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

fn block(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), &flip(bytes)[..]].concat()
}

impl Layer for Blocks {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        while let Some((length, rest)) = wire.received.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length == 0 {
                return Ok(true);
            }
            let Some(bytes) = rest.get(..length) else { break };
            plain.put_slice(&flip(bytes));
            wire.received.advance(4 + length);
        }
        Ok(false)
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        wire.sealed.put_slice(&block(plain));
        Ok(())
    }

    fn close(&mut self, wire: &mut WireBuffers) {
        wire.sealed.put_slice(&block(b""));
    }

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        Err(Arc::new(CutOff))
    }

    fn describe(&mut self, _: &mut Opened) {}
}

type Plainly = Framed<LengthDelimited>;

fn layered<L: Layer>(layer: L) -> Layered<L, Plainly> {
    Framed::new(LengthDelimited::new()).under(layer)
}

fn session() -> Session<Layered<Blocks, Plainly>> {
    let mut session = Session::new(layered(Blocks), Arc::new(Config::default()), Timestamp::ORIGIN);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    session
}

#[test]
fn messages_and_a_graceful_close_go_through_it() {
    for split in [Split::Whole, Split::Every(1)] {
        let mut pair = Pair::new(layered(Blocks), layered(Blocks), Arc::default())
            .wires(Link { split, ..Link::default() });
        pair.settle();
        let sent = [Bytes::from("hello"), Bytes::new(), Bytes::from(vec![7; 200_000])];
        for message in &sent {
            pair.a.session.send(message.clone()).unwrap();
        }
        pair.settle();
        assert_eq!(pair.b.messages(), sent);
        let now = pair.clock.now();
        pair.b.session.send(Bytes::from("bye")).unwrap();
        pair.b.session.close(now, Close::graceful());
        pair.settle();
        pair.a.session.close(now, Close::graceful()); // the peer's end was reported to it
        assert!(pair.run_until_closed(Duration::from_secs(1)));
        assert_eq!(pair.a.messages(), ["bye"]);
        for reason in [pair.a.close_reason(), pair.b.close_reason()] {
            assert!(reason.is_some_and(CloseReason::is_clean), "{reason:?}");
        }
    }
}

/// Polls until the end, and returns the reason.
fn reason<L: Layer>(session: &mut Session<Layered<L, Plainly>>) -> Box<CloseReason> {
    loop {
        match session.poll_event() {
            Some(Event::Closed(reason)) => return reason,
            Some(_) => {}
            None => panic!("it has not ended"),
        }
    }
}

#[test]
fn a_stream_without_the_layers_end_is_cut_off() {
    let mut session = session();
    session.handle_input(Timestamp::ORIGIN, &block(&[0, 0, 0, 1, b'x']));
    session.handle_eof(Timestamp::ORIGIN);
    assert!(matches!(session.poll_event(), Some(Event::Message(message)) if message == "x"));
    let reason = reason(&mut session);
    assert!(matches!(&*reason, CloseReason::Layer(error) if error.is::<CutOff>()), "{reason}");
}

#[test]
fn what_a_layer_cannot_use_is_not_kept_without_bound() {
    let mut session = session();
    // The block claims the largest possible length, and the layer waits for all of it.
    session.handle_input(Timestamp::ORIGIN, &u32::MAX.to_be_bytes());
    let piece = [0; 1024];
    let mut held = 4;
    while session.wants_read() && held < 1024 * 1024 {
        session.handle_input(Timestamp::ORIGIN, &piece);
        held += piece.len();
    }
    assert_eq!(held, 128 * 1024 + 4, "the first piece over the limit ends the session");
    let reason = reason(&mut session).to_string();
    assert!(reason.contains("the layer can't use 131076 received bytes"), "{reason}");
}

/// Bytes that the layer unseals in between are not part of the message, and neither are the layer's own.
#[test]
fn an_unfinished_message_meets_its_deadline_through_a_layer_too() {
    let secs = |n| Timestamp::from_origin(Duration::from_secs(n));
    let protocol = WebSocket::server(ServerOptions::new()).under(Blocks);
    let mut session = Session::new(protocol, Arc::default(), Timestamp::ORIGIN);
    session.handle_input(secs(0), &block(format!("{REQUEST}\r\n").as_bytes()));
    assert!(matches!(session.poll_event(), Some(Event::Request(_))));
    session.respond(secs(0), Verdict::Accept(Accept::new())).unwrap();
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));

    session.handle_input(secs(0), &block(&Frame::binary([7; 5000]).more().masked([1; 4]).bytes()));
    assert!(session.poll_event().is_none());
    let ping = block(&Frame::ping("").masked([1; 4]).bytes());
    for second in 1..30 {
        session.handle_timeout(secs(second));
        // Each ping comes in two reads, so that the layer has to wait for the second one. There are so many
        // that their blocks amount to 64 KiB.
        for _ in 0..300 {
            session.handle_input(secs(second), &ping[..5]);
            assert!(session.poll_event().is_none(), "at {second} s");
            session.handle_input(secs(second), &ping[5..]);
            assert!(session.poll_event().is_none(), "at {second} s");
        }
    }
    session.handle_timeout(secs(30));
    let Some(Event::Closed(reason)) = session.poll_event() else { panic!("it has not ended") };
    assert!(matches!(*reason, CloseReason::Timeout(Deadline::PartialFrame)), "{reason}");
}

/// A layer that inverts some bits, given by a number, and ends together with the layers around it.
#[derive(Debug, Default)]
struct Xor(u8);

impl Layer for Xor {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        plain.put_slice(&wire.received.iter().map(|byte| byte ^ self.0).collect::<Vec<_>>());
        wire.received.clear();
        Ok(false)
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        wire.sealed.put_slice(&plain.iter().map(|byte| byte ^ self.0).collect::<Vec<_>>());
        Ok(())
    }

    fn close(&mut self, _: &mut WireBuffers) {}

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        Ok(())
    }

    fn describe(&mut self, _: &mut Opened) {}
}

#[test]
fn a_layer_below_a_layer_is_not_skipped() {
    let protocol = layered(Blocks).under(Xor(1)).under(Xor(2));
    let mut session = Session::new(protocol, Arc::default(), Timestamp::ORIGIN);
    session.send(Bytes::from("x")).unwrap();
    let mut outbound = session.outbound(Timestamp::ORIGIN);
    let wire = outbound.copy_to_bytes(outbound.remaining());
    let expected: Vec<u8> = block(&[0, 0, 0, 1, b'x']).iter().map(|byte| byte ^ 3).collect();
    assert_eq!(wire, expected);
    drop(outbound);
    session.handle_input(Timestamp::ORIGIN, &wire);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    assert!(matches!(session.poll_event(), Some(Event::Message(message)) if message == "x"));
}

/// A layer that makes a kilobyte of zeros of each byte, but no more at a time than there is room for.
#[derive(Debug, Default)]
struct Zeros {
    left: usize,
    most: usize,
    calls: usize,
}

impl Layer for Zeros {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        self.calls += 1;
        let room = plain.room();
        while plain.room() > 0 {
            if self.left == 0 {
                if wire.received.is_empty() {
                    break;
                }
                wire.received.advance(1);
                self.left = 1024;
            }
            let n = self.left.min(plain.room());
            plain.put_slice(&vec![0; n]);
            self.left -= n;
        }
        self.most = self.most.max(room - plain.room());
        Ok(false)
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn seal(&mut self, _: &[u8], _: &mut WireBuffers) -> Result<(), LayerError> {
        Ok(())
    }

    fn close(&mut self, _: &mut WireBuffers) {}

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        assert_eq!(self.left, 0, "zeros are left that were never asked for");
        Ok(())
    }

    fn describe(&mut self, _: &mut Opened) {}
}

/// Checks a layer that expands its input, as the only layer or in a stack next to the wire or the protocol.
fn expand<L: Layer>(layer: L, zeros: impl Fn(&L) -> &Zeros) {
    const BYTES: usize = 4000;
    let mut session = Session::new(layered(layer), Arc::default(), Timestamp::ORIGIN);
    session.handle_input(Timestamp::ORIGIN, &[9; BYTES]);
    session.handle_eof(Timestamp::ORIGIN);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    let mut messages = 0;
    while let Some(event) = session.poll_event() {
        match event {
            Event::Message(message) => {
                assert!(message.is_empty());
                messages += 1;
                // A length of zero is a message, so each takes 4 bytes. Waiting bytes are bounded, and
                // nothing more is read.
                assert!(session.stats().buffered <= 130 * 1024 + BYTES, "{}", session.stats());
                assert!(!session.wants_read());
            }
            Event::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, BYTES * 1024 / 4);
    let most = zeros(session.protocol().layer()).most;
    assert!(most <= 128 * 1024, "{most}");
}

#[test]
fn a_layer_that_expands_is_called_again_when_there_is_room() {
    expand(Zeros::default(), |zeros| zeros);
    expand(Stack::new(Zeros::default(), Xor(0)), Stack::outer);
    expand(Stack::new(Xor(1), Zeros::default()), Stack::inner);
}

#[test]
fn a_frame_that_is_larger_than_the_room_takes_few_calls() {
    const FRAME: usize = 1 << 20;
    let protocol = Framed::new(FixedLength::new(FRAME.try_into().unwrap())).under(Zeros::default());
    let mut session = Session::new(protocol, Arc::default(), Timestamp::ORIGIN);
    session.handle_input(Timestamp::ORIGIN, &[9; FRAME / 1024]);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    assert!(matches!(session.poll_event(), Some(Event::Message(message)) if message.len() == FRAME));
    let calls = session.protocol().layer().calls;
    assert!(calls <= 10, "{calls}");
}

#[test]
fn a_layer_that_waits_for_room_goes_on_after_a_limit_of_work() {
    let protocol = Framed::new(FixedLength::new(100_000.try_into().unwrap())).under(Zeros::default());
    let mut session = Session::new(protocol, Arc::default(), Timestamp::ORIGIN);
    session.handle_input(Timestamp::ORIGIN, &[9; 150]);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    // 128 KiB of 150 are unsealed: a message, and a part of one that the rest does not complete.
    assert!(matches!(session.poll_event_within(0), Some(Event::Message(_))));
    for _ in 0..3 {
        assert!(session.poll_event_within(0).is_none());
        assert!(session.wants_poll(), "the layer waits");
    }
    assert!(session.poll_event().is_none());
    assert!(!session.wants_poll());
    assert_eq!(session.timeout_reason(), Some(Deadline::PartialFrame));
}

#[test]
fn a_transport_that_fails_while_a_layer_waits_for_room_loses_nothing() {
    // The layer fills 128 KiB at a time: 32 Ki messages, and then nothing is left to decode until it goes on.
    for polled in [32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1] {
        let mut session = Session::new(layered(Zeros::default()), Arc::default(), Timestamp::ORIGIN);
        session.handle_input(Timestamp::ORIGIN, &[9; 256]);
        assert!(matches!(session.poll_event(), Some(Event::Open(_))));
        let messages = |session: &mut Session<_>, most: usize| {
            (0..most).take_while(|_| matches!(session.poll_event(), Some(Event::Message(_)))).count()
        };
        assert_eq!(messages(&mut session, polled), polled);
        session.handle_io_error(Timestamp::ORIGIN, std::io::ErrorKind::ConnectionReset);
        assert_eq!(messages(&mut session, usize::MAX), 256 * 1024 / 4 - polled);
        assert!(session.is_closed());
    }
}

/// A layer that ends at a zero byte, and fails at a one.
#[derive(Debug, Default)]
struct Ends;

impl Layer for Ends {
    fn unseal(&mut self, wire: &mut WireBuffers, plain: &mut Plain<'_>) -> Result<bool, LayerError> {
        while let Some(&byte) = wire.received.first() {
            match byte {
                0 => return Ok(true),
                1 => return Err(Arc::new(CutOff)),
                byte => plain.put_slice(&[byte - 2]),
            }
            wire.received.advance(1);
        }
        Ok(false)
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn seal(&mut self, plain: &[u8], wire: &mut WireBuffers) -> Result<(), LayerError> {
        wire.sealed.put_slice(plain);
        Ok(())
    }

    fn close(&mut self, _: &mut WireBuffers) {}

    fn handle_eof(&mut self) -> Result<(), LayerError> {
        Err(Arc::new(CutOff))
    }

    fn describe(&mut self, _: &mut Opened) {}
}

#[test]
fn what_came_before_the_fault_of_an_outer_layer_is_delivered() {
    let mut session = Session::new(layered(Stack::new(Ends, Xor(0))), Arc::default(), Timestamp::ORIGIN);
    session.handle_input(Timestamp::ORIGIN, &[2, 2, 2, 3, b'x' + 2, 1]);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    assert!(matches!(session.poll_event(), Some(Event::Message(message)) if message == "x"));
    assert!(matches!(&*reason(&mut session), CloseReason::Layer(error) if error.is::<CutOff>()));
}

#[test]
fn how_an_outer_layer_ends_is_of_no_interest_to_a_session_that_closes() {
    let mut session = Session::new(layered(Stack::new(Ends, Blocks)), Arc::default(), Timestamp::ORIGIN);
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    session.send(Bytes::from(vec![7; 1000])).unwrap();
    session.close(Timestamp::ORIGIN, Close::graceful());
    session.outbound(Timestamp::ORIGIN).advance(10);
    session.handle_input(Timestamp::ORIGIN, &[0]);
    while session.wants_write() {
        let mut outbound = session.outbound(Timestamp::ORIGIN);
        let n = outbound.remaining();
        outbound.advance(n);
    }
    assert!(session.wants_shutdown());
    session.handle_shutdown(Timestamp::ORIGIN);
    assert!(matches!(&*reason(&mut session), CloseReason::Local { flushed: true }));
}

#[test]
fn a_stack_of_none_is_no_layer() {
    let stack = Stack::new(None::<Xor>, None::<Blocks>);
    let mut session = Session::new(layered(stack), Arc::default(), Timestamp::ORIGIN);
    session.send(Bytes::from("x")).unwrap();
    let mut outbound = session.outbound(Timestamp::ORIGIN);
    assert_eq!(outbound.copy_to_bytes(outbound.remaining()), &[0, 0, 0, 1, b'x'][..]);
}

#[test]
fn half_a_piece_between_two_layers_has_the_deadline_of_a_frame() {
    let secs = |n| Timestamp::from_origin(Duration::from_secs(n));
    let mut session = Session::new(layered(Stack::new(Xor(0), Blocks)), Arc::default(), secs(0));
    assert!(matches!(session.poll_event(), Some(Event::Open(_))));
    session.handle_input(secs(0), &block(&[0; 100])[..10]);
    assert!(session.poll_event().is_none());
    assert_eq!(session.stats().buffered, 10);
    session.handle_timeout(secs(30));
    assert!(matches!(&*reason(&mut session), CloseReason::Timeout(Deadline::PartialFrame)));
}

#[test]
fn a_session_that_closes_while_a_layer_waits_for_room_ends_with_its_peer() {
    for ended in [false, true] {
        let mut session = Session::new(layered(Zeros::default()), Arc::default(), Timestamp::ORIGIN);
        session.handle_input(Timestamp::ORIGIN, &[9; 4000]);
        if ended {
            session.handle_eof(Timestamp::ORIGIN);
        }
        assert!(matches!(session.poll_event(), Some(Event::Open(_))));
        assert!(matches!(session.poll_event(), Some(Event::Message(_))));
        session.close(Timestamp::ORIGIN, Close::graceful());
        assert_eq!(session.wants_read(), !ended);
        if !ended {
            session.handle_input(Timestamp::ORIGIN, &[9]);
            session.handle_eof(Timestamp::ORIGIN);
        }
        drop(session.outbound(Timestamp::ORIGIN));
        assert!(session.wants_shutdown());
        session.handle_shutdown(Timestamp::ORIGIN);
        assert!(matches!(&*reason(&mut session), CloseReason::Local { flushed: true }));
    }
}

/// Without a layer (`None`), nothing is copied into a layer's buffer, in either direction.
#[test]
fn no_layer_copies_nothing() {
    let mut session = Session::new(layered(None::<Blocks>), Arc::default(), Timestamp::ORIGIN);
    let payload = Bytes::from(vec![7; 100_000]);
    session.send(payload.clone()).unwrap();
    let mut outbound = session.outbound(Timestamp::ORIGIN);
    outbound.advance(4);
    assert_eq!(outbound.chunk().as_ptr(), payload.as_ptr(), "the payload is not copied");
    drop(outbound);
}
