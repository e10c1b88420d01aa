//! Limits on what WebSocket sessions send and hold. Reaching one leaves everything as it was.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::codec::{Decoded, Decoder, Encoder, Sink, Source};
use getty_core::websocket::{
    CloseCode, CloseFrame, Deflate, Form, Message, MessageKind, Packages, Part, Parts, ProtocolError,
    ServerOptions, WebSocket, Whole,
};
use getty_core::{Close, CloseReason, Config, Event, In, Out, Protocol, SendError, Session, Timestamp};
use testkit::Rng;
use testkit::websocket::peers::{Frame, Solo, client_request, config, random};
use testkit::websocket::{open, written};

const NOW: Timestamp = Timestamp::ORIGIN;

fn limited(payload: usize) -> Arc<Config> {
    config(|c| c.max_frame(payload).max_message(payload))
}

/// Bytes that can't be compressed.
fn noise(len: usize) -> Bytes {
    let mut rng = Rng::new(7);
    std::iter::repeat_with(|| rng.next_u64() as u8).take(len).collect()
}

/// A client and a server that compress and keep their windows.
fn compressing<F>(form: impl Fn() -> F, config: &Arc<Config>) -> [Session<WebSocket<F>>; 2]
where
    F: Form,
{
    let deflate = || Deflate::new().server_no_context_takeover(false).client_no_context_takeover(false);
    let client = WebSocket::client_of(form(), client_request().deflate(deflate()), random(1));
    let server = WebSocket::server_of(form(), ServerOptions::new().deflate(deflate()));
    let (client, server) = open(client, server, config, NOW);
    [client, server]
}

/// Passes everything that `from` has written to `to`. Returns the next event.
fn pass<P: Protocol>(from: &mut Session<P>, to: &mut Session<P>) -> Option<Event<In<P>>> {
    let wire = written(from, NOW);
    to.handle_input(NOW, &wire);
    to.poll_event()
}

#[test]
fn what_may_be_sent_may_be_received_and_no_byte_more() {
    for deflate in [false, true] {
        let mut sessions = match deflate {
            true => compressing(|| Whole, &limited(100_000)),
            false => {
                let client = WebSocket::client(client_request(), random(1));
                open(client, WebSocket::server(ServerOptions::new()), &limited(100_000), NOW).into()
            }
        };
        for payload in [noise(100_000), Bytes::from(vec![0; 100_000])] {
            let [client, server] = &mut sessions;
            client.send(Message::binary(payload.clone())).unwrap();
            let Some(Event::Message(message)) = pass(client, server) else { panic!("{deflate}") };
            assert_eq!(message.into_bytes(), payload);
            // The first payload went uncompressed, since compression would have made it too large. Nothing
            // may refer to it.
            let again = payload.slice(90_000..);
            client.send(Message::binary(again.clone())).unwrap();
            let Some(Event::Message(message)) = pass(client, server) else { panic!("{deflate}, again") };
            assert_eq!(message.into_bytes(), again);
        }
        let refused = sessions[0].send(Message::binary(noise(100_001)));
        assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    }
}

/// Sends bytes without reporting their size beforehand.
struct Blind;

impl Decoder for Blind {
    type Item = Bytes;
    type Error = std::io::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        let all = src.len();
        Ok(if all == 0 { Decoded::Need(1) } else { Decoded::Frame(src.take(all)) })
    }
}

impl Encoder<Bytes> for Blind {
    type Error = std::io::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        dst.put_bytes(item);
        Ok(())
    }
}

fn sends_on<P>(form: P, refused: Out<WebSocket<P>>, next: Out<WebSocket<P>>) -> Option<In<WebSocket<P>>>
where
    P: Form + Clone,
    Out<WebSocket<P>>: std::fmt::Debug,
{
    let [mut client, mut server] = compressing(|| form.clone(), &limited(4096));
    client.send(refused).unwrap_err();
    client.send(next).unwrap();
    match pass(&mut client, &mut server) {
        Some(Event::Message(message)) => Some(message),
        _ => None,
    }
}

/// With a window that is kept, the next message would refer to bytes that the peer never got.
#[test]
fn a_refused_message_leaves_compression_as_it_was() {
    let big = noise(8000);
    let small = big.slice(7000..);
    let got = sends_on(Whole, Message::binary(big.clone()), Message::binary(small.clone()));
    assert_eq!(got, Some(Message::binary(small.clone())));
    let part = |payload: &Bytes| Part::new(MessageKind::Binary, payload.clone(), true, true);
    assert_eq!(sends_on(Parts, part(&big), part(&small)), Some(part(&small)));
    let begun = Part::new(MessageKind::Binary, big.clone(), true, false);
    assert_eq!(sends_on(Parts, begun, part(&small)), Some(part(&small)), "no message was begun");
    let [mut client, mut server] = compressing(|| Packages::new(Blind), &limited(4096));
    assert!(matches!(client.send(big), Err(SendError::Encode(_))));
    let shrinks = Bytes::from(vec![0; 8000]);
    assert!(matches!(client.send(shrinks), Err(SendError::Encode(_))), "its own size counts");
    client.send(small.clone()).unwrap();
    let Some(Event::Message(package)) = pass(&mut client, &mut server) else { panic!() };
    assert_eq!(package, small);
}

