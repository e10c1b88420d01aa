//! Allocations and memory of sessions, by count.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use getty_core::codec::Raw;
use getty_core::{Config, Event, Framed, Memory, Session};
use testkit::alloc::{Usage, measure};
use testkit::clock::Clock;

use crate::common::{Plain, frame, plain};

fn session(config: &Arc<Config>) -> Session<Plain> {
    Session::new(plain(), config.clone(), Clock::new().now())
}

/// The memory of a driver's thread, which all its sessions share.
struct Thread {
    memory: Option<Memory>,
}

impl Thread {
    /// Makes a thread whose memory has held small and large frames.
    fn warm() -> Self {
        let mut thread = Thread { memory: Some(Memory::new()) };
        let mut session = session(&Arc::default());
        for size in [50_000, 2000, 10, 10] {
            thread.echo(&mut session, &frame(&vec![0; size]), usize::MAX);
        }
        thread
    }

    /// Does one turn as a driver does: reads `input` straight into the session, echoes, and writes up to
    /// `takes` bytes.
    fn echo(&mut self, session: &mut Session<Plain>, input: &[u8], mut takes: usize) {
        let now = Clock::new().now();
        session.lend(self.memory.take().unwrap());
        if !input.is_empty() && session.wants_read() {
            session.recv_buf().put_slice(input);
            session.handle_read(now);
        }
        while let Some(event) = session.poll_event() {
            if let Event::Message(message) = event {
                session.send(message).unwrap();
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

#[test]
fn sessions_are_small() {
    assert!(size_of::<Session<Plain>>() <= 512, "{} bytes", size_of::<Session<Plain>>());
}

#[test]
fn the_steady_path_allocates_nothing() {
    for size in [0, 16, 900, 1024, 5000, 20_000] {
        let (mut thread, mut session) = (Thread::warm(), session(&Arc::default()));
        let input = frame(&vec![1; size]).repeat((60_000 / (size + 4)).clamp(1, 30));
        let mut turns = || (0..100).for_each(|_| thread.echo(&mut session, &input, usize::MAX));
        turns();
        let ((), usage) = measure(turns);
        assert_eq!(usage.allocations, 0, "messages of {size} bytes");
        assert_eq!(session.stats().received.messages, 200 * input.len() as u64 / (size as u64 + 4));
    }
}

#[test]
fn frames_cut_by_reads_allocate_no_more_than_what_is_left_over() {
    let (mut thread, mut session) = (Thread::warm(), session(&Arc::default()));
    let stream = frame(&[1; 100]).repeat(1000);
    let turns = stream.chunks(1000).len() as u64;
    let ((), usage) =
        measure(|| stream.chunks(1000).for_each(|piece| thread.echo(&mut session, piece, usize::MAX)));
    assert_eq!(session.stats().received.messages, 1000);
    assert!(usage.allocations <= 2 * turns + 10, "{} allocations in {turns} turns", usage.allocations);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let (mut thread, config) = (Thread::warm(), Arc::default());
    let (_session, usage) = measure(|| {
        let mut session = session(&config);
        for size in [10, 900, 5000, 60_000] {
            let wire = frame(&vec![1; size]);
            thread.echo(&mut session, &wire[..2], usize::MAX);
            thread.echo(&mut session, &wire[2..], 2);
            thread.echo(&mut session, &[], usize::MAX);
        }
        session
    });
    let grown = grown_since(usage, &mut thread);
    assert_eq!(grown, 0, "bytes held beyond the session itself");
}

/// The part of `usage` beyond the thread's memory, which may have grown and is freed only with the thread.
fn grown_since(usage: Usage, thread: &mut Thread) -> i64 {
    let before = size_of_memory(Thread::warm());
    let after = size_of_memory(Thread { memory: thread.memory.take() });
    usage.live - (after - before)
}

fn size_of_memory(thread: Thread) -> i64 {
    -measure(|| drop(thread)).1.live
}

#[test]
fn a_closed_session_holds_nothing() {
    let config: Arc<Config> = Arc::default();
    let now = Clock::new().now();
    let (mut session, usage) = measure(|| {
        let mut session = session(&config);
        session.handle_input(now, &frame(&[1; 5000])[..3000]);
        session.send(Bytes::from_static(&[2; 3000])).unwrap();
        session.close(now, getty_core::Close::abort());
        assert!(matches!(session.poll_event(), Some(Event::Closed(_))));
        session
    });
    assert_eq!(usage.live, 0, "{usage:?}");
    session.handle_input(now, b"late");
    assert!(session.poll_event().is_none());
}

/// Memory follows what arrives, not what is announced: 60 MiB claimed, 1 KiB sent.
#[test]
fn a_claim_costs_nothing() {
    let config = Config::builder().max_frame(64 << 20).build().unwrap();
    let claim = &[&(60u32 << 20).to_be_bytes()[..], &[0; 1020]].concat();
    for at_once in [1024, 100, 1] {
        let (mut thread, mut session) = (Thread::warm(), session(&config));
        let ((), usage) =
            measure(|| claim.chunks(at_once).for_each(|piece| thread.echo(&mut session, piece, 0)));
        assert_eq!(session.stats().buffered, 1024);
        let held = grown_since(usage, &mut thread);
        assert!(held <= 2 * 1024, "{held} bytes held, {at_once} at once");
    }
}

#[test]
fn a_claim_costs_a_session_that_is_lent_nothing_little_more() {
    let config = Config::builder().max_frame(64 << 20).build().unwrap();
    let claim = &[&(60u32 << 20).to_be_bytes()[..], &[0; 1020]].concat();
    let now = Clock::new().now();
    for at_once in [1024, 100, 1] {
        let mut session = session(&config);
        let _open = session.poll_event();
        let ((), usage) = measure(|| {
            for piece in claim.chunks(at_once) {
                session.recv_buf().put_slice(piece);
                session.handle_read(now);
                assert!(session.poll_event().is_none());
            }
        });
        // The session's own block for small frames and the box of its buffers are added, whatever the size of
        // the frame.
        assert!(usage.live <= 8 * 1024 + 8 * 1024 + 512, "{at_once} at once: {usage:?}");
    }
}

#[test]
fn a_length_bomb_allocates_nothing() {
    let (mut thread, mut session) = (Thread::warm(), session(&Arc::default()));
    let ((), usage) = measure(|| thread.echo(&mut session, &[0xff; 4], 0));
    assert!(!session.is_open());
    assert!(usage.peak < 1024, "{usage:?}");
}

#[test]
fn a_large_frame_grows_with_what_arrived() {
    let now = Clock::new().now();
    let mut session = session(&Arc::default());
    let wire = frame(&vec![3; 4 << 20]);
    let (mut arrived, mut most) = (0, 0.0_f64);
    for piece in wire[..3 << 20].chunks(4096) {
        let mut room = session.recv_buf();
        arrived += piece.len();
        let capacity = room.get_ref().capacity();
        most = most.max(capacity as f64 / arrived as f64);
        room.put_slice(piece);
        session.handle_read(now);
        while session.poll_event().is_some() {}
    }
    assert!(most < 4.0, "{most} times what arrived");
}

/// The peers send, and never read.
#[test]
fn a_thousand_stuck_echo_sessions_hold_no_more_than_their_limits() {
    let (low, high) = (2 * 1024, 4 * 1024);
    let config = Config::builder().watermarks(low, high).max_frame(64 * 1024).build().unwrap();
    for size in [100, 1000, 3000, 10_000] {
        let input = frame(&vec![1; size]).repeat(3000 / size + 1);
        let mut thread = Thread::warm();
        let mut sessions: Vec<_> = (0..1000).map(|_| session(&config)).collect();
        let ((), usage) = measure(|| {
            for _ in 0..20 {
                sessions.iter_mut().for_each(|session| thread.echo(session, &input, 0));
            }
        });
        assert!(sessions.iter().all(|s| s.is_open() && !s.wants_read() && s.queued() > high));
        // The queue up to the watermark and one message, and the input of one read beyond it, both in buffers
        // that grow by doubling; and a box.
        let limit = 2 * (high + size + 4 + input.len()) + 512;
        let each = grown_since(usage, &mut thread) as usize / 1000;
        assert!(each <= limit, "{each} bytes a session for messages of {size}, more than {limit}");

        let mut thread = Thread::warm();
        for session in &mut sessions {
            (0..3).for_each(|_| thread.echo(session, &[], usize::MAX));
            assert_eq!((session.queued(), session.stats().buffered), (0, 0));
        }
    }
}

/// Bookkeeping for queued messages is in proportion to their bytes, however small they are and however they
/// differ.
#[test]
fn what_is_kept_of_queued_messages_is_little_more_than_their_bytes() {
    let config = Config::builder().watermarks(32 * 1024, 64 * 1024).max_queued(64 * 1024).build().unwrap();
    let now = Clock::new().now();
    for sizes in [&[1, 2][..], &[1, 1, 2, 2], &[1, 2, 3], &[5, 1], &[0, 1], &[1, 0, 2, 0], &[100, 101], &[7]]
    {
        for answers in [false, true] {
            let mut session = Session::new(Framed::new(Raw), config.clone(), now);
            assert!(session.poll_event().is_some());
            let payload = Bytes::from_static(&[7; 101]);
            let ((), usage) = measure(|| {
                for size in sizes.iter().cycle() {
                    if session.send(payload.slice(..*size)).is_err() {
                        break;
                    }
                    if answers && session.wants_read() {
                        session.handle_input(now, b"?");
                        assert!(session.poll_message().is_some());
                    }
                }
            });
            let queued = session.queued();
            assert!(queued > 60 * 1024, "{queued}");
            // Two bytes for each message besides its own, both in buffers that grow by doubling.
            let limit = 6 * queued + 16 * 1024;
            assert!(
                usage.live as usize <= limit,
                "{} bytes held for {queued} in messages of {sizes:?}",
                usage.live
            );
            // Everything goes out, and the counts are right.
            let accepted = session.stats().progress.accepted;
            let mut out = session.outbound(now);
            while out.has_remaining() {
                let n = out.remaining().min(1000);
                out.advance(n);
            }
            drop(out);
            assert_eq!((session.stats().progress.flushed, session.queued()), (accepted, 0));
        }
    }
}

/// An empty message waits for the one before it, and is only a number.
#[test]
fn empty_messages_hold_nothing_however_many_they_are() {
    let now = Clock::new().now();
    let mut session = Session::new(Framed::new(Raw), Arc::default(), now);
    assert!(session.poll_event().is_some());
    session.send(Bytes::from_static(b"first")).unwrap();
    let ((), usage) = measure(|| {
        for _ in 0..100_000 {
            session.handle_input(now, b"?");
            assert!(session.poll_message().is_some());
            session.send(Bytes::new()).unwrap(); // a reply
            session.end_reply();
            session.send(Bytes::new()).unwrap(); // not a reply
        }
    });
    assert!(usage.live <= 64 * 1024, "{} bytes held", usage.live);
    session.outbound(now).advance(5);
    assert_eq!(session.stats().progress.flushed.map(|seq| seq.get()), Some(200_001));
}

/// Memory that one session needed must not stay with the sessions that come after it.
#[test]
fn a_small_leftover_does_not_keep_a_large_arena() {
    let config = Config::builder().watermarks(1 << 20, 1 << 20).build().unwrap();
    let mut thread = Thread::warm();
    let mut sessions: Vec<_> = (0..50).map(|_| session(&config)).collect();
    let mut busy = session(&config);
    let chatter = frame(&[1; 1000]).repeat(60);
    let ((), usage) = measure(|| {
        for stuck in &mut sessions {
            (0..4).for_each(|_| thread.echo(&mut busy, &chatter, 0)); // grows the write arena
            thread.echo(&mut busy, &[], usize::MAX);
            thread.echo(stuck, &frame(&[1; 900]).repeat(20), 0);
        }
    });
    let queued = sessions[0].queued();
    let each = grown_since(usage, &mut thread) as usize / sessions.len();
    assert!(each <= 4 * queued + 512, "{each} bytes held for {queued} queued");
}
