//! Allocations and memory of WebSocket sessions, by count.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use getty_core::websocket::{Message, ServerOptions, Verdict, WebSocket};
use getty_core::{Config, Event, Memory, Session};
use testkit::alloc::{Usage, measure};
use testkit::clock::Clock;
use testkit::websocket::peers::{Frame, REQUEST, Solo, config};

const KEY: [u8; 4] = [1, 2, 3, 4];

/// A message from a client.
fn message(size: usize) -> Vec<u8> {
    Frame::binary(vec![b'a'; size]).masked(KEY).bytes()
}

/// The memory of a driver's thread, which all its sessions share.
struct Thread {
    memory: Option<Memory>,
}

impl Thread {
    /// Makes a thread whose memory has held small and large messages.
    fn warm() -> Self {
        let mut thread = Thread { memory: Some(Memory::new()) };
        let mut session = opened(&mut thread, &Arc::default());
        for size in [50_000, 2000, 10, 10] {
            thread.echo(&mut session, &message(size), usize::MAX);
        }
        thread
    }

    /// Does one turn as a driver does: reads `input` straight into the session, accepts, echoes, and writes
    /// up to `takes` bytes.
    fn echo(&mut self, session: &mut Session<WebSocket>, input: &[u8], mut takes: usize) {
        let now = Clock::new().now();
        session.lend(self.memory.take().unwrap());
        if !input.is_empty() && session.wants_read() {
            session.recv_buf().put_slice(input);
            session.handle_read(now);
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::Request(_) => session.respond(now, Verdict::Accept(Default::default())).unwrap(),
                Event::Message(message) => drop(session.send(message).unwrap()),
                _ => {}
            }
        }
        let mut out = session.outbound(now);
        while takes > 0 && out.has_remaining() {
            let n = out.chunk().len().min(takes);
            out.advance(n);
            takes -= n;
        }
        drop(out);
        self.memory = Some(session.take_back());
    }
}

fn opened(thread: &mut Thread, config: &Arc<Config>) -> Session<WebSocket> {
    let options: Arc<ServerOptions> = Arc::default();
    let mut session = Session::new(WebSocket::server(options), config.clone(), Clock::new().now());
    thread.echo(&mut session, format!("{REQUEST}\r\n").as_bytes(), usize::MAX);
    assert!(session.is_open());
    session
}

/// The part of `usage` beyond the thread's memory, which may have grown and is freed only with the thread.
fn grown_since(usage: Usage, thread: &mut Thread) -> i64 {
    let size_of_memory = |thread: Thread| -measure(|| drop(thread)).1.live;
    let before = size_of_memory(Thread::warm());
    let after = size_of_memory(Thread { memory: thread.memory.take() });
    usage.live - (after - before)
}

#[test]
fn sessions_are_small() {
    assert!(size_of::<Session<WebSocket>>() <= 680, "{} bytes", size_of::<Session<WebSocket>>());
    assert!(size_of::<Event<Message>>() <= 48);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let (mut thread, config) = (Thread::warm(), Arc::default());
    let (_session, usage) = measure(|| {
        let mut session = opened(&mut thread, &config);
        for size in [10, 900, 5000, 60_000] {
            let wire = message(size);
            thread.echo(&mut session, &wire[..2], usize::MAX);
            thread.echo(&mut session, &wire[2..], 2);
            thread.echo(&mut session, &[], usize::MAX);
            thread.echo(&mut session, &Frame::ping("?").masked(KEY).bytes(), usize::MAX);
        }
        session
    });
    assert_eq!(grown_since(usage, &mut thread), 0, "bytes held beyond the session itself");
}

#[test]
fn the_steady_path_allocates_nothing() {
    for size in [0, 16, 125, 126, 900, 1024, 5000, 20_000] {
        let mut thread = Thread::warm();
        let mut session = opened(&mut thread, &Arc::default());
        let input = message(size).repeat((60_000 / (size + 14)).clamp(1, 100));
        let mut turns = || (0..100).for_each(|_| thread.echo(&mut session, &input, usize::MAX));
        turns();
        let ((), usage) = measure(turns);
        let messages = session.stats().received.messages / 2;
        assert_eq!(messages, 100 * (60_000 / (size as u64 + 14)).clamp(1, 100));
        assert!(usage.allocations * 100 <= messages, "{} in {messages} of {size} bytes", usage.allocations);
    }
}

#[test]
fn pings_allocate_nothing() {
    let mut thread = Thread::warm();
    let mut session = opened(&mut thread, &Arc::default());
    let input = Frame::ping("are you there?").masked(KEY).bytes().repeat(100);
    let mut turns = || (0..100).for_each(|_| thread.echo(&mut session, &input, usize::MAX));
    turns();
    let ((), usage) = measure(turns);
    assert!(usage.allocations <= 100, "{} for 10 000 pings", usage.allocations);
}