#[test]
fn a_frame_in_parts_may_be_longer_than_a_message_that_is_held() {
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    let mut server = Solo::new(protocol, limited(1000), true).opened();
    let frame = server.as_peer(Frame::binary(noise(5000))).bytes();
    let mut received = 0;
    for piece in frame.chunks(700) {
        server.input(piece);
        received += server.messages().iter().map(|part| part.payload.len()).sum::<usize>();
    }
    assert_eq!(received, 5000);
}

#[test]
fn a_frame_in_parts_that_stalls_meets_its_deadline() {
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    let mut server = Solo::new(protocol, limited(10_000), true).opened();
    let frame = server.as_peer(Frame::binary(noise(5000))).bytes();
    server.input(&frame[..700]);
    assert_eq!(server.messages().len(), 1);
    assert_eq!(server.at(Duration::from_millis(29_999)), [""; 0]);
    server.at(Duration::from_secs(30));
    assert!(server.session.is_closed());
}

/// Each byte of a frame is a part, and none of them gives the frame more time.
#[test]
fn a_frame_in_parts_that_comes_byte_by_byte_meets_its_deadline() {
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    let mut server = Solo::new(protocol, limited(10_000), true).opened();
    let frame = server.as_peer(Frame::binary(noise(5000)).more()).bytes();
    server.input(&frame[..100]);
    assert_eq!(server.messages().len(), 1);
    for (byte, second) in frame[100..].iter().zip(1..30) {
        assert_eq!(server.at(Duration::from_secs(second)), [""; 0]);
        server.input(&[*byte]);
        assert_eq!(server.messages().len(), 1);
    }
    ends_incomplete(&mut server, Duration::from_secs(30));
}

/// Checks that nothing is reported before `at`, and then that something stayed incomplete.
fn ends_incomplete<F: Form>(solo: &mut Solo<F>, at: Duration)
where
    In<WebSocket<F>>: std::fmt::Debug,
{
    assert_eq!(solo.at(at - Duration::from_nanos(1)), [""; 0]);
    let told = solo.at(at);
    assert!(told.len() == 1 && told[0].contains("Config::partial_frame_timeout"), "{told:?}");
}

/// Sends fragments of a message that never ends, from 1 s on. Whatever comes between them, its 30 s are over
/// at 31 s.
fn never_finishes<F: Form>(mut solo: Solo<F>, first: Frame, mut between: impl FnMut(u64) -> Vec<Frame>)
where
    In<WebSocket<F>>: std::fmt::Debug,
{
    assert_eq!(solo.at(Duration::from_secs(1)), [""; 0]);
    solo.peer(first.more());
    assert_eq!(solo.poll(), [""; 0]);
    assert!(solo.session.poll_timeout().is_some(), "the message has a deadline");
    for second in 2..31 {
        assert_eq!(solo.at(Duration::from_secs(second)), [""; 0], "at {second} s");
        for frame in between(second) {
            solo.peer(frame);
            assert_eq!(solo.poll(), [""; 0]);
        }
    }
    ends_incomplete(&mut solo, Duration::from_secs(31));
}

#[test]
fn an_unfinished_message_meets_its_deadline_whatever_comes_between() {
    let packages = || {
        let packages = Packages::<_, Bytes>::new(Blind);
        Solo::new(WebSocket::server_of(packages, ServerOptions::new()), Arc::default(), true)
    };
    type Between = fn(u64) -> Vec<Frame>;
    let between: [Between; 5] = [
        |_| vec![],
        |_| vec![Frame::ping("?"); 3],
        // More bytes than the progress that is required, but none of them belong to the message.
        |_| vec![Frame::ping([b'?'; 125]); 50],
        |second| vec![Frame::continuation([b'a'; 2000]).more(), Frame::pong(second.to_string())],
        |_| vec![Frame::continuation("").more()],
    ];
    for between in between {
        for solo in Solo::opened_both(|c| c) {
            never_finishes(solo, Frame::binary(vec![7; 1 << 20]), between);
        }
        for solo in Solo::opened_both(|c| c) {
            never_finishes(solo, Frame::text(""), between);
        }
        never_finishes(packages().opened(), Frame::binary("be"), between);
    }
}

