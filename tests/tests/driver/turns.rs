//! One turn of the driver: how much it does, when it is woken, and when it sets its timer.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{Path, PeerLimits};
use getty_core::websocket::{Deflate, Message, ServerOptions, WebSocket};
use getty_core::{Close, Config, SendError, Session};
use getty_driver::{Driver, Handle, Runtime, Server, now};
use testkit::websocket::peers::{Frame, REQUEST};

use crate::driver_common::fake::{self, Fake, timer_counts};
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::socket::Socket;
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, MemIo, Op, Wire, wire};
use crate::driver_common::*;

/// Checks that a poll did at most a turn's work, and that the task is woken if it stopped before the end.
#[track_caller]
fn assert_bounded(what: &str, done_in_one_poll: usize, most: usize, woken: bool) {
    assert!(done_in_one_poll > 0, "{what}: nothing was done");
    assert!(done_in_one_poll <= most, "{what}: {done_in_one_poll} in one poll");
    assert!(woken, "{what}: it stopped and is not woken");
}

#[test]
fn small_messages_of_a_poll_are_bounded() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.endless(Some(frame(&[b'x'; 16]).repeat(50)));
    for round in 1..=20 {
        assert!(task.poll().is_pending());
        assert_bounded("messages", log.count("on_message"), 128 * round, task.is_woken());
    }
    wire.endless(None);
    task.settle();
    assert_eq!(log.count("on_message"), frames(&wire.take_written()).0.len());
}

