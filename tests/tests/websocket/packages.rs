//! Packages of a codec, one in each binary message. A listener sees the same as over TCP.

use std::convert::Infallible;

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Lines, MessageKind, Sink, Source};
use getty_core::websocket::{Deflate, Form, Packages, ProtocolError, ServerOptions, WebSocket};
use getty_core::{CloseReason, Event, Framed, In, Out, Protocol, SendError, Session, Timestamp};
use testkit::pair::Pair;
use testkit::websocket::peers::{Frame, Solo, accept, client_request, config, random};

const NONE: [&str; 0] = [];
const NOW: Timestamp = Timestamp::ORIGIN;

fn server() -> Solo<Packages<LengthDelimited>> {
    let protocol = WebSocket::server_of(Packages::new(LengthDelimited::new()), ServerOptions::new());
    Solo::new(protocol, config(|c| c), true).opened()
}

fn client() -> Solo<Packages<LengthDelimited>> {
    let packages = Packages::new(LengthDelimited::new());
    let protocol = WebSocket::client_of(packages, client_request(), random(1));
    Solo::new(protocol, config(|c| c), false).opened()
}

/// `payload` in the framing of [`LengthDelimited`].
fn package(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// A codec that decodes numbers and encodes words, so that the items of the two directions have different
/// types.
#[derive(Debug, Clone)]
struct Numbers;

impl Decoder for Numbers {
    type Item = u16;
    type Error = Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<u16>, Infallible> {
        let Some(&bytes) = src.first_chunk() else { return Ok(Decoded::Need(2 - src.len())) };
        src.advance(2);
        Ok(Decoded::Frame(u16::from_be_bytes(bytes)))
    }
}

impl Encoder<String> for Numbers {
    type Error = Infallible;

    fn encode(&mut self, word: String, dst: &mut Sink<'_>) -> Result<(), Infallible> {
        dst.put_slice(word.as_bytes());
        Ok(())
    }
}

/// The codec of the other end of [`Numbers`].
#[derive(Debug, Clone)]
struct Words;

impl Decoder for Words {
    type Item = Bytes;
    type Error = Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Infallible> {
        match src.iter().position(|&byte| byte == b'.') {
            Some(end) => Ok(Decoded::Frame(src.take(end + 1))),
            None => Ok(Decoded::Need(1)),
        }
    }
}

impl Encoder<u16> for Words {
    type Error = Infallible;

    fn encode(&mut self, number: u16, dst: &mut Sink<'_>) -> Result<(), Infallible> {
        dst.put_slice(&number.to_be_bytes());
        Ok(())
    }
}

/// A listener that knows the messages, but nothing of the wire.
fn listen<P: Protocol>(session: &mut Session<P>, event: &Event<In<P>>)
where
    In<P>: Copy + std::fmt::Display,
    Out<P>: From<String>,
{
    if let Event::Message(number) = event {
        assert!(session.send(format!("{number}.").into()).is_ok());
    }
}

#[test]
fn a_listener_hears_the_same_over_tcp_and_over_websocket() {
    let mut tcp =
        Pair::new(Framed::<Words, u16>::new(Words), Framed::<Numbers, String>::new(Numbers), config(|c| c));
    tcp.b.on_event(|session, _, event| listen(session, event));
    for number in 0..100 {
        tcp.a.session.send(number).unwrap();
    }
    tcp.settle();

    let deflated = (ServerOptions::new().deflate(Deflate::new().min_size(0)), Deflate::new().min_size(0));
    let plain = (ServerOptions::new(), Deflate::new());
    for (options, offer) in [plain, deflated] {
        let request = client_request().deflate(offer);
        let client = WebSocket::client_of(Packages::<_, u16>::new(Words), request, random(1));
        let server = WebSocket::server_of(Packages::<_, String>::new(Numbers), options);
        let mut web = Pair::new(client, server, config(|c| c));
        web.b.on_event(|session, now, event| {
            accept(session, now, event);
            listen(session, event);
        });
        web.settle();
        for number in 0..100 {
            web.a.session.send(number).unwrap();
        }
        web.settle();
        assert_eq!(web.b.messages(), tcp.b.messages());
        assert_eq!(web.a.messages(), tcp.a.messages());
        assert_eq!(web.a.messages().len(), 100);
    }
}

#[test]
fn each_package_is_a_binary_message() {
    for size in [0, 1, 125, 126, 20_000, 70_000] {
        let mut server = server();
        let mut client = client();
        for solo in [&mut server, &mut client] {
            let payload = vec![7; size];
            solo.session.send(payload.clone().into()).unwrap();
            assert_eq!(solo.sent(), [Frame::binary(package(&payload))]);
            solo.peer(Frame::binary(package(&payload)));
            assert_eq!(solo.messages(), [payload]);
        }
    }
}

#[test]
fn a_package_may_come_in_fragments() {
    for mut solo in [server(), client()] {
        let bytes = package(b"hello");
        let frames = [Frame::binary(&bytes[..3]).more(), Frame::continuation(&bytes[3..])];
        let bytes = solo.peers(frames);
        solo.input(&bytes);
        assert_eq!(solo.messages(), ["hello"]);
    }
}

#[test]
fn text_is_refused_with_1003() {
    for mut solo in [server(), client()] {
        solo.peer(Frame::text(package(b"a")));
        assert!(matches!(solo.failed_with(1003), CloseReason::Protocol(ProtocolError::Text)));
    }
}

/// Decodes and encodes both kinds of messages, with the kind in each item. Text that begins with a capital
/// letter is encoded as invalid UTF-8.
#[derive(Debug, Clone, Default)]
struct Both {
    reading: Option<MessageKind>,
    accepts: Option<MessageKind>,
}

impl Decoder for Both {
    type Item = (MessageKind, String);
    type Error = Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Self::Item>, Infallible> {
        let text = String::from_utf8_lossy(src).into_owned();
        src.advance(src.len());
        Ok(Decoded::Frame((self.reading.unwrap(), text)))
    }

    fn accept_kind(&mut self, kind: MessageKind) -> bool {
        self.reading = Some(kind);
        self.accepts.is_none_or(|accepts| accepts == kind)
    }
}

impl Encoder<(MessageKind, String)> for Both {
    type Error = Infallible;

    fn encode(&mut self, (_, text): (MessageKind, String), dst: &mut Sink<'_>) -> Result<(), Infallible> {
        let is_bad = text.starts_with(char::is_uppercase);
        dst.put_slice(if is_bad { &[0xff] } else { text.as_bytes() });
        Ok(())
    }

    fn kind(&self, (kind, _): &(MessageKind, String)) -> MessageKind {
        *kind
    }
}

#[test]
fn a_codec_may_speak_both_kinds() {
    let both = || Packages::new(Both::default());
    for deflate in [false, true] {
        let options = ServerOptions::new();
        let options = if deflate { options.deflate(Deflate::new().min_size(1)) } else { options };
        let request = client_request();
        let request = if deflate { request.deflate(Deflate::new().min_size(1)) } else { request };
        let client = WebSocket::client_of(both(), request, random(1));
        let (mut client, mut server) =
            testkit::websocket::open(client, WebSocket::server_of(both(), options), &config(|c| c), NOW);
        for kind in [MessageKind::Text, MessageKind::Binary, MessageKind::Text] {
            client.send((kind, "hällo".repeat(20))).unwrap();
            server.handle_input(NOW, &testkit::websocket::written(&mut client, NOW));
            let Some(Event::Message(message)) = server.poll_event() else { panic!("{kind:?}") };
            assert_eq!(message, (kind, "hällo".repeat(20)));
            server.send(message).unwrap();
            client.handle_input(NOW, &testkit::websocket::written(&mut server, NOW));
            assert!(matches!(client.poll_event(), Some(Event::Message((came, _))) if came == kind));
        }
        // A codec that breaks its promise loses its item, and nothing else.
        let error = client.send((MessageKind::Text, "Bad".to_owned())).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
        assert_eq!(client.queued(), 0);
        client.send((MessageKind::Binary, "Bad".to_owned())).unwrap();
    }
}

#[test]
fn a_codec_of_text_refuses_binary_messages() {
    let codec = Both { accepts: Some(MessageKind::Text), ..Both::default() };
    let protocol = WebSocket::server_of(Packages::new(codec), ServerOptions::new());
    let mut solo = Solo::new(protocol, config(|c| c), true).opened();
    solo.peer(Frame::text("a"));
    assert_eq!(solo.messages(), [(MessageKind::Text, "a".to_owned())]);
    solo.peer(Frame::binary("a"));
    assert!(matches!(solo.failed_with(1003), CloseReason::Protocol(ProtocolError::Binary)));
}

#[test]
fn a_message_must_be_one_package() {
    let two = package(b"a").repeat(2);
    let behind = [&package(b"a")[..], b"x"].concat();
    for payload in [&two[..], &behind, &package(b"abc")[..6], b"\0\0", b""] {
        for mut solo in [server(), client()] {
            solo.peer(Frame::binary(payload));
            let reason = solo.failed_with(1007);
            let error = ProtocolError::Package { bytes: payload.len() };
            assert!(matches!(reason, CloseReason::Protocol(told) if told == error), "{reason}");
        }
    }
}

/// Faults that the codec finds are codec errors, as over TCP.
#[test]
fn a_package_that_the_codec_refuses_is_told_as_invalid_data() {
    let codec = LengthDelimited::new().max_frame(10);
    let protocol = WebSocket::server_of(Packages::<_, Bytes>::new(codec), ServerOptions::new());
    let mut server = Solo::new(protocol, config(|c| c), true).opened();
    server.peer(Frame::binary(package(&[0; 20])));
    assert!(matches!(server.failed_with(1007), CloseReason::Codec(_)));
}

/// The end of a message ends an item that would otherwise wait for more.
#[test]
fn a_last_line_needs_no_line_end() {
    let protocol = WebSocket::server_of(Packages::<_, &'static str>::new(Lines::new()), ServerOptions::new());
    let mut server = Solo::new(protocol, config(|c| c), true).opened();
    for line in ["with\n", "without"] {
        server.peer(Frame::binary(line));
        let lines = server.messages();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(format!("{:?}", lines[0]), format!("{:?}", line.trim_end()));
    }
    server.peer(Frame::binary("two\nlines\n"));
    assert!(matches!(server.failed_with(1007), CloseReason::Protocol(ProtocolError::Package { bytes: 10 })));
}

/// Fails on every item that is not empty.
#[derive(Debug)]
struct Unable;

#[derive(Debug, thiserror::Error)]
#[error("unable")]
struct No;

impl Decoder for Unable {
    type Item = Bytes;
    type Error = Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Infallible> {
        let all = src.len();
        Ok(Decoded::Frame(src.take(all)))
    }
}

impl Encoder<Bytes> for Unable {
    type Error = No;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), No> {
        dst.put_slice(b"half of it");
        dst.put_bytes(item.clone());
        if item.is_empty() { Ok(()) } else { Err(No) }
    }
}

#[test]
fn what_can_not_be_encoded_leaves_nothing_behind() {
    fn check<F: Form<Messages = getty_core::Items<Bytes>>>(mut solo: Solo<F>) {
        for size in [1, 100_000] {
            let sent = solo.session.send(vec![1; size].into());
            assert!(matches!(sent, Err(SendError::Encode(error)) if error.is::<No>()));
            assert_eq!(solo.sent(), []);
        }
        solo.session.send(Bytes::new()).unwrap();
        assert_eq!(solo.sent(), [Frame::binary("half of it")]);
        assert_eq!(solo.poll(), NONE);
    }
    let server = WebSocket::server_of(Packages::<_, Bytes>::new(Unable), ServerOptions::new());
    check(Solo::new(server, config(|c| c), true).opened());
    let client = WebSocket::client_of(Packages::<_, Bytes>::new(Unable), client_request(), random(1));
    check(Solo::new(client, config(|c| c), false).opened());
}

/// A server sends large payloads without copying them. A client has to mask them, and copies.
#[test]
fn a_large_package_is_whole_whatever_is_chained() {
    let payload = Bytes::from((0..100_000).map(|n| n as u8).collect::<Vec<_>>());
    for mut solo in [server(), client()] {
        for n in 0..3 {
            solo.session.send(payload.slice(n..)).unwrap();
        }
        let frames: Vec<_> = (0..3).map(|n| Frame::binary(package(&payload[n..]))).collect();
        assert!(solo.sent() == frames);
    }
}