#[test]
fn an_unfinished_compressed_message_meets_its_deadline() {
    let server = || Solo::server(ServerOptions::new().deflate(Deflate::new()), config(|c| c));
    let opened = || server().opened_with("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    // "Hello" from RFC 7692 section 7.2.3.1, and the first half of the tail 00 00 ff ff.
    let first = || Frame::text(b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00").rsv(4);
    never_finishes(opened(), first(), |_| vec![]);
    never_finishes(opened(), first(), |_| vec![Frame::ping(""), Frame::continuation("").more()]);
}

/// The rule for a whole frame that comes slowly: 64 KiB in time are enough, in fragments of any size,
/// complete or not.
#[test]
fn sixty_four_kib_of_progress_renew_the_time_of_a_message() {
    for (missing, lives) in [(0, true), (1, false)] {
        for fragments in [1, 64] {
            for solo in &mut Solo::opened_both(|c| c) {
                solo.peer(Frame::binary("begun").more());
                assert_eq!(solo.poll(), [""; 0]);
                for round in 1..5 {
                    // Some time before the deadline, with pings in between that do not count.
                    let at = Duration::from_secs(20 * round);
                    assert_eq!(solo.at(at), [""; 0]);
                    for n in 0..fragments {
                        let size = (64 * 1024) / fragments - if n == 0 { missing } else { 0 };
                        solo.peer(Frame::continuation(vec![7; size]).more());
                        solo.peer(Frame::ping("?"));
                        assert_eq!(solo.poll(), [""; 0]);
                    }
                    if !lives {
                        ends_incomplete(solo, Duration::from_secs(30));
                        break;
                    }
                }
                if lives {
                    ends_incomplete(solo, Duration::from_secs(80 + 30));
                }
            }
        }
    }
}

#[test]
fn a_fragment_that_comes_slowly_is_progress_of_its_message() {
    for (progress, lives) in [(64 * 1024 - 1, false), (64 * 1024, true)] {
        for mut solo in Solo::opened_both(|c| c) {
            solo.peer(Frame::binary("begun").more());
            let fragment = solo.as_peer(Frame::continuation(noise(200_000)).more()).bytes();
            solo.input(&fragment[..10]);
            assert_eq!(solo.poll(), [""; 0]);
            assert_eq!(solo.at(Duration::from_secs(20)), [""; 0]);
            // The bytes count even before they are polled.
            solo.input(&fragment[10..10 + progress]);
            if lives {
                assert_eq!(solo.at(Duration::from_secs(30)), [""; 0]);
                ends_incomplete(&mut solo, Duration::from_secs(50));
            } else {
                ends_incomplete(&mut solo, Duration::from_secs(30));
            }
        }
    }
}

#[test]
fn a_message_that_is_done_leaves_no_deadline_to_the_next() {
    for mut solo in Solo::opened_both(|c| c) {
        let secs = Duration::from_secs;
        solo.peer(Frame::text("a").more());
        assert_eq!(solo.poll(), [""; 0]);
        assert_eq!(solo.at(secs(20)), [""; 0]);
        // One read has the end of one message and the beginning of the next.
        let both = solo.peers([Frame::continuation("b"), Frame::text("c").more()]);
        solo.input(&both);
        assert_eq!(solo.messages(), [Message::text("ab")]);
        assert_eq!(solo.at(secs(30)), [""; 0]);
        assert_eq!(solo.at(secs(49)), [""; 0]);
        solo.peer(Frame::continuation("d"));
        assert_eq!(solo.messages(), [Message::text("cd")]);
        assert_eq!(solo.at(secs(3600)), [""; 0]);
        assert_eq!(solo.session.poll_timeout(), None);
    }
}

/// If messages are polled one at a time, the deadline of the first one may pass before the rest of the input
/// is polled.
#[test]
fn a_message_that_was_delivered_has_no_deadline_any_longer() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::text("a").more());
        assert_eq!(solo.poll(), [""; 0]);
        assert_eq!(solo.at(Duration::from_secs(29)), [""; 0]);
        let rest = solo.peers([Frame::continuation("b"), Frame::text("c"), Frame::text("d")]);
        solo.input(&rest);
        assert_eq!(solo.session.poll_message(), Some(Message::text("ab")));
        assert_eq!(solo.at(Duration::from_secs(31)).len(), 2);
        assert!(solo.session.is_open());
    }
}