#[test]
fn bytes_of_a_poll_are_bounded() {
    for (name, (listener, log)) in [("echoed", Recorder::echo()), ("received", Recorder::quiet())] {
        let (mut task, wire) = driver(Config::default().into(), listener);
        wire.endless(Some(frame(&[b'x'; 50_000])));
        assert!(task.poll().is_pending());
        assert_bounded(name, log.count("on_message") * 50_000, (1 << 20) + (1 << 16), task.is_woken());
    }
    // Reads without a message are bounded too.
    let (listener, _log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.send(&frame(&vec![b'x'; 8_000_000]));
    assert!(task.poll().is_pending());
    assert_bounded("part of a frame", task.get_mut().handle().stats().buffered, 3 << 19, task.is_woken());
    task.settle();
    assert_eq!(task.get_mut().handle().stats().received.messages, 1);
}

/// A WebSocket server with an accepted client, on a wire and a fake clock.
fn websocket(listener: Socket) -> (Task<Driver<Fake, MemIo, WebSocket, Socket>>, Wire) {
    let (io, wire) = wire();
    let options = ServerOptions::new().deflate(Deflate::new().min_size(0));
    let session = Session::new(WebSocket::server(options), Config::default().into(), now::<Fake>());
    let mut task = Task::new(Driver::new(session, io, listener));
    wire.send(format!("{REQUEST}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n").as_bytes());
    task.settle();
    assert!(wire.take_written().starts_with(b"HTTP/1.1 101 "));
    (task, wire)
}

/// A compressed message of `payload`.
fn compressed(payload: &[u8]) -> Frame {
    let mut data = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    data.write_all(payload).unwrap();
    data.flush().unwrap();
    let mut data = data.get_ref().clone();
    assert_eq!(data.split_off(data.len() - 4), [0, 0, 255, 255]);
    Frame::binary(data).rsv(4)
}

const KEY: [u8; 4] = [1, 2, 3, 4];

/// Whatever a WebSocket peer sends without end, one poll takes a bounded part of it, and other tasks get
/// their turn.
#[test]
fn what_no_listener_hears_of_is_bounded_too() {
    const READ: usize = 128 * 1024;
    let ping = Frame::ping([]).masked(KEY).bytes();
    let pong = Frame::pong("unasked").masked(KEY).bytes();
    let continuation = Frame::continuation([]).more().masked(KEY).bytes();
    let fragments = [
        Frame::text([]).more().masked(KEY).bytes(),
        continuation.repeat(1000),
        Frame::continuation([]).masked(KEY).bytes(),
    ];
    let kinds = [("pings", ping, 6), ("pongs", pong, 13), ("fragments", fragments.concat(), 6)];
    for (name, bytes, frame) in kinds {
        let (mut task, wire) = websocket(Socket::new(&Log::default()));
        wire.endless(Some(bytes.repeat(READ / bytes.len() + 1)));
        for _ in 0..5 {
            let (before, yields) = (task.get_mut().handle().stats().received.bytes, fake::yields());
            assert!(task.poll().is_pending());
            let read = (task.get_mut().handle().stats().received.bytes - before) as usize;
            assert_bounded(name, read / frame, 4096 + READ / frame, task.is_woken());
            assert_eq!(fake::yields() - yields, 1, "{name}");
        }
    }
}

#[test]
fn what_follows_a_close_frame_is_bounded() {
    let (mut task, wire) = websocket(Socket::new(&Log::default()));
    wire.room(0); // the reply can't leave, so the session stays open
    wire.send(&Frame::close(1000, "").masked(KEY).bytes());
    wire.endless(Some(vec![0; 1 << 20]));
    for _ in 0..5 {
        let (before, yields) = (task.get_mut().handle().stats().received.bytes, fake::yields());
        assert!(task.poll().is_pending());
        let read = (task.get_mut().handle().stats().received.bytes - before) as usize;
        assert_bounded("discarded", read, (1 << 20) + (1 << 17), task.is_woken());
        assert_eq!(fake::yields() - yields, 1);
    }
}

#[test]
fn decompressed_bytes_of_a_poll_are_bounded() {
    let mut rng = testkit::Rng::new(1);
    let half: Vec<u8> = (0..20_000).map(|n| if n % 2 == 0 { rng.next_u64() as u8 } else { 0 }).collect();
    // (name, payload, the most messages of one poll)
    let kinds = [
        ("small", vec![b'x'; 100], 64),
        ("64 KiB", vec![0; 1 << 16], 16),
        ("1 MiB", vec![0; 1 << 20], 1),
        ("hardly compressible", half, 1 + (1 << 20) / 20_000),
    ];
    for (name, payload, most) in kinds {
        let log = Log::default();
        let (mut task, wire) = websocket(Socket::new(&log));
        wire.endless(Some(compressed(&payload).masked(KEY).bytes().repeat(50)));
        let mut received = 0;
        for _ in 0..5 {
            log.take();
            let yields = fake::yields();
            assert!(task.poll().is_pending());
            received += log.count("on_message");
            assert!(log.count("on_message") <= most && task.is_woken(), "{name}: {log:?}");
            assert_eq!(fake::yields() - yields, 1, "{name}");
        }
        assert!(received > most, "{name}: {received}");
    }
}

#[test]
fn compressed_bytes_of_a_poll_are_bounded() {
    // Each short request has a long reply, and the peer compresses nothing itself.
    let log = Log::default();
    let listener = Socket::new(&log).message(|cx, _| {
        cx.send(Message::binary(vec![0; 60_000])).unwrap();
    });
    let (mut task, wire) = websocket(listener);
    wire.endless(Some(Frame::text("more").masked(KEY).bytes().repeat(1000)));
    for _ in 0..5 {
        log.take();
        assert!(task.poll().is_pending());
        assert_bounded("compressed", log.count("on_message"), (1 << 16) / 60_000 + 1, task.is_woken());
    }
}

#[test]
fn what_handles_have_compressed_in_a_poll_is_bounded() {
    let log = Log::default();
    let (mut task, wire) = websocket(Socket::new(&log));
    let handle = task.get_mut().handle();
    task.settle();
    (0..200).for_each(|_| handle.try_send(Message::binary(vec![0; 60_000])).unwrap());
    let mut sent = 0;
    while sent < 200 {
        assert!(task.poll().is_pending());
        let frames = Frame::parse_all(&wire.take_written()).len();
        sent += frames;
        assert_bounded("compressed", frames, (1 << 16) / 60_000 + 1, task.is_woken() || sent == 200);
    }
}

/// What flate2 decompresses the payload of a frame to.
fn decompressed(frame: &Frame) -> Vec<u8> {
    assert_eq!(frame.rsv, 4);
    let mut out = Vec::new();
    let data = [&frame.payload[..], &[0, 0, 0xff, 0xff, 3, 0]].concat();
    flate2::read::DeflateDecoder::new(&data[..]).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn a_large_message_takes_several_polls() {
    const SIZE: usize = 8 << 20;
    type Listen = fn(&Log) -> Socket;
    // (name, listener, polls to decompress 1 MiB and to compress 64 KiB each)
    let ways: [(_, Listen, _); 2] = [("received", Socket::new, 8), ("echoed", Socket::echo, 8 + 128)];
    for (name, listener, least) in ways {
        let log = Log::default();
        let (mut task, wire) = websocket(listener(&log));
        wire.send(&compressed(&vec![0; SIZE]).masked(KEY).bytes());
        wire.send(&Frame::text("next").masked(KEY).bytes());
        let (polls, yields) = (task.polls, fake::yields());
        task.settle();
        assert!(task.polls - polls >= least, "{name}: {} polls", task.polls - polls);
        assert!(fake::yields() - yields >= least - 1, "{name}");
        assert_eq!(log.count("on_message"), 2);
        let sent = Frame::parse_all(&wire.take_written());
        assert_eq!(sent.len(), if name == "echoed" { 2 } else { 0 });
        assert!(sent.first().is_none_or(|frame| decompressed(frame) == vec![0; SIZE]), "{name}");
    }
}

#[test]
fn large_messages_of_handles_go_before_a_close() {
    for posted in [1, 3] {
        let log = Log::default();
        let (mut task, wire) = websocket(Socket::new(&log));
        let handle = task.get_mut().handle();
        (0..posted).for_each(|_| handle.try_send(Message::binary(vec![0; 1 << 20])).unwrap());
        handle.close(Close::graceful());
        let polls = task.polls;
        task.settle();
        assert!(task.polls - polls >= posted * 16, "{posted}: {} polls", task.polls - polls);
        let sent = Frame::parse_all(&wire.take_written());
        assert_eq!(sent.len(), posted + 1);
        assert!(sent[..posted].iter().all(|frame| decompressed(frame) == vec![0; 1 << 20]));
        assert_eq!(sent[posted], Frame::close(1000, ""));
    }
}

#[test]
fn large_messages_of_handles_do_not_keep_others_from_being_received() {
    // Each piece of 64 KiB uses up a turn.
    let log = Log::default();
    let (mut task, wire) = websocket(Socket::echo(&log));
    let handle = task.get_mut().handle();
    task.settle();
    for round in 1..=5 {
        wire.send(&Frame::text("next").masked(KEY).bytes());
        wire.send(&Frame::ping("").masked(KEY).bytes());
        while handle.try_send(Message::binary(vec![0; 1 << 20])).is_ok() {}
        for _ in 0..100 {
            assert!(task.poll().is_pending());
        }
        assert_eq!(log.count("on_message"), round);
        let sent = Frame::parse_all(&wire.take_written());
        let count = |opcode| sent.iter().filter(|frame| frame.opcode == opcode).count();
        assert_eq!((count(1), count(10)), (1, 1));
        assert!(count(2) > 4, "{}", count(2));
    }
}

/// Streams `left` messages: sends whenever `wanted` holds for a callback.
fn streamer(left: usize, wanted: fn(&Happening) -> bool) -> (Recorder, Log) {
    let mut left = left;
    Recorder::new(move |cx, happening| {
        if matches!(happening, Happening::Open) || wanted(&happening) {
            while left > 0 {
                match cx.send(Bytes::from(vec![b'x'; 60_000])) {
                    Ok(_) => left -= 1,
                    Err(SendError::Blocked(_)) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if left > 0 {
                cx.notify_flushed();
            }
        }
        Then::Default
    })
}

#[test]
fn streaming_from_callbacks_is_bounded_too() {
    type Wanted = fn(&Happening) -> bool;
    let ways: [(&str, Wanted); 2] = [
        ("on_writable", |happening| matches!(happening, Happening::Writable)),
        ("on_flushed", |happening| matches!(happening, Happening::Flushed(_))),
    ];
    for (name, wanted) in ways {
        let (listener, _log) = streamer(500, wanted);
        let (mut task, wire) = driver(Config::default().into(), listener);
        assert!(task.poll().is_pending());
        assert_bounded(name, wire.take_written().len(), 4 << 20, task.is_woken());
        task.settle();
        let polls = task.polls;
        assert!(polls >= 500 * 60_000 / (4 << 20), "{name}: {polls} polls");
    }
}

#[test]
fn a_callback_that_calls_itself_is_bounded() {
    // With nothing queued, `notify_flushed` is answered at once.
    let mut left = 100_000;
    let (listener, log) = Recorder::new(move |cx, happening| {
        match happening {
            Happening::Open => drop(cx.send(Bytes::new())),
            Happening::Flushed(_) if left == 0 => return Then::Default,
            _ => left -= 1,
        }
        cx.notify_flushed();
        Then::Default
    });
    let (mut task, _wire) = driver(Config::default().into(), listener);
    assert!(task.poll().is_pending());
    assert_bounded("on_flushed", log.count("on_flushed"), 1000, task.is_woken());
}

#[test]
fn posting_without_end_does_not_hold_a_poll() {
    let (listener, _log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    task.settle();
    // Stands in for another thread that posts whenever there is room: posts one more item for each one
    // written.
    let poster = handle.clone();
    let left = Arc::new(Mutex::new(100_000));
    let count = left.clone();
    wire.on_write(move || {
        let mut left = count.lock().unwrap();
        if *left > 0 && poster.try_send(Bytes::from_static(&[b'x'; 16])).is_ok() {
            *left -= 1;
        }
    });
    handle.try_send(Bytes::from_static(b"first")).unwrap();
    assert!(task.poll().is_pending());
    let posted = 100_000 - *left.lock().unwrap();
    assert_bounded("posted items", posted, 10_000, task.is_woken());
    task.settle();
    assert_eq!(*left.lock().unwrap(), 0);
}

#[test]
fn whatever_happens_after_pending_wakes() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let handle = task.get_mut().handle();
    for round in 0..10 {
        // The task moves to another waker, and the old one must not be woken any longer.
        let old = task.change_waker();
        assert!(task.poll().is_pending());
        let before = old.wakes();
        wire.send_frame(format!("read {round}"));
        assert!(task.is_woken(), "by something to read");
        task.settle();
        handle.try_send(Bytes::from(format!("post {round}"))).unwrap();
        assert!(task.is_woken(), "by a handle");
        task.settle();
        assert_eq!(wire.take_frames(), [format!("read {round}"), format!("post {round}")]);
        wire.room(0);
        wire.send_frame("blocked");
        task.settle();
        wire.room(None);
        assert!(task.is_woken(), "by room to write");
        task.settle();
        assert_eq!(wire.take_frames(), ["blocked"]);
        assert_eq!(old.wakes(), before, "the old waker is not used");
    }
    assert_eq!(log.count("on_message"), 20);
}

#[test]
fn the_transport_is_asked_again_only_when_it_woke_the_task() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let handle = task.get_mut().handle();
    for message in 0..100 {
        let (reads, writes) = (wire.calls(Op::Read), wire.calls(Op::Write));
        wire.send_frame("one");
        task.settle();
        assert!(
            wire.calls(Op::Read) - reads <= 2,
            "a read for the message, and one that finds nothing: {message}"
        );
        assert_eq!(wire.calls(Op::Write) - writes, 1);
    }
    // Posted items go out in one write.
    let writes = wire.calls(Op::Write);
    (0..100).for_each(|_| handle.try_send(Bytes::from_static(b"posted")).unwrap());
    task.settle();
    assert_eq!(wire.calls(Op::Write) - writes, 1);
}

#[test]
fn everything_is_read_before_anything_is_written() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let reads_before_write = Arc::new(Mutex::new(Vec::new()));
    let (seen, asked) = (reads_before_write.clone(), wire.clone());
    wire.on_write(move || seen.lock().unwrap().push(asked.calls(Op::Read)));
    for _ in 0..3 {
        let reads = wire.calls(Op::Read);
        wire.send_frame("one");
        wire.send_frame("two");
        assert!(task.poll().is_pending());
        assert_eq!(
            reads_before_write.lock().unwrap().split_off(0),
            [reads + 3],
            "two messages, and a read that finds nothing"
        );
        assert_eq!(wire.calls(Op::Read), reads + 3, "nothing is read after the write");
        assert!(!task.is_woken());
    }
}

#[test]
fn a_flush_that_has_to_wait_is_finished() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    for _ in 0..3 {
        let before = wire.calls(Op::Flush);
        (0..5).for_each(|_| wire.answer(Op::Flush, Answer::Pending));
        wire.send_frame("hello");
        task.settle();
        assert_eq!(wire.take_frames(), ["hello"]);
        for _ in 0..10 {
            wire.wake();
            task.settle();
        }
        assert_eq!(wire.calls(Op::Flush) - before, 6, "until it is done, and no more");
    }
}

#[test]
fn writes_of_one_byte() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(config(|c| c.zero_copy_from(100)), listener);
    wire.at_once(1);
    let messages: Vec<String> = (0..30).map(|n| "x".repeat(n * 11)).collect(); // both copied and chained ones
    messages.iter().for_each(|message| wire.send_frame(message));
    task.settle();
    assert_eq!(wire.take_frames(), messages);
    // The same with a pause after each byte.
    wire.room(0);
    messages.iter().for_each(|message| wire.send_frame(message));
    task.settle();
    let mut written = Vec::new();
    while written.len() < messages.iter().map(|m| m.len() + 4).sum() {
        wire.room(1);
        task.settle();
        let new = wire.take_written();
        assert_eq!(new.len(), 1);
        written.extend(new);
    }
    assert_eq!(frames(&written).0, messages.iter().map(|m| m.clone().into_bytes()).collect::<Vec<_>>());
}