/// Claims of 2^63 - 1 bytes down to one byte over the limit are refused from the header alone.
#[test]
fn a_length_bomb_allocates_nothing() {
    for claim in [i64::MAX as u64, 1 << 32, 1 << 30, (8 << 20) + 1] {
        let mut thread = Thread::warm();
        let mut session = opened(&mut thread, &Arc::default());
        let header = Frame::binary("").masked(KEY).header(claim);
        let ((), usage) = measure(|| thread.echo(&mut session, &header, 0));
        assert!(!session.is_open());
        assert!(usage.peak < 1024, "{usage:?}");
    }
}

/// Memory follows what arrives, not what is announced: 60 MiB claimed, 1 KiB sent.
#[test]
fn a_claim_costs_nothing() {
    let config = config(|c| c.max_frame(64 << 20).max_message(64 << 20));
    for frame in [Frame::binary(""), Frame::text(""), Frame::text("").more()] {
        let mut claim = frame.masked([0; 4]).header(60 << 20);
        claim.resize(1024, b'a');
        for at_once in [1024, 100, 1] {
            let mut thread = Thread::warm();
            let mut session = opened(&mut thread, &config);
            let ((), usage) =
                measure(|| claim.chunks(at_once).for_each(|piece| thread.echo(&mut session, piece, 0)));
            assert_eq!((session.stats().buffered, session.is_open()), (1024, true));
            let held = grown_since(usage, &mut thread);
            assert!(held <= 2 * 1024, "{held} bytes held, {at_once} at once");
        }
    }
}

/// Nothing is held per fragment: a message is one buffer.
#[test]
fn fragments_hold_no_more_than_what_they_carry() {
    let mut thread = Thread::warm();
    let mut session = opened(&mut thread, &Arc::default());
    let first = Frame::binary([1; 40]).more().masked(KEY).bytes();
    let next = Frame::continuation([1; 40]).more().masked(KEY).bytes();
    thread.echo(&mut session, &first, 0);
    let many = next.repeat(1000);
    let ((), usage) = measure(|| (0..100).for_each(|_| thread.echo(&mut session, &many, 0)));
    assert!(session.is_open());
    let payload = 40 * 100_000;
    let held = grown_since(usage, &mut thread);
    assert!(held <= 2 * payload + 4096, "{held} bytes held for {payload}");
}

/// Empty fragments count too, but cost nothing until there are too many.
#[test]
fn empty_fragments_hold_nothing() {
    let mut thread = Thread::warm();
    let mut session = opened(&mut thread, &Arc::default());
    let first = Frame::binary("").more().masked(KEY).bytes();
    let next = Frame::continuation("").more().masked(KEY).bytes();
    let ((), usage) = measure(|| {
        thread.echo(&mut session, &first, 0);
        (0..1023).for_each(|_| thread.echo(&mut session, &next, 0));
    });
    assert!(session.is_open());
    let held = grown_since(usage, &mut thread);
    assert!(held <= 64, "{held} bytes held: more than the progress of the message");
}

/// An incomplete head takes little more memory than its own size, however it arrives.
#[test]
fn a_stalled_handshake_holds_no_more_than_its_head() {
    let config: Arc<Config> = Arc::default();
    let options: Arc<ServerOptions> = Arc::default();
    let head = [REQUEST.as_bytes(), b"Cookie: ", &[b'x'; 15 * 1024]].concat();
    for at_once in [head.len(), 1000, 7] {
        let mut thread = Thread::warm();
        let ((), usage) = measure(|| {
            let mut session =
                Session::new(WebSocket::server(options.clone()), config.clone(), Clock::new().now());
            head.chunks(at_once).for_each(|piece| thread.echo(&mut session, piece, 0));
            std::mem::forget(session); // so that its memory still counts
        });
        let held = grown_since(usage, &mut thread);
        assert!(held <= 20 * 1024, "{held} bytes held for a head of {}", head.len());
    }
}

/// Nothing of a completed handshake stays, except what the application keeps.
#[test]
fn an_open_session_holds_nothing_of_its_handshake() {
    let mut thread = Thread::warm();
    let config = Arc::default();
    let (_session, usage) = measure(|| opened(&mut thread, &config));
    let held = grown_since(usage, &mut thread);
    assert!((0..=64).contains(&held), "{held} bytes");
}

#[test]
fn a_closed_session_holds_nothing_of_what_it_was_to_read_or_write() {
    let mut solo = Solo::opened_server();
    let ((), usage) = measure(|| {
        let wire = solo.peers([Frame::text([b'a'; 5000])]);
        solo.input(&wire[..3000]);
        solo.poll();
        solo.session.send(Message::binary(vec![2; 3000])).unwrap();
        solo.session.close(solo.clock.now(), getty_core::Close::abort());
        solo.closed();
    });
    assert!(usage.live <= 0 && usage.peak > 6000, "{usage:?}");
}
