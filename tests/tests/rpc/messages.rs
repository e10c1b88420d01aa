//! Frames in WebSocket messages: one in each, and no preface.

use getty_core::CloseReason;
use getty_core::rpc::{CodecName, Frame, Frames, Request};
use getty_core::websocket::{Packages, ProtocolError, ServerOptions, WebSocket};
use testkit::websocket::peers::{Frame as Message, Solo, client_request, config, random};

use crate::bytes::{encode, raw};

fn server() -> Solo<Packages<Frames>> {
    let protocol = WebSocket::server_of(Packages::new(Frames::in_messages()), ServerOptions::new());
    Solo::new(protocol, config(|c| c), true).opened()
}

fn client() -> Solo<Packages<Frames>> {
    let packages = Packages::new(Frames::in_messages());
    Solo::new(WebSocket::client_of(packages, client_request(), random(1)), config(|c| c), false).opened()
}

#[test]
fn each_frame_is_a_binary_message_without_a_preface() {
    let frames = [
        Frame::Ping(1),
        Frame::Request(3, Request::new("a.B/C", CodecName::Raw, vec![7; 70_000])),
        Frame::Request(5, Request::new("a.B/C", CodecName::Raw, "")),
    ];
    for mut solo in [server(), client()] {
        for frame in &frames {
            solo.session.send(frame.clone()).unwrap();
            assert_eq!(solo.sent(), [Message::binary(encode(frame))]);
            solo.peer(Message::binary(encode(frame)));
            assert_eq!(solo.messages(), std::slice::from_ref(frame));
        }
    }
}

#[test]
fn kinds_from_128_on_are_skipped_in_messages_too() {
    let mut solo = server();
    solo.peer(Message::binary(raw(0xaa, 0, 0, b"", b"anything")));
    solo.peer(Message::binary(encode(&Frame::Ping(2))));
    assert_eq!(solo.messages(), [Frame::Skipped(0xaa), Frame::Ping(2)]);
}

#[test]
fn a_message_is_one_whole_frame() {
    let ping = encode(&Frame::Ping(1));
    for message in [&b""[..], &ping[..ping.len() - 1], &[&ping[..], &ping].concat()] {
        let mut solo = server();
        solo.peer(Message::binary(message));
        let reason = solo.failed_with(1007);
        assert!(matches!(reason, CloseReason::Protocol(ProtocolError::Package { .. })), "{reason:?}");
    }
}

#[test]
fn text_messages_are_refused() {
    let mut solo = server();
    solo.peer(Message::text("{}"));
    assert!(matches!(solo.failed_with(1003), CloseReason::Protocol(ProtocolError::Text)));
}