#[test]
fn traffic_does_not_touch_the_timer() {
    let (listener, log) = Recorder::echo();
    let config = config(|c| c.cron_period(secs(1)).idle_read(secs(5)).idle_write(secs(5)).idle_both(secs(5)));
    let (mut task, wire) = driver(config, listener);
    task.settle();
    let start = timer_counts();
    assert_eq!((start.made, start.reset), (1, 0), "one timer, set once for the first deadline");
    let mut partial = 0;
    for n in 0..900_usize {
        fake::advance(MS);
        if n % 3 == 0 {
            // A frame in two pieces: the incomplete one starts a deadline, once.
            wire.send(&frame(b"message")[..5]);
            task.settle();
            wire.send(&frame(b"message")[5..]);
            partial += 1;
        } else {
            wire.send_frame(b"message");
        }
        task.settle();
    }
    assert_eq!(log.count("on_message"), 900);
    assert!(partial > 100);
    assert_eq!(timer_counts(), start, "neither the partial-frame nor an idle deadline comes before the cron");
    for tick in 1..=20 {
        fake::advance(secs(1));
        task.settle();
        assert_eq!(log.count("on_cron"), tick);
    }
    let resets = timer_counts().reset - start.reset;
    assert!(resets <= 22, "the timer follows the deadlines: {resets} resets in 20 periods");
    assert_eq!(timer_counts().made, 1);
}

