//! Allocations and memory of driven sessions, by count.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use getty_core::codec::{ByteOrder, LengthDelimited, LengthField};
use getty_core::{CloseReason, Config, Deadline, Framed, Session, framed};
use getty_driver::{Driver, Io, Listener};
use testkit::alloc::measure;

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::Recorder;
use crate::driver_common::task::Task;
use crate::driver_common::*;

/// Echoes. If `wasteful`, also allocates once per message, to show that the test would notice.
struct Echo {
    wasteful: bool,
}

impl Listener<Messages> for Echo {
    fn on_message(&mut self, cx: &mut getty_driver::Context<'_, Messages>, message: Bytes) {
        let message = if self.wasteful { Bytes::from(message.to_vec()) } else { message };
        cx.send(message).unwrap();
    }
}

/// A peer that sends `depth` messages at a time, and the next ones once all replies have come.
struct Window {
    input: Vec<u8>,
    due: usize,
    rounds: usize,
}

impl Io for Window {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        if self.due > 0 || self.rounds == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.rounds -= 1;
        self.due = self.input.len();
        buf.put_slice(&self.input);
        Poll::Ready(Ok(self.input.len()))
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let n = pieces.iter().map(|piece| piece.len()).sum();
        self.due -= n;
        Poll::Ready(Ok(n))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns the allocations per message of 16 B in the steady state, for the driver alone.
fn allocations_in_memory(depth: usize, wasteful: bool) -> f64 {
    const ROUNDS: usize = 2000;
    let io = Window { input: frame(&[b'x'; 16]).repeat(depth), due: 0, rounds: 100 };
    let mut task =
        Task::new(Driver::<Fake, _, _, _>::new(session(Config::default().into()), io, Echo { wasteful }));
    while task.get_mut().handle().stats().received.messages < 100 * depth as u64 {
        assert!(task.poll().is_pending());
    }
    let before = fake::timer_counts();
    let mut driver = Task::new(Driver::<Fake, _, _, _>::new(
        session(Config::default().into()),
        Window { input: frame(&[b'x'; 16]).repeat(depth), due: 0, rounds: ROUNDS },
        Echo { wasteful },
    ));
    let ((), usage) = measure(|| (0..ROUNDS + 10).for_each(|_| assert!(driver.poll().is_pending())));
    assert_eq!(driver.get_mut().handle().stats().received.messages, (ROUNDS * depth) as u64);
    assert_eq!(fake::timer_counts(), before, "0 timer resets");
    usage.allocations as f64 / (ROUNDS * depth) as f64
}

/// The same on tokio over a socket, for driver, runtime and adapter together.
fn allocations_on_tokio(depth: usize, wasteful: bool) -> f64 {
    const ROUNDS: usize = 1000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(async {
        let server = getty_tokio::Server::builder();
        server.tcp("127.0.0.1:0", framed(LengthDelimited::new), move || Echo { wasteful }).await.unwrap()
    });
    // The peer runs in its own thread, which has its own count, and pauses until the measurement begins.
    let mut peer = TcpStream::connect(server.local_addr()).unwrap();
    let (warm, is_warm) = tokio::sync::oneshot::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let peer = std::thread::spawn(move || {
        let input = frame(&[b'x'; 16]).repeat(depth);
        let mut output = vec![0; input.len()];
        let mut rounds = |rounds| {
            for _ in 0..rounds {
                peer.write_all(&input).unwrap();
                peer.read_exact(&mut output).unwrap();
                assert_eq!(output, input);
            }
        };
        rounds(200);
        warm.send(()).unwrap();
        gone.recv().unwrap();
        rounds(ROUNDS);
        done.send(()).unwrap();
        peer
    });
    runtime.block_on(is_warm).unwrap();
    go.send(()).unwrap();
    let ((), usage) = measure(|| runtime.block_on(is_done).unwrap());
    drop(peer.join().unwrap());
    usage.allocations as f64 / (ROUNDS * depth) as f64
}

/// Echoes in `on_turn`, with a deadline that every turn moves.
struct Turning(Vec<Bytes>);

impl Listener<Messages> for Turning {
    fn on_message(&mut self, _cx: &mut getty_driver::Context<'_, Messages>, message: Bytes) {
        self.0.push(message);
    }

