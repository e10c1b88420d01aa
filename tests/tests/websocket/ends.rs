//! WebSocket sessions that end in the middle of something.

use std::io;
use std::time::Duration;

use getty_core::websocket::{CloseCode, CloseFrame, Message};
use getty_core::{Close, CloseReason, Config, Event};
use testkit::clock::Clock;
use testkit::websocket::frames::{self, BINARY, CLOSE, Frame, PING, TEXT};
use testkit::websocket::{opened, written};

/// Messages, and a close frame that answers the one of a session that closes while they arrive.
fn stream(masked: bool) -> Vec<u8> {
    let mask = masked.then_some([9, 8, 7, 6]);
    let mut wire = Vec::new();
    for frame in [
        Frame::new(TEXT, mask, "some text, é and 😀, ".repeat(8)),
        Frame { first: BINARY, ..Frame::new(BINARY, mask, vec![0xff; 200]) },
        Frame::new(PING, mask, "between"),
        Frame::new(frames::CONTINUATION, mask, vec![0x88; 20]),
        Frame::new(CLOSE, mask, [&[0x0f, 0xa0], &b"so be it"[..]].concat()),
    ] {
        frame.write(&mut wire);
    }
    wire
}

#[test]
fn what_was_cut_by_a_close_is_read_to_its_end() {
    for masked in [true, false] {
        let wire = stream(masked);
        for cut in 0..wire.len() {
            for handed_in_before_the_poll in [false, true] {
                for drain in [false, true] {
                    let (before, after) = wire.split_at(cut);
                    let (now, config) = (Clock::new().now(), Config::builder().build().unwrap());
                    let (client, server) = opened(&config, now);
                    let mut session = if masked { server } else { client };
                    session.handle_input(now, before);
                    while session.poll_event().is_some() {}
                    let frame = CloseFrame::new(CloseCode::GOING_AWAY, "away");
                    let close = Close::graceful().with_frame(frame);
                    session.close(now, if drain { close.with_drain() } else { close });
                    let mut sent = Vec::new();
                    if !handed_in_before_the_poll {
                        while session.poll_event().is_some() {}
                        sent.extend(written(&mut session, now));
                        assert!(!session.wants_shutdown(), "the peer's close frame has not come yet");
                    }
                    session.handle_input(now, after);
                    while session.poll_event().is_some() {}
                    sent.extend(written(&mut session, now));
                    let sent = frames::check(&sent, !masked, false);
                    assert_eq!(sent.close.as_deref(), Some(&b"\x03\xe9away"[..]), "cut at {cut}");
                    if !masked {
                        assert!(!session.wants_shutdown(), "a client lets the server end first");
                        session.handle_eof(now);
                    }
                    assert!(session.wants_shutdown(), "the close frame was not found, cut at {cut}");
                    session.handle_shutdown(now);
                    session.handle_eof(now);
                    let Some(Event::Closed(reason)) = session.poll_event() else { panic!("not closed") };
                    assert!(matches!(*reason, CloseReason::Local { flushed: true }), "{reason:?}");
                }
            }
        }
    }
}

#[test]
fn a_peer_that_answers_a_close_with_nonsense_is_not_waited_for() {
    let (now, config) = (Clock::new().now(), Config::builder().build().unwrap());
    let (_, mut session) = opened(&config, now);
    session.send(Message::text("last")).unwrap();
    session.close(now, Close::graceful());
    assert!(session.poll_event().is_none());
    written(&mut session, now);
    assert!(!session.wants_shutdown());
    session.handle_input(now, &[0xff; 40]);
    assert!(session.poll_event().is_none());
    assert!(session.wants_shutdown());
    assert_eq!(session.stats().buffered, 0);
}

#[test]
fn messages_before_the_end_of_a_stream_come_also_when_a_ping_is_due() {
    let mut clock = Clock::new();
    let config = Config::builder().heartbeat_period(Duration::from_secs(10)).build().unwrap();
    let (_, mut session) = opened(&config, clock.now());
    let mut wire = Vec::new();
    Frame::new(TEXT, Some([1; 4]), "last").write(&mut wire);
    session.handle_input(clock.now(), &wire);
    session.handle_eof(clock.now());
    session.handle_timeout(clock.advance(Duration::from_secs(10)));
    let Some(Event::Message(message)) = session.poll_event() else { panic!("the message is lost") };
    assert_eq!(message, Message::text("last"));
}

#[test]
fn after_a_failure_of_the_transport_nothing_is_written() {
    let (now, config) = (Clock::new().now(), Config::builder().build().unwrap());
    let (_, mut session) = opened(&config, now);
    let mut wire = Vec::new();
    Frame::new(PING, Some([1; 4]), "?").write(&mut wire);
    Frame::new(TEXT, Some([1; 4]), "last").write(&mut wire);
    session.handle_input(now, &wire);
    session.handle_io_error(now, io::ErrorKind::ConnectionReset);
    assert!(matches!(session.poll_event(), Some(Event::Message(_))));
    assert_eq!(written(&mut session, now), b"", "the transport is gone");
    assert!(matches!(session.poll_event(), Some(Event::Closed(_))));
}