#[test]
fn a_session_without_deadlines_has_no_timer() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    for _ in 0..100 {
        wire.send_frame(b"message");
        task.settle();
    }
    assert_eq!(log.count("on_message"), 100);
    assert_eq!(timer_counts(), fake::Counts { made: 0, reset: 0 });
}

#[test]
fn the_clock_may_jump() {
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(config(|c| c.cron_period(secs(60))), listener);
    task.settle();
    let start = Fake::now();
    let hour = secs(3600);
    let ages = std::time::Duration::from_nanos(1 << 63);
    let mut crons = 0;
    // Forward: one tick, however many periods have passed. Back: no tick, and none is lost.
    for (to, ticks) in
        [(hour, 1), (secs(0), 0), (hour, 0), (hour * 24 * 49, 1), (ages, 1), (hour, 0), (ages, 0)]
    {
        fake::jump(start + to);
        wire.send_frame(b"message");
        task.settle();
        crons += ticks;
        assert_eq!(log.count("on_cron"), crons, "at {to:?}");
    }
    assert_eq!(log.count("on_message"), 7);
    fake::advance(secs(61));
    task.settle();
    assert_eq!(log.count("on_cron"), crons + 1);
}

#[test]
fn sizes() {
    let sizes = [
        ("Session", size_of::<Session<Plain>>(), 512),
        ("Driver", size_of::<Driver<getty_tokio::Tokio, getty_tokio::TcpStream, Plain, ()>>(), 864),
        ("Handle", size_of::<Handle<Bytes>>(), size_of::<usize>()),
    ];
    for (name, size, limit) in sizes {
        assert!(size <= limit, "{name}: {size} bytes");
        println!("{name}: {size} bytes");
    }
}

/// Only time passes: no deadline of the session expires, and nothing is read.
#[test]
fn what_time_alone_brings_is_delivered() {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let told = reports.clone();
    let builder = Server::<Fake>::builder()
        .on_dropped(move |dropped| told.lock().unwrap().push(dropped.counts.strangers));
    let nobody = |_| None::<Recorder>;
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, nobody)).unwrap();
    fake::run();
    let wire = fake::udp_wire();
    let stranger = || wire.receives([(Path::new(([192, 0, 2, 1], 1).into()), b"hello".to_vec())]);
    stranger();
    fake::run();
    assert_eq!(reports.lock().unwrap().split_off(0), [1], "the first is reported at once");
    (0..3).for_each(|_| stranger());
    fake::run();
    assert!(reports.lock().unwrap().is_empty());
    fake::advance(secs(1));
    fake::run();
    assert_eq!(*reports.lock().unwrap(), [3], "the others are reported after a second");
    drop(server);
}