    fn on_turn(
        &mut self,
        cx: &mut getty_driver::Context<'_, Messages>,
        _task: &mut Context<'_>,
    ) -> Option<Instant> {
        self.0.drain(..).for_each(|message| assert!(cx.send(message).is_ok()));
        Some(cx.now() + secs(5))
    }
}

/// tokio rounds the memory of a task up to 128 bytes: 32 more than this took that much in `getty serve`.
#[test]
fn tasks_are_small() {
    type Task = Driver<getty_tokio::Tokio, getty_tokio::TcpStream, Framed<LengthDelimited>, Echo>;
    assert!(size_of::<Task>() <= 752, "{} bytes", size_of::<Task>());
}

#[test]
fn a_turn_of_a_listener_allocates_nothing() {
    const ROUNDS: usize = 1000;
    let io = Window { input: frame(&[b'x'; 16]).repeat(16), due: 0, rounds: ROUNDS };
    let session = session(Config::default().into());
    let mut driver = Task::new(Driver::<Fake, _, _, _>::new(session, io, Turning(Vec::with_capacity(16))));
    let poll = |driver: &mut Task<_>| {
        fake::advance(MS);
        assert!(driver.poll().is_pending());
    };
    (0..10).for_each(|_| poll(&mut driver));
    let timers = fake::timer_counts();
    let ((), usage) = measure(|| (0..ROUNDS).for_each(|_| poll(&mut driver)));
    assert_eq!(driver.get_mut().handle().stats().sent.messages, (ROUNDS * 16) as u64);
    assert!(usage.allocations <= 10, "{} allocations", usage.allocations);
    assert_eq!(fake::timer_counts(), timers, "0 timer resets");
}

#[test]
fn the_steady_path_allocates_nothing() {
    for depth in [1, 16] {
        for (what, count) in [
            ("in memory", allocations_in_memory as fn(usize, bool) -> f64),
            ("on tokio", allocations_on_tokio as fn(usize, bool) -> f64),
        ] {
            let per_message = count(depth, false);
            assert!(per_message <= 0.1, "{what}, depth {depth}: {per_message} allocations per message");
            let wasteful = count(depth, true);
            assert!(
                wasteful > 0.9,
                "{what}, depth {depth}: one to_vec() per message must be seen, not {wasteful}"
            );
        }
    }
}

/// Fills the memory that the thread keeps for all its sessions, so that no measured session pays for it.
fn warmed_up() {
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.send_frame(vec![0; 200_000]);
    wire.send(&frame(&[0; 1000]).repeat(100));
    task.settle();
}

#[test]
fn a_peer_that_never_reads_costs_little_and_not_for_long() {
    const SIZE: usize = 10_000;
    warmed_up();
    let (listener, log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    wire.room(0);
    wire.endless(Some(frame(&vec![b'x'; SIZE]).repeat(6)));
    let (_, usage) = measure(|| {
        task.settle();
        for _ in 0..100 {
            wire.wake();
            task.settle();
        }
    });
    let limit = (64 << 10) + SIZE + (64 << 10); // the high watermark, a message, the read buffer
    assert!(usage.live <= limit as i64, "{usage:?}, limit {limit}");
    assert!(log.count("on_message") <= 8);
    fake::advance(secs(30) - MS);
    task.settle();
    fake::advance(MS);
    let reason = task.finish();
    assert!(matches!(*reason, CloseReason::Timeout(Deadline::WriteStall)), "{reason}");
}

#[test]
fn a_length_bomb_allocates_nothing_and_names_the_limit() {
    let wide = || LengthDelimited::new().field(LengthField::U64).byte_order(ByteOrder::Big);
    let bombs: [(LengthDelimited, &[u8]); 4] = [
        (LengthDelimited::new(), &[0xff; 4]),
        (wide(), &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        (wide(), &[0xff; 8]),
        (LengthDelimited::new(), &[0, 0x80, 0, 0]), // 8 MiB without the header: just over the limit
    ];
    warmed_up();
    for (codec, bomb) in bombs {
        let (io, wire) = wire::wire();
        let session = Session::new(Framed::new(codec), Config::default().into(), getty_driver::now::<Fake>());
        let (listener, log) = Recorder::quiet();
        let mut task = Task::new(Driver::<Fake, _, _, _>::new(session, io, listener));
        task.settle();
        wire.send(bomb);
        let (_, usage) = measure(|| task.settle());
        assert!(usage.peak <= 1024, "{bomb:?}: {usage:?}");
        assert!(wire.is_shut_down());
        wire.eof();
        let reason = task.finish();
        assert!(matches!(*reason, CloseReason::Codec(_)), "{reason}");
        let told = log.take().pop().unwrap();
        assert!(told.contains("the limit of 8388608") && told.contains("Config::max_frame"), "{told}");
    }
}

#[test]
fn a_promised_frame_is_paid_for_as_it_comes() {
    warmed_up();
    let (listener, _log) = Recorder::quiet();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let promised = 6_000_000_u32;
    wire.send(&promised.to_be_bytes());
    let (_, usage) = measure(|| task.settle());
    assert!(usage.live <= 1024 && usage.peak <= 8192, "{usage:?}");
    wire.send(&[0; 1000]);
    let (_, usage) = measure(|| task.settle());
    assert!(usage.live <= 4096, "{usage:?}");
}

#[test]
fn an_idle_session_holds_no_buffer() {
    warmed_up();
    let (listener, _log) = Recorder::echo();
    let (mut task, wire) = driver(Config::default().into(), listener);
    task.settle();
    let handle = task.get_mut().handle();
    let (_, usage) = measure(|| {
        for size in [10, 1000, 100_000, 10] {
            wire.send_frame(vec![0; size]);
            handle.try_send(Bytes::from(vec![0; size])).unwrap();
            task.settle();
            drop(wire.take_written());
        }
    });
    assert!(usage.live <= 1024, "the log and other small things: {usage:?}");
}

#[test]
fn a_receiver_that_does_not_pull_bounds_memory() {
    const SIZE: usize = 5000;
    warmed_up();
    let (connection, wire) = connection(config(|c| c.handle_queue(16)));
    let (_handle, receiver) = connection.spawn(&fake::FakeSpawner);
    wire.endless(Some(frame(&[b'x'; SIZE]).repeat(4)));
    let ((), usage) = measure(|| {
        for _ in 0..50 {
            fake::run();
            wire.wake();
        }
    });
    // Messages of this size are slices of the read buffers.
    let limit = 16 * SIZE + 3 * (64 << 10);
    assert!(usage.live <= limit as i64, "{usage:?}, limit {limit}");
    drop(receiver);
}