/// While nothing is read, slowness is not the peer's fault. After that, its time starts again.
#[test]
fn a_pause_suspends_the_deadline_of_a_message() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::text("a").more());
        assert_eq!(solo.poll(), [""; 0]);
        solo.session.pause();
        for second in 1..100 {
            assert_eq!(solo.at(Duration::from_secs(second)), [""; 0]);
        }
        solo.session.resume(solo.clock.now());
        ends_incomplete(&mut solo, Duration::from_secs(99 + 30));
    }
}

/// With parts, only an incomplete frame has a deadline, not the time between two frames of a message.
#[test]
fn quiet_between_two_parts_is_no_stall() {
    let protocol = WebSocket::server_of(Parts, ServerOptions::new());
    let mut server = Solo::new(protocol, limited(10_000), true).opened();
    server.peer(Frame::binary("begun").more());
    assert_eq!(server.messages().len(), 1);
    assert_eq!(server.at(Duration::from_secs(3600)), [""; 0]);
    server.peer(Frame::continuation("ended"));
    assert_eq!(server.messages().len(), 1);
}

#[test]
fn a_partly_written_pong_is_no_partly_written_message() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::ping("0123456789"));
        solo.poll();
        solo.session.send(Message::text("hello")).unwrap();
        solo.session.outbound(NOW).advance(3);
        let progress = solo.session.stats().progress;
        assert!(!progress.partly_written && progress.flushed.is_none(), "{progress:?}");
        let pong = solo.session.queued() - 1;
        solo.session.outbound(NOW).advance(pong);
        assert!(solo.session.stats().progress.partly_written, "all but the last byte");
    }
}

#[test]
fn a_close_frame_is_answered_although_the_stream_ended_behind_it() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::close(1000, ""));
        solo.eof();
        solo.poll();
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
    }
}

#[test]
fn a_close_frame_fits_a_control_frame_however_it_was_made() {
    let mut frame = CloseFrame::new(CloseCode::NORMAL, "");
    frame.reason = "x".repeat(200).into();
    let mut server = Solo::opened_server();
    server.session.close(NOW, Close::graceful().with_frame(frame));
    server.poll();
    assert_eq!(server.sent(), [Frame::close(1000, &"x".repeat(123))]);
}

#[test]
fn a_fault_found_while_draining_is_told_whatever_was_to_be_said() {
    let mut server = Solo::opened_server();
    let bytes = server.peers([Frame::text("x"), Frame::new(3, "")]);
    server.input(&bytes);
    let away = CloseFrame::new(CloseCode::GOING_AWAY, "");
    server.session.close(NOW, Close::graceful().with_frame(away).with_drain());
    assert!(matches!(server.session.poll_event(), Some(Event::Message(_))));
    let reason = server.failed_with(1002);
    assert!(matches!(reason, CloseReason::Protocol(ProtocolError::Opcode { opcode: 3 })), "{reason}");
}

#[test]
fn a_message_weighs_what_it_took_or_what_it_is() {
    let value = size_of::<Message>();
    let config = config(|c| c);
    let [mut client, mut server] = compressing(|| Whole, &config);
    // (payload, the least and the greatest weight of its message)
    let messages = [
        (Bytes::new(), value, value),
        (noise(100), 106, 106),          // not compressed: with its header, and the mask
        (noise(50_000), 50_000, 51_000), // compressed in vain
        (Bytes::from(vec![0; 50_000]), 50_000, 50_000), // some 70 bytes on the wire
        (noise(10), value, value),       // the weight of the one before is forgotten
    ];
    for (payload, least, most) in messages {
        client.send(Message::Binary(payload.clone())).unwrap();
        let Some(Event::Message(message)) = pass(&mut client, &mut server) else { panic!("no message") };
        assert_eq!(*message.as_bytes(), payload);
        let weight = server.last_weight();
        assert!((least..=most).contains(&weight), "{} bytes weigh {weight}", payload.len());
    }
    // In fragments, with a ping between them.
    let mut solo = Solo::server(ServerOptions::new(), config).opened();
    solo.peer(Frame::text("a".repeat(400)).more());
    solo.peer(Frame::ping("x".repeat(100)));
    solo.peer(Frame::continuation("b".repeat(600)));
    assert!(matches!(solo.session.poll_event(), Some(Event::Message(_))));
    assert_eq!(solo.session.last_weight(), 1000);
}

#[test]
fn a_part_weighs_what_it_is() {
    let config = config(|c| c);
    let [mut client, mut server] = compressing(|| Parts, &config);
    for (payload, first, last) in [(vec![0; 50_000], true, false), (vec![0; 20_000], false, true)] {
        let weight = payload.len();
        client.send(Part::new(MessageKind::Binary, payload, first, last)).unwrap();
        assert!(matches!(pass(&mut client, &mut server), Some(Event::Message(_))));
        assert_eq!(server.last_weight(), weight);
    }
}
