//! Limits on what WebSocket sessions send and hold, and that reaching one leaves everything as it was.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::codec::{Decoded, Decoder, Encoder, Sink, Source};
use getty_core::websocket::{
    CloseCode, CloseFrame, Deflate, Form, Kind, Message, Packages, Part, Parts, ProtocolError, ServerOptions,
    WebSocket, Whole,
};
use getty_core::{Close, CloseReason, Config, Event, In, Out, SendError, Session, StreamProtocol, Timestamp};
use testkit::Rng;
use testkit::websocket::peers::{Frame, Solo, client_request, config, random};
use testkit::websocket::{open, written};

const NOW: Timestamp = Timestamp::ORIGIN;

fn limited(payload: usize) -> Arc<Config> {
    config(|c| c.max_frame(payload).max_message(payload))
}

/// Bytes that don't shrink.
fn noise(len: usize) -> Bytes {
    let mut rng = Rng::new(7);
    std::iter::repeat_with(|| rng.next_u64() as u8).take(len).collect()
}

/// A client and a server that compress and keep their windows.
fn compressing<F>(form: impl Fn() -> F, config: &Arc<Config>) -> [Session<WebSocket<F>>; 2]
where
    F: Form,
    WebSocket<F>: StreamProtocol,
{
    let deflate = || Deflate::new().server_no_context_takeover(false).client_no_context_takeover(false);
    let client = WebSocket::client_of(form(), client_request().deflate(deflate()), random(1));
    let server = WebSocket::server_of(form(), ServerOptions::new().deflate(deflate()));
    let (client, server) = open(client, server, config, NOW);
    [client, server]
}

/// What `to` makes of what `from` has written.
fn pass<P: StreamProtocol>(from: &mut Session<P>, to: &mut Session<P>) -> Option<Event<In<P>>> {
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
            // Nothing refers to what went as it is, because compression would have made it too large.
            let again = payload.slice(90_000..);
            client.send(Message::binary(again.clone())).unwrap();
            let Some(Event::Message(message)) = pass(client, server) else { panic!("{deflate}, again") };
            assert_eq!(message.into_bytes(), again);
        }
        let refused = sessions[0].send(Message::binary(noise(100_001)));
        assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    }
}

/// Bytes, of which it does not tell the size beforehand.
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
    WebSocket<P>: StreamProtocol,
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

/// With a window that is kept, the next message would refer to what the peer never got.
#[test]
fn a_refused_message_leaves_compression_as_it_was() {
    let big = noise(8000);
    let small = big.slice(7000..);
    let got = sends_on(Whole, Message::binary(big.clone()), Message::binary(small.clone()));
    assert_eq!(got, Some(Message::binary(small.clone())));
    let part = |payload: &Bytes| Part::new(Kind::Binary, payload.clone(), true, true);
    assert_eq!(sends_on(Parts, part(&big), part(&small)), Some(part(&small)));
    let begun = Part::new(Kind::Binary, big.clone(), true, false);
    assert_eq!(sends_on(Parts, begun, part(&small)), Some(part(&small)), "nothing was begun");
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

/// A client can't be kept waiting between two messages, only within a frame.
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
