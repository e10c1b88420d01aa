//! Allocations of WebSocket sessions per frame, by count.

use bytes::{Buf, BufMut, Bytes};
use getty_core::websocket::{Message, WebSocket};
use getty_core::{Config, Event, Memory, Session, Timestamp};
use testkit::alloc::measure;
use testkit::websocket::{opened, written};

const NOW: Timestamp = Timestamp::ORIGIN;

/// About 60 KB of messages, as `session` writes them.
fn wire(session: &mut Session<WebSocket>, message: &Message) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..(60_000 / (message.len() + 14)).clamp(1, 1000) {
        session.send(message.clone()).unwrap();
        wire.extend(written(session, NOW));
    }
    wire
}

/// Receives `wire` in lent memory, as a driver does. Returns the number of messages.
fn receive(session: &mut Session<WebSocket>, memory: &mut Option<Memory>, wire: &[u8]) -> u64 {
    let before = session.stats().received.messages;
    session.lend(memory.take().unwrap());
    session.recv_buf().put_slice(wire);
    session.handle_read(NOW);
    while let Some(event) = session.poll_event() {
        assert!(matches!(event, Event::Message(_)), "{event:?}");
    }
    *memory = Some(session.take_back());
    session.stats().received.messages - before
}

/// Sends `count` messages and lets them be written.
fn send(session: &mut Session<WebSocket>, memory: &mut Option<Memory>, message: &Message, count: u64) {
    session.lend(memory.take().unwrap());
    for _ in 0..count {
        session.send(message.clone()).unwrap();
    }
    let mut out = session.outbound(NOW);
    while out.has_remaining() {
        out.advance(out.chunk().len());
    }
    drop(out);
    *memory = Some(session.take_back());
}

/// Small messages are copied into a shared block, large ones are slices of the read buffer, and sent messages
/// go to a buffer that is kept.
#[test]
fn the_steady_path_allocates_nothing_per_frame() {
    let config = Config::builder().watermarks(1 << 20, 1 << 20).build().unwrap();
    for size in [0, 16, 125, 126, 1000, 1024, 20_000] {
        for message in [Message::binary(Bytes::from(vec![b'x'; size])), Message::text("x".repeat(size))] {
            let (mut client, mut server) = opened(&config, NOW);
            let (from_client, from_server) = (wire(&mut client, &message), wire(&mut server, &message));
            let mut memory = Some(Memory::new());
            let mut turn = || {
                let count = receive(&mut server, &mut memory, &from_client);
                assert_eq!(count, (60_000 / (size as u64 + 14)).clamp(1, 1000));
                assert_eq!(receive(&mut client, &mut memory, &from_server), count);
                send(&mut server, &mut memory, &message, count);
                send(&mut client, &mut memory, &message, count);
            };
            (0..20).for_each(|_| turn());
            let ((), usage) = measure(|| (0..20).for_each(|_| turn()));
            assert_eq!(usage.allocations, 0, "messages of {size} bytes");
        }
    }
}

#[test]
fn sessions_and_events_are_small() {
    assert!(size_of::<Session<WebSocket>>() <= 704, "{} bytes", size_of::<Session<WebSocket>>());
    assert!(size_of::<Message>() <= 40);
    assert!(size_of::<Event<Message>>() <= 40, "an event is no larger than its message");
}
